"""The WSGI server and HTTP/1.1 (RFC 9110, RFC 9112): which requests it accepts, and how it answers.

A request that two servers read differently lets an attacker smuggle another one past the first of them. So the
server refuses whatever the RFCs do not allow.
"""

import hashlib
import json
import re

import pytest
from application_server import CHUNKED, GET, MIB, POST, STAGE, whole_answer
from harness import system
from harness.waiting import mismatch, wait_until
from marks import LINUX_ONLY, needs

LINE = "{}\r\nHost: here\r\n\r\n"
TARGET = "GET {} HTTP/1.1\r\nHost: here\r\n\r\n"
HOST = "GET /digest HTTP/1.1\r\nHost: {}\r\n\r\n"
FIELD = "GET /digest HTTP/1.1\r\nHost: here\r\n{}\r\n\r\n"
LENGTH = "POST /digest HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n\r\n12345"
CODING = "POST /digest HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: {}\r\n\r\n0\r\n\r\n"
CHUNKS = CHUNKED.format("/digest") + "{}"
MANY_FIELDS = "a: b\r\n" * 14000
WRONG_EXTENSIONS = (";", ";bad[=x", ";;=", ";a=", ';a="')

REFUSED = [  # a status, a request, and what makes it wrong
    (400, LINE, "GET /digest", "GET /digest http/1.1", "GET /digest HTTP/1.10"),
    (400, LINE, "GET  /digest HTTP/1.1", "GET\t/digest HTTP/1.1", "GET /digest HTTP/1.1 "),
    (400, LINE, "GET /digest HTTP/1.1\r", " /digest HTTP/1.1", "G(T /digest HTTP/1.1"),
    (400, LINE, "CONNECT /digest HTTP/1.1", "\r\n" * 20 + "GET /digest HTTP/1.1"),
    (505, LINE, "GET /digest HTTP/2.0", "GET /digest HTTP/0.9"),
    (414, LINE, "GET /" + "a" * 70000 + " HTTP/1.1"),
    (400, TARGET, "digest", "/dig est", "/digest#here", "/digest%4", "/\xe4", "*", "?digest"),
    (400, TARGET, "/digest?%zz", "/%zz", "/digest?100%", "/\0"),
    (400, TARGET, "http://me@here/digest", "http://:80/digest"),
    (400, HOST, "he re", "here/there", "me@here", "here\r\nHost: here"),
    (400, HOST, "%", "%zz", "[:::]", "[1::2::3]", "[]", ":80", "[::1]80"),
    (400, HOST.replace("/1.1", "/1.0"), "here\r\nHost: here"),
    (400, FIELD, "X-Field: a\rb", "X-Field: a\nX-Other: b", "X-Field: a\0b", "X-Field: a\r\n b"),
    (400, FIELD, "X-Field : a", "X Field: a", ": a", "X-Field"),
    (400, FIELD, "Content-Type: a/b\r\nContent-Type: c/d"),
    (431, FIELD, "X-Field: " + "a" * 65536, MANY_FIELDS),
    (400, LENGTH, "5\r\nContent-Length: 5", "5, 5", "+5", "-5", "1 2", "0x5", "1_0", ""),
    (400, LENGTH, "\N{FULLWIDTH DIGIT FIVE}", "5" * 5000),
    (400, CODING, "chunked\r\nContent-Length: 5", "chunked, chunked", ""),
    (400, CODING, "chunked\r\nTransfer-Encoding: chunked"),
    (400, CODING.replace("/1.1", "/1.0"), "chunked"),
    (400, CODING, "gzip", "chunked, gzip", "chunked, x"),
    (501, CODING, "gzip, chunked"),
    (400, CHUNKS, "\r\nabc\r\n0\r\n\r\n", "+3\r\nabc\r\n0\r\n\r\n", "0x3\r\nabc\r\n0\r\n\r\n"),
    (400, CHUNKS, "3 \r\nabc\r\n0\r\n\r\n", "0_3\r\nabc\r\n0\r\n\r\n", "f" * 17 + "\r\nabc"),
    (400, CHUNKS, "2\r\nabc\r\n0\r\n\r\n", "4\r\nabc\r\n0\r\n\r\n", "3\nabc\n0\n\n"),
    (400, CHUNKS, "0\r\nX Trailer\r\n\r\n", "3;" + "x" * 70000),
    (400, CHUNKS, *(f"5{wrong}\r\nabcde\r\n0\r\n\r\n" for wrong in WRONG_EXTENSIONS)),
    (400, CHUNKS, f"1;{'x' * 999}\r\na\r\n" * 66),
    (413, CHUNKS, "40000001\r\n"),
    (431, CHUNKS, "0\r\n" + MANY_FIELDS),
    (400, "{}", GET.format("/digest").replace("\r", ""), "\x16\x03\x01\x02\n"),
    (400, "{}", "GET /digest HTTP/1.1\r\n Host: here\r\n\r\n", "GET /digest HTTP/1.1\r\n\r\n"),
]

EXPLAINED = [  # a request, and a part of the answer to it
    (CHUNKS.format("2\r\nabc\r\n0\r\n\r\n"), b"a chunk is longer than it says"),
    (TARGET.format("/\xe4"), b"byte 0xC3: a URI writes it as %C3"),
    (TARGET.format("/\0"), b"byte 0x00: a URI writes it as %00"),
    (TARGET.format("/100%"), b"writes it as %25"),
    (GET.format("/digest").replace("\r", ""), b"not LF alone: nc -C"),
]


# Requests


def test_malformed_requests_are_refused(wsgi):
    wrong = []
    for expected, request, *faults in REFUSED:
        for fault in faults:
            status, _, body = wsgi.exchange(request.format(fault))
            if status != expected:
                wrong.append(f"{status} instead of {expected}: {fault[:80]!r}: {body}")
    assert not wrong


def test_refusal_explains_what_to_write(wsgi):
    for request, explanation in EXPLAINED:
        body = wsgi.exchange(request)[2]
        assert explanation in body, mismatch(body, explanation)


@pytest.mark.parametrize("size, expected", [(65536, 200), (65537, 431)])
def test_head_may_have_64_kib(wsgi, size, expected):
    request = FIELD.format("X-Field: ")
    request = FIELD.format("X-Field: " + "a" * (size - len(request)))
    assert len(request) == size
    assert wsgi.exchange(request)[0] == expected


@LINUX_ONLY
def test_each_piece_of_a_head_is_scanned_once(wsgi):
    """With a scan of all that came before, a slow attacker's pieces would cost ever more."""
    wsgi.wait_until_children(0)
    before = system.processor_time_of_reaped(wsgi.pid)
    client = wsgi.connect()
    (child,) = wsgi.wait_until_children(1)
    head = GET.format("/digest").replace("\r\n\r\n", "\r\nX-Field: " + "a" * 60_000)
    for start in range(0, len(head), 100):
        client.send(head[start : start + 100].encode())
        while system.process(child.pid).state not in system.BLOCKED:
            pass  # or it would receive several at once
    client.send(b"\r\n\r\n")
    assert whole_answer(client)[0] == 200
    client.close()
    wsgi.wait_until_children(0)
    assert system.processor_time_of_reaped(wsgi.pid) - before < 0.25


def test_http_1_0_needs_no_host(wsgi):
    status, _, body = wsgi.exchange("GET /environ HTTP/1.0\r\n\r\n")
    assert status == 200
    assert json.loads(body)["SERVER_PROTOCOL"] == "HTTP/1.0"


def test_http_1_2_is_served_as_1_1(wsgi):
    """RFC 9110, section 2.5."""
    _, _, body = wsgi.exchange("GET /environ HTTP/1.2\r\nHost: [::1]:80\r\n\r\n")
    assert json.loads(body)["SERVER_PROTOCOL"] == "HTTP/1.1"


@pytest.mark.parametrize(
    "request_",
    [
        *(HOST.format(host) for host in ("", "a%20b", "[::ffff:127.0.0.1]", "here:")),
        GET.format("*").replace("GET", "OPTIONS"),
        CODING.format("Chunked"),
        "\r\n\r\n" + GET.format("/digest"),
    ],
)
def test_rare_but_valid_requests_are_served(wsgi, request_):
    assert wsgi.exchange(request_)[0] == 200


def test_request_may_come_in_pieces_after_an_empty_line(wsgi):
    client = wsgi.connect()
    for part in ("\r", "\n\r\n", GET.format("/digest")):
        wsgi.wait_until_blocked()
        client.send(part.encode())
    assert whole_answer(client)[0] == 200


# Bodies


def test_chunks_are_put_together(wsgi):
    extensions = ';x="\\"y;" ; z = 1;w'
    chunks = f"3\r\nabc\r\n0a{extensions}\r\n0123456789\r\n000\r\nX-Trailer: 1\r\n\r\n"
    digest = hashlib.sha256(b"abc0123456789").hexdigest()
    body = wsgi.exchange(CHUNKED.format("/digest") + chunks)[2]
    assert body.decode() == f"13 {digest}"


def test_chunks_may_come_byte_by_byte(wsgi):
    client = wsgi.send(CHUNKED.format("/lines"))
    for byte in b"3\r\nabc\r\n0\r\n\r\n":
        wsgi.wait_until_blocked()
        client.send(bytes([byte]))
    assert whole_answer(client)[2] == repr([b"abc", b"", b"", b""]).encode()


def test_chunked_body_has_a_length_for_the_application(wsgi):
    """The server decodes the coding and so removes its field (RFC 9112, section 7.1.3)."""
    chunks = "3\r\none\r\n6\r\n\ntwo a\r\n0\r\n\r\n"
    environ = json.loads(wsgi.exchange(CHUNKED.format("/environ") + chunks)[2])
    assert environ["CONTENT_LENGTH"] == "9"
    assert "HTTP_TRANSFER_ENCODING" not in environ


def test_chunked_body_has_lines(wsgi):
    chunks = "3\r\none\r\n6\r\n\ntwo a\r\n0\r\n\r\n"
    lines = wsgi.exchange(CHUNKED.format("/lines") + chunks)[2]
    assert lines == repr([b"one\n", b"two", b" a", b"", b""]).encode()


def expecting(path, length, field="Expect: 100-continue"):
    """The head of a POST that waits for 100 Continue."""
    return POST.format(path, length).replace("\r\n\r\n", f"\r\n{field}\r\n\r\n")


def test_100_continue_comes_once_when_the_body_is_read(wsgi):
    client = wsgi.send(expecting("/digest", 2, "EXPECT: 100-Continue"))
    wait_until(client.answered, "the server is ready to read")
    client.send(b"1")
    wsgi.wait_until_blocked()
    client.send(b"2")
    assert client.wait_for_end().count(b"100 Continue") == 1


def test_no_100_continue_for_a_body_that_has_come(wsgi):
    assert wsgi.exchange(expecting("/digest", 2) + "12")[0] == 200


def test_no_100_continue_for_http_1_0(wsgi):
    client = wsgi.send(expecting("/read-first", 2).replace("/1.1", "/1.0"))
    wsgi.wait_until_children(1)
    wsgi.wait_until_blocked()
    client.send(b"12")
    assert whole_answer(client)[0] == 200


def test_no_100_continue_amid_the_answer(wsgi):
    client = wsgi.send(expecting("/answer-first", 4))
    wait_until(lambda: b"first" in client.receive_available(), "a piece comes")
    wsgi.wait_until_blocked()
    client.send(b"1234")
    assert whole_answer(client)[2] == b"first, 4"


# Answers


def test_answer_has_date_server_and_connection_close(wsgi):
    status, fields, body = wsgi.get("/hello")
    assert status == 200
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", fields.pop("Date"))
    assert fields == {
        "Server": f"webserver{STAGE}",
        "Connection": "close",
        "Content-Type": "text/plain",
        "Content-Length": str(len(body)),
    }


@pytest.mark.parametrize("path, length", [("/nothing", "0"), ("/close", None), ("/write", None)])
def test_length_is_sent_if_it_is_known(wsgi, path, length):
    assert wsgi.get(path)[1].get("Content-Length") == length


def test_head_has_the_fields_of_get_and_no_body(wsgi):
    _, fields, _ = wsgi.get("/hello")
    status, head_fields, nothing = wsgi.exchange(GET.format("/hello").replace("GET", "HEAD"))
    assert (status, nothing) == (200, b"")
    assert {**head_fields, "Date": ""} == {**fields, "Date": ""}


def test_length_of_an_empty_answer_to_head_is_not_sent(wsgi):
    """It may differ for a GET."""
    assert "Content-Length" not in wsgi.exchange(GET.format("/nothing").replace("GET", "HEAD"))[1]


@pytest.mark.parametrize("malformed", ["HEAD /hello HTTP/1.1\r\n\r\n", "HEAD /hello HTTP/1.1\n\n"])
def test_refused_head_has_no_body(wsgi, malformed):
    assert wsgi.exchange(malformed)[::2] == (400, b"")


@pytest.mark.parametrize("status, length", [("204 No Content", None), ("205 Reset", "0"), ("304 Same", "6")])
def test_status_without_a_body_has_none(wsgi, status, length):
    """RFC 9110, sections 8.6 and 15.3.6."""
    seen, fields, body = wsgi.say(status, [("Content-Length", "6")], ["a body"])
    assert (seen, body) == (int(status[:3]), b"")
    assert fields.get("Content-Length") == length


# curl


@needs("curl")
@pytest.mark.parametrize("coding", [[], ["-H", "Transfer-Encoding: chunked"]])
def test_curl_uploads_8_mib_after_100_continue(wsgi, tmp_path, coding):
    data = bytes(range(256)) * (8 * MIB // 256)
    (tmp_path / "file").write_bytes(data)
    upload = ["-H", "Expect: 100-continue", "--expect100-timeout", "60", "-v", *coding]
    output, status, errors = wsgi.run_curl("/digest", *upload, "--data-binary", f"@{tmp_path / 'file'}")
    assert (output, status) == (f"{len(data)} {hashlib.sha256(data).hexdigest()}", 0)
    assert "100 Continue" in errors


@needs("curl")
def test_curl_gets_the_answer_to_an_unread_upload(wsgi, tmp_path):
    (tmp_path / "file").write_bytes(bytes(20 * MIB))
    upload = ["-H", "Expect:", "--data-binary", f"@{tmp_path / 'file'}"]
    output, status, _ = wsgi.run_curl("/nothing", *upload, "-w", "%{http_code}")
    assert (output, status) == ("200", 0)


@needs("curl")
@pytest.mark.parametrize("path", ["/large?8x1", "/large?1x8"])
def test_curl_downloads_8_mib(wsgi, path):
    size = ["-o", "/dev/null", "-w", "%{size_download}"]
    assert wsgi.run_curl(path, *size)[:2] == (str(8 * MIB), 0)


@needs("curl")
def test_curl_asks_for_a_head(wsgi):
    output, status, _ = wsgi.run_curl("/digest", "--head")
    assert (status, output.splitlines()[0]) == (0, "HTTP/1.1 200 OK")
