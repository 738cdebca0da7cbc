"""Stage 3a: an iterative server serves one client at a time.

Accept a client, receive and print its request, send the same short answer whatever it asks
for, close the connection, and accept the next client.
"""

import re
import signal

import pytest
from harness.assertions import assert_not_answered, wait_until_printed
from harness.clients import body_of
from harness.waiting import Unusable, mismatch


def test_client_gets_the_answer_and_the_end(serve):
    """A client gets the answer, and the connection ends.

    Hint: Send the answer to the client's connection, and then close the connection. If a
    part of the request is not read by then, the system resets the connection.
    """
    client = serve().ask("/hello")
    assert body_of(client.wait_for_end()) != b"", mismatch("the answer is empty", "a greeting")
    assert not client.was_reset, mismatch("the connection is reset", "it is closed")


@pytest.mark.depends_on("test_client_gets_the_answer_and_the_end")
def test_any_path_gets_the_same_answer(serve):
    """Any path gets the same answer.

    Hint: Do not look at the request: answer whatever came, with the same bytes.
    """
    server = serve()
    first = None
    for path in ("/hello", "/", "/a/b?c=d"):
        answer = re.sub(rb"Date:.*", b"", server.ask(path).wait_for_end())
        first = answer if first is None else first
        assert first != b"", mismatch("the answer is empty", "a greeting")
        what = f"{path} gets {answer!r}"
        assert answer == first, mismatch(what, f"{first!r}, as for /hello")


@pytest.mark.depends_on("test_client_gets_the_answer_and_the_end")
def test_request_is_printed(serve):
    """Also asked: the server prints the request.

    Hint: Print what you have received, and let nothing hold it back in a buffer.
    """
    server = serve()
    server.ask("/some/path").wait_for_end()
    wait_until_printed(server, "GET /some/path")


@pytest.mark.depends_on("test_client_gets_the_answer_and_the_end")
def test_clients_are_served_one_after_the_other(serve):
    """The server serves one client after the other.

    Hint: After it has closed a connection, a server accepts the next: in a loop. It waits
    in accept until there is one, and does not ask over and over.
    Again: for n in 1 2 3; do curl localhost:8888/$n; done; sleep 5; ps -o stat,time -p $(pgrep -of {command})
    """
    server = serve()
    for _ in range(3):
        server.ask().wait_for_end()
    server.wait_until_blocked()


def test_silent_client_holds_up_the_next_one(serve):
    """A client that connects and says nothing holds up the next one.

    Hint: An iterative server waits in recv for the client that it has accepted. Yours does
    not wait for a request, or it serves another client meanwhile, by a process or a thread.
    Again: curl telnet://localhost:8888, and then in one more: curl localhost:8888
    """
    server = serve()
    silent = server.connect()
    second = server.ask()
    server.wait_until_queued(1, unless=second)
    assert not second.answered(), mismatch("the second client is answered", "it waits")
    assert_not_answered(silent)


@pytest.mark.depends_on("test_silent_client_holds_up_the_next_one")
def test_next_client_is_served_when_the_silent_one_leaves(serve):
    """The next client is served when the silent one leaves.

    Hint: recv returns nothing when the client has left: close, and accept the next.
    Again: sleep 9 | curl -m 3 -s telnet://localhost:8888 & sleep 1; curl localhost:8888
    """
    server = serve()
    silent = server.connect()
    second = server.ask()
    server.wait_until_queued(1, unless=second)
    silent.close()
    assert second.wait_for_end() != b"", mismatch("it gets nothing", "the answer")


def test_server_can_be_started_again_on_the_same_port(serve):
    """A server that has ended can be started again at once, on the same port.

    Hint: Set SO_REUSEADDR before bind: for a while after its end the kernel remembers a
    connection (TIME_WAIT), on the side that has closed it first.
    Again: curl localhost:8888/hello; pkill -9 -of {command}; sleep 1; {server}
    """
    server = serve()
    client = server.ask()
    client.wait_for_end()
    client.close()
    server.send_signal(signal.SIGKILL)
    server.wait()
    try:
        serve(port=server.port).ask().wait_for_answer()
    except Unusable as unusable:
        raise AssertionError(mismatch(f"it does not start again: {unusable}", "it does")) from None
