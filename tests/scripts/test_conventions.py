"""What all the scripts share, whatever they teach."""

import ast
import contextlib
import errno
import os
import pathlib
import re
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
import time

import pytest
from harness import system
from harness.clients import Connection
from harness.programs import QUICK_DNS, Program
from harness.stages import DEFAULT_DELAY, LONG, ROOT, STAGES, difference, pieces, script
from harness.waiting import Patience, wait_until
from marks import LINUX_ONLY, needs_queue

SCRIPTS = [*STAGES, "3h"]  # 3h is a stage like the others where HTTP does not matter
AFTER_FORK = [stage for stage in STAGES if stage >= "4a"]
FILES = {stage: ROOT / f"webserver{stage}.py" for stage in SCRIPTS}
FORKING_STAGES = [stage for stage in STAGES if "3c" <= stage <= "3g"]
RESPONSE = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"Hello, World!\n"
)
REQUESTS = {
    "the article's client": b"test",
    "one byte": b"x",
    "20 kB": b"GET / HTTP/1.1\r\nCookie: " + 20_000 * b"c" + b"\r\n\r\n",
    "60 kB": 60_000 * b"y",
    "every byte": bytes(range(256)),
    "terminal controls": b"\x1b[2J\x1b]0;title\x07\x9b31m\r\x08\x7f",
    "half a UTF-8 character": b"GET /\xe4\xb8",
}

# What a stage changes of the one before: at most so many lines, added and removed, and
# no function, constant or last block but these.
LESSONS = {
    "3b": (16, {"DELAY", "serve_forever", "handle_request", "parse_options", "main"}),
    "3c": (13, {"serve_forever", "handle_request", "parse_options", "main"}),
    "3d": (7, {"DELAY", "serve_forever"}),
    "3e": (25, {"DELAY", "LIBC", "serve_forever", "accept", "grim_reaper"}),
    "3f": (9, {"DELAY", "REQUEST_QUEUE_SIZE", "serve_forever"}),
    "3g": (29, {"LIBC", "serve_forever", "accept", "grim_reaper"}),
    "4a": (70, {"WORKERS", "requests", "keep_workers", "serve_forever", "handle_request",
                "grim_reaper", "parse_options", "main"}),
    "4b": (60, {"WORKERS", "keep_workers", "serve_forever", "handle_request", "parse_options",
                "main"}),
    "4c": (45, {"serve_forever", "accept", "handle_request"}),
    "4d": (62, {"serve_forever", "accept", "handle_request", "main"}),
    "4e": (42, {"WORKERS", "keep_workers", "handle_request", "parse_options", "main"}),
}
# The others parse their options, and start, by the same text.
OWN_OPTIONS = [s for s in SCRIPTS if {"parse_options", "main"} & LESSONS.get(s, ["", {"main"}])[1]]

all_stages = pytest.mark.parametrize("stage", STAGES)
all_scripts = pytest.mark.parametrize("stage", SCRIPTS)


@pytest.fixture
def begin(start):
    """begin(stage, option, ...) starts a stage's script with these options only."""

    def begin(stage, *options, **program_options):
        return start(Program, [sys.executable, FILES[stage], *options], **program_options)

    return begin


# Starting


def test_default_is_port_8888_and_a_port_in_use_is_one_line_that_says_which_and_why(begin):
    with contextlib.ExitStack() as taken:
        with contextlib.suppress(OSError):  # somebody else has it
            taken.enter_context(socket.create_server(("127.0.0.1", 8888)))
        for program in [begin(stage) for stage in OWN_OPTIONS]:
            assert program.wait() == 1
            assert program.output == ""
            line, = program.errors.splitlines()
            assert "127.0.0.1 port 8888" in line
            assert "in use" in line
            assert "earlier stage still running" in line


@LINUX_ONLY  # all of 127.0.0.0/8 is this machine
@pytest.mark.parametrize("stage", ["3a", "3b", "3h"])  # the later ones' main is 3b's
def test_host_is_where_it_listens(serve, stage):
    server = serve(stage, "--host", "127.0.0.2")
    socket.create_connection(("127.0.0.2", server.port), Patience.seconds).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), Patience.seconds).close()


@LINUX_ONLY
@needs_queue(5)
def test_listen_queue_of_5_lets_6_wait_and_a_seventh_is_not_connected(serve):
    servers = {stage: serve(stage, delay=LONG) for stage in STAGES if stage <= "3e"}
    for stage, server in servers.items():
        if stage == "3b":
            server.ask().wait_for_answer()  # it sleeps
        else:
            server.stop()
        for _ in range(6):
            server.connect()
    attempts = [server.try_to_connect() for server in servers.values()]
    for attempt in attempts:
        attempt.wait_until_kept_waiting()
    assert [system.queued(server.port) for server in servers.values()] == [6] * 5


@needs_queue(128)
@pytest.mark.parametrize("stage", ["3f", "3g"])
def test_listen_queue_of_1024_lets_128_wait(serve, stage):
    server = serve(stage)
    server.stop()
    for _ in range(128):
        server.connect()
    assert system.queued(server.port) == 128


IMPOSSIBLE = [  # a host, a port
    ("no-such-host.invalid", 0),
    ("\xe4..b", 0),  # no name that could be looked up
    ("192.0.2.1", 0),  # nobody's address (RFC 5737)
    ("127.0.0.1", 65536),
]


def test_address_that_cannot_be_is_one_line(begin):
    programs = [
        begin("3a", "--host", host, "--port", str(port), env=QUICK_DNS) for host, port in IMPOSSIBLE
    ]
    for (host, port), program in zip(IMPOSSIBLE, programs):
        assert program.wait() == 1
        assert program.output == ""
        line, = program.errors.splitlines()
        assert f"{host} port {port}" in line
        assert "earlier stage" not in line


BAD_OPTIONS = {
    "3a": ["--port=x", "--no-such-option"],
    "3c": ["--delay=-1", "--delay=inf", "--delay=nan", "--delay=x"],
    "3h": ["--timeout=0", "--timeout=nan", "--timeout=x", "--max-children=0", "--max-children=1.5"],
    "4a": ["--delay=-1", "--workers=0", "--workers=1000000", "--workers=x"],
    "4b": ["--delay=-1"],
}  # the other stages parse as one of these


def test_bad_options_get_argparses_error_and_status_2(begin):
    commands = [(stage, option) for stage in BAD_OPTIONS for option in BAD_OPTIONS[stage]]
    programs = [begin(*command) for command in commands]
    for (_, option), program in zip(commands, programs):
        assert program.wait() == 2
        assert program.output == ""
        assert program.errors.startswith("usage: ")
        assert option.partition("=")[0] in program.errors.splitlines()[-1]


# Where the next stage is not all that comes next
NEXT = {"3g": ["webserver3h.py", "webserver4a.py"], "3h": ["docs/3h.md"], "4e": ["docs/next.md"]}


def test_help_is_the_docstring_and_says_what_to_type_and_what_comes_next(begin):
    for stage, program in [(stage, begin(stage, "--help")) for stage in SCRIPTS]:
        assert program.wait() == 0
        assert ast.get_docstring(ast.parse(script(stage))) in program.output
        assert f"python3 webserver{stage}.py" in program.output
        assert "curl localhost:8888/hello" in program.output
        assert "(default: 127.0.0.1)" in program.output
        assert "(default: 8888)" in program.output
        _, _, explained = program.output.partition("\n  --delay SECONDS")
        if stage in DEFAULT_DELAY:
            assert f"(default: {DEFAULT_DELAY[stage]})" in explained
        _, _, following = program.output.partition("\nNext    ")
        for name in NEXT.get(stage, [f"webserver{after}.py" for after in STAGES if after > stage][:1]):
            assert name in following


# A process without os.fork stands in for a system without it.
WITHOUT_FORK = """if True:
    import os, runpy, sys
    del os.fork
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_without_fork_it_says_so_in_one_line(start):
    command = [sys.executable, "-c", WITHOUT_FORK]
    files = [FILES["3c"], FILES["3h"], FILES["4a"], ROOT / "client3.py"]
    for program in [start(Program, [*command, file]) for file in files]:
        assert program.wait() == 1
        assert program.output == ""
        line, = program.errors.splitlines()
        assert "needs fork. On Windows, use WSL." in line


# What it takes to end, or not


def test_3d_dies_with_the_traceback_of_accept(serve):
    server = serve("3d", limits={resource.RLIMIT_NOFILE: 6})
    ask_until_it_dies(server)
    assert server.wait() == 1
    assert server.errors.startswith("Traceback (most recent call last):")
    assert "in accept" in server.errors  # no descriptor is left to read the source
    assert server.errors.endswith("OSError: [Errno 24] Too many open files\n")


def test_3d_dies_with_the_traceback_of_fork(serve):
    server = serve("3d", processes=1)
    ask_until_it_dies(server)
    assert server.wait() == 1
    assert server.errors.startswith("Traceback (most recent call last):")
    assert "fork()" in server.errors
    again = f"[Errno {errno.EAGAIN}] Resource temporarily unavailable"
    assert server.errors.endswith(f"BlockingIOError: {again}\n")


def ask_until_it_dies(server):
    """Send one request after the other, until the server has ended."""

    def ended():
        with contextlib.suppress(OSError):
            server.ask()
        return not server.running

    wait_until(ended, "the server ends")


def test_3e_dies_with_the_traceback_of_accept(serve):
    server = serve("3e")
    client = server.connect_and_settle()
    child, = server.wait_until_children(1)
    client.ask()
    assert server.wait() == 1
    assert f"\nChild {child.pid} terminated with status 0\n" in server.output
    assert "accept(listen_socket)" in server.errors
    assert server.errors.endswith("InterruptedError: [Errno 4] Interrupted system call\n")


GIVEN_UP = {
    "3g": "fork failed, one client given up: [Errno 11] Resource temporarily unavailable",
    "4b": "can't start new thread, one client given up",
}
NO_DESCRIPTOR = "accept failed, trying again: [Errno 24] Too many open files"


@LINUX_ONLY
@pytest.mark.parametrize("stage", GIVEN_UP)
def test_want_of_processes_or_of_descriptors_is_said_and_survived(serve, stage):
    server = serve(stage, processes=10_000)
    before = server.descriptors()
    with server.soft_limit(resource.RLIMIT_NPROC, 0):
        for n in (1, 2):
            assert server.ask().wait_for_end() == b""
            server.wait_until_blocked()
            assert server.errors.splitlines() == n * [GIVEN_UP[stage]]
            assert server.descriptors() == before
        with server.soft_limit(resource.RLIMIT_NOFILE, max(before) + 1):
            # The accept that is under way has got its descriptor; the next has not.
            began = time.monotonic()
            assert server.ask().wait_for_end() == b""
            waiting = server.ask()
            server.wait_until_queued(1, unless=waiting)
            wait_until(lambda: NO_DESCRIPTOR in server.errors, "it says so")
        assert waiting.wait_for_end() == b""  # accepted, then given up like the others
        assert time.monotonic() - began > 0.9  # it tries again once a second
        lines = server.errors.splitlines()
        assert [line for line in lines if line != NO_DESCRIPTOR] == 4 * [GIVEN_UP[stage]]
    assert server.ask_when_idle().wait_for_end() == RESPONSE
    if stage == "3g":
        server.wait_until_children(0)


@LINUX_ONLY
@pytest.mark.parametrize("stage", ["4c", "4d"])
def test_event_loop_says_that_no_descriptor_is_free_once_a_second(serve, stage):
    server = serve(stage)
    server.wait_until_blocked()
    with server.soft_limit(resource.RLIMIT_NOFILE, max(server.descriptors()) + 1):
        waiting = server.ask()
        began = time.monotonic()
        wait_until(lambda: server.errors.count("\n") >= 2, "it says so twice")
        assert time.monotonic() - began > 0.9
    assert waiting.wait_for_end() == RESPONSE
    for line in server.errors.splitlines():
        assert line == "accept failed, trying again: [Errno 24] Too many open files"


@LINUX_ONLY
def test_workers_that_end_at_once_become_no_storm_of_forks(serve):
    server = serve("4a", "--workers", "1")
    worker, = server.wait_until_workers(1)

    def ended():
        return server.output.count("terminated with status")

    # A new worker's first accept has no descriptor.
    with server.soft_limit(resource.RLIMIT_NOFILE, max(server.descriptors()) + 1):
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: ended() == 1, "the worker ends")
        began = time.monotonic()
        wait_until(lambda: ended() >= 2, "the next one ends")
        assert time.monotonic() - began > 0.9
    assert server.ask().wait_for_end() == RESPONSE


@LINUX_ONLY
def test_4a_goes_on_with_fewer_workers_when_fork_fails(serve):
    server = serve("4a", processes=10_000)
    worker, *_ = server.wait_until_workers(4)
    with server.soft_limit(resource.RLIMIT_NPROC, 0):
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: server.errors.endswith("\n"), "it says that fork fails")
        assert server.ask().wait_for_end() == RESPONSE
    assert server.errors.startswith("fork failed, 3 workers: [Errno 11]")
    assert server.errors.count("\n") == 1


@pytest.mark.parametrize("stage", ["4a", "4e"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_parent_alone_ends_the_workers_with_it(serve, stage, number):
    server = serve(stage)
    server.ask().wait_for_end()
    server.wait_until_blocked()
    server.send_signal(number)
    assert server.wait() == 0
    wait_until(lambda: server.processes() == [], "the workers end")
    assert server.errors == ""


@pytest.mark.slow
@needs_queue(25)
def test_3gs_memory_is_the_same_after_hundreds_of_connections(serve):
    server = serve("3g")

    def memory_after(rounds):
        for _ in range(rounds):
            for client in [server.ask() for _ in range(25)]:
                assert client.wait_for_end() == RESPONSE
                client.close()
        server.ask_when_idle().wait_for_end()  # its child's end is seen for certain
        server.wait_until_children(0)
        return system.memory(server.pid)

    before = memory_after(4)
    assert memory_after(12) <= before + 32  # KiB: a hundred bytes for each connection


# Answering


@all_stages
def test_whatever_came_gets_the_whole_answer_and_is_shown_safely(serve, stage):
    server = serve(stage, delay=LONG if stage == "3e" else 0)  # 3e dies when a child ends
    for what, data in REQUESTS.items():
        client = send_at_once(server, data)
        if stage in ("3d", "3e"):  # the connection does not end
            wait_until(lambda: client.answered() and client.received == RESPONSE, what)
        else:
            assert client.wait_for_end() == RESPONSE, what
            assert not client.was_reset, what
        wait_until(lambda: repr(data) in server.output, what)
        assert re.fullmatch(r"[ -~\n]*", server.output), what  # printable ASCII


def send_at_once(server, data):
    """A connection on which all of data has come before the server, or a worker, looks at it."""
    with server.only(None):  # no worker
        server.stop()
        client = server.connect()
        client.send(data)
        server.resume()
    return client


@all_stages
def test_client_is_answered_before_anything_is_printed_and_whoever_reads_that(begin, stage):
    read, write = os.pipe()
    delay = LONG if stage == "3e" else 0  # it dies when a child ends
    options = [f"--delay={delay}"] if stage in DEFAULT_DELAY else []
    program = begin(stage, "--port=0", *options, stdout=write)
    port = int(read_until(read, r"^Serving HTTP on port (\d+) \.\.\.\n")[1])
    fill_pipe(write)  # as in a terminal that Ctrl-S has stopped: who prints has to wait
    with contextlib.closing(Connection(port)) as client:
        client.ask("/seen")
        wait_until(lambda: client.answered() and client.received == RESPONSE, "the answer")
        read_until(read, r"b'GET /seen HTTP/1\.1.*'$")  # at once, though it is no terminal
        assert program.running
    os.close(read)  # as head -1 does
    if stage in ("3d", "3e", "3f"):  # their parents print
        return
    for _ in range(2):
        with contextlib.closing(Connection(port)) as client:
            client.ask()
            assert client.wait_for_end() == RESPONSE
    resting = lambda: all(p.state in system.BLOCKED for p in program.processes())
    wait_until(resting, "it is asleep")
    program.press_ctrl_c()
    assert program.wait() == 0
    assert program.errors == ""


def fill_pipe(write):
    """Fill a pipe to the last byte, so that the next write waits, and close it (pipe(7))."""
    os.set_blocking(write, False)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write, b"\n" * size)
    os.set_blocking(write, True)
    os.close(write)


def read_until(pipe, pattern):
    """Read from a pipe until a pattern is found in what came. Returns the match."""
    text = ""
    while not re.search(pattern, text, re.MULTILINE):
        assert select.select([pipe], [], [], Patience.seconds)[0], f"no {pattern} in {text!r}"
        text += os.read(pipe, 4096).decode()
    return re.search(pattern, text, re.MULTILINE)


# Clients that misbehave


@all_stages
def test_client_that_says_nothing_leaves_or_resets_does_no_harm_and_causes_no_delay(serve, stage):
    server = serve(stage, delay=LONG)
    for misbehave in (say_nothing, leave, reset_in_the_queue, reset_while_waited_for):
        misbehave(server, stage)
        if stage == "3e" and dies_of_it(server):
            server = serve(stage, delay=LONG)
    server.ask().wait_for_answer()
    server.wait_until_blocked()
    assert server.errors == ""


def say_nothing(server, stage):
    """It gets nothing, and the end, which in 3d does not come."""
    client = server.connect_and_settle()
    client.finish_sending()
    if stage == "3d":
        server.wait_until_zombies(1)
        assert not client.answered()
    else:
        assert client.wait_for_end() == b""


def leave(server, stage):
    """The server, or its child, is in recv when the client leaves."""
    server.connect_and_settle().close()


def reset_in_the_queue(server, stage):
    """What accept returns is reset already, the request in it is lost."""
    server.stop()
    client = server.ask()
    client.reset()
    server.resume()


def reset_while_waited_for(server, stage):
    """The server, or its child, is in recv at the reset."""
    server.connect_and_settle().reset()


def dies_of_it(server):
    """Whether 3e dies of a child's end, which is its lesson.

    Raises AssertionError if it dies of anything else.
    """
    wait_until(
        lambda: server.errors or server.blocked() and not system.queued(server.port),
        "the server is dying, or back in accept",
    )
    if not server.errors:
        return False
    assert server.wait() == 1
    assert server.errors.count("Traceback") == 1
    assert server.errors.count("InterruptedError") == 1
    return True


@pytest.mark.parametrize("stage", ["3d", "3e", "3f"])  # 3c's and 3g's own tests see the same
def test_parent_and_child_close_the_copies_they_do_not_need_and_the_end_is_reported(serve, stage):
    server = serve(stage, delay=LONG)
    before = len(server.descriptors())
    client = server.connect_and_settle()
    child, = server.children()
    assert server.listen_socket() not in system.sockets(child.pid)
    assert len(server.descriptors()) - before == (stage == "3d")  # its lesson is one more
    client.close()  # which ends the child
    if stage != "3d":
        report = f"\nChild {child.pid} terminated with status 0\n"
        wait_until(lambda: report in server.output, "the handler reports the child")


# Ctrl-C


@pytest.fixture
def serve_alone(serve):
    """serve_alone(stage, ...) starts a copy of its script beside which there is nothing else."""
    with tempfile.TemporaryDirectory() as folder:

        def serve_alone(stage, **options):
            shutil.copy(FILES[stage], folder)
            return serve(stage, folder=pathlib.Path(folder), flags=["-I", "-S"], **options)

        yield serve_alone


@pytest.mark.parametrize("stage", ["3d", "3e", "3f", "3h"])  # the others: see the answers above
def test_ctrl_c_ends_a_server_without_clients_with_status_0(serve, stage):
    assert_ctrl_c_ends(serve(stage))


@all_scripts
def test_script_alone_lets_nobody_in_from_outside_and_ctrl_c_ends_it_at_work(serve_alone, stage):
    server = serve_alone(stage, delay=LONG)
    with pytest.raises(OSError):  # by another address of this machine
        socket.create_connection(("127.0.0.2", server.port), Patience.seconds).close()
    if stage not in ("3b", "3h"):
        server.connect()  # and says nothing
    if stage in FORKING_STAGES:
        server.wait_until_children(1)
    if stage != "3a":
        server.ask().wait_for_answer()
    if stage in FORKING_STAGES:
        server.wait_until_children(2)
    assert_ctrl_c_ends(server)


def assert_ctrl_c_ends(server):
    """Assert that Ctrl-C ends a server and its children, with status 0 and no word."""
    server.wait_until_blocked()
    server.press_ctrl_c()
    assert server.wait() == 0
    assert server.errors == ""
    wait_until(lambda: server.processes() == [], "its children have ended")


# The text of the scripts


@pytest.mark.parametrize("gate", [".ci/run", ".github/workflows/tests.yml"])
def test_gate_runs_the_readmes_test_command(gate):
    text = (ROOT / gate).read_text(encoding="utf-8")
    command, = re.findall(r"python3 -m venv .*pytest$", text, re.MULTILINE)
    assert f"\n{command}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", LESSONS)
def test_only_the_lesson_changes_from_one_stage_to_the_next(stage):
    before = STAGES[STAGES.index(stage) - 1]
    most, lesson = LESSONS[stage]
    old, new = pieces(before), pieces(stage)
    assert {name for name in {*old, *new} if old.get(name) != new.get(name)} == lesson
    assert len([line for line in difference(before, stage)[2:] if line[0] in "+-"]) <= most


def test_4as_workers_run_3as_loop():
    without_delay = pieces("4a")["serve_forever"].replace(", delay)", ")")
    assert without_delay == pieces("3a")["serve_forever"]


def test_4bs_and_4cs_handler_is_4as():
    handler = pieces("4a")["handle_request"].replace("Worker {os.getpid()}, r", "R")
    assert pieces("4c")["handle_request"] == handler
    assert pieces("4b")["handle_request"] == f"{handler}\n    client_connection.close()"


def test_4e_is_4as_parent_with_4ds_loop():
    ours, parent, loop = pieces("4e"), pieces("4a"), pieces("4d")
    changed = {name for name in ours if ours[name] not in (parent.get(name), loop.get(name))}
    assert changed == {"WORKERS", "handle_request", "main"}
    assert ours["handle_request"].replace("Worker {os.getpid()}, r", "R") == loop["handle_request"]
    assert ours["main"].replace("serve_forever(listen_socket, options.delay)", "") == (
        parent["main"].replace("serve_forever(listen_socket, options.delay)", "asyncio.run()"))


def test_script_is_short():
    assert all(script(stage).count("\n") <= 150 for stage in AFTER_FORK)


def test_3h_listens_and_starts_with_the_same_text():
    ours, full = pieces("3h"), pieces("3g")
    for name in ("REQUEST_QUEUE_SIZE", "make_listen_socket", "__main__"):
        assert ours[name] == full[name]
    remaining = iter(ours["parse_options"].splitlines())
    for line in pieces("3a")["parse_options"].splitlines():
        assert line in remaining, line
