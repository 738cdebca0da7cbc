"""Stage 3f: an interrupted accept is called again; one wait per signal misses zombies.

As 3e, but when accept fails with EINTR, call it again. The handler still calls wait once
for each signal: of children that end together all but one stay zombies.
"""

import pytest
from harness.assertions import wait_until_printed
from harness.clients import body_of
from harness.waiting import mismatch
from marks import needs_queue


def test_next_client_is_served_after_the_interruption(serve):
    """The next client is served after a child's end has interrupted accept.

    Hint: accept returns EINTR when a signal's handler has run. Call it again then.
    Again: for n in 1 2 3; do curl localhost:8888/$n; sleep 1; done
    """
    server = serve()
    for _ in range(3):
        answer = server.ask_when_idle().wait_for_end()
        assert body_of(answer) != b"", mismatch("the answer is empty", "a greeting")
        server.wait_until_children(0)  # reaped, so accept was interrupted
    server.assert_running()


def test_single_requests_one_at_a_time_leave_no_zombie(serve):
    """Single requests, one at a time, leave no zombie.

    Hint: Install a handler for SIGCHLD that calls wait.
    Again: for n in 1 2 3; do curl localhost:8888/$n; sleep 1; done; .venv/bin/python watch3.py --once
    """
    server = serve()
    for _ in range(5):
        server.ask_when_idle().wait_for_end()
        server.wait_until_children(0)


@pytest.mark.depends_on("test_single_requests_one_at_a_time_leave_no_zombie")
def test_silent_client_holds_up_nobody(serve):
    """A client that connects and says nothing holds up nobody.

    Hint: Does your parent read the request? A silent client holds it up in recv then. Fork
    as soon as accept returns, and let only the child call recv. The parent waits for no
    child that has not ended.
    Again: curl telnet://localhost:8888, and then in one more: curl localhost:8888
    """
    server = serve()
    server.connect()  # and says nothing
    server.ask_when_idle().wait_for_end()
    server.wait_until_children(1)  # the silent one's
    server.ask().wait_for_answer()


def test_children_that_end_together_leave_all_but_one_as_zombies(serve):
    """Of 20 children that end together 19 stay zombies.

    Hint: Signals of one kind are not queued, and this stage calls wait once per signal.
    A handler that waits in a loop, or a SIGCHLD that is ignored, is not this stage.
    Again: for n in 1 2 3 4; do (sleep 3; echo GET / HTTP/1.1; echo; sleep 1) | curl -s telnet://localhost:8888 &
    done; sleep 2; pkill -STOP -of {command}; sleep 3; pkill -CONT -of {command}; sleep 1; .venv/bin/python
    watch3.py --once
    """
    serve().assert_zombies_left(19, of=20)


@needs_queue(128)
def test_128_clients_are_all_served(serve):
    """128 clients at once are all served.

    Hint: The listen queue has to be long enough, and accept to be called again whenever
    a child's end interrupts it. Python's print cannot be called in a handler that comes
    in the midst of another print: call os.write there.
    Again: python3 client3.py --max-clients 128
    """
    server = serve()
    load = server.load("--max-clients", "128", "--timeout", "60")
    assert load.wait(60) == 0, mismatch(load.output.strip(), "all are answered")
    server.assert_running()


def test_request_is_printed(serve):
    """Also asked: the server prints the request.

    Hint: Let the child print what it has received, and flush it: _exit does not.
    """
    server = serve()
    server.ask("/some/path").wait_for_end()
    wait_until_printed(server, "GET /some/path")
