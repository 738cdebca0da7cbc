"""What webserver3h.py promises beyond its graded exercise: refusals, failing applications, nothing lost, no growth.

It serves 3i's applications, but promises less: no chunked bodies, no limits to its children or its patience.
"""

import pytest
from application_server import GET, MIB, POST, ApplicationServer, whole_answer
from harness import system
from harness.waiting import mismatch, wait_until

STAGE = "3h"
REFUSED = {  # by the status of the answer
    "400 Bad Request": [
        "nonsense\r\n\r\n",
        "GET  /hello HTTP/1.1\r\n\r\n",
        "GET /hello HTTP/2.0\r\n\r\n",
        "GET hello HTTP/1.1\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost : here\r\n\r\n",
        POST.format("/hello", "five"),
        POST.format("/hello", "-5"),
    ],
    "413 Content Too Large": [POST.format("/hello", 16 * MIB + 1)],
    "431 Request Header Fields Too Large": [
        "GET /" + 65536 * "a" + " HTTP/1.1\r\n\r\n",
        GET.format("/hello").replace("\r\n\r\n", "\r\n" + 14000 * "a: b\r\n" + "\r\n"),
    ],
}
ONE_OF_EACH = [requests[0] for requests in REFUSED.values()]


@pytest.fixture(scope="module")
def wsgi():
    """3h with applications.py. No request leaves a descriptor."""
    server = ApplicationServer(stage=STAGE)
    before = server.descriptors()
    try:
        yield server
        server.wait_until_reaped()
        wait_until(lambda: server.descriptors() == before, "no descriptor is left")
    finally:
        server.kill()


@pytest.fixture
def silent(wsgi):
    """silent() asserts that no client since the test began has caused a word on standard error."""
    wsgi.wait_until_reaped()
    before = wsgi.errors

    def silent():
        wsgi.get("/hello")  # so all before this one have been accepted
        wsgi.wait_until_reaped()
        assert wsgi.errors == before

    return silent


# Refused clients


def test_refusal_is_one_line(wsgi, silent):
    for status, requests in REFUSED.items():
        for request in requests:
            code, fields, body = wsgi.exchange(request)
            assert (code, body.decode()) == (int(status[:3]), f"{status}\n"), request[:60]
            assert fields == {"Connection": "close"}
    silent()


def test_refused_client_that_resets_is_no_error(wsgi, silent):
    for request in ONE_OF_EACH:
        client = wsgi.send(request)
        wait_until(client.answered, "it is refused")
        client.reset()
    silent()


@pytest.mark.slow
def test_refused_client_that_stays_is_no_error(wsgi, silent):
    for client in [wsgi.send(request) for request in ONE_OF_EACH]:
        client.wait_for_end()
    silent()  # five seconds later: the server waits for the client's end


def test_client_that_leaves_amid_its_request_is_no_error(wsgi, silent):
    for part in ("GET /hel", POST.format("/digest", 10) + "12345"):
        for leave in ("close", "reset"):
            getattr(wsgi.send(part), leave)()
    silent()


# Applications


def test_head_has_no_body(wsgi):
    status, fields, body = wsgi.exchange(GET.format("/hello").replace("GET", "HEAD"))
    assert (status, fields["Content-Type"], body) == (200, "text/plain", b"")


@pytest.mark.parametrize("path", ["fail", "fail-amid?empty", "exit", "never-start", "start-twice", "text"])
def test_failure_is_a_500_and_a_traceback(wsgi, reported, path):
    assert wsgi.get(f"/{path}")[::2] == (500, b"500 Internal Server Error\n")
    reported("Traceback")


def test_application_sees_how_its_programs_end(wsgi):
    """The server's handler of SIGCHLD would reap them first, and subprocess take their failure for a success."""
    assert wsgi.get("/run")[::2] == (200, b"7")


def test_output_of_the_application_is_not_lost(wsgi, reported):
    assert wsgi.get("/prints")[0] == 200
    wait_until(lambda: "printed" in wsgi.output, "what it prints shows")
    reported("an error, unflushed")


def test_validator_is_silent(wsgi, silent):
    """wsgiref.validate, around nearly all of applications.py, raises AssertionError or writes to standard error."""
    lines = b"one\ntwo and three\nfour\nfive"
    assert wsgi.post("/lines", lines)[0] == 200
    assert wsgi.exchange("PUT /environ/%E4?a=%20&b HTTP/1.1\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n")[0] == 200
    assert wsgi.exchange(GET.format("/environ").replace("GET", "HEAD"))[0] == 200
    for path, body in {"/nothing": b"", "/write": b"written, returned", "/run": b"7"}.items():
        assert wsgi.get(path)[::2] == (200, body)
    assert wsgi.get("/start-again")[::2] == (503, b"an error page")
    assert wsgi.get("/demo")[2].startswith(b"Hello world!\n")  # what it serves where none is named
    silent()


def test_iterable_is_closed(wsgi, reported):
    assert wsgi.get("/close")[2] == b"some pieces"
    reported("close() was called")


# Growth


@pytest.mark.slow
def test_1_000_requests_leave_nothing_behind(start):
    server = start(ApplicationServer, stage=STAGE)

    def state_after(requests):
        for _ in range(requests // 25):
            for client in [server.ask() for _ in range(25)]:
                assert whole_answer(client)[0] == 200
                client.close()
        server.ask_when_idle().wait_for_end()  # the end of its child interrupts accept
        server.wait_until_reaped()
        return server.descriptors(), system.memory(server.pid)

    descriptors, memory = state_after(200)
    after, more = state_after(1000)
    assert after == descriptors
    assert more <= memory + 32, mismatch(f"{more - memory} KiB more", "at most 32")
