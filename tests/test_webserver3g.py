"""Stage 3g: every child is reaped.

As 3f, but no zombie stays, however many clients come at once: the handler finds every
child that has ended, and waits for none that hasn't.
"""

import pytest
from harness import system
from harness.assertions import assert_not_answered, wait_until_printed
from harness.clients import body_of
from harness.waiting import mismatch, wait_until
from marks import needs_queue


def test_single_requests_one_at_a_time_leave_no_zombie(serve):
    """Single requests, one at a time, are all served and leave no zombie.

    Hint: When a child ends, SIGCHLD comes: let its handler wait for the child.
    Again: for n in 1 2 3; do curl localhost:8888/$n; sleep 1; done; .venv/bin/python watch3.py --once
    """
    server = serve()
    for _ in range(5):
        answer = server.ask_when_idle().wait_for_end()
        assert body_of(answer) != b"", mismatch("the answer is empty", "a greeting")
        server.wait_until_children(0)
    server.connect_and_settle()  # the last child's end has not killed it


def test_silent_client_holds_up_nobody(serve):
    """A client that connects and says nothing holds up nobody.

    Hint: Does your parent read the request? A silent client holds it up in recv then. Fork
    as soon as accept returns, and let only the child call recv. The handler of
    SIGCHLD may not wait for a child that lives, either: call waitpid with WNOHANG.
    Again: curl telnet://localhost:8888, and then in one more: curl localhost:8888
    """
    server = serve()
    silent = server.connect()
    server.ask_when_idle().wait_for_end()
    wait_until(lambda: server.zombies() == [], "the other client's child is reaped")
    server.ask().wait_for_answer()
    assert_not_answered(silent)


@pytest.mark.depends_on("test_single_requests_one_at_a_time_leave_no_zombie")
def test_children_that_end_together_leave_no_zombie(serve):
    """Children that end together leave no zombie.

    Hint: Signals of one kind are not queued: one wait per signal misses the others. Call
    waitpid with WNOHANG in a loop, until it has no more ended children.
    Again: for n in 1 2 3 4; do (sleep 3; echo GET / HTTP/1.1; echo; sleep 1) | curl -s telnet://localhost:8888 &
    done; sleep 2; pkill -STOP -of {command}; sleep 3; pkill -CONT -of {command}; sleep 1; .venv/bin/python
    watch3.py --once
    """
    server = serve()
    server.assert_zombies_left(0, of=20)
    server.connect_and_settle()  # it goes on


@needs_queue(128)
def test_128_clients_leave_no_zombie(serve):
    """128 clients at once are all served, and leave no zombie.

    Hint: One SIGCHLD may stand for many children: wait for all that have ended. Is the listen
    queue long enough for so many clients?
    Again: python3 client3.py --max-clients=128; .venv/bin/python watch3.py --once
    """
    server = serve()
    load = server.load("--max-clients", "128", "--timeout", "60")
    assert load.wait(60) == 0, mismatch(load.output.strip(), "all are answered")
    server.ask_when_idle().wait_for_end()  # the end of its child certainly interrupts accept
    server.wait_until_children(0)


@pytest.mark.depends_on("test_single_requests_one_at_a_time_leave_no_zombie")
def test_hundreds_of_requests_leave_no_zombie_and_no_descriptor(serve):
    """500 requests leave no zombie and no descriptor.

    Hint: The parent has to close each connection after fork, and to wait for each child.
    Again: for n in $(seq 25); do python3 client3.py --max-conns=4; done; .venv/bin/python watch3.py --once
    """
    server = serve()
    server.wait_until_blocked()  # it may open a selector after it listens
    before = len(server.descriptors())
    for _ in range(125):  # four at once, because listen queues may be short
        for client in [server.ask() for _ in range(4)]:
            client.wait_for_end()
    server.ask_when_idle().wait_for_end()  # the end of its child certainly interrupts accept
    server.wait_until_children(0)

    def more():
        return len(server.descriptors()) - before

    # It may have one for each child (pidfd_open(2)), which it closes when it has waited for the child.
    wait_until(lambda: more() <= 0, "none", seen=lambda: f"the parent has {more()} more descriptors")


@pytest.mark.depends_on("test_single_requests_one_at_a_time_leave_no_zombie")
def test_request_is_printed(serve):
    """Also asked: the server prints the request.

    Hint: Let the child print what it has received, and flush it: _exit does not.
    """
    server = serve()
    server.ask("/some/path").wait_for_end()
    wait_until_printed(server, "GET /some/path")


def test_child_closes_its_copy_of_the_listening_socket(serve):
    """A child closes its copy of the listening socket.

    Hint: After fork the child has a copy of every descriptor of the parent's. It
    accepts nothing, and so closes the listening socket first of all.
    Again: sleep 9 | curl -s telnet://localhost:8888 & sleep 1; .venv/bin/python watch3.py --once
    """
    server = serve()
    listen_socket = server.listen_socket()
    before = [process.pid for process in server.processes()]
    server.connect_and_settle()

    def blocked():  # grandchildren, too: one of them may serve the client
        return all(process.state in system.BLOCKED for process in server.processes())

    wait_until(blocked, "all processes of the server are asleep", server.allowance())
    children = [p.pid for p in server.processes() if p.pid not in before]
    assert children != [], mismatch("there is no child", "one for each client")
    for child in children:
        has_it = listen_socket in system.sockets(child)
        assert not has_it, mismatch("the child has it open", "it is closed in the child")
