"""The WSGI server as a parent: how many children it has, which signals end what, and what it runs out of."""

import os
import resource
import signal
import sys

import pytest
from application_server import (
    CHUNKED,
    GET,
    MIB,
    POST,
    STAGE,
    ApplicationServer,
    UnreadServer,
    assert_reset,
    whole_answer,
)
from harness import system
from harness.programs import Program
from harness.stages import script_path
from harness.users import user_with_few_processes
from harness.waiting import mismatch, wait_until
from marks import LINUX_ONLY

# Many clients


def test_100_requests_at_a_time_are_all_answered(wsgi):
    load = wsgi.load("--max-clients", "100", "--timeout", "60")
    assert load.wait(60) == 0, mismatch(load.output.strip(), "all are answered")
    wsgi.wait_until_children(0)


def test_next_client_waits_when_all_children_are_busy(start):
    server = start(ApplicationServer, "--max-children", "2")
    clients = [server.connect() for _ in range(3)]
    server.wait_until_children(2)
    server.wait_until_queued(1, unless=clients[2])
    for client in clients:
        client.send(GET.format("/digest").encode())
    for client in clients:
        assert whole_answer(client)[0] == 200
        client.close()


def test_clients_do_not_wait_for_an_unread_log(start):
    read, write = os.pipe()
    os.set_blocking(write, False)
    with open(read, encoding="utf-8"), open(write, "wb", buffering=0) as pipe:
        while pipe.write(b"x" * 512):
            pass  # until it is full
        os.set_blocking(write, True)
        server = start(UnreadServer, "--max-children", "1", stdout=pipe)
        for _ in range(3):
            assert server.get("/digest")[0] == 200
        server.wait_until_children(0)


def test_help_says_who_waits_how_long(start):
    program = start(Program, [sys.executable, script_path(STAGE), "--help"])
    assert program.wait() == 0
    words = " ".join(program.output.split())
    assert "as long again for each 500 kB of a body" in words
    assert "for the head of its request at most 10" in words
    assert "behind 200 of them the next waits for about 30" in words
    assert "not while the application computes or sleeps" in words


@pytest.mark.slow
def test_newcomer_behind_200_idle_clients_waits_30_seconds(start):
    """64 children wait 10 seconds each: the 201st client is served after 30."""
    server = start(ApplicationServer)
    for _ in range(200):
        server.connect()
    newcomer = server.ask("/digest")
    wait_until(newcomer.answered, "the newcomer is answered", allow=30)


# Failing system calls


@LINUX_ONLY
def test_client_waits_while_accept_fails(start):
    server = start(ApplicationServer)
    with server.soft_limit(resource.RLIMIT_NOFILE, len(server.descriptors())):
        waiting = server.ask("/digest")
        wait_until(lambda: "accept failed" in server.errors, "it reports that accept fails")
    assert whole_answer(waiting)[0] == 200


@LINUX_ONLY
def test_client_is_given_up_when_fork_fails(start):
    server = start(ApplicationServer, **user_with_few_processes(10_000))
    with server.soft_limit(resource.RLIMIT_NPROC, 0):
        assert server.connect().wait_for_end() == b""
        assert "fork failed" in server.errors
    assert server.get("/digest")[0] == 200


# Signals


def refused(server):
    """Whether a connection to a server is refused."""
    try:
        server.connect().close()
    except (ConnectionRefusedError, ConnectionResetError):  # reset if it stops listening this moment
        return True
    return False


@pytest.mark.parametrize(
    "number, send",
    [(signal.SIGTERM, os.kill), (signal.SIGINT, os.kill), (signal.SIGINT, os.killpg)],
    ids=["SIGTERM to the parent", "SIGINT to the parent", "Ctrl-C"],
)
def test_signal_lets_requests_finish(start, number, send):
    server = start(ApplicationServer)
    client = server.send(POST.format("/digest", 4) + "12")
    server.wait_until_children(1)
    server.wait_until_blocked()
    send(server.pid, number)
    wait_until(lambda: refused(server), "no connection is accepted any more")
    client.send(b"34")
    assert whole_answer(client)[0] == 200
    client.close()
    assert server.wait() == 0
    assert server.errors == ""


def test_second_ctrl_c_ends_it_at_once(start):
    server = start(ApplicationServer, "--timeout", "600")
    client = server.ask("/pause")
    wait_until(lambda: "pausing" in server.errors, "the request is under way")
    server.press_ctrl_c()
    wait_until(lambda: refused(server), "no connection is accepted any more")
    server.press_ctrl_c()
    assert server.wait() == 0
    assert server.processes() == []
    assert client.wait_for_end() == b""


def test_sigterm_ends_a_child(wsgi, reported):
    client = wsgi.ask("/pause")
    reported("pausing")
    os.kill(wsgi.wait_until_children(1)[0].pid, signal.SIGTERM)
    assert_reset(client)


def test_sigterm_ends_a_child_of_the_application(wsgi):
    assert wsgi.get("/terminate")[2] == b"15"


def test_sigalrm_ends_a_child(wsgi):
    assert_reset(wsgi.ask("/pause?0.01"))  # the application sets an alarm


ALL_BLOCKED = """if True:
    import os, signal, sys
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.execv(sys.argv[1], sys.argv[1:])
"""


def test_works_if_started_with_signals_blocked(start):
    server = start(ApplicationServer, wrapper=[sys.executable, "-c", ALL_BLOCKED])
    assert server.get("/digest")[0] == 200
    server.wait_until_children(0)
    server.press_ctrl_c()
    assert server.wait() == 0


# Memory and leaks

GIB = 1024 * MIB
MOST = 30 * 1024  # KiB of resident memory of a child


@pytest.mark.slow
@LINUX_ONLY
@pytest.mark.parametrize(
    "head, chunk, last, size",
    [  # last keeps the child waiting
        (POST.format("/digest", GIB + 1), bytes(MIB), b"x", GIB + 1),
        (CHUNKED.format("/digest"), b"%x\r\n%s\r\n" % (MIB, bytes(MIB)), b"0\r\n\r\n", GIB),
    ],
    ids=["length", "chunked"],
)
def test_1_gib_up_takes_less_than_30_mib(start, head, chunk, last, size):
    server = start(ApplicationServer)
    client = server.send(head)
    for _ in range(1024):
        client.send(chunk)
    (child,) = server.wait_until_children(1)
    assert system.peak_memory(child.pid) < MOST
    client.send(last)
    assert whole_answer(client)[2].startswith(b"%d " % size)


@pytest.mark.slow
@LINUX_ONLY
def test_1_gib_down_takes_less_than_30_mib(start):
    server = start(ApplicationServer)
    client = server.ask("/large?1024x1")
    size = 0
    while size < GIB - 16 * MIB:
        size += len(client.socket.recv(MIB))
    (child,) = server.wait_until_children(1)
    assert system.peak_memory(child.pid) < MOST
    while size < GIB:
        size += len(client.socket.recv(MIB))


@pytest.mark.slow
def test_20_000_requests_leave_nothing_behind(start):
    server = start(ApplicationServer)

    def load(rounds):
        for _ in range(rounds):
            load = server.load("--max-clients=8", "--max-conns=125", "--timeout=60")
            assert load.wait(60) == 0, mismatch(load.output.strip(), "all are answered")
        server.wait_until_children(0)
        return server.descriptors(), system.memory(server.pid)

    descriptors, memory = load(2)
    after, more = load(20)
    assert after == descriptors
    assert more <= memory + 64  # KiB: three bytes for each request
