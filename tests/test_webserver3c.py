"""Stage 3c: each connection gets a child process; the child sleeps after its answer."""

import re
import time

import system
from harness import LONG, wait_until


def test_clients_are_all_answered_at_once_while_every_child_sleeps(serve):
    server = serve(delay=LONG)
    clients = [server.ask() for _ in range(5)]
    for client in clients:
        client.wait_for_answer()
    server.wait_until_blocked()
    assert len(server.children()) == 5
    assert server.zombies() == []
    assert not any(client.ended for client in clients)


def test_clients_all_end_after_about_one_delay(serve):
    server = serve(delay=1)
    start = time.monotonic()
    clients = [server.ask() for _ in range(6)]
    for client in clients:
        client.wait_for_end()
    took = time.monotonic() - start
    assert took >= server.delay
    assert took < 6 * server.delay  # what an iterative server takes


def test_silent_client_holds_up_nobody(serve):
    server = serve(delay=0)
    server.connect()  # and says nothing
    server.ask().wait_for_end()


def test_parent_prints_its_pid(serve):
    server = serve(delay=0)
    wait_until(lambda: str(server.pid) in numbers(server.output), "the PID is printed")


def test_each_child_prints_its_own_pid_and_its_parents(serve):
    server = serve(delay=LONG)
    for _ in range(3):
        server.ask().wait_for_answer()
    pids = [child.pid for child in server.children()]
    assert len(pids) == 3
    lines = [set(numbers(line)) for line in server.output.splitlines()]
    for pid in pids:
        assert any({str(pid), str(server.pid)} <= line for line in lines)


def test_child_closes_its_copy_of_the_listening_socket(serve):
    server = serve(delay=LONG)
    listen_socket, = system.sockets(server.pid)
    server.ask().wait_for_answer()
    server.wait_until_blocked()
    child, = server.children()
    assert listen_socket not in system.sockets(child.pid)
    assert len(system.sockets(child.pid)) == 1


def test_parent_closes_its_copy_of_each_connection(serve):
    server = serve(delay=LONG)
    before = server.descriptors()
    for _ in range(3):
        server.ask().wait_for_answer()
    server.wait_until_blocked()
    assert server.descriptors() == before


def test_finished_children_stay_zombies(serve):
    server = serve(delay=0)
    for _ in range(4):
        server.ask().wait_for_end()
    server.wait_until_zombies(4)
    assert len(server.children()) == 4


def numbers(text):
    """The whole numbers in a text, as strings."""
    return re.findall(r"\d+", text)
