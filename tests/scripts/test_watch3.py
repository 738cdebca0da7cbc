"""The pictures of watch3.py: what each stage, and other servers, look like through it."""

import os
import re
import socket
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from harness import system
from harness.programs import Program
from harness.servers import Server
from harness.stages import LONG, ROOT
from harness.users import user_with_few_processes
from harness.waiting import wait_until
from marks import needs, needs_queue
from needs_watch3 import NEEDS_WATCH3

# The pages show pictures of it, which the ordinary run checks.
pytestmark = [*NEEDS_WATCH3, pytest.mark.slow]

# Runs a script as on a system without sock_diag(7) and with only these processes: to inspect all takes seconds.
ELSEWHERE = """if True:
    import psutil, rich.live, runpy, socket, sys
    sys.platform = "elsewhere"
    del socket.AF_NETLINK
    psutil.pids = lambda pids=sys.argv[1].split(): [int(pid) for pid in pids]
    del sys.argv[:2]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
# A server that only listens
LISTENS = """if True:
    import signal, socket, sys
    listen_socket = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    signal.pause()
"""
# One that not even its own user may inspect (PR_SET_DUMPABLE is 4, prctl(2))
HIDDEN = "import ctypes\nctypes.CDLL(None).prctl(4, 0)\n" + LISTENS
# A client that only connects
CONNECTS = """if True:
    import signal, socket, sys
    connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    print("connected", flush=True)
    signal.pause()
"""
THREADED = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"]


def rows(picture):
    """The connections in a picture with both ends: the state of the client's, that of the server's, the copies."""
    state = "([A-Z_0-9]+)"
    return re.findall(rf"^\S+(?: \d+)? +\d+  {state} +{state} +(.*?) *$", picture, re.MULTILINE)


def copies(picture):
    """Who has a copy of each connection."""
    return [row[2] for row in rows(picture)]


# Each stage


@needs_queue(5)
def test_3a_waits_in_recv_while_the_next_client_waits(serve, once):
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
def test_3bs_full_queue_keeps_a_client_out(serve, once):
    server = serve("3b", delay=LONG)
    server.ask().wait_for_answer()
    for _ in range(6):
        server.connect()
    wait_until(lambda: system.queued(server.port) == 6, "the queue is full")
    for _ in range(2):
        server.try_to_connect()
    picture = once(server.port)
    assert "██████ 6 of 6, 2 kept out" in picture
    assert "waits in sleep" in picture


def test_3cs_children_sleep_with_a_client_each(serve, once):
    server = serve("3c", delay=LONG)
    for _ in range(2):
        server.ask().wait_for_answer()
    server.wait_until_blocked()
    picture = once(server.port)
    assert "waits in accept(3)" in picture
    first, second = sorted(child.pid for child in server.children())
    assert re.findall(r"child (\d+) waits in sleep", picture) == [str(first), str(second)]
    assert copies(picture) == [f"1: {first}'s 4", f"1: {second}'s 4"]


def test_3ds_parent_holds_a_second_copy(serve, once):
    server = serve("3d", delay=LONG)
    server.ask().wait_for_answer()
    server.wait_until_blocked()
    (child,) = server.children()
    assert copies(once(server.port)) == [f"2: parent's 4, {child.pid}'s 4"]


def test_3ds_connection_outlives_its_child_and_its_client(serve, once):
    server = serve("3d")
    client = server.ask()
    client.wait_for_answer()
    server.wait_until_zombies(1)
    client.close()
    wait_until(
        lambda: any(row.state == system.FIN_WAIT2 for row in system.tcp(server.port)),
        "the client's FIN is acknowledged",
    )
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


def test_3f_has_one_pending_signal_for_20_children(serve, once):
    server = serve("3f")
    server.stop_while_children_end(20)
    picture = once(server.port)
    assert "stopped, SIGCHLD pending" in picture
    pids, more = re.search(r"20 ZOMBIES, ended and not waited for: ([\d ]+) and (\d+) more\n", picture).groups()
    assert len(pids.split()) + int(more) == 20
    server.resume()
    server.wait_until_blocked()
    picture = once(server.port)
    assert "waits in accept(" in picture  # not always of 3: libffi may have that, for ctypes
    assert "no SIGCHLD pending" in picture
    assert "19 ZOMBIES, ended" in picture


def test_3g_has_no_zombie(serve, once):
    server = serve("3g")
    server.assert_zombies_left(0, of=20)
    picture = once(server.port)
    assert "ZOMBIE" not in picture
    assert re.search(r"zombies +0 ", picture)
    assert set(copies(picture)) == {"0: left to the kernel"}


def test_3is_parent_waits_in_select(serve, once):
    server = serve("3i")
    server.connect()  # and stay silent
    (child,) = server.wait_until_children(1)
    server.wait_until_blocked()
    picture = once(server.port)
    assert "waits in select" in picture
    assert [copy.partition("'")[0] for copy in copies(picture)] == [f"1: {child.pid}"]


def test_4as_workers_wait_for_silent_clients(serve, once):
    server = serve("4a", "--workers", "2")
    server.wait_until_workers(2)
    for _ in range(3):
        server.connect()
    wait_until(lambda: system.queued(server.port) == 1, "each worker has a client")
    picture = once(server.port)
    assert re.search("listen queue  █░+ 1 of ", picture)  # 1 of 1025 is seen
    assert "waits in sigwait," in picture  # the parent
    workers = re.findall(r"child (\d+) waits in recv", picture)
    assert sorted(workers) == sorted(map(str, server.workers()))
    assert sorted(copies(picture)[:2]) == sorted(f"1: {pid}'s 4" for pid in workers)
    assert copies(picture)[2:] == ["0: in the listen queue"]


def test_4bs_threads_wait_for_silent_clients(serve, once):
    server = serve("4b")
    for _ in range(3):
        server.connect()
    wait_until(lambda: system.threads(server.pid) == 4, "each client has a thread")
    server.wait_until_blocked()
    picture = once(server.port)
    assert "waits in accept(3), 4 threads (3 in recv), " in picture
    assert "descriptors:\n" in picture  # the line is not cut off
    assert copies(picture) == [f"1: parent's {n}" for n in (4, 5, 6)]


def test_4c_waits_in_epoll_for_100_clients(serve, once):
    server = serve("4c")
    for _ in range(100):
        server.connect()
    server.wait_until_blocked()
    wait_until(lambda: system.queued(server.port) == 0, "they are accepted")
    picture = once(server.port)
    assert "waits in epoll" in picture
    assert "threads" not in picture
    assert copies(picture) == [f"1: parent's {n}" for n in range(5, 105)]
    assert re.search(r"connections +100 +children +0 ", picture)


# Other servers


@needs("cc")
def test_server_in_c(start, once, tmp_path):
    program = tmp_path / "server"
    subprocess.run(["cc", ROOT / "tests/grading/servers/server3g.c", "-o", program], check=True)
    server = start(Server, [program, "{port}"])
    server.wait_until_blocked()
    picture = once(server.port)
    assert f"parent {server.pid} server" in picture
    assert "waits in accept(3)" in picture


def test_threaded_server_holds_the_connections_itself(start, once):
    server = start(Server, THREADED)
    server.connect()
    wait_until(lambda: system.threads(server.pid) == 2, "it has a thread")
    picture = once(server.port)
    assert "2 threads" in picture
    assert copies(picture) == ["1: parent's 4"]
    assert re.search(r"children +0 ", picture)


def test_names_cannot_control_the_terminal(start, once, tmp_path):
    # A relative name: the line, with PID and Python's name, is 80 columns wide.
    (tmp_path / "\x1b[2J\nnext").write_text(LISTENS, encoding="utf-8")
    server = start(Server, [sys.executable, "\x1b[2J\nnext", "{port}"], cwd=tmp_path)
    picture = once(server.port)
    assert "?[2J next" in picture
    assert "\x1b" not in picture


def test_long_program_name_is_cut_off_but_no_pid(serve, once, start, tmp_path):
    server = serve("3a")
    program = tmp_path / "client_with_a_long_name"
    program.symlink_to(sys.executable)
    client = start(Program, [program, "-c", CONNECTS, str(server.port)])
    wait_until(lambda: client.output == "connected\n", "it is connected")
    name = re.search(rf"^(\S+) {client.pid} +\d+  ESTABLISHED ", once(server.port), re.MULTILINE)[1]
    assert re.fullmatch("client.*…", name)
    assert len(f"{name} {client.pid}") == 15


# Connections of which one end is special


@pytest.mark.may_be_skipped
@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6")
def test_server_for_both_families_has_each_connection_once(once):
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), listening.accept()[0]:
            assert [row[:2] for row in rows(once(port))] == [("ESTABLISHED", "ESTABLISHED")]


def test_client_outlives_the_servers_end(once):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            connection, (_, client_port) = listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)  # seconds in FIN_WAIT2 (tcp(7))
            connection.close()
            listens = int(system.LISTENING, 16)
            wait_until(lambda: system.server_end(port, client_port)[0] == listens, "only the listening socket is left")
            assert re.search(rf" {client_port} +CLOSE_WAIT +- +- *\n", once(port))


# In other ways


def picture_by(start, *command):
    """The picture that a command prints."""
    program = start(Program, [*command, "--once"], env={"COLUMNS": "80"})
    assert program.wait() == 0, program.errors
    assert program.errors == ""
    return program.output


def test_process_of_another_user_is_marked(start):
    server = start(Server, [sys.executable, "-c", HIDDEN, "{port}"])
    as_another = user_with_few_processes(0)["wrapper"]
    for option, mark in {f"--port={server.port}": "another user's", f"--pid={server.pid}": "not yours to see"}.items():
        picture = picture_by(start, *as_another, sys.executable, ROOT / "watch3.py", option)
        assert mark in picture
        assert "descriptors:" not in picture


def test_without_sock_diag_all_but_the_queue_is_shown(serve, start):
    server = serve("3d")
    server.ask().wait_for_answer()
    server.wait_until_zombies(1)
    elsewhere = [sys.executable, "-c", ELSEWHERE, f"{server.pid} {os.getpid()}", ROOT / "watch3.py"]
    picture = picture_by(start, *elsewhere, "--port", str(server.port))
    assert "listen queue  not to be seen" in picture
    assert re.search(r"3 listening socket, 4 client \d+\n\S+ 1 ZOMBIE", picture)
    assert rows(picture) == [("ESTABLISHED", "ESTABLISHED", "1: parent's 4")]


def test_process_is_found_by_its_pid(serve, watch3):
    server = serve("3g")
    assert f"port {server.port} of 127.0.0.1" in watch3("--once", "--pid", server.pid)


def test_bars_that_cannot_be_printed_are_replaced(serve, watch3):
    assert "listen queue  ?" in watch3("--once", "--port", serve("3a").port, encoding="ascii")


def test_missing_process_is_one_line(serve, watch3):
    server = serve("3g")
    server.kill()
    picture = watch3("--once", "--pid", server.pid, status=1)
    assert picture == f"There is no process {server.pid}.\n"


def test_drawing_has_the_words_of_the_picture(serve, once, watch3, tmp_path):
    server = serve("3d")
    server.ask().wait_for_answer()
    server.wait_until_zombies(1)
    drawing = tmp_path / "picture.svg"
    watch3("--port", server.port, "--svg", drawing)
    drawn = "".join(ElementTree.parse(drawing).getroot().itertext()).replace("\xa0", " ")
    picture = once(server.port)
    for words in ("1 ZOMBIE", "1: parent's 4", "waits in accept(3)"):
        assert words in picture
        assert words in drawn


def test_drawing_loads_nothing(serve, watch3, tmp_path):
    drawing = tmp_path / "picture.svg"
    watch3("--port", serve("3a").port, "--svg", drawing)
    assert "url(" not in drawing.read_text(encoding="utf-8").replace("url(#", "")
