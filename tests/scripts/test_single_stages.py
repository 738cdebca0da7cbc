"""What single stages promise beyond their graded claims: how they fail, and how they go on.

A reader's own server may do all of this differently, so none of it is graded.
"""

import contextlib
import errno
import os
import resource
import signal
import time

import pytest
from harness import system
from harness.stages import LONG, STAGES
from harness.waiting import wait_until
from marks import LINUX_ONLY, needs_queue

GIVEN_UP = {  # what is printed for a client that gets no process, or no thread
    "3g": "fork failed, one client given up: [Errno 11] Resource temporarily unavailable",
    "4b": "can't start new thread, one client given up",
}
NO_DESCRIPTOR = "accept failed, trying again: [Errno 24] Too many open files"


def assert_answered(client):
    """Assert that a client gets an answer to its end."""
    assert client.wait_for_end().endswith(b"\r\n\r\nHello, World!\n")


# The listen queue


@needs_queue(5)
def test_queue_of_5_lets_6_wait(serve):
    count = 5 if system.DARWIN else 6  # Linux's kernel takes one more than listen asked for
    servers = [serve(stage) for stage in ("3a", "3b", "3c", "3d", "3e")]
    for server in servers:
        server.stop()
        for _ in range(count):
            server.connect()
    for one_more in [server.try_to_connect() for server in servers if system.LINUX]:
        one_more.wait_until_kept_waiting()
    assert [system.queued(server.port) for server in servers] == [count] * 5


@needs_queue(128)
@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage >= "3f"])
def test_queue_of_1024_lets_128_wait(serve, stage):
    server = serve(stage)
    os.killpg(server.group, signal.SIGSTOP)  # its workers, too
    wait_until(lambda: {one.state for one in server.processes()} == {system.STOPPED}, "all of it is stopped")
    for _ in range(128):
        server.connect()
    assert system.queued(server.port) == 128


# Crashes that are the lesson


def ask_until_it_dies(server):
    """Send request after request until the server ends."""

    def ended():
        with contextlib.suppress(OSError):
            server.ask()
        return not server.running

    wait_until(ended, "the server ends")
    assert server.wait() == 1
    assert server.errors.startswith("Traceback (most recent call last):")


def test_3d_without_descriptors_dies_in_accept(serve):
    server = serve("3d", limits={resource.RLIMIT_NOFILE: 6})
    ask_until_it_dies(server)
    assert "in accept" in server.errors  # no descriptor is left to read the source
    assert server.errors.endswith("OSError: [Errno 24] Too many open files\n")


def test_3d_without_processes_dies_in_fork(serve):
    server = serve("3d", processes=1)
    ask_until_it_dies(server)
    assert "fork()" in server.errors
    reason = f"[Errno {errno.EAGAIN}] Resource temporarily unavailable"
    assert server.errors.endswith(f"BlockingIOError: {reason}\n")


def test_3e_dies_in_accept_when_a_child_ends(serve):
    server = serve("3e")
    client = server.connect_and_settle()
    (child,) = server.wait_until_children(1)
    client.ask()
    assert server.wait() == 1
    assert f"\nChild {child.pid} terminated with status 0\n" in server.output
    assert "accept(listen_socket)" in server.errors
    assert server.errors.endswith("InterruptedError: [Errno 4] Interrupted system call\n")


# Out of processes, threads or descriptors


@LINUX_ONLY
@pytest.mark.parametrize("stage", GIVEN_UP)
def test_client_without_a_process_is_given_up(serve, stage):
    server = serve(stage, processes=10_000)
    descriptors = server.descriptors()
    with server.soft_limit(resource.RLIMIT_NPROC, 0):
        for count in (1, 2):
            assert server.ask().wait_for_end() == b""
            server.wait_until_blocked()
            assert server.errors.splitlines() == count * [GIVEN_UP[stage]]
            assert server.descriptors() == descriptors
    assert_answered(server.ask_when_idle())
    server.wait_until_children(0)


@contextlib.contextmanager
def no_free_descriptor(pid):
    """Let a process open no descriptor in this context (prlimit(2), Linux)."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(system.descriptors(pid)) + 1, limits[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


@LINUX_ONLY
@pytest.mark.parametrize("stage", ["3g", "4a", "4b", "4c", "4d", "4e"])
def test_lack_of_descriptors_is_reported_once_a_second(serve, stage):
    has_workers = stage in ("4a", "4e")
    server = serve(stage, *["--workers", "1"] * has_workers)
    (pid,) = server.wait_until_workers(1) if has_workers else [server.pid]
    server.wait_until_blocked()
    with no_free_descriptor(pid):
        clients = [server.ask(), server.ask()]  # a blocked accept has its descriptor already
        began = time.monotonic()
        wait_until(lambda: server.errors.count("\n") >= 2, "it reports that twice")
        assert time.monotonic() - began > 0.9
    assert set(server.errors.splitlines()) == {NO_DESCRIPTOR}
    for client in clients:
        assert_answered(client)


# Workers


def replaced(server, worker):
    """Kill a server's only worker. Returns its replacement, once there is one."""
    os.kill(worker, signal.SIGKILL)

    def others():
        children = [child for child in system.children(server.pid) if child.state != system.ZOMBIE]
        return [child.pid for child in children if child.pid != worker]

    return wait_until(others, "a new worker")[0]


def test_workers_that_die_at_once_are_replaced_once_a_second(serve):
    server = serve("4a", "--workers", "1")
    (first,) = server.wait_until_workers(1)
    began = time.monotonic()  # not when the second is seen, which takes long where a look is a ps
    second = replaced(server, first)
    replaced(server, second)
    assert time.monotonic() - began > 0.9
    assert_answered(server.ask())


@pytest.mark.parametrize("stage", ["4a", "4e"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_parent_alone_ends_its_workers(serve, stage, number):
    server = serve(stage)
    assert_answered(server.ask())
    server.wait_until_blocked()
    server.send_signal(number)
    assert server.wait() == 0
    wait_until(lambda: server.processes() == [], "the workers end")
    assert server.errors == ""


# What is left of a connection


@pytest.mark.parametrize("stage", ["3d", "3e", "3f"])  # the graded tests of 3c and 3g show the same
def test_no_process_keeps_a_copy_that_it_does_not_need(serve, stage):
    server = serve(stage, delay=LONG)
    before = len(server.descriptors())
    server.connect_and_settle()
    (child,) = server.children()
    assert server.listen_socket() not in system.sockets(child.pid)
    assert len(server.descriptors()) - before == (stage == "3d")  # its lesson is one more


@pytest.mark.parametrize("stage", ["3e", "3f"])
def test_handler_reports_the_child_of_a_silent_client(serve, stage):
    server = serve(stage)
    client = server.connect_and_settle()
    (child,) = server.children()
    client.close()
    report = f"\nChild {child.pid} terminated with status 0\n"
    wait_until(lambda: report in server.output, "the handler reports the child")


@pytest.mark.slow
@needs_queue(25)
@pytest.mark.parametrize("stage", ["3g", "4d", "4e"])
def test_memory_does_not_grow(serve, stage):
    has_workers = stage == "4e"
    server = serve(stage, *["--workers", "1"] * has_workers)
    (pid,) = server.wait_until_workers(1) if has_workers else [server.pid]

    def memory_after(rounds):
        for _ in range(rounds):
            for client in [server.ask() for _ in range(25)]:
                assert_answered(client)
                client.close()
        server.ask_when_idle().wait_for_end()  # in 3g the end of its child interrupts accept
        server.wait_until_blocked()
        return system.memory(pid)

    before = memory_after(4)
    assert memory_after(12) <= before + 32  # KiB: a hundred bytes for each connection
