"""Stage 3c: each connection gets a child process; the child sleeps after its answer.

Fork a child for each client. The child answers, sleeps and ends; the parent accepts the
next at once. Print the PIDs: your own first, and in each child its own and its parent's.
"""

import time

import pytest
from harness import system
from harness.assertions import assert_not_answered, wait_until_printed
from harness.clients import body_of
from harness.stages import LONG
from harness.waiting import mismatch


def test_clients_are_all_answered_at_once_while_every_child_sleeps(serve):
    """All clients are answered at once, and a child sleeps for each of them.

    Hint: Fork as soon as accept returns. The child reads, answers at once, and sleeps after
    that. The parent accepts the next client, and waits for nobody.
    Again: for n in 1 2 3; do curl localhost:8888/$n & done; sleep 1; .venv/bin/python watch3.py --once
    """
    server = serve(delay=LONG)
    clients = [server.ask() for _ in range(5)]
    for client in clients:
        client.wait_for_answer()
    server.wait_until_blocked()
    alive = len(server.children()) - len(server.zombies())
    assert alive == 5, mismatch(f"5 clients are served by {alive} children", "by 5")
    ended = sum(client.ended() for client in clients)
    assert ended == 0, mismatch(f"{ended} of 5 connections end with the answer", "none does")
    assert body_of(clients[0].received) != b"", mismatch("the answer has no body yet", "a greeting")


def test_clients_all_end_after_about_one_delay(serve):
    """Six clients all end after about one delay.

    Hint: The children sleep at the same time, so that nobody waits for another's sleep.
    Again: time (for n in 1 2 3 4 5 6; do curl localhost:8888/$n & done; wait)
    """
    server = serve(delay=1)
    start = time.monotonic()
    clients = [server.ask() for _ in range(6)]
    answers = [client.wait_for_end() for client in clients]
    took = time.monotonic() - start
    assert body_of(answers[0]) != b"", mismatch("the answer is empty", "a greeting")
    one, six = server.delay, 6 * server.delay
    assert one <= took < six, mismatch(f"they take {took:.2f} s", f"{one} s, not {six} s")


def test_silent_client_holds_up_nobody(serve):
    """A client that connects and says nothing holds up nobody.

    Hint: Does your parent read the request? A silent client holds it up in recv then. Fork
    as soon as accept returns, and let only the child call recv.
    Again: curl telnet://localhost:8888, and then in one more: curl localhost:8888
    """
    server = serve(delay=0)
    silent = server.connect_and_settle()
    server.ask().wait_for_answer()
    assert_not_answered(silent)


def test_parent_prints_its_pid(serve):
    """Also asked: the server prints its PID.

    Hint: Print what getpid returns, once, before the loop.
    """
    server = serve(delay=0)
    wait_until_printed(server, rf"\b{server.pid}\b", f"its PID, {server.pid}")


@pytest.mark.depends_on("test_clients_are_all_answered_at_once_while_every_child_sleeps")
def test_each_child_prints_its_own_pid_and_its_parents(serve):
    """Also asked: each child prints its own PID and its parent's, in one line.

    Hint: In the child, print what getpid and getppid return.
    """
    server = serve(delay=LONG)
    for _ in range(3):
        server.ask().wait_for_answer()
    pids = [child.pid for child in server.children()]
    assert len(pids) == 3, mismatch(f"3 clients are served by {len(pids)} children", "by 3")
    for pid in pids:
        both = rf"(?=.*\b{pid}\b).*\b{server.pid}\b"
        wait_until_printed(server, both, f"a line with {pid} and {server.pid}")


@pytest.mark.depends_on("test_clients_are_all_answered_at_once_while_every_child_sleeps")
def test_child_closes_its_copy_of_the_listening_socket(serve):
    """A child closes its copy of the listening socket.

    Hint: After fork the child has a copy of every descriptor of the parent's. It
    accepts nothing, and so closes the listening socket first of all.
    Again: curl localhost:8888/hello & sleep 1; .venv/bin/python watch3.py --once
    """
    server = serve(delay=LONG)
    listen_socket = server.listen_socket()
    server.ask().wait_for_answer()
    server.wait_until_blocked()
    for child in server.children():
        has_it = listen_socket in system.sockets(child.pid)
        assert not has_it, mismatch("the child has it open", "it is closed in the child")
    assert server.children() != [], mismatch("there is no child", "one for each client")


@pytest.mark.depends_on("test_clients_are_all_answered_at_once_while_every_child_sleeps")
def test_parent_closes_its_copy_of_each_connection(serve):
    """The parent closes its copy of each connection.

    Hint: After fork, the parent must close the connection that it leaves to the child.
    Again: for n in 1 2 3; do curl localhost:8888/$n & done; sleep 1; .venv/bin/python watch3.py --once
    """
    server = serve(delay=LONG)
    server.wait_until_blocked()  # it may open a selector after it listens
    before = len(server.descriptors())
    for _ in range(3):
        server.ask().wait_for_answer()
    server.wait_until_blocked()
    more = len(server.descriptors()) - before
    assert more == 0, mismatch(f"3 clients cost the parent {more} descriptors", "none")


def test_finished_children_stay_zombies_and_the_server_goes_on(serve):
    """Finished children stay zombies, because nobody waits for them; the server goes on.

    Hint: This stage has no handler for SIGCHLD, does not ignore it and calls no wait.
    Again: for n in 1 2 3 4; do curl -m 2 localhost:8888/$n; done; .venv/bin/python watch3.py --once
    """
    server = serve(delay=0)
    clients = [server.ask() for _ in range(4)]
    for client in clients:
        client.wait_for_end()
    server.wait_until_zombies(4)
    server.ask().wait_for_answer()


@pytest.mark.depends_on("test_finished_children_stay_zombies_and_the_server_goes_on")
def test_child_ends_when_it_has_served_its_client(serve):
    """A child ends when it has served its client, and as if all were well.

    Hint: Let the child end itself, as os._exit(0) does. Otherwise it goes back into the loop of
    its parent, and calls accept on a listening socket that it has closed.
    """
    server = serve(delay=0)
    server.ask().wait_for_end()
    (child,) = server.wait_until_zombies(1)
    status = system.exit_status(child.pid)
    assert status == 0, mismatch(f"the child ends with status {status}", "status 0")
