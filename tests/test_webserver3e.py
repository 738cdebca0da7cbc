"""Stage 3e: the end of a child interrupts the parent's accept, which kills the parent."""

import errno
import os
import re
import time

import pytest


def test_curl_prints_the_answer_and_ends_after_the_delay(serve):
    server = serve(delay=0.5)
    start = time.monotonic()
    curl = server.curl()
    assert curl.wait() == 0
    assert curl.output != ""
    assert time.monotonic() - start >= server.delay


def test_clients_are_served_at_the_same_time(serve):
    server = serve(delay=0)
    server.connect()  # and says nothing
    server.ask().wait_for_end()


def test_handler_reports_the_child_that_it_reaped(serve):
    server = serve(delay=0)
    child = one_child_ends(server)
    server.wait()
    assert re.search(rf"\b{child.pid}\b.*\b0$", server.output, re.MULTILINE)


def test_interrupted_accept_kills_the_server(serve):
    server = serve(delay=0)
    one_child_ends(server)
    assert server.wait() == 1
    assert os.strerror(errno.EINTR) in server.errors
    assert "accept" in server.errors


def test_further_connections_are_refused(serve):
    server = serve(delay=0)
    one_child_ends(server)
    server.wait()
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def one_child_ends(server):
    """Let one child end while the parent is in accept. Returns that child."""
    client = server.connect()
    child = server.wait_until_children(1)[0]
    server.wait_until_blocked()  # the child in recv, the parent back in accept
    client.ask()
    client.wait_for_end()
    return child
