"""What client3.py prints where it can't print, and how often it looks a name up.

No server is needed for that: the port is taken, but no process listens, so all connections are refused.
"""

import os
import socket
import sys

import pytest
from harness.programs import Program
from harness.stages import ROOT

CLIENT = [sys.executable, ROOT / "client3.py"]
# Runs a script that reports its look-ups and connections on standard error: a PID, an event and a host.
TRACED = """if True:
    import os, runpy, sys

    def report(event, arguments):
        if event in ("socket.getaddrinfo", "socket.connect"):
            host = arguments[0] if event == "socket.getaddrinfo" else arguments[1][0]
            os.write(2, f"{os.getpid()} {event} {host}\\n".encode())

    sys.addaudithook(report)
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield str(bound.getsockname()[1])


def test_closed_standard_output_is_no_error(start, port):
    client = start(Program, ["sh", "-c", 'exec "$0" "$@" >&-', *CLIENT, "--port", port])
    assert client.wait() == 1  # refused
    assert client.errors == ""


def test_unread_pipe_is_one_line(start, port):
    read, write = os.pipe()
    os.close(read)  # as true does
    client = start(Program, [*CLIENT, "--port", port], stdout=write)
    os.close(write)
    assert client.wait() == 1
    assert client.errors == "Cannot print the result: [Errno 32] Broken pipe\n"


def test_what_an_encoding_lacks_is_replaced(start):
    client = start(Program, [*CLIENT, "--host", "\xe4..b"], env={"PYTHONIOENCODING": "ascii"})
    assert client.wait() == 1
    assert client.output.startswith("0 of 1 connections to ?..b port 8888 answered, 1 failed: ")
    assert client.errors == ""


def test_name_is_looked_up_once_in_the_parent(start, port):
    options = ["--host", "localhost", "--port", port, "--max-clients", "3", "--max-conns", "2"]
    client = start(Program, [sys.executable, "-c", TRACED, ROOT / "client3.py", *options])
    assert client.wait() == 1
    events = [line.split() for line in client.errors.splitlines()]
    assert [event for event in events if event[1] == "socket.getaddrinfo"] == [
        [str(client.pid), "socket.getaddrinfo", "localhost"]
    ]
    assert {host for _, event, host in events if event == "socket.connect"} <= {"127.0.0.1", "::1"}
