"""Stage 3h: a concurrent server of web applications (WSGI, PEP 3333).

As 3g, but let an application answer. Its name comes with the command, such as flaskapp:app.
"""

import functools
import http.client
import io
import os

import pytest
from harness.stages import ROOT
from harness.waiting import mismatch, wait_until

BODY = b"x" * 300_000  # more than one recv returns


def has_files(folder, count):
    return len(os.listdir(folder)) == count


@pytest.fixture
def server(request, server):
    """Our script is given the application; the command of a graded server names it already."""
    if request.config.getoption("--server") is not None:
        return server
    return functools.partial(server, "exercise:app", cwd=ROOT / "tests/grading")


def parsed(answer):
    """An answer's status, such as 200, its header fields and its body. Raises AssertionError if it is none."""
    try:
        response = http.client.HTTPResponse(Answer(answer))
        response.begin()
        return response.status, response.headers, response.read()
    except (http.client.HTTPException, ValueError):
        raise AssertionError(mismatch(f"the answer is {answer[:200]!r}", "the application's, with a head")) from None


class Answer:
    """An answer that has come, as http.client reads it."""

    def __init__(self, answer):
        self.answer = answer

    def makefile(self, mode):
        return io.BytesIO(self.answer)


def test_answer_is_the_applications(serve):
    """The status, the header fields and the body are the application's.

    Hint: Call the application with environ and start_response. Send what start_response
    was given, then an empty line, then each piece of what the application returns.
    Again: curl -i localhost:8888/some/path
    """
    answer = serve().ask("/some/path").wait_for_end()
    status, fields, body = parsed(answer)
    assert status == 200, mismatch(f"the status is {status}", "200 OK, the application's")
    assert fields["X-Exercise"] == "yes", mismatch(f"the fields are {fields.items()}", "X-Exercise: yes among them")
    assert body == b"You asked for /some/path\n", mismatch(f"the body is {body!r}", "the application's")


def test_each_request_gets_its_own_status(serve):
    """Each request gets its own status and header fields.

    Hint: Send the status that start_response was given for this request. Nothing of a request
    may stay for the next: no status, no field.
    Again: curl -i localhost:8888/missing; curl -i localhost:8888/hello
    """
    server = serve()
    for path, wanted in [("/missing", 404), ("/hello", 200), ("/missing", 404)]:
        status, fields, _ = parsed(server.ask(path).wait_for_end())
        assert status == wanted, mismatch(f"the status for {path} is {status}", wanted)
        missing = fields.get_all("X-Missing", [])
        right = ["yes"] * (wanted == 404)
        assert missing == right, mismatch(f"{path} gets {len(missing)} fields X-Missing", len(right))


def test_environ_says_what_was_asked(serve):
    """environ says what was asked, in strings.

    Hint: PEP 3333 lists what environ has to have. What comes from the client is a str, decoded
    as latin-1; a header field such as X-Name becomes HTTP_X_NAME.
    Again: curl -H 'X-Name: value' 'localhost:8888/environ?a=b%20c'
    """
    client = serve().connect()
    client.send(b"GET /environ?a=b%20c HTTP/1.1\r\nHost: localhost\r\nX-Name: value\r\n\r\n")
    _, _, body = parsed(client.wait_for_end())
    assert body == b"all is well", mismatch(body.decode("utf-8", "replace"), "all that PEP 3333 asks of environ")


def test_start_response_may_be_called_late(serve):
    """An application may be a generator: start_response is called when its first piece is asked for.

    Hint: What start_response was given is not there when the application returns, but when its
    first piece has come. Send the head with that piece.
    Again: curl -i localhost:8888/late
    """
    status, _, body = parsed(serve().ask("/late").wait_for_end())
    assert (status, body) == (200, b"later\n"), mismatch(f"status {status}, and {body!r}", "200, and b'later\\n'")


def test_each_piece_is_sent_at_once(serve, shared_folder):
    """Each piece of the answer is sent at once, and does not wait for the next.

    Hint: Send a piece before you ask the application for another one: do not join them.
    Again: mkdir -p /tmp/wsgi; rm -f /tmp/wsgi/*; curl -m 2 -N 'localhost:8888/pieces?/tmp/wsgi'
    """
    client = serve().ask(f"/pieces?{shared_folder}")
    wait_until(
        lambda: b"first\n" in client.receive_available() or client.ended(),
        "the first piece comes, before there is a second",
    )
    (shared_folder / "go").touch()
    _, _, body = parsed(client.wait_for_end())
    assert body == b"first\nsecond\n", mismatch(f"the body is {body!r}", "the two pieces")


def test_close_is_called(serve, shared_folder):
    """What the application returns is closed in the end.

    Hint: If it has a method close, call that: when all is sent, and when something fails, too.
    Again: mkdir -p /tmp/wsgi; chmod 777 /tmp/wsgi; rm -f /tmp/wsgi/*;
    curl 'localhost:8888/closes?/tmp/wsgi'; ls /tmp/wsgi
    """
    server = serve()
    for count, path in enumerate(("/closes", "/fails"), 1):
        server.ask(f"{path}?{shared_folder}").wait_for_end()
        wait_until(functools.partial(has_files, shared_folder, count), f"close is called, for {path}")


def test_request_comes_in_parts(serve):
    """A request may come in parts.

    Hint: One recv is not one request. Receive until the empty line that ends the head has come.
    Again: (echo GET /in; sleep 1; echo) | tr '\\n' ' ' | curl -s telnet://localhost:8888
    """
    server = serve()
    client = server.connect_and_settle()
    for part in (b"GET /in/par", b"ts HTTP/1.1\r\nHost: local", b"host\r\n\r", b"\n"):
        client.send(part)
        wait_until(lambda: client.ended() or server.blocked(), "the server has received it")
    status, _, body = parsed(client.wait_for_end())
    assert body == b"You asked for /in/parts\n", mismatch(f"status {status}, {body!r}", "the application's answer")


def test_application_reads_the_body(serve):
    """The application can read all of a request's body.

    Hint: What Content-Length says is in the body, and it comes after the head: with the same
    recv, or with later ones. wsgi.input is a file from which the application reads that.
    Again: head -c 300000 /dev/zero | curl --data-binary @- localhost:8888/length
    """
    server = serve()
    client = server.connect()
    post(client, "/length", BODY[:5])
    status, _, body = parsed(client.wait_for_end())
    assert body == b"5 bytes", mismatch(f"status {status}, and the application reads {body!r}", "5 bytes")
    client = server.connect()
    post(client, "/length", BODY)
    status, _, body = parsed(client.wait_for_end())
    assert body == b"300000 bytes", mismatch(f"status {status}, and the application reads {body!r}", "300000 bytes")


def test_body_that_is_not_read_does_no_harm(serve):
    """A client gets its answer, even if the application does not read its body.

    Hint: When a connection is closed that has unread bytes, the system resets it, and the client
    may lose the answer. Read the body, whether the application wants it or not.
    Again: head -c 300000 /dev/zero | curl --data-binary @- localhost:8888/unread
    """
    client = serve().connect()
    post(client, "/unread", BODY)
    answer = client.wait_for_end()
    assert not client.was_reset, mismatch("the connection is reset", "it is closed")
    status, _, body = parsed(answer)
    assert body == b"I do not want it.\n", mismatch(f"status {status}, {body!r}", "the application's answer")


def post(client, path, body):
    """Send a request with a body. If the server resets the connection meanwhile, its end will tell."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    client.socket.setblocking(True)
    try:
        client.send(head.encode() + body)
    except ConnectionError:
        pass


def test_application_that_fails_harms_only_its_client(serve, shared_folder):
    """An application that fails in the midst of its answer harms only its own client.

    Hint: Catch what the application raises, close the connection, and end the child: it must
    not go on as a second parent.
    Again: mkdir -p /tmp/wsgi; chmod 777 /tmp/wsgi; curl 'localhost:8888/fails?/tmp/wsgi'; curl localhost:8888/hello
    """
    server = serve()
    for _ in range(3):
        answer = server.ask(f"/fails?{shared_folder}").wait_for_end()
        assert b"first\n" in answer, mismatch(f"the answer is {answer!r}", "what the application gave before it failed")
    _, _, body = parsed(server.ask("/next").wait_for_end())
    assert body == b"You asked for /next\n", mismatch(f"the next client gets {body!r}", "its answer")
    server.ask_when_idle().wait_for_end()  # its child's end is seen for certain
    server.wait_until_children(0)


def test_silent_client_holds_up_nobody(serve):
    """A client that connects and says nothing holds up nobody.

    Hint: Only the child may wait in recv, never the parent.
    Again: curl telnet://localhost:8888, and then in one more: curl localhost:8888
    """
    server = serve()
    server.connect()  # and says nothing
    server.ask().wait_for_answer()


def test_20_requests_are_served_at_once(serve, shared_folder):
    """20 requests are in the application at the same time, and all are answered.

    Hint: The child has to call the application, not the parent.
    Again: mkdir -p /tmp/wsgi; chmod 777 /tmp/wsgi; rm -f /tmp/wsgi/*;
    for n in $(seq 20); do curl "localhost:8888/$n?/tmp/wsgi" & done; wait
    """
    server = serve()
    clients = [server.ask(f"/{n}?{shared_folder}") for n in range(20)]
    answers = [client.wait_for_end() for client in clients]
    right = [answer.endswith(b"/%d\n" % n) for n, answer in enumerate(answers)]
    assert all(right), mismatch(f"{right.count(True)} right answers", "20")


def test_no_zombie_and_no_descriptor_is_left(serve):
    """After 100 requests no child, no zombie and no descriptor is left.

    Hint: The parent has to close its copy of each connection, and to wait for every
    child that has ended: waitpid with WNOHANG, in a loop.
    Again: for n in $(seq 25); do python3 client3.py --max-conns=4; done; .venv/bin/python watch3.py --once
    """
    server = serve()
    server.ask_when_idle().wait_for_end()  # an application may open a file at its first request
    before = len(server.descriptors())
    for _ in range(25):  # four at once, because listen queues may be short
        for client in [server.ask() for _ in range(4)]:
            client.wait_for_end()
    server.ask_when_idle().wait_for_end()  # its child's end is seen for certain
    server.wait_until_children(0)

    def more():
        return len(server.descriptors()) - before

    # It may have one for each child (pidfd_open(2)), which it closes when it has waited for the child.
    wait_until(lambda: more() <= 0, "none", seen=lambda: f"the parent has {more()} more descriptors")


def test_client_that_leaves_ends_no_server(serve):
    """A client that leaves without a word, or resets, does no harm.

    Hint: recv may return nothing, and raise OSError: then the child ends, and nobody else.
    Again: curl -m 1 -s telnet://localhost:8888; curl localhost:8888/hello
    """
    server = serve()
    server.connect().close()
    server.connect().reset()
    server.ask("/next").wait_for_answer()
