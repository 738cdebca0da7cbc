"""Stage 3e: the end of a child interrupts the parent's accept, which kills the parent.

As 3c, with a handler of SIGCHLD that calls wait and prints which child has ended. Then
the system call accept fails with EINTR, and that ends the server.
"""

import errno
import time

import pytest
from harness.assertions import assert_died_of, wait_until_printed
from harness.clients import body_of
from harness.waiting import mismatch


def test_client_gets_the_answer_and_the_end_after_the_delay(serve):
    """A client gets the answer, and the connection ends after the delay.

    Hint: The child sleeps after its answer; the connection ends when the child does.
    Again: time curl localhost:8888/hello
    """
    server = serve(delay=0.2)
    start = time.monotonic()
    answer = server.ask().wait_for_end()
    took = time.monotonic() - start
    assert body_of(answer) != b"", mismatch("the answer is empty", "a greeting")
    assert took >= server.delay, mismatch(f"it takes {took:.2f} s", f"{server.delay} s or more")


def test_silent_client_holds_up_nobody(serve):
    """A client that connects and says nothing holds up nobody.

    Hint: Does your parent read the request? A silent client holds it up in recv then. Fork
    as soon as accept returns, and let only the child call recv.
    Again: curl telnet://localhost:8888, and then in one more: curl localhost:8888
    """
    server = serve(delay=0)
    server.connect()  # and says nothing
    server.ask().wait_for_answer()


def test_handler_reports_the_child_that_it_reaped(serve):
    """Also asked: the handler of SIGCHLD reports the PID of the child that it reaped.

    Hint: Call wait in the handler, and print the PID that it returns.
    """
    server = serve(delay=0)
    client = server.connect_and_settle()
    child = server.wait_until_children(1)[0]
    server.stop()  # so the handler runs when the child has printed all, and ended
    client.ask()
    server.wait_until_zombies(1)
    before = len(server.output)
    server.resume()
    wait_until_printed(server, rf"\b{child.pid}\b", f"the PID {child.pid}", after=before)


def test_interrupted_accept_kills_the_server(serve):
    """The end of a child interrupts accept, and that kills the server.

    Hint: accept returns EINTR after a handler has run, unless it is called again: by
    you, by your language (Python does since 3.5), or by the kernel (SA_RESTART).
    """
    server = serve(delay=0)
    server.ask_when_idle().wait_for_end()
    assert_died_of(server, errno.EINTR)


@pytest.mark.depends_on("test_interrupted_accept_kills_the_server")
def test_further_connections_are_refused(serve):
    """Further connections are refused, because nobody listens any more.

    Hint: When the server has died, the system has closed its listening socket, and no
    child may have a copy of it.
    Again: sleep 9 | curl -s telnet://localhost:8888 & sleep 1; curl localhost:8888; sleep 1; curl -m 3 localhost:8888
    """
    server = serve(delay=0)
    server.connect()  # its child outlives the server
    server.ask_when_idle().wait_for_end()
    server.wait()
    with pytest.raises(ConnectionRefusedError):
        server.connect()
        raise AssertionError(mismatch("a further client is connected", "it is refused"))
