"""The WSGI server and clients that are slow, silent, stubborn or gone: none may hold it up, none loses an answer."""

import json
import re
import select
import socket
import time

import pytest
from application_server import (
    CHUNKED,
    GET,
    MIB,
    POST,
    ApplicationServer,
    assert_reset,
    whole_answer,
)
from harness.waiting import mismatch, wait_until
from marks import needs


def send_thrice(server, client):
    """Send data that no application asked for, each part when the server has dealt with the one before."""
    for _ in range(3):
        server.wait_until_blocked()
        client.send(b"x" * 1000)


def wait_for_begin(client):
    """Wait until the answer begins, without reading any of it."""
    wait_until(lambda: client.socket.recv(1, socket.MSG_PEEK), "the answer begins")


# Clients that send more than the application reads


def test_large_answer_arrives_although_the_client_sends(wsgi):
    client = wsgi.ask("/large?1x2")
    wait_for_begin(client)
    send_thrice(wsgi, client)  # by now the kernel's buffers are full
    assert len(whole_answer(client)[2]) == 2 * MIB
    client.close()


LARGE = json.dumps(["200 OK", [], ["x" * 40_000]])


@pytest.mark.parametrize(
    "request_, expected",
    [
        (POST.format("/nothing", 3000), 200),
        ("nonsense\r\n\r\n", 400),
        (POST.format("/say", len(LARGE)) + LARGE, 200),
    ],
)
def test_server_reads_on_so_that_no_reset_destroys_its_answer(wsgi, request_, expected):
    wsgi.wait_until_children(0)
    client = wsgi.send(request_)
    wait_until(client.answered, "it is answered")
    send_thrice(wsgi, client)
    wsgi.wait_until_blocked()
    assert len(wsgi.children()) == 1, mismatch("the child has ended", "it reads on")
    assert whole_answer(client)[0] == expected
    client.close()


# Clients that are slow

# What a client sends first, and then again and again, always in time for a timeout
TOO_SLOW = {
    "half a head": ("GET / HTTP/1.1\r\nHo", ""),
    "half a body": (POST.format("/digest", 10) + "12", ""),
    "half a chunk": (CHUNKED.format("/digest") + "9", ""),
    "a head": ("GET /", "a"),
    "a body": (POST.format("/digest", 10**9), "a"),
    "chunks": (CHUNKED.format("/digest"), "1\r\na\r\n"),
    "a trailer": (CHUNKED.format("/digest") + "0\r\n", "a: b\r\n"),
    "empty lines": ("", "\r\n"),
}


def test_client_that_sends_too_slowly_is_refused(impatient):
    clients = {what: impatient.send(begin) for what, (begin, _) in TOO_SLOW.items()}

    def all_answered():
        waiting = [what for what, client in clients.items() if not client.answered()]
        for what in waiting:
            clients[what].send(TOO_SLOW[what][1].encode())
        return not waiting

    wait_until(all_answered, "the server gives up all of them")
    statuses = {what: whole_answer(client)[0] for what, client in clients.items()}
    assert statuses == {**dict.fromkeys(TOO_SLOW, 408), "empty lines": 400}
    for client in clients.values():
        client.close()


def test_client_that_sends_fast_and_then_stalls_gains_no_time(impatient):
    """5 MB are worth ten timeouts, but nobody gets more than one in advance."""
    client = impatient.send(POST.format("/digest", 10**7))
    client.send(bytes(5 * 10**6))
    began = time.monotonic()
    assert whole_answer(client)[0] == 408
    assert time.monotonic() - began < 3
    client.close()


def test_silent_client_is_given_up(impatient):
    assert impatient.connect().wait_for_end() == b""


def test_client_that_reads_nothing_is_reset(impatient):
    impatient.wait_until_children(0)
    client = impatient.ask("/swallow?50")  # the application ignores the error
    impatient.wait_until_children(1)
    impatient.wait_until_children(0)
    assert_reset(client)


def test_slow_sender_is_served(impatient):
    client = impatient.send(POST.format("/digest", 10 * 256 * 1024))
    for _ in range(10):
        client.send(bytes(256 * 1024))
        select.select([], [], [], 0.1)  # a fifth of a timeout
    assert whole_answer(client)[0] == 200
    client.close()


def test_slow_reader_is_served(impatient):
    """It reads 2 MiB at once, as a kernel passes on what it has kept back, then nothing for two timeouts."""
    client = impatient.ask("/large?12x1")
    client.socket.settimeout(20)
    size = 0
    while size < 2 * MIB:
        size += len(client.socket.recv(2 * MIB - size))
    select.select([], [], [], 1)
    for block in iter(lambda: client.socket.recv(MIB), b""):
        size += len(block)
    assert size > 12 * MIB  # it includes a head
    client.close()


@pytest.mark.slow
def test_client_that_reads_when_the_child_has_ended_gets_all(start):
    """The kernel keeps what the client has not received yet."""
    server = start(ApplicationServer)
    request = json.dumps(["200 OK", [], ["x" * 150_000]])
    client = server.send(POST.format("/say", len(request)) + request)
    wait_for_begin(client)
    server.wait_until_children(0)
    assert len(whole_answer(client)[2]) == 150_000


# Clients that leave


def test_reset_amid_the_answer_is_no_error(wsgi):
    wsgi.wait_until_children(0)
    before = wsgi.errors
    client = wsgi.ask("/large?1x50")
    wsgi.wait_until_children(1)
    wsgi.wait_until_blocked()
    client.reset()
    wsgi.wait_until_children(0)
    assert wsgi.errors == before


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("unread", [0, 100_000])  # bytes of a body, twice as long
def test_absent_client_is_noticed_at_an_empty_piece(wsgi, reported, leave, unread):
    path = f"/wait?{leave}-{unread}"
    client = wsgi.send(POST.format(path, 2 * unread) + "x" * unread)
    reported("waiting")
    getattr(client, leave)()
    reported("close() was called")
    assert wsgi.log_line(path).endswith(" ms, client gone")


def test_client_that_sends_during_an_empty_piece_is_there(wsgi, reported, tmp_path):
    client = wsgi.send(POST.format(f"/until?{tmp_path}/file", 4))
    reported("waiting")
    client.send(b"body")
    (tmp_path / "file").touch()
    assert whole_answer(client)[::2] == (200, b"body")
    client.close()


def test_half_closed_client_gets_its_pieces(wsgi):
    wsgi.wait_until_children(0)
    wsgi.stop()  # so that it finds the client's end behind the request
    client = wsgi.ask("/write")
    client.finish_sending()
    wsgi.resume()
    assert whole_answer(client)[::2] == (200, b"written, returned")
    client.close()


# Requests that do not end


@needs("curl")
def test_clients_see_that_ctrl_c_ends_their_requests(start, tmp_path):
    server = start(ApplicationServer, "--timeout", "0.5")
    url = f"http://127.0.0.1:{server.port}/large?1000x1"
    file = tmp_path / "file"
    curl = server.run("curl", "-q", "-sS", "--limit-rate", "10M", "-o", file, url)
    server.ask("/pause")
    wait_until(lambda: "pausing" in server.errors and file.exists(), "both requests are under way")
    server.press_ctrl_c()
    assert server.wait() == 0
    assert server.processes() == []
    assert curl.wait() != 0


# The log


def test_log_line_has_client_request_status_bytes_and_time(wsgi):
    wsgi.get("/digest?log")
    line = wsgi.log_line("/digest?log")
    assert re.fullmatch(r"127\.0\.0\.1:\d+ 'GET /digest\?log HTTP/1\.1' 200 \d+ bytes \d+ ms", line)


def test_log_line_is_printable_ascii(wsgi):
    wsgi.exchange("GET /\x1b[31m\xe4 HTTP/1.1\r\nHost: here\r\n\r\n")
    assert r" 'GET /\x1b[31m\xc3\xa4 HTTP/1.1' 400 " in wsgi.log_line("GET /\\x1b[31m")


def test_log_line_has_the_whole_request_line(wsgi):
    wsgi.wait_until_children(0)
    client = wsgi.send("GET /whole")
    wsgi.wait_until_children(1)
    wsgi.wait_until_blocked()
    client.send(b"line HTTP/1.1\r\n\n")
    assert whole_answer(client)[0] == 400
    client.close()
    assert " 'GET /wholeline HTTP/1.1' 400 " in wsgi.log_line("/whole")


def test_log_counts_milliseconds_from_the_first_byte(wsgi):
    wsgi.wait_until_children(0)
    client = wsgi.connect()
    wsgi.wait_until_children(1)
    began = time.monotonic()
    wsgi.wait_until_blocked()
    select.select([], [], [], 0.1)  # the client is silent
    client.send(GET.format("/hello?first-byte").encode())
    assert whole_answer(client)[0] == 200
    client.close()
    milliseconds = int(re.search(r"(\d+) ms$", wsgi.log_line("/hello?first-byte"))[1])
    assert milliseconds < 1000 * (time.monotonic() - began) - 95
