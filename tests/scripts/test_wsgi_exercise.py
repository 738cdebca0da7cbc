"""The exercise of chapter 3h: a WSGI server that serves many clients at once.

It is our 3h that these tests are run against, or with --server a reader's own.
"""

import pytest
from harness.stages import ROOT
from harness.waiting import mismatch


@pytest.fixture
def serve(request, serve):
    """serve() starts the server, with applications:exercise to serve."""
    if request.config.getoption("--server") is not None:
        return serve
    return lambda: serve("3h", "applications:exercise", cwd=ROOT / "tests/scripts")


def test_answer_is_the_applications(serve):
    """The status, the header fields and the body are the application's.

    Hint: Call the application with environ and start_response. Send what start_response
    was given, then an empty line, then each piece of what the application returns.
    """
    answer = serve().ask("/some/path").wait_for_end()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    assert status[8:] == b" 200 OK", mismatch(status, "HTTP/1.1 200 OK")
    assert b"X-Exercise: yes" in fields, mismatch(fields, "X-Exercise: yes among them")
    assert body == b"You asked for /some/path\n", mismatch(body, "the application's body")


def test_silent_client_holds_up_nobody(serve):
    """A client that connects and says nothing holds up nobody.

    Hint: Only the child may wait in recv, never the parent.
    """
    server = serve()
    server.connect()  # and says nothing
    server.ask().wait_for_answer()


def test_20_requests_are_served_at_once(serve, tmp_path):
    """20 requests are in the application at the same time, and all are answered.

    Hint: The child has to call the application, not the parent.
    """
    server = serve()
    tmp_path.chmod(0o777)  # the server may be another user
    clients = [server.ask(f"/{n}?{tmp_path}") for n in range(20)]
    answers = [client.wait_for_end() for client in clients]
    right = [answer.endswith(b"/%d\n" % n) for n, answer in enumerate(answers)]
    assert all(right), mismatch(f"{right.count(True)} right answers", "20")


def test_no_zombie_and_no_descriptor_is_left(serve):
    """After 100 requests no child, no zombie and no descriptor is left.

    Hint: The parent has to close its copy of each connection, and to wait for every
    child that has ended: waitpid with WNOHANG, in a loop.
    """
    server = serve()
    before = len(server.descriptors())
    load = server.load("--max-clients", "20", "--max-conns", "5", "--timeout", "60")
    assert load.wait(60) == 0, mismatch(load.output.strip(), "all are answered")
    server.ask_when_idle().wait_for_end()  # its child's end is seen for certain
    server.wait_until_children(0)
    more = len(server.descriptors()) - before
    assert more == 0, mismatch(f"the parent has {more} more descriptors", "none")


def test_client_that_leaves_ends_no_server(serve):
    """A client that leaves without a word, or resets, does no harm.

    Hint: recv may return nothing, and raise OSError: then the child ends, and nobody else.
    """
    server = serve()
    server.connect().close()
    server.connect().reset()
    server.ask("/next").wait_for_answer()
