"""watch3.py: what each stage looks like through it, and that it only looks."""

import importlib.util
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest
from harness import system
from harness.programs import Program
from harness.servers import Server
from harness.stages import LONG, ROOT
from harness.users import user_with_few_processes
from harness.waiting import wait_until
from marks import LINUX_ONLY, needs, needs_queue

MISSING = [name for name in ("rich", "psutil") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(MISSING != [], reason=f"there is no {' and no '.join(MISSING)}"),
    LINUX_ONLY,  # what is shown elsewhere was never seen by these tests
]
WATCH = [sys.executable, ROOT / "watch3.py"]
FIN_WAIT2 = "05"  # a state in /proc/net/tcp
# Runs a script as on another system: one without sock_diag(7), and without Linux's name.
# Of its processes there are only these: to look into all would take seconds.
ELSEWHERE = """if True:
    import psutil, rich.live, runpy, socket, sys
    sys.platform = "elsewhere"
    del socket.AF_NETLINK
    psutil.pids = lambda pids=sys.argv[1].split(): [int(pid) for pid in pids]
    del sys.argv[:2]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
# A server that does nothing but listen
LISTENS = """if True:
    import signal, socket, sys
    listen_socket = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    signal.pause()
"""
# One that not even its own user may look into (prctl(2), PR_SET_DUMPABLE is 4)
HIDDEN = "import ctypes\nctypes.CDLL(None).prctl(4, 0)\n" + LISTENS
# A client that does nothing but connect
CONNECTS = """if True:
    import signal, socket, sys
    connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    print("connected", flush=True)
    signal.pause()
"""
THREADED = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"]


@pytest.fixture
def once(start):
    """once(port, option, ...) is the picture of the server on a port, as it is printed."""

    def once(port, *options, status=0, wrapper=(), command=WATCH):
        command = [*wrapper, *command, "--once", "--port", str(port), *options]
        program = start(Program, command, env={"COLUMNS": "80"})
        assert program.wait() == status, program.errors
        assert program.errors == ""
        return program.output

    return once


@pytest.fixture
def live(start):
    """live(port, option, ...) starts watch3.py on a terminal of 80 columns and 24 rows."""

    def live(port, *options, **environment):
        env = {"TERM": "xterm", "COLUMNS": "80", "LINES": "24", **environment}
        command = [*WATCH, "--port", str(port), *options]
        return start(Program, command, env=env, terminal=True, keyboard=True)

    return live


def rows(picture):
    """The connections in a picture: for each the states at both ends, and the copies."""
    state = "([A-Z_0-9]+)"
    return re.findall(rf"^\S+(?: \d+)? +\d+  {state} +{state} +(.*?) *$", picture, re.MULTILINE)


def test_name_of_a_clients_program_is_cut_off_and_its_pid_is_not(serve, once, start, tmp_path):
    server = serve("3a")
    program = tmp_path / "client_with_a_long_name"
    program.symlink_to(sys.executable)
    client = start(Program, [program, "-c", CONNECTS, str(server.port)])
    wait_until(lambda: client.output == "connected\n", "it is connected")
    name = re.search(rf"^(\S+) {client.pid} +\d+  ESTABLISHED ", once(server.port), re.MULTILINE)[1]
    assert re.fullmatch("client.*…", name)
    assert len(f"{name} {client.pid}") == 15


# Each stage


@needs_queue(5)
def test_3a_is_kept_in_recv_by_a_silent_client_while_the_next_one_waits(serve, once):
    server = serve("3a")
    silent = server.connect_and_settle()
    second = server.ask()
    server.wait_until_queued(1, unless=second)
    picture = once(server.port)
    assert "█░░░░░ 1 of 6\n" in picture
    assert f"parent {server.pid} " in picture
    assert "waits in recv(4)" in picture
    assert f"3 listening socket, 4 client {silent.port}" in picture
    assert rows(picture) == [
        ("ESTABLISHED", "ESTABLISHED", "1: parent's 4"),
        ("ESTABLISHED", "ESTABLISHED", "0: in the listen queue"),
    ]


@needs_queue(5)
def test_3bs_queue_of_6_is_full_and_keeps_the_next_client_out(serve, once):
    server = serve("3b", delay=LONG)
    server.ask().wait_for_answer()
    for _ in range(6):
        server.connect()
    wait_until(lambda: system.queued(server.port) == 6, "the queue is full")
    server.try_to_connect()
    picture = once(server.port)
    assert "██████ 6 of 6, 1 kept out" in picture
    assert "waits in sleep" in picture


def test_3cs_children_sleep_and_each_holds_its_own_client(serve, once):
    server = serve("3c", delay=LONG)
    for _ in range(2):
        server.ask().wait_for_answer()
    server.wait_until_blocked()
    picture = once(server.port)
    assert "waits in accept(3)" in picture
    first, second = sorted(child.pid for child in server.children())
    assert re.findall(r"child (\d+) waits in sleep", picture) == [str(first), str(second)]
    copies = [row[2] for row in rows(picture)]
    assert copies == [f"1: {first}'s 4", f"1: {second}'s 4"]


def test_3d_holds_a_second_copy_of_each_connection(serve, once):
    server = serve("3d", delay=LONG)
    server.ask().wait_for_answer()
    server.wait_until_blocked()
    child, = server.children()
    copies = [row[2] for row in rows(once(server.port))]
    assert copies == [f"2: parent's 4, {child.pid}'s 4"]


def test_3d_holds_the_last_copy_when_the_child_is_a_zombie_and_the_client_gone(serve, once):
    server = serve("3d")
    client = server.ask()
    client.wait_for_answer()
    server.wait_until_zombies(1)
    client.close()
    states = lambda: {row.state for row in system.tcp(server.port)}
    wait_until(lambda: FIN_WAIT2 in states(), "the client's FIN is acknowledged")
    picture = once(server.port)
    assert f"1 ZOMBIE, ended and not waited for: {server.zombies()[0].pid}\n" in picture
    assert rows(picture) == [("FIN_WAIT2", "CLOSE_WAIT", "1: parent's 4")]
    assert "(gone)" in picture  # no program has the client's end any more
    assert "FIN_WAIT2: has closed" in picture
    assert "CLOSE_WAIT: knows that the other end has closed" in picture


def test_3e_is_gone(serve, once):
    server = serve("3e", delay=0)
    server.ask_when_idle()
    server.wait()
    assert once(server.port, status=1) == f"Nobody listens on port {server.port}.\n"


def test_3f_has_one_signal_pending_for_20_children_and_then_19_zombies(serve, once):
    server = serve("3f")
    server.stop_while_children_end(20)
    picture = once(server.port)
    assert "stopped, SIGCHLD pending" in picture
    assert "20 ZOMBIES, ended" in picture
    server.resume()
    server.wait_until_blocked()
    picture = once(server.port)
    assert "waits in accept(" in picture  # libffi, which ctypes needs, may have number 3
    assert "no SIGCHLD pending" in picture
    assert "19 ZOMBIES, ended" in picture


def test_3g_has_no_zombie(serve, once):
    server = serve("3g")
    server.assert_zombies_left(0, of=20)
    picture = once(server.port)
    assert "ZOMBIE" not in picture
    assert re.search(r"zombies +0 ", picture)
    assert {row[2] for row in rows(picture)} == {"0: left to the kernel"}


def test_4as_parent_waits_in_wait_and_its_workers_for_silent_clients(serve, once):
    server = serve("4a", "--workers", "2")
    server.wait_until_workers(2)
    for _ in range(3):
        server.connect()
    wait_until(lambda: system.queued(server.port) == 1, "the workers have a client each")
    picture = once(server.port)
    assert "waits in wait," in picture
    workers = re.findall(r"child (\d+) waits in recv", picture)
    assert sorted(workers) == sorted(map(str, server.workers()))
    copies = [row[2] for row in rows(picture)]
    assert sorted(copies[:2]) == sorted(f"1: {pid}'s 4" for pid in workers)
    assert copies[2:] == ["0: in the listen queue"]


def test_4bs_threads_wait_for_silent_clients_and_the_first_for_others(serve, once):
    server = serve("4b")
    for _ in range(3):
        server.connect()
    wait_until(lambda: system.threads(server.pid) == 4, "each client has a thread")
    server.wait_until_blocked()
    picture = once(server.port)
    assert "waits in accept(3), 4 threads (3 in recv), " in picture
    assert "descriptors:\n" in picture  # the line is not cut off
    assert [row[2] for row in rows(picture)] == [f"1: parent's {n}" for n in (4, 5, 6)]


def test_4c_waits_in_epoll_for_300_clients_in_one_thread(serve, once):
    server = serve("4c")
    for _ in range(300):
        server.connect()
    server.wait_until_blocked()
    wait_until(lambda: system.queued(server.port) == 0, "they are accepted")
    picture = once(server.port)
    assert "waits in epoll" in picture
    assert "threads" not in picture
    assert [row[2] for row in rows(picture)] == [f"1: parent's {n}" for n in range(5, 305)]
    assert re.search(r"connections +300 +children +0 ", picture)


# Other servers


@needs("cc")
def test_server_in_c(start, once, tmp_path):
    program = tmp_path / "server"
    subprocess.run(["cc", ROOT / "benchmarks/fork.c", "-o", program], check=True)
    server = start(Server, [program, "{port}"])
    server.wait_until_blocked()
    picture = once(server.port)
    assert f"parent {server.pid} server" in picture
    assert "waits in accept(3)" in picture


def test_threaded_server_holds_the_connections_itself(start, once):
    server = start(Server, THREADED)
    server.connect()
    wait_until(lambda: len(os.listdir(f"/proc/{server.pid}/task")) == 2, "it has a thread")
    picture = once(server.port)
    assert "2 threads" in picture
    assert [row[2] for row in rows(picture)] == ["1: parent's 4"]
    assert re.search(r"children +0 ", picture)


def test_3hs_parent_waits_for_clients_and_signals_at_once(serve, once):
    server = serve("3h")
    server.connect()  # and says nothing
    child, = server.wait_until_children(1)
    server.wait_until_blocked()
    picture = once(server.port)
    assert "waits in select" in picture
    assert [row[2].split("'")[0] for row in rows(picture)] == [f"1: {child.pid}"]


def test_process_that_one_may_not_look_into(start, once):
    server = start(Server, [sys.executable, "-c", HIDDEN, "{port}"])
    picture = once(server.port, wrapper=user_with_few_processes(0)["wrapper"])
    assert "another user's" in picture
    assert "descriptors:" not in picture


def test_names_do_not_command_the_terminal(start, once, tmp_path):
    # A relative name: the line that has it is 80 columns wide, PID and Python's name included.
    (tmp_path / "\x1b[2J\nnext").write_text(LISTENS, encoding="utf-8")
    server = start(Server, [sys.executable, "\x1b[2J\nnext", "{port}"], cwd=tmp_path)
    picture = once(server.port)
    assert "?[2J next" in picture and "\x1b" not in picture


def test_process_by_its_pid(serve, start):
    server = serve("3g")
    command = [*WATCH, "--once", "--pid", str(server.pid)]
    program = start(Program, command)
    assert program.wait() == 0
    assert f"port {server.port} of 127.0.0.1" in program.output
    server.kill()
    program = start(Program, command)
    assert program.wait() == 1
    assert program.output == f"There is no process {server.pid}.\n"


def test_elsewhere_processes_and_copies_are_seen_and_the_queue_is_not(serve, once):
    server = serve("3d")
    server.ask().wait_for_answer()
    server.wait_until_zombies(1)
    pids = f"{server.pid} {os.getpid()}"
    picture = once(server.port, command=[sys.executable, "-c", ELSEWHERE, pids, ROOT / "watch3.py"])
    assert "listen queue  not to be seen" in picture
    assert re.search(r"3 listening socket, 4 client \d+\n\S+ 1 ZOMBIE", picture)
    assert rows(picture) == [("ESTABLISHED", "ESTABLISHED", "1: parent's 4")]


# Live


def test_it_follows_servers_that_fork_end_and_start_until_ctrl_c(serve, live):
    server = serve("3f")
    program = live(server.port, "--interval", "0.1")
    wait_until(lambda: f" {server.pid} python" in program.output, "the server is seen")
    assert server.load("--max-clients", "20", "--timeout", "60").wait(60) == 0
    server.send_signal(signal.SIGKILL)
    server.wait()
    wait_until(lambda: "The server ended at " in program.output, "its end is seen")
    again = serve("3f", port=server.port)
    wait_until(lambda: f" {again.pid} python" in program.output, "the next one is seen")
    os.write(program._terminal, b"\x03")
    assert program.wait() == 0
    assert "Traceback" not in program.output
    restored = program.output[program.output.rindex("parent") :]
    assert "\x1b[?1049l" in restored and "\x1b[?25h" in restored  # screen and cursor (xterm)


def test_what_does_not_fit_is_counted(serve, live):
    server = serve("3g")
    for _ in range(30):
        server.connect()
    server.wait_until_children(30)
    program = live(server.port, "--interval", "3600")  # one picture, and no part of a second
    wait_until(lambda: "descriptors  " in program.output, "the last line is seen")
    picture = program.output
    for row, what in ((r"child \d+", "children"), (r"\d+'s 4", "connections")):
        shown = len(re.findall(row, picture))
        left_out = int(re.search(rf"\+(\d+) more {what}", picture)[1])
        assert shown > 0 and shown + left_out == 30


# What it costs

SECONDS = 10  # that it is looked at
# A server with 2,000 zombies, and 500 children with a connection each
CROWDED = """if True:
    import os, socket
    listen_socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
    for _ in range(2000):
        if os.fork() == 0:
            os._exit(0)
    clients = [socket.create_connection(listen_socket.getsockname()) for _ in range(500)]
    for _ in clients:
        connection, address = listen_socket.accept()
        if os.fork() == 0:
            for one in (listen_socket, *clients):
                one.close()
            connection.recv(1)
            os._exit(0)
        connection.close()
    print("port", listen_socket.getsockname()[1], flush=True)
    listen_socket.accept()
"""


@pytest.mark.slow
def test_many_processes_and_short_intervals_take_a_tenth_of_a_processor(start, live):
    server = start(Program, [sys.executable, "-c", CROWDED])
    listening = wait_until(lambda: re.search(r"port (\d+)", server.output), "it listens", allow=60)
    program = live(listening[1], "--interval", "0.1")
    wait_until(lambda: " python" in program.output, "the server is seen")
    wait_until(lambda: "2000 ZOMBIES" in program.output, "2,000 zombies are seen")
    began, used = time.monotonic(), system.processor_time(program.pid)
    looks = program.output.count("2000 ZOMBIES")
    wait_until(lambda: time.monotonic() > began + SECONDS, "time passes")
    seconds = time.monotonic() - began
    assert (system.processor_time(program.pid) - used) / seconds < 0.15
    assert program.output.count("2000 ZOMBIES") > looks  # it goes on looking


@pytest.mark.slow
@needs("ab")
def test_3g_answers_nine_tenths_of_the_requests_beside_it(start, serve, live):
    server = serve("3g")
    program = live(server.port)
    wait_until(lambda: " python" in program.output, "the server is seen")
    ratios = []
    for _ in range(15):
        rates = []
        for number in (signal.SIGSTOP, signal.SIGCONT):
            program.send_signal(number)
            url = f"http://127.0.0.1:{server.port}/"
            ab = start(Program, ["ab", "-q", "-n", "1000", "-c", "16", url])
            assert ab.wait(60) == 0, ab.errors
            rates.append(float(re.search(r"Requests per second: +([\d.]+)", ab.output)[1]))
        ratios.append(rates[1] / rates[0])
    assert statistics.median(ratios) > 0.9, ratios


# Output


def test_text_alone_suffices_and_a_drawing_has_the_same(serve, once, start, tmp_path):
    server = serve("3d")
    server.ask().wait_for_answer()
    server.wait_until_zombies(1)
    drawing = tmp_path / "picture.svg"
    draws = start(Program, [*WATCH, "--port", str(server.port), "--svg", drawing])
    picture = once(server.port)
    assert "\x1b" not in picture
    assert rows(picture) == [("ESTABLISHED", "ESTABLISHED", "1: parent's 4")]
    assert draws.wait() == 0
    drawn = "".join(ElementTree.parse(drawing).getroot().itertext()).replace("\xa0", " ")
    for word in ("1 ZOMBIE", "1: parent's 4", "waits in accept(3)"):
        assert word in picture and word in drawn
    assert "url(" not in drawing.read_text(encoding="utf-8").replace("url(#", "")


def test_a_terminal_has_colours_unless_they_are_not_wanted(serve, live):
    server = serve("3d")
    server.ask().wait_for_answer()
    server.wait_until_zombies(1)
    with_colours, without = live(server.port), live(server.port, NO_COLOR="1")
    for program in (with_colours, without):
        wait_until(lambda: "1 ZOMBIE" in program.output, "the zombie is seen")
    red = re.compile(r"\x1b\[[0-9;]*31m")
    assert red.search(with_colours.output)
    assert not red.search(without.output)


def test_where_it_cannot_print_it_says_so_in_a_line(serve, start):
    server = serve("3g")
    with open("/dev/full", "w", encoding="utf-8") as full:
        program = start(Program, [*WATCH, "--once", "--port", str(server.port)], stdout=full)
        assert program.wait() == 1
    assert program.errors.count("\n") == 1
    assert "No space left on device" in program.errors


def test_bad_options_are_argparses_error_even_where_a_library_is_missing(start):
    wrong = ["--port 0", "--port 65536", "--pid 0", "--port 8888 --pid 1", "--interval 0"]
    command = [sys.executable, "-S", ROOT / "watch3.py"]
    for program in [start(Program, [*command, *options.split()]) for options in wrong]:
        assert program.wait() == 2
        assert program.errors.startswith("usage: watch3.py")


def test_where_a_library_is_missing_a_line_says_what_to_install(start):
    program = start(Program, [sys.executable, "-S", ROOT / "watch3.py"])
    assert program.wait() == 1
    line, = program.errors.splitlines()
    assert "pip install 'rich>=12.4' 'psutil>=6'" in line
