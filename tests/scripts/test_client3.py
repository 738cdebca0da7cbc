"""The load client: what it sends, holds open, waits for, reports and leaves behind.

It faces a listener of the test's own, because a stage's server would answer too soon.
"""

import contextlib
import os
import pty
import re
import signal
import socket
import sys
import time

import pytest
from harness import system
from harness.clients import Attempt
from harness.ports import free_port
from harness.programs import QUICK_DNS, Program
from harness.stages import ROOT
from harness.users import user_with_few_processes
from harness.waiting import Patience, wait_until

CLIENT = [sys.executable, ROOT / "client3.py"]


class Listener:
    """A server that accepts and answers only when the test calls for it."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._socket.settimeout(Patience.seconds)
        self.port = self._socket.getsockname()[1]
        self.requests = []
        self._connections = []

    def accept(self, count):
        """Accept `count` connections and receive a request on each. Returns them."""
        connections = []
        for _ in range(count):
            connection, _ = self._socket.accept()
            self._connections.append(connection)
            connection.settimeout(Patience.seconds)
            self.requests.append(connection.recv(4096))
            connections.append(connection)
        return connections

    def answer_all(self):
        """Send a byte on all open connections."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.sendall(b"x")

    def close(self):
        for connection in [self._socket, *self._connections]:
            connection.close()


def reporters(client):
    """A function that returns the PIDs of the client's processes that have reported when it is called.

    A process that has reported closes the pipe for reports, and so has fewer descriptors than now.
    """
    children = system.children(client.pid)
    before = {child.pid: len(system.descriptors(child.pid)) for child in children}
    return lambda: [pid for pid in before if len(system.descriptors(pid)) < before[pid]]


@pytest.fixture
def listener():
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def load(start, listener):
    """load(option, ...) starts client3.py against the listener."""
    command = [*CLIENT, "--host", "127.0.0.1", "--port", str(listener.port)]
    return lambda *options, **program_options: start(Program, [*command, *options], **program_options)


# Connections


def test_request_is_http_1_1_for_hello(load, listener):
    load()
    listener.accept(1)
    lines = listener.requests[0].decode("ascii").split("\r\n")
    assert lines[0] == "GET /hello HTTP/1.1"
    assert lines.count(f"Host: 127.0.0.1:{listener.port}") == 1
    assert lines[-2:] == ["", ""]


def test_first_byte_is_an_answer(load, listener):
    client = load()
    listener.accept(1)[0].sendall(b"H")  # nothing more, and no end
    assert client.wait() == 0


def test_all_are_held_open_until_the_last_is_answered(load, listener):
    client = load("--max-clients=3", "--max-conns=4")
    *others, last = listener.accept(12)
    reported = reporters(client)
    for connection in others:
        connection.sendall(b"x")
        connection.setblocking(False)
    wait_until(lambda: len(reported()) == 2, "two of three processes have reported")
    for connection in others:
        with pytest.raises(BlockingIOError):  # open, and silent
            connection.recv(1)
    last.sendall(b"x")
    assert client.wait() == 0
    for connection in others:
        connection.setblocking(True)
        assert connection.recv(1) == b""
    assert last.recv(1) == b""
    assert client.output.startswith("12 of 12 ")


# Failures


def test_all_silent_connections_time_out_together(load, listener):
    began = time.monotonic()
    client = load("--timeout=0.1", "--max-clients=2", "--max-conns=150")
    assert client.wait() == 1
    assert re.fullmatch(r"0 of 300 .* 300 failed: 300 timed out\n", client.output)
    assert time.monotonic() - began < 0.1 * 150  # one after the other


def test_result_is_one_line_with_the_reasons(load, listener):
    client = load("--max-conns=3")
    answered, closed, reset = listener.accept(3)
    answered.sendall(b"x")
    closed.close()
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    reset.close()
    assert client.wait() == 1
    assert client.output.count("\n") == 1
    assert re.match("1 of 3 .* answered, 2 failed: ", client.output)
    assert "1 closed without an answer" in client.output
    assert "1 Connection reset by peer" in client.output
    assert client.errors == ""


def test_refused_connections_fail(start):
    # Nothing is bound to the port: a bound socket that doesn't listen refuses on Linux, and is silent on macOS.
    client = start(Program, [*CLIENT, "--port", str(free_port()), "--max-clients=2"])
    assert client.wait() == 1
    assert "0 of 2" in client.output
    assert "2 Connection refused" in client.output


def test_impossible_host_is_one_line(start):
    hosts = ["no-such-host.invalid", "\xe4..b"]
    for client in [start(Program, [*CLIENT, "--host", host], env=QUICK_DNS) for host in hosts]:
        assert client.wait() == 1
        assert client.output.startswith("0 of 1 ")
        assert client.output.count("\n") == 1
        assert client.errors == ""


def test_connecting_times_out(start):
    with socket.create_server(("127.0.0.1", 0), backlog=1) as full:  # never accepts; 0 would be 128 on macOS
        port = full.getsockname()[1]
        waiting = [Attempt(port) for _ in range(2)]
        began = time.monotonic()
        client = start(Program, [*CLIENT, "--host=127.0.0.1", "--port", str(port), "--timeout=0.2"])
        assert client.wait() == 1
        for attempt in waiting:
            attempt.close()
    assert client.output.endswith("1 failed: 1 timed out\n")
    assert time.monotonic() - began < 10


@pytest.mark.skipif(not system.LINUX, reason="the limit counts processes of other users elsewhere")
def test_connections_without_a_process_are_counted(start, listener):
    few = user_with_few_processes(1)  # the client itself
    command = [*few["wrapper"], *CLIENT, "--host=127.0.0.1", "--port", str(listener.port)]
    client = start(Program, [*command, "--max-clients=3", "--max-conns=2"], limits=few["limits"])
    assert client.wait() == 1
    assert client.output.endswith("6 failed: 6 no process: Resource temporarily unavailable\n")


def test_connections_of_a_killed_process_are_counted(load, listener):
    client = load("--max-clients=2", "--max-conns=3")
    listener.accept(6)
    child = next(process for process in client.processes() if process.pid != client.pid)
    os.kill(child.pid, signal.SIGKILL)
    listener.answer_all()
    assert client.wait() == 1
    assert client.output.endswith("3 failed: 3 client ended early\n")


# Processes and output


def test_terminal_shows_progress(load, listener):
    master, terminal = pty.openpty()
    client = load("--max-conns=2", stdout=terminal)
    connections = listener.accept(2)
    connections[0].sendall(b"x")
    assert os.read(master, 100) == b"\r1 answered"
    connections[1].sendall(b"x")
    assert client.wait() == 0
    assert os.read(master, 100).startswith(b"\r2 answered")
    os.close(terminal)  # not before: macOS discards unread output at the last close
    os.close(master)


def test_it_waits_for_its_last_process(load, listener):
    client = load("--max-clients=2")
    first, second = listener.accept(2)
    reported = reporters(client)
    first.sendall(b"x")
    (last,) = wait_until(reported, "one process has reported")
    os.kill(last, signal.SIGSTOP)
    second.sendall(b"x")

    def waiting():
        left = [child.pid for child in system.children(client.pid) if child.state != system.ZOMBIE]
        return left == [last] and system.process(client.pid).state in system.BLOCKED

    wait_until(lambda: waiting() or not client.running, "it waits for the last process")
    assert client.running
    assert client.output == ""
    os.kill(last, signal.SIGCONT)
    assert client.wait() == 0


def test_ctrl_c_ends_it_silently(load, listener):
    client = load("--max-clients=3")
    listener.accept(3)
    client.press_ctrl_c()
    assert client.wait() == 1
    assert client.errors == ""
    wait_until(lambda: client.processes() == [], "its children end")


def test_codec_of_host_names_is_imported_once(start, listener):
    """Each process would spend more time on that import than on its connection."""
    client3 = [sys.executable, "-X", "importtime", ROOT / "client3.py"]
    options = ["--host", "127.0.0.1", "--port", str(listener.port), "--max-clients", "3"]
    client = start(Program, [*client3, *options])
    listener.accept(3)
    listener.answer_all()
    assert client.wait() == 0
    assert client.errors.count(" encodings.idna\n") == 1


def test_ignored_sigchld_does_no_harm(load, listener):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # programs inherit that
    try:
        client = load("--max-clients=2")
    finally:
        signal.signal(signal.SIGCHLD, before)
    listener.accept(2)
    listener.answer_all()
    assert client.wait() == 0
    assert client.output.startswith("2 of 2 ")
    assert client.errors == ""


# Options


def test_help_has_the_defaults_in_80_columns(start):
    client = start(Program, [*CLIENT, "--help"])  # nothing that may be on port 8888 is disturbed
    assert client.wait() == 0
    assert max(len(line) for line in client.output.splitlines()) <= 80
    defaults = {"host": "localhost", "port": 8888, "max-clients": 1, "max-conns": 1, "timeout": 10}
    for option, default in defaults.items():
        explained = client.output.rpartition(f"  --{option}")[2].partition("\n  --")[0]
        assert re.search(r"\(default: (\S+)\)", explained)[1] == str(default)


def test_bad_option_is_a_usage_error(start):
    # getaddrinfo takes port 65536 for 0.
    options = ["--port=65536", "--max-clients=0", "--max-conns=1.5", "--timeout=nan"]
    clients = [start(Program, [*CLIENT, option]) for option in options]
    for option, client in zip(options, clients):
        assert client.wait() == 2
        assert client.output == ""
        assert option.partition("=")[0] in client.errors.splitlines()[-1]
