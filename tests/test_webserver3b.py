"""Stage 3b: an iterative server sleeps after each answer, before it closes.

As 3a, but sleep after each answer, before you close the connection. Its command says how
many seconds. Clients come meanwhile, and wait in the listen queue.
"""

import time

import pytest
from harness.assertions import assert_not_answered, wait_until_printed
from harness.clients import body_of
from harness.stages import LONG
from harness.waiting import mismatch


def test_first_client_is_answered_at_once_and_its_connection_stays(serve):
    """The first client is answered at once, and its connection stays open.

    Hint: Send the answer first, then sleep, and close the connection after that.
    """
    server = serve(delay=LONG)
    client = server.connect_and_settle()
    assert_not_answered(client)
    client.ask()
    client.wait_for_answer()
    server.wait_until_blocked()
    assert not client.ended(), mismatch("the connection ends with the answer", "it stays open")
    assert body_of(client.received) != b"", mismatch("the answer has no body yet", "a greeting")


def test_second_client_is_connected_but_not_answered(serve):
    """During the first one's delay a second client is connected, but not served.

    Hint: An iterative server comes to accept again after the first client only; until
    then the second waits in the listen queue. Yours does not sleep, or serves both at once.
    Again: curl localhost:8888/first, and in one more, before it ends: curl localhost:8888/second
    """
    server = serve(delay=LONG)
    server.ask("/first").wait_for_answer()
    second = server.ask("/second")
    server.wait_until_queued(1, unless=second)
    assert not second.answered(), mismatch("the second client is answered", "it waits")


def test_three_clients_take_three_delays(serve):
    """Three clients take three delays: each is served when the one before it has ended.

    Hint: An iterative server answers a client, sleeps all of the delay, and closes the
    connection. Only then it accepts the next one.
    Again: time (for n in 1 2 3; do curl localhost:8888/$n & done; wait)
    """
    server = serve(delay=0.2)
    start = time.monotonic()
    clients = [server.ask(f"/{n}") for n in range(3)]
    for n, client in enumerate(clients):
        client.wait_for_answer()
        assert_took(start, n * server.delay)
        answer = client.wait_for_end()
        assert_took(start, (n + 1) * server.delay)
        assert body_of(answer) != b"", mismatch("the answer is empty", "a greeting")


@pytest.mark.depends_on("test_second_client_is_connected_but_not_answered")
def test_request_is_printed_when_it_is_served(serve):
    """Also asked: the server prints a request when it serves it, not before.

    Hint: Print what you have received, and let nothing hold it back in a buffer.
    Again: curl localhost:8888/first, and in one more, before it ends: curl localhost:8888/second
    """
    server = serve(delay=LONG)
    server.ask("/first").wait_for_answer()
    second = server.ask("/second")
    server.wait_until_queued(1, unless=second)
    wait_until_printed(server, "GET /first")
    printed = "GET /second" in server.output
    assert not printed, mismatch("the second request is printed", "it has not been read")


def test_silent_client_holds_up_the_next_one(serve):
    """A client that connects and says nothing holds up the next one, as in 3a.

    Hint: An iterative server waits in recv for the client that it has accepted. Yours does
    not wait for a request, or it serves another client meanwhile.
    Again: curl telnet://localhost:8888, and then in one more: curl localhost:8888
    """
    server = serve()
    silent = server.connect()
    second = server.ask()
    server.wait_until_queued(1, unless=second)
    assert not second.answered(), mismatch("the second client is answered", "it waits")
    assert_not_answered(silent)


def assert_took(start, seconds):
    """Assert that so many seconds have passed since the time `start`, if not more."""
    took = time.monotonic() - start
    assert took >= seconds, mismatch(f"it takes {took:.2f} s", f"at least {seconds:g} s")
