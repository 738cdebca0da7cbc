"""What all stages have in common: how they start, answer, survive rude clients and end.

The stages share most of their text, but each has its own loop around it, so a promise that one
keeps is easily broken by the next. The graded tests leave these promises to the author of a server.
All scripts run as copies in an empty folder and without site-packages, because each has to stand alone.
"""

import ast
import contextlib
import functools
import importlib
import os
import re
import select
import shutil
import socket
import sys

import pytest
from forked import Ended, run_forked
from harness import system
from harness.clients import Connection
from harness.programs import QUICK_DNS, Program
from harness.stages import (
    ALL_STAGES,
    DEFAULT_DELAY,
    LONG,
    ROOT,
    STAGES,
    pieces,
    script,
    script_path,
)
from harness.waiting import Patience, wait_until
from marks import LINUX_ONLY

FORKING_STAGES = [stage for stage in STAGES if "3c" <= stage <= "3g"]
ALONE = ["-I", "-S"]  # no folder of ours, no site-packages


TEXTS = {stage: pieces(stage) for stage in STAGES}


def having_own(*names):
    """The stages whose functions of these names differ from those of the stage before."""
    own = {stage: [TEXTS[stage].get(name) for name in names] for stage in STAGES}
    return [stage for before, stage in zip(["", *STAGES], STAGES) if own.get(before) != own[stage]]


STARTS = [*having_own("main"), "3h", "3i"]
HANDLERS = having_own("RESPONSE", "handle_request", "show")

BAD_OPTIONS = {
    "3a": ["--port=x", "--no-such-option"],
    "3c": ["--delay=-1", "--delay=inf", "--delay=nan", "--delay=x"],
    "3h": ["--port=x"],
    "3i": ["--timeout=0", "--timeout=nan", "--timeout=x", "--max-children=0", "--max-children=1.5"],
    "4a": ["--delay=-1", "--workers=0", "--workers=1000000", "--workers=x"],
    "4b": ["--delay=-1"],
    "4e": ["--delay=-1", "--workers=0"],
}  # the other stages parse their options by one of these texts

IMPOSSIBLE = [  # a host, a port
    ("no-such-host.invalid", 0),
    ("\xe4..b", 0),  # not a valid name
    ("192.0.2.1", 0),  # reserved for documentation (RFC 5737)
    ("127.0.0.1", 65536),
]

RESPONSE = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"Hello, World!\n"
)
REQUESTS = [  # as many as fit into a listen queue of 5
    b"test",  # the article's client
    b"\xe4",  # one byte, half a UTF-8 character
    b"GET / HTTP/1.1\r\nCookie: " + 20_000 * b"c" + b"\r\n\r\n",
    60_000 * b"y",
    bytes(range(256)),
    b"\x1b[2J\x1b]0;title\x07\x9b31m\r\x08\x7f",  # terminal controls
]

all_handlers = pytest.mark.parametrize("stage", HANDLERS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that has the scripts and nothing else."""
    folder = tmp_path_factory.mktemp("alone")
    for path in [*map(script_path, ALL_STAGES), ROOT / "client3.py"]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def serve(serve, folder):
    """serve(stage, option, ...) starts a stage's server."""
    return functools.partial(serve, folder=folder, flags=ALONE)


@pytest.fixture
def begin(start, folder):
    """begin(stage, option, ...) starts a stage's script with exactly these options."""

    def begin(stage, *options, **program_options):
        command = [sys.executable, *ALONE, folder / f"webserver{stage}.py", *options]
        return start(Program, command, **program_options)

    return begin


def run_stage(stage, *options):
    """Run a stage's script to its end. Returns how it Ended."""
    importlib.import_module("asyncio")  # so that not each fork has to
    return run_forked(script_path(stage), *options)


def only_line(ended):
    """The line on standard error with which a program has given up, printing nothing else."""
    assert ended.status == 1, ended
    assert ended.output == ""
    (line,) = ended.errors.splitlines()
    return line


# Starting


def test_default_port_in_use_is_one_line():
    with contextlib.ExitStack() as taken:
        with contextlib.suppress(OSError):  # in use already
            taken.enter_context(socket.create_server(("127.0.0.1", 8888)))
        for stage in STARTS:
            line = only_line(run_stage(stage))
            assert "127.0.0.1 port 8888" in line
            assert "in use" in line


def test_impossible_address_is_one_line(begin):
    commands = [("3a", "--host", host, "--port", str(port)) for host, port in IMPOSSIBLE]
    programs = [begin(*command, env=QUICK_DNS) for command in commands]
    for (host, port), program in zip(IMPOSSIBLE, programs):
        assert f"{host} port {port}" in only_line(Ended(program.wait(), program.output, program.errors))


@LINUX_ONLY  # all of 127.0.0.0/8 is this machine
@pytest.mark.parametrize("stage", ["3a", "3b", "3h", "3i"])  # the later stages' main is 3b's
def test_host_is_where_it_listens(serve, stage):
    with socket.socket() as taken:  # so that no other program listens there
        taken.bind(("127.0.0.1", 0))
        server = serve(stage, "--host", "127.0.0.2", port=taken.getsockname()[1])
        socket.create_connection(("127.0.0.2", server.port), Patience.seconds).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), Patience.seconds).close()


def test_bad_option_is_a_usage_error():
    for stage, option in [(stage, option) for stage, options in BAD_OPTIONS.items() for option in options]:
        ended = run_stage(stage, option)
        assert ended.status == 2
        assert ended.output == ""
        assert ended.errors.startswith("usage: ")
        assert option.partition("=")[0] in ended.errors.splitlines()[-1]


def test_help_is_the_docstring_with_the_defaults():
    for stage in ALL_STAGES:
        ended = run_stage(stage, "--help")
        assert ended.status == 0
        assert ast.get_docstring(ast.parse(script(stage))) in ended.output
        assert "(default: 127.0.0.1)" in ended.output
        assert "(default: 8888)" in ended.output
        if stage in DEFAULT_DELAY:
            _, _, explained = ended.output.partition("\n  --delay SECONDS")
            assert f"(default: {DEFAULT_DELAY[stage]})" in explained


def test_missing_fork_is_one_line():
    scripts = [script_path(stage) for stage in ("3c", "3h", "3i", "4a")]
    for path in [*scripts, ROOT / "client3.py"]:
        ended = run_forked(path, before=lambda: delattr(os, "fork"))
        assert "needs fork. On Windows, use WSL." in only_line(ended)


# Answering


def send_at_once(server):
    """Connections that have sent REQUESTS, each all of it before the server reads any."""
    with server.only(None):  # no worker
        server.stop()
        clients = [server.connect() for _ in REQUESTS]
        for client, request in zip(clients, REQUESTS):
            client.send(request)
        server.resume()
    return clients


@all_handlers
def test_any_bytes_get_the_whole_answer(serve, stage):
    for client in send_at_once(serve(stage)):
        assert client.wait_for_end() == RESPONSE
        assert not client.was_reset


@all_handlers
def test_any_bytes_are_shown_at_once_as_printable_ascii(serve, stage):
    server = serve(stage)  # its output is a file
    send_at_once(server)
    wait_until(lambda: all(repr(request) in server.output for request in REQUESTS), "it shows all requests")
    assert re.fullmatch(r"[ -~\n]*", server.output)


def begin_with_pipe(begin, stage):
    """Start a stage with a pipe as its standard output. Returns it, its port, and the pipe's ends."""
    read, write = os.pipe()
    options = ["--delay=0"] if stage in DEFAULT_DELAY else []
    program = begin(stage, "--port=0", *options, stdout=write)
    port = int(read_until(read, r"^Serving HTTP on port (\d+) \.\.\.\n")[1])
    return program, port, read, write


def read_until(pipe, pattern):
    """Read from a pipe until a pattern is found. Returns the match."""
    text = ""
    while not re.search(pattern, text, re.MULTILINE):
        assert select.select([pipe], [], [], Patience.seconds)[0], f"no {pattern} in {text!r}"
        text += os.read(pipe, 4096).decode()
    return re.search(pattern, text, re.MULTILINE)


def fill(pipe):
    """Fill a pipe to the last byte, so that the next write blocks (pipe(7))."""
    os.set_blocking(pipe, False)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(pipe, b"\n" * size)
    os.set_blocking(pipe, True)


@all_handlers
def test_answers_before_printing(begin, stage):
    _, port, read, write = begin_with_pipe(begin, stage)
    fill(write)  # printing blocks, as in a terminal stopped with Ctrl-S
    with contextlib.closing(Connection(port)) as client:
        client.ask()
        wait_until(lambda: client.receive_available() == RESPONSE, "the answer")
    os.close(read)
    os.close(write)


@all_handlers
def test_survives_closed_stdout(begin, stage):
    program, port, read, write = begin_with_pipe(begin, stage)
    os.close(write)
    os.close(read)  # as head -1 does
    for _ in range(2):
        with contextlib.closing(Connection(port)) as client:
            client.ask()
            assert client.wait_for_end() == RESPONSE
    wait_until(lambda: all(one.state in system.BLOCKED for one in program.processes()), "it is asleep")
    assert_ctrl_c_is_silent(program)


# Clients that misbehave


def say_nothing(server):
    """Connect, send nothing, and get nothing."""
    client = server.connect_and_settle()
    client.finish_sending()
    # 3d's connection never ends, but its child does.
    wait_until(lambda: client.ended() or server.zombies(), "the server is done with it")
    assert not client.received


def leave(server):
    """Leave while the server, or its child, is in recv."""
    server.connect_and_settle().close()


def reset_in_queue(server):
    """Reset before accept, which returns the connection all the same; the request is lost."""
    server.stop()
    client = server.ask()
    client.reset()
    server.resume()


def reset_in_recv(server):
    """Reset while the server, or its child, is in recv."""
    server.connect_and_settle().reset()


def knock_from_outside(server):
    """Try to connect by another address of this machine."""
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", server.port), Patience.seconds).close()


MISBEHAVIOURS = [say_nothing, leave, reset_in_queue, reset_in_recv, knock_from_outside]


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "3e"])
def test_misbehaving_clients_cost_no_error_and_no_delay(serve, stage):
    server = serve(stage, delay=LONG)
    for misbehave in MISBEHAVIOURS:
        misbehave(server)
    server.ask().wait_for_answer()
    server.wait_until_blocked()
    assert server.errors == ""


@pytest.mark.parametrize("misbehave", MISBEHAVIOURS)
def test_3e_survives_a_misbehaving_client_or_dies_of_its_lesson(serve, misbehave):
    server = serve("3e", delay=LONG)
    misbehave(server)

    def rests():
        """Its children have ended, so SIGCHLD has come. It may have come too early to interrupt accept."""
        living = [child for child in server.children() if child.state != system.ZOMBIE]
        return not system.queued(server.port) and not living and server.blocked()

    wait_until(lambda: server.errors or rests(), "it dies, or is back in accept")
    if server.errors:
        assert server.wait() == 1
        assert server.errors.count("Traceback") == server.errors.count("InterruptedError") == 1
    else:
        server.ask().wait_for_answer()


# Ending


def assert_ctrl_c_is_silent(program):
    """Assert that Ctrl-C ends a program and its children with status 0 and no word."""
    program.press_ctrl_c()
    assert program.wait() == 0
    assert program.errors == ""
    wait_until(lambda: program.processes() == [], "its children end")


@pytest.mark.parametrize("stage", ["3d", "3e", "3f", "3g", "3h", "3i"])  # for the others see closed stdout
def test_ctrl_c_is_silent_when_idle(serve, stage):
    server = serve(stage)
    server.wait_until_blocked()
    assert_ctrl_c_is_silent(server)


@pytest.mark.parametrize("stage", ALL_STAGES)
def test_ctrl_c_is_silent_at_work(serve, stage):
    server = serve(stage, delay=LONG)
    if stage not in ("3b", "3i"):
        server.connect()  # and stay silent
    if stage in FORKING_STAGES:
        server.wait_until_children(1)
    if stage != "3a":
        server.ask().wait_for_answer()
    if stage in FORKING_STAGES:
        server.wait_until_children(2)
    server.wait_until_blocked()
    assert_ctrl_c_is_silent(server)
