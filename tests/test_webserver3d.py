"""Stage 3d: the parent keeps its copy of every connection, and reaps no child.

As 3c, but the parent forgets to close: it keeps each connection in a list, and prints how
many there are. See how the clients never end, and what the server runs out of.
"""

import errno
import functools
import os
import re
import resource
import signal

import pytest
from harness.assertions import assert_died_of
from harness.clients import body_of
from harness.waiting import mismatch, wait_until

pytestmark = pytest.mark.first


def test_client_gets_the_answer_and_never_the_end(serve):
    """A client gets the answer, and the connection never ends.

    Hint: The child answers, closes its copy of the connection and ends; the parent must
    keep its own copy, in a list, where nothing closes it.
    """
    server = serve()
    client = server.ask()
    client.wait_for_answer()
    server.wait_until_zombies(1)  # the child has closed its copy and is gone
    server.wait_until_blocked()
    assert not client.ended(), mismatch("it ends while the server runs", "it stays open")
    assert body_of(client.received) != b"", mismatch("the answer is empty", "a greeting")


@pytest.mark.depends_on("test_client_gets_the_answer_and_never_the_end")
def test_connection_ends_when_the_server_ends(serve):
    """The connection ends when the server does.

    Hint: When a process ends, the system closes all of its descriptors.
    Again: curl localhost:8888/hello & sleep 1; pkill -9 -of {command}; wait
    """
    server = serve()
    client = server.ask()
    client.wait_for_answer()
    server.wait_until_zombies(1)
    server.send_signal(signal.SIGKILL)
    client.wait_for_end()


@pytest.mark.depends_on("test_client_gets_the_answer_and_never_the_end")
def test_each_connection_costs_the_parent_one_more_descriptor(serve):
    """Each connection costs the parent one more descriptor.

    Hint: The parent accepts a connection and never closes its copy of it.
    Again: for n in 1 2 3 4 5; do curl localhost:8888/$n & done; sleep 1; .venv/bin/python watch3.py --once
    """
    server = serve()
    server.wait_until_blocked()  # it may open a selector after it listens
    before = len(server.descriptors())
    for n in range(1, 6):
        server.ask().wait_for_answer()
        server.wait_until_zombies(n)
        server.wait_until_blocked()
        more = len(server.descriptors()) - before
        assert more == n, mismatch(f"{n} connections cost {more} descriptors", n)


@pytest.mark.depends_on("test_client_gets_the_answer_and_never_the_end")
def test_printed_count_goes_up_by_one_with_each_connection(serve):
    """Also asked: the server prints how many connections it keeps: one more with each.

    Hint: Print the length of the list after each connection that the parent adds to it.
    Again: for n in 1 2 3; do curl -m 1 localhost:8888/$n; done
    """
    server = serve()
    counts = []
    for n in range(1, 6):
        before = len(server.output)
        server.ask().wait_for_answer()
        server.wait_until_zombies(n)
        server.wait_until_blocked()
        printed = functools.partial(numbers_printed, server, after=before)
        counts.append(wait_until(printed, "a number is printed at each connection"))
    # Without the n in which they differ, the counts are all the same number.
    same = set.intersection(*({count - n for count in found} for n, found in enumerate(counts)))
    assert same, mismatch(f"it prints {counts}", "numbers that go up by one")


def numbers_printed(server, after):
    """The numbers in a server's output, except PIDs; the first `after` characters are ignored."""
    pids = [server.pid, *(child.pid for child in server.children())]
    numbers = [int(digits) for digits in re.findall(r"\d+", server.output[after:])]
    return [number for number in numbers if number not in pids]


def test_each_connection_leaves_a_zombie(serve):
    """Each connection leaves a zombie.

    Hint: The child ends when it has answered, and this server never waits for it.
    Again: for n in 1 2 3; do curl -m 1 localhost:8888/$n; done; .venv/bin/python watch3.py --once
    """
    server = serve()
    for _ in range(5):
        server.ask().wait_for_answer()
    server.wait_until_zombies(5)


@pytest.mark.depends_on("test_each_connection_leaves_a_zombie")
def test_kill_9_does_not_remove_a_zombie_but_the_servers_end_does(serve):
    """kill -9 does not remove a zombie, but the server's end does.

    Hint: A zombie is an entry in the process table that its parent has not fetched.
    Again: curl -m 1 localhost:8888/hello; pkill -9 -P $(pgrep -of {command}); .venv/bin/python watch3.py --once;
    pkill -9 -of {command}; sleep 1; ps -e | grep defunct
    """
    server = serve()
    server.ask().wait_for_answer()
    server.wait_until_zombies(1)
    zombie = server.zombies()[0]
    os.kill(zombie.pid, signal.SIGKILL)
    server.ask().wait_for_answer()
    server.wait_until_zombies(2)
    assert zombie in server.zombies(), mismatch("the zombie is gone", "it stays")
    server.send_signal(signal.SIGKILL)
    wait_until(lambda: server.zombies() == [], "the zombies go with the server")


def test_many_clients_kill_it_in_accept_for_want_of_descriptors(serve):
    """300 clients kill it in accept, when it may have 256 descriptors.

    Hint: Let the error of accept, EMFILE, end the server, and say what it was.
    Again: ulimit -n 256; python3 client3.py --max-clients=300
    """
    server = serve(limits={resource.RLIMIT_NOFILE: 256})
    load = server.load("--max-clients=300", "--timeout=60")
    assert_died_of(server, errno.EMFILE, load)


@pytest.mark.depends_on("test_many_clients_kill_it_in_accept_for_want_of_descriptors")
def test_many_clients_kill_it_in_fork_for_want_of_processes(serve):
    """500 connections kill it in fork, when its user may have 400 processes.

    Hint: Let the error of fork, EAGAIN, end the server, and say what it was. (Ruby's fork
    waits a second at EAGAIN and tries again, without end. The C library's, by Fiddle, fails.)
    Again: ulimit -u 400; python3 client3.py --max-clients=100 --max-conns=5
    """
    # More descriptors than processes: the user's other processes count, too, and may end meanwhile.
    server = serve(limits={resource.RLIMIT_NOFILE: 1000}, processes=400)
    load = server.load("--max-clients=100", "--max-conns=9", "--timeout=60")
    assert_died_of(server, errno.EAGAIN, load)
