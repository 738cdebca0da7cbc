"""Stage 3h: a concurrent WSGI server, asked by real clients for applications.py."""

import hashlib
import json
import os
import re
import resource
import select
import signal
import socket
import sys
import time

import pytest
from library import system
from library.programs import Patience, Program, saw, wait_until
from library.servers import LINUX_ONLY, ROOT, OwnServer, free_port, needs
from library.servers import user_with_few_processes

TESTS = ROOT / "tests/scripts"
GET = "GET {} HTTP/1.1\r\nHost: here\r\n\r\n"
POST = "POST {} HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n\r\n"
CHUNKED = "POST {} HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
MIB = 2**20


class ApplicationServer(OwnServer):
    """webserver3h.py with options, serving an application that it finds in cwd."""

    def __init__(self, application, *options, cwd=TESTS, **how):
        environment = {"PYTHONDONTWRITEBYTECODE": "1"}
        super().__init__("3h", application, *options, cwd=cwd, env=environment, **how)

    def answer(self, request):
        """All that comes for a request, text or bytes, and whether a reset ends it."""
        connection = self.connect()
        connection.send(request.encode() if isinstance(request, str) else request)
        answer = connection.wait_for_end()
        connection.close()
        return answer, connection.was_reset

    def ask_for(self, request):
        """The status, the header fields and the body of the answer to a request."""
        answer, was_reset = self.answer(request)
        assert not was_reset, saw("a reset", "an end")
        return taken_apart(answer)

    def get(self, path):
        """The same for a GET."""
        return self.ask_for(GET.format(path))

    def post(self, path, body):
        """The same for a POST of bytes."""
        return self.ask_for(POST.format(path, len(body)).encode() + body)

    def run_curl(self, path, *options):
        """curl, run to its end. Its output, and its status."""
        url = f"http://127.0.0.1:{self.port}{path}"
        curl = self.run("curl", "-q", "--silent", "--show-error", *options, url)
        status = curl.wait(60)
        return curl.output, status


def taken_apart(answer):
    """An answer's status, its header fields by their names, and its body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert re.fullmatch(r"HTTP/1\.1 \d\d\d .*", first)
    fields = dict(line.split(": ", 1) for line in lines)
    assert len(fields) == len(lines)
    return int(first.split()[1]), fields, body


@pytest.fixture(scope="module")
def server():
    server = ApplicationServer("applications:app")
    descriptors = server.descriptors()
    try:
        yield server
        server.wait_until_children(0)
        assert server.descriptors() == descriptors
        assert "collected" not in server.errors  # by the validator: not closed
    finally:
        server.kill()


# WSGI (PEP 3333)


def test_environ_has_what_wsgi_requires(server):
    request = (
        "PUT /environ/%E4%2f%3f?a=%20&b HTTP/1.1\r\nhOST: here:80\r\nX-Twice: 1\r\n"
        "x-twice:  2 \r\nCookie: a\r\nCookie: b\r\nContent-Type: text/x\r\n"
        "X_Twice: 3\r\nContent_Length: 4\r\nContent-Length: 5\r\n\r\n12345"
    )
    status, _, body = server.ask_for(request)
    environ = json.loads(body)
    server_name, server_port = environ.pop("SERVER_NAME"), environ.pop("SERVER_PORT")
    assert (status, server_name, server_port) == (200, "127.0.0.1", str(server.port))
    assert re.fullmatch("<.*>", environ.pop("wsgi.input"))
    assert re.fullmatch("<.*>", environ.pop("wsgi.errors"))
    assert environ.pop("REMOTE_ADDR") == "127.0.0.1"
    assert environ == {
        "REQUEST_METHOD": "PUT",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/environ/\xe4/?",
        "QUERY_STRING": "a=%20&b",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "5",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "here:80",
        "HTTP_X_TWICE": "1, 2",
        "HTTP_COOKIE": "a; b",
        "wsgi.version": "(1, 0)",
        "wsgi.url_scheme": "http",
        "wsgi.input_terminated": True,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": True,
    }


@pytest.mark.parametrize(
    "target, host, path, query",
    [
        ("/environ", "here", "/environ", ""),
        ("http://there:81/environ?x", "there:81", "/environ", "x"),
        ("HTTP://there/environ?http://y/", "there", "/environ", "http://y/"),
        ("//environ?", "here", "//environ", ""),
    ],
)
def test_target_is_a_path_or_a_whole_url(server, target, host, path, query):
    environ = json.loads(server.get(target)[2])
    seen = [environ[name] for name in ("HTTP_HOST", "PATH_INFO", "QUERY_STRING")]
    assert seen == [host, path, query]


def test_input_ends_where_the_body_does(server):
    body = b"one\ntwo and three\nfour\nfive"
    _, _, lines = server.ask_for(POST.format("/lines", len(body)) + body.decode() + "more")
    assert lines == repr(
        [b"one\n", b"two", b" and three\n", b"four\n", b"five", b"", b""]
    ).encode()


def test_head_is_sent_with_the_first_byte_of_the_body_and_not_before(server):
    client = server.connect()
    before = server.errors.count("reading\n")
    client.send(POST.format("/read-first", 4).encode() + b"12")
    wait_until(lambda: server.errors.count("reading\n") > before, "it reads the body")
    assert not client.answered
    client.send(b"34")
    assert taken_apart(client.wait_for_end())[2] == b"4"


def test_pieces_of_the_body_are_sent_as_they_come(server):
    client = server.connect()
    client.send(POST.format("/answer-first", 4).encode() + b"12")
    wait_until(lambda: client.answered and b"first" in client.received, "a piece comes")
    assert client.received.endswith(b"\r\n\r\nfirst, ")
    client.send(b"34")
    assert client.wait_for_end().endswith(b"first, 4")


def test_iterable_is_closed(server):
    before = server.errors.count("close() was called")
    assert server.get("/close")[2] == b"some pieces"
    wait_until(lambda: server.errors.count("close() was called") == before + 1, "it is closed")


def test_iterable_is_closed_when_it_fails_and_when_the_client_is_gone(server):
    before = server.errors.count("close() was called")
    server.answer(GET.format("/fail-amid"))
    wait_until(lambda: server.errors.count("close() was called") == before + 1, "it is closed")


def test_error_page_takes_the_place_of_an_answer_not_begun(server):
    status, fields, body = server.get("/start-again")
    assert (status, body, "X-First" in fields) == (503, b"an error page", False)


def test_write_comes_before_what_is_returned(server):
    assert server.get("/write")[2] == b"written, returned"


@pytest.mark.parametrize("path", ["fail", "exit", "never-start", "start-twice", "text"])
def test_failing_application_is_a_500_and_a_traceback(server, path):
    before = server.errors.count("Traceback")
    status, _, body = server.get(f"/{path}")
    assert (status, b"failed" in body) == (500, True)
    wait_until(lambda: server.errors.count("Traceback") > before, "a traceback comes")


@pytest.mark.parametrize("path", ["fail-amid", "start-again-late"])
def test_failure_amid_the_body_cuts_the_connection(server, path):
    before = server.errors.count("Traceback")
    answer, was_reset = server.answer(GET.format(f"/{path}"))
    assert was_reset, saw(f"an end as if all were there, after {answer}", "a reset")
    assert answer == b"" or answer.endswith(b"\r\n\r\nsome")
    wait_until(lambda: server.errors.count("Traceback") > before, "a traceback comes")


def test_answer_is_cut_when_the_application_swallows_an_error_of_write(server):
    answer, was_reset = server.answer(GET.format("/swallow"))
    assert was_reset, saw(f"an end as if all were there, after {answer}", "a reset")


@pytest.mark.parametrize(
    "field",
    [
        b"Transfer-Encoding|chunked",
        b"X-Field|a\r\nX-Other: b",
        b"X-Field|a\rb",
        b"X-Field|a\nb",
        b"X-Field|a\0b",
        b"X Field|a",
        b"X-Field:|a",
        b"|a",
    ],
)
def test_header_fields_that_are_not_the_applications_to_send_are_refused(server, field):
    status, fields, _ = server.post("/header", field)
    assert status == 500
    assert not {"X-Field", "X-Other", "Transfer-Encoding"} & fields.keys()


@pytest.mark.parametrize("field", ["Connection|keep-alive", "Keep-Alive|timeout=5", "Upgrade|x"])
def test_fields_about_the_connection_are_left_out(server, field):
    """The application has no say in them (PEP 3333), but they do no harm."""
    status, fields, body = server.post("/header", field.encode())
    assert (status, body) == (200, b"pieces of a body")
    assert fields["Connection"] == "close"
    assert not {"Keep-Alive", "Upgrade"} & fields.keys()


def test_header_field_may_have_any_latin_1_text(server):
    assert server.post("/header", b"X-Field|a\tb \xe4")[1]["X-Field"] == "a\tb \xe4"


@pytest.mark.parametrize("status", ["200", "99 Low", "100 Continue", "200 a\r\nX-a: b", "x"])
def test_status_that_is_none_is_refused(server, status):
    seen, fields, _ = server.post("/status", status.encode())
    assert (seen, "X-a" in fields) == (500, False)


def test_answer_is_as_long_as_the_application_says(server):
    for length, body in [("5", b"abcdc"), ("8", b"abcdcdcd"), ("0", b"")]:
        _, fields, seen = server.post("/own-length", length.encode())
        assert (fields["content-LENGTH"], seen) == (length, body)
    for length in ["-2", "+2", "0_2", "two", "2, 2", ""]:
        assert server.post("/own-length", length.encode())[0] == 500
    answer, was_reset = server.answer(POST.format("/own-length", 1) + "9")
    assert was_reset, saw("the end of a whole answer", "a reset: it is too short")


def test_date_and_server_of_the_application_stay(server):
    _, fields, body = server.get("/own-fields")
    assert (fields["date"], fields["SERVER"], body) == ("today", "mine", b"ab")
    assert not fields.keys() & {"Date", "Server", "Content-Length"}


def test_what_the_application_prints_is_not_lost(start):
    server = start(ApplicationServer, "applications:app")
    assert server.get("/prints")[0] == 200
    wait_until(lambda: "printed" in server.output, "what is printed comes")
    wait_until(lambda: server.errors == "told", "what is told comes")


def test_application_may_run_programs(server):
    assert server.get("/run")[2] == b"7"


def test_demo_app_behind_the_validator(start):
    server = start(ApplicationServer, "applications:demo")
    status, _, body = server.get("/some/path?a=b")
    assert (status, body.splitlines()[0]) == (200, b"Hello world!")
    assert b"PATH_INFO = '/some/path'" in body
    assert server.errors == ""


def test_application_is_found_in_the_current_folder_or_there_is_one_line(start, tmp_path):
    (tmp_path / "mine.py").write_text(
        "thing = 1\ndef app(environ, start_response):\n"
        "    start_response('200 OK', [])\n    return [b'mine']\n",
        encoding="utf-8",
    )
    server = start(ApplicationServer, "mine:app", cwd=tmp_path)
    assert server.get("/")[2] == b"mine"
    script = [sys.executable, "-B", ROOT / "webserver3h.py", "--port", "0"]
    names = ["absent:app", "mine:absent", "mine:thing", "mine", ":app", "mine.app:app"]
    for name, program in [(n, start(Program, [*script, n], cwd=tmp_path)) for n in names]:
        assert program.wait() == 1
        assert re.fullmatch(rf"Cannot serve {re.escape(name)}: .+\n", program.errors)


# HTTP/1.1 (RFC 9110, RFC 9112)


def test_answer_has_date_server_and_connection_close_and_its_length_where_known(server):
    status, fields, body = server.get("/one-piece")
    assert status == 200
    assert re.fullmatch(
        r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", fields.pop("Date")
    )
    assert fields == {
        "Server": "webserver3h",
        "Connection": "close",
        "Content-Type": "text/plain",
        "Content-Length": str(len(body)),
    }
    assert server.get("/nothing")[1]["Content-Length"] == "0"
    assert "Content-Length" not in server.get("/close")[1]
    assert "Content-Length" not in server.get("/write")[1]


def test_head_has_the_fields_of_get_and_no_body(server):
    _, fields, _ = server.get("/one-piece")
    head = GET.format("/one-piece").replace("GET", "HEAD")
    status, head_fields, nothing = server.ask_for(head)
    empty = GET.format("/nothing").replace("GET", "HEAD")
    assert "Content-Length" not in server.ask_for(empty)[1]  # it may differ for a GET
    assert (status, nothing) == (200, b"")
    assert {**head_fields, "Date": ""} == {**fields, "Date": ""}


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_status_without_a_body_has_none(server, status):
    seen, fields, body = server.post("/status", status.encode())
    assert (seen, body) == (int(status[:3]), b"")
    assert ("Content-Length" in fields) == (seen == 304)  # RFC 9110, 8.6


def test_http_1_0_needs_no_host(server):
    status, _, body = server.ask_for("GET /environ HTTP/1.0\r\n\r\n")
    assert (status, json.loads(body)["SERVER_PROTOCOL"]) == (200, "HTTP/1.0")


def test_empty_lines_before_the_request_are_skipped(server):
    assert server.ask_for("\r\n\r\n" + GET.format("/digest"))[0] == 200
    client = server.connect()
    for part in ("\r", "\n\r\n", GET.format("/digest")):
        server.wait_until_blocked()
        client.send(part.encode())
    assert taken_apart(client.wait_for_end())[0] == 200


def test_options_of_the_whole_server(server):
    request = GET.format("*").replace("GET", "OPTIONS")
    assert server.ask_for(request)[0] == 200


def test_names_that_http_writes_in_any_case(server):
    assert server.ask_for(CODING.format("Chunked"))[0] == 200
    request = POST.format("/digest", 2).replace("\r\n\r\n", "\r\nEXPECT: 100-Continue\r\n\r\n")
    client = server.connect()
    client.send(request.encode())
    wait_until(lambda: client.answered, "the server says that it reads")
    client.send(b"1")
    server.wait_until_blocked()
    client.send(b"2")
    assert client.wait_for_end().count(b"100 Continue") == 1


def test_http_1_0_gets_no_100_continue(server):
    head = POST.format("/digest", 2).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n")
    client = server.connect()
    client.send(head.replace("/1.1", "/1.0").encode())
    server.wait_until_children(1)
    client.send(b"12")
    assert client.wait_for_end().startswith(b"HTTP/1.1 200")


def test_chunked_body_is_put_together(server):
    chunks = "3\r\nabc\r\n0a;x=\"y\"\r\n0123456789\r\n000\r\nX-Trailer: 1\r\n\r\n"
    digest = hashlib.sha256(b"abc0123456789").hexdigest()
    body = server.ask_for(CHUNKED.format("/digest") + chunks)[2]
    assert body.decode() == f"13 {digest}"


FIELD = "GET /digest HTTP/1.1\r\nHost: here\r\n{}\r\n\r\n"
LENGTH = "POST /digest HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n\r\n12345"
CODING = "POST /digest HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: {}\r\n\r\n0\r\n\r\n"
MALFORMED = {
    "two lengths": LENGTH.format("5\r\nContent-Length: 5"),
    "two lengths in one field": LENGTH.format("5, 5"),
    "a length with a sign": LENGTH.format("+5"),
    "a length below zero": LENGTH.format("-5"),
    "a length with a space": LENGTH.format("1 2"),
    "a length in hexadecimal": LENGTH.format("0x5"),
    "a length with an underscore": LENGTH.format("1_0"),
    "a length in other digits": LENGTH.format("\N{FULLWIDTH DIGIT FIVE}"),
    "an empty length": LENGTH.format(""),
    "a length and a coding": CODING.format("chunked\r\nContent-Length: 5"),
    "chunked twice": CODING.format("chunked, chunked"),
    "chunked in two fields": CODING.format("chunked\r\nTransfer-Encoding: chunked"),
    "no coding": CODING.format(""),
    "chunked in HTTP/1.0": CODING.format("chunked").replace("/1.1", "/1.0"),
    "a lone CR in a field": FIELD.format("X-Field: a\rb"),
    "a lone CR in the request line": GET.format("/digest\r"),
    "lines that end with LF": GET.format("/digest").replace("\r", ""),
    "a line that ends with LF": FIELD.format("X-Field: a\nX-Other: b"),
    "a NUL": FIELD.format("X-Field: a\0b"),
    "a folded line": FIELD.format("X-Field: a\r\n b"),
    "a folded first field": "GET /digest HTTP/1.1\r\n Host: here\r\n\r\n",
    "a space before the colon": FIELD.format("X-Field : a"),
    "a space in a name": FIELD.format("X Field: a"),
    "no name": FIELD.format(": a"),
    "no colon": FIELD.format("X-Field"),
    "no Host": "GET /digest HTTP/1.1\r\n\r\n",
    "two Hosts": FIELD.format("Host: here"),
    "two Hosts in HTTP/1.0": FIELD.format("Host: here").replace("/1.1", "/1.0"),
    "a Host that is none": GET.format("/digest").replace("here", "he re"),
    "a Host with a path": GET.format("/digest").replace("here", "here/there"),
    "a Host with a name before it": GET.format("/digest").replace("here", "me@here"),
    "no version": "GET /digest\r\nHost: here\r\n\r\n",
    "a version in small letters": GET.format("/digest").replace("HTTP", "http"),
    "a version with two digits": GET.format("/digest").replace("1.1", "1.10"),
    "two spaces": GET.format(" /digest"),
    "a tab": GET.format("/digest").replace("GET ", "GET\t"),
    "a space in the target": GET.format("/dig est"),
    "a space at the end": GET.format("/digest").replace("1.1\r", "1.1 \r"),
    "no method": GET.format("/digest").replace("GET", ""),
    "a method that is none": GET.format("/digest").replace("GET", "G(T"),
    "a target without a slash": GET.format("digest"),
    "a target that is a fragment": GET.format("/digest#here"),
    "a target with a bad escape": GET.format("/digest%4"),
    "a target that is not ASCII": GET.format("/\xe4"),
    "a star": GET.format("*"),
    "only a query": GET.format("?digest"),
    "a length of 5000 digits": LENGTH.format("5" * 5000),
    "a URL with a user": GET.format("http://me@here/digest"),
    "a URL without a host": GET.format("http://:80/digest"),
    "a proxy's method": GET.format("/digest").replace("GET", "CONNECT"),
    "something else": "\x16\x03\x01\x02\n",
    "many empty lines": "\r\n" * 20 + GET.format("/digest"),
    "two Content-Types": FIELD.format("Content-Type: a/b\r\nContent-Type: c/d"),
    "a body read on after its error": CHUNKED.format("/read-on") + "x\r\n0\r\n\r\n",
    "a chunk without a size": CHUNKED.format("/digest") + "\r\nabc\r\n0\r\n\r\n",
    "a chunk with a sign": CHUNKED.format("/digest") + "+3\r\nabc\r\n0\r\n\r\n",
    "a chunk with 0x": CHUNKED.format("/digest") + "0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk with a space": CHUNKED.format("/digest") + "3 \r\nabc\r\n0\r\n\r\n",
    "a chunk with an underscore": CHUNKED.format("/digest") + "0_3\r\nabc\r\n0\r\n\r\n",
    "a huge chunk": CHUNKED.format("/digest") + "f" * 17 + "\r\nabc",
    "a chunk that is longer": CHUNKED.format("/digest") + "2\r\nabc\r\n0\r\n\r\n",
    "a chunk that is shorter": CHUNKED.format("/digest") + "4\r\nabc\r\n0\r\n\r\n",
    "a chunk that ends with LF": CHUNKED.format("/digest") + "3\nabc\n0\n\n",
    "a trailer that is none": CHUNKED.format("/digest") + "0\r\nX Trailer\r\n\r\n",
    "an error the application ignores": CHUNKED.format("/ignore-errors") + "x\r\n",
    "an error the application wraps": CHUNKED.format("/wrap-errors") + "x\r\n",
}
REFUSED = {
    "an unknown coding": (501, CODING.format("gzip")),
    "an unknown coding, chunked": (501, CODING.format("gzip, chunked")),
    "version 2": (505, GET.format("/digest").replace("1.1", "2.0")),
    "version 0.9": (505, GET.format("/digest").replace("1.1", "0.9")),
    "a head of 64 KiB and more": (431, FIELD.format("X-Field: " + "a" * 65536)),
    "a head without an end": (431, "GET /digest HTTP/1.1\r\n" + "a: b\r\n" * 14000),
    "a trailer without an end": (431, CHUNKED.format("/digest") + "0\r\n" + "a: b\r\n" * 14000),
    "a chunk's extension without an end": (400, CHUNKED.format("/digest") + "3;" + "x" * 70000),
}
REFUSED.update({what: (400, request) for what, request in MALFORMED.items()})


def test_malformed_requests_are_refused(server):
    wrong = {}
    for what, (expected, request) in REFUSED.items():
        status, _, body = server.ask_for(request)
        if status != expected:
            wrong[what] = f"{status} instead of {expected}: {body}"
    assert not wrong


def test_malformed_head_gets_no_body(server):
    for request in ("HEAD /digest HTTP/1.1\r\n\r\n", "HEAD /digest HTTP/1.1\n\n"):
        status, _, body = server.ask_for(request)
        assert (status, body) == (400, b"")


def test_head_may_have_64_kib(server):
    for size, expected in ((65536, 200), (65537, 431)):
        request = FIELD.format("X-Field: ")
        request = FIELD.format("X-Field: " + "a" * (size - len(request)))
        assert len(request) == size
        assert server.ask_for(request)[0] == expected


@LINUX_ONLY
def test_head_in_small_pieces_takes_time_in_proportion(server):
    """60 KB in pieces of 4 bytes: seconds where each piece costs a look at all of them."""
    server.wait_until_children(0)
    before = seconds_of_children(server)
    head = GET.format("/digest").replace("\r\n\r\n", "\r\nX-Field: " + "a" * 60_000)
    client = server.connect()
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start in range(0, len(head), 4):
        client.send(head[start : start + 4].encode())
    client.send(b"\r\n\r\n")
    assert taken_apart(client.wait_for_end())[0] == 200
    client.close()
    server.wait_until_children(0)
    assert seconds_of_children(server) - before < 1


def seconds_of_children(server):
    """The processor time of all its children that it has waited for (proc(5))."""
    with open(f"/proc/{server.pid}/stat", encoding="utf-8") as file:
        user, kernel = file.read().rpartition(")")[2].split()[13:15]
    return (int(user) + int(kernel)) / os.sysconf("SC_CLK_TCK")


def test_whole_of_a_large_answer_arrives_whatever_the_client_sends_meanwhile(server):
    client = server.connect()
    client.ask("/one-large?2")
    wait_until(lambda: client.socket.recv(1, socket.MSG_PEEK), "the answer begins")
    for _ in range(3):  # the server has sent all that goes into the kernel's buffers
        server.wait_until_blocked()
        client.send(b"x" * 1000)
    _, _, body = taken_apart(client.wait_for_end())
    assert (len(body), client.was_reset) == (2 * MIB, False)
    client.close()


def test_what_the_client_still_sends_is_read_and_not_answered_by_a_reset(server):
    for head in (POST.format("/nothing", 3000), CHUNKED.format("/nothing"), "nonsense\r\n\r\n"):
        client = server.connect()
        client.send(head.encode())
        assert taken_apart(client.wait_for_end())[0] in (200, 400)
        for _ in range(3):  # the second would meet the reset that the first causes
            client.send(b"x" * 1000)
            server.wait_until_blocked()
        client.close()


def test_body_that_ends_early_is_a_400(server):
    client = server.connect()
    client.send(POST.format("/digest", 10).encode() + b"12345")
    client.finish_sending()
    assert taken_apart(client.wait_for_end())[0] == 400


# curl


@needs("curl")
def test_curl_uploads_8_mib_after_100_continue(server, tmp_path):
    data = bytes(range(256)) * (8 * MIB // 256)
    (tmp_path / "file").write_bytes(data)
    expected = f"{len(data)} {hashlib.sha256(data).hexdigest()}"
    for how in ([], ["-H", "Transfer-Encoding: chunked"]):
        upload = ["-H", "Expect: 100-continue", "--expect100-timeout", "60", "-v"]
        url = f"http://127.0.0.1:{server.port}/digest"
        file = f"@{tmp_path / 'file'}"
        curl = server.run("curl", "-q", "-sS", *upload, *how, "--data-binary", file, url)
        assert curl.wait(60) == 0
        assert curl.output == expected
        assert "100 Continue" in curl.errors


def test_no_100_continue_comes_amid_the_answer(server):
    client = server.connect()
    head = POST.format("/answer-first", 4).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n")
    client.send(head.encode())
    wait_until(lambda: client.answered and b"first" in client.received, "a piece comes")
    server.wait_until_blocked()
    client.send(b"1234")
    assert taken_apart(client.wait_for_end())[2] == b"first, 4"


@needs("curl")
def test_curl_gets_the_answer_to_an_upload_that_nobody_reads(server, tmp_path):
    (tmp_path / "file").write_bytes(bytes(20 * MIB))
    upload = ["-H", "Expect:", "--data-binary", f"@{tmp_path / 'file'}"]
    assert server.run_curl("/nothing", *upload, "-w", "%{http_code}") == ("200", 0)


@needs("curl")
def test_curl_downloads_8_mib(server):
    size = ["-o", "/dev/null", "-w", "%{size_download}"]
    for path in ("/large?8", "/one-large?8"):
        assert server.run_curl(path, *size) == (str(8 * MIB), 0)


@needs("curl")
def test_curls_head(server):
    output, status = server.run_curl("/digest", "--head")
    assert (status, output.splitlines()[0]) == (0, "HTTP/1.1 200 OK")


# Processes


def test_200_requests_at_a_time_are_all_answered(server):
    load = server.load("--max-clients", "200", "--timeout", "60")
    assert load.wait(60) == 0, saw(load.output.strip(), "all are answered")
    server.wait_until_children(0)


def test_no_more_children_than_said_and_the_next_one_waits(start):
    server = start(ApplicationServer, "applications:app", "--max-children", "2")
    clients = [server.connect() for _ in range(3)]
    server.wait_until_children(2)
    server.wait_until_blocked()
    for client in clients:
        client.send(GET.format("/digest").encode())
    server.wait_until_blocked()
    for client in clients[:2]:
        assert taken_apart(client.wait_for_end())[0] == 200
        client.close()
    assert taken_apart(clients[2].wait_for_end())[0] == 200


def test_client_that_stops_sending_or_reading_is_given_up(start):
    server = start(ApplicationServer, "applications:app", "--timeout", "0.5")
    silent, slow, reading = (server.connect() for _ in range(3))
    slow.send(b"GET / HTTP/1.1\r\nHo")
    reading.send(GET.format("/large?100").encode())
    assert silent.wait_for_end() == b""
    assert taken_apart(slow.wait_for_end())[0] == 408
    silent.close()
    slow.close()
    for request in (POST.format("/digest", 10) + "12", CHUNKED.format("/digest") + "9"):
        assert server.ask_for(request)[0] == 408
    server.wait_until_children(0)


def test_head_that_comes_byte_by_byte_has_to_come_in_time(start):
    server = start(ApplicationServer, "applications:app", "--timeout", "0.5")
    client = server.connect()
    client.send(b"GET /")

    def answered():
        if not client.answered:
            client.send(b"a")
        return client.answered

    wait_until(answered, "the server has waited enough")
    assert client.received.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "begin, again",
    [("", "\r\n"), (CHUNKED.format("/digest") + "0\r\n", "a: b\r\n")],
    ids=["empty lines", "a trailer"],
)
def test_line_after_line_does_not_renew_the_deadline(start, begin, again):
    server = start(ApplicationServer, "applications:app", "--timeout", "0.5")
    client = server.connect()
    client.send(begin.encode())

    def answered():
        if not client.answered:
            client.send(again.encode())
        return client.answered

    wait_until(answered, "the server has waited enough")
    assert taken_apart(client.wait_for_end())[0] in (400, 408)


def test_client_that_is_slow_but_does_read_gets_all(start):
    """It reads 2 MiB a second, at once, as a kernel passes on what it has kept for long."""
    server = start(ApplicationServer, "applications:app", "--timeout", "0.5")
    client = server.connect()
    client.ask("/large?12")
    client.socket.settimeout(Patience.seconds)
    size = 0
    for end in (2 * MIB, 4 * MIB):
        while size < end:
            size += len(client.socket.recv(end - size))
        select.select([], [], [], 1)  # two timeouts
    for block in iter(lambda: client.socket.recv(MIB), b""):
        size += len(block)
    assert size > 12 * MIB
    client.close()


def test_client_that_reads_nothing_gets_a_reset_even_if_the_application_goes_on(start):
    server = start(ApplicationServer, "applications:app", "--timeout", "0.5")
    client = server.connect()
    client.ask("/swallow-large?50")
    server.wait_until_children(1)
    server.wait_until_children(0)
    client.wait_for_end()
    assert client.was_reset, saw("an end as if all were there", "a reset")


def test_client_that_resets_amid_the_answer_does_no_harm(start):
    server = start(ApplicationServer, "applications:app")
    client = server.connect()
    client.send(GET.format("/one-large?50").encode())
    server.wait_until_children(1)
    server.wait_until_blocked()
    client.reset()
    server.wait_until_children(0)
    assert server.errors == ""


@LINUX_ONLY
def test_it_goes_on_when_accept_or_fork_fails(start):
    few = user_with_few_processes(100)
    server = start(ApplicationServer, "applications:app", **few)
    with server.soft_limit(resource.RLIMIT_NOFILE, len(server.descriptors())):
        waiting = server.ask("/digest")
        wait_until(lambda: "accept failed" in server.errors, "it says that accept fails")
    assert taken_apart(waiting.wait_for_end())[0] == 200
    with server.soft_limit(resource.RLIMIT_NPROC, 0):
        assert server.connect().wait_for_end() == b""
        assert "fork failed" in server.errors
    assert server.get("/digest")[0] == 200


@pytest.mark.parametrize("to", [os.kill, os.killpg])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_the_requests_at_work_finish(start, number, to):
    server = start(ApplicationServer, "applications:app")
    client = server.connect()
    client.send(POST.format("/digest", 4).encode() + b"12")
    server.wait_until_children(1)
    server.wait_until_blocked()
    to(server.pid, number)
    wait_until(lambda: refused(server), "no connection is accepted any more")
    client.send(b"34")
    assert taken_apart(client.wait_for_end())[0] == 200
    client.close()
    assert server.wait() == 0
    assert server.errors == ""


def refused(server):
    """Whether a connection to it is refused."""
    try:
        server.connect().close()
    except (ConnectionRefusedError, ConnectionResetError):  # it stops listening just now
        return True
    return False


@needs("curl")
def test_requests_that_do_not_finish_are_ended_and_their_clients_see_it(start, tmp_path):
    server = start(ApplicationServer, "applications:app", "--timeout", "0.5")
    url = f"http://127.0.0.1:{server.port}/large?1000"
    file = tmp_path / "file"
    curl = server.run("curl", "-q", "-sS", "--limit-rate", "10M", "-o", file, url)
    server.ask("/pause")
    wait_until(lambda: "pausing" in server.errors and file.exists(), "both are at work")
    server.press_ctrl_c()
    assert server.wait() == 0
    assert server.processes() == []
    assert curl.wait() != 0


def test_second_ctrl_c_ends_it_at_once(start):
    server = start(ApplicationServer, "applications:app", "--timeout", "600")
    client = server.ask("/pause")
    wait_until(lambda: "pausing" in server.errors, "it is at work")
    server.press_ctrl_c()
    wait_until(lambda: refused(server), "no connection is accepted any more")
    server.press_ctrl_c()
    assert server.wait() == 0
    assert server.processes() == []
    assert client.wait_for_end() == b""


BLOCKED = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
CLOSED = "[os.close(descriptor) for descriptor in (0, 1, 2)]"


def started_with(statement):
    """What a command starts with if a statement is to be run before it."""
    then = "os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", f"import os, signal, sys; {statement}; {then}"]


def test_children_are_reaped_and_ctrl_c_ends_it_also_if_started_with_signals_blocked(start):
    server = start(ApplicationServer, "applications:app", wrapper=started_with(BLOCKED))
    assert server.get("/digest")[0] == 200
    server.wait_until_children(0)
    server.press_ctrl_c()
    assert server.wait() == 0


class SilentServer(ApplicationServer):
    """One whose output cannot be read, so that its port has to be chosen before."""

    def __init__(self, application, *options, **how):
        self.port = free_port()
        super().__init__(application, *options, "--port", str(self.port), **how)

    def wait_until_listening(self):
        def listens():
            self.assert_running()
            return system.listening(self.port)

        wait_until(listens, "the server listens")


def test_log_goes_to_no_file_of_the_application_if_output_is_closed(start, tmp_path):
    (tmp_path / "mine.py").write_text(
        "files = []\ndef app(environ, start_response):\n"
        "    files.extend(open(f'file{n}', 'w') for n in range(4))\n"
        "    print('printed', file=environ['wsgi.errors'])\n"
        "    start_response('200 OK', [])\n    return [b'mine']\n",
        encoding="utf-8",
    )
    closed = {"wrapper": started_with(CLOSED), "cwd": tmp_path}
    server = start(SilentServer, "mine:app", **closed)
    assert server.get("/")[2] == b"mine"
    server.wait_until_children(0)
    written = [(tmp_path / f"file{n}").read_text(encoding="utf-8") for n in range(4)]
    assert written == ["", "", "", ""]


def test_no_client_waits_for_a_log_that_nobody_reads(start):
    read, write = os.pipe()
    os.set_blocking(write, False)
    with open(read, encoding="utf-8"), open(write, "wb", buffering=0) as pipe:
        while pipe.write(b"x" * 512):
            pass  # until it is full
        os.set_blocking(write, True)
        one = ["--max-children", "1"]
        server = start(SilentServer, "applications:app", *one, stdout=pipe)
        for _ in range(3):
            assert server.get("/digest")[0] == 200
        server.wait_until_children(0)


@LINUX_ONLY
def test_clients_are_served_where_nothing_can_be_printed_and_one_line_says_so(start):
    with open("/dev/full", "wb") as full:
        server = start(SilentServer, "applications:app", stdout=full)
        assert server.get("/prints")[0] == 200
        server.wait_until_children(0)
        server.press_ctrl_c()
        assert server.wait() == 0
    first, told = server.errors.splitlines()
    assert "Cannot print" in first
    assert told == "told"  # by the application


def test_log_line_says_who_asked_for_what_and_is_safe_to_print(start):
    server = start(ApplicationServer, "applications:app")
    server.get("/digest")
    server.ask_for("GET /\x1b[31m\xe4 HTTP/1.1\r\nHost: here\r\n\r\n")
    server.wait_until_children(0)
    first, second = server.output.splitlines()[1:]
    start_of_line = r"127\.0\.0\.1:\d+ "
    end_of_line = r" \d+ bytes \d+ ms"
    assert re.fullmatch(rf"{start_of_line}'GET /digest HTTP/1\.1' 200{end_of_line}", first)
    bad = r"'GET /\\x1b\[31m\\xc3\\xa4 HTTP/1\.1'"
    assert re.fullmatch(rf"{start_of_line}{bad} 400{end_of_line}", second)


def test_log_line_has_the_whole_request_line_however_it_comes(start):
    server = start(ApplicationServer, "applications:app")
    client = server.connect()
    client.send(b"GET /di")
    server.wait_until_children(1)
    server.wait_until_blocked()
    client.send(b"gest HTTP/1.1\r\n\n")
    assert taken_apart(client.wait_for_end())[0] == 400
    wait_until(lambda: "'GET /digest HTTP/1.1' 400" in server.output, "the line is logged")


def test_help_says_how_long_one_waits_behind_idle_clients(start):
    program = start(Program, [sys.executable, ROOT / "webserver3h.py", "--help"])
    assert program.wait() == 0
    words = " ".join(program.output.split())
    assert "for the head of its request at most 10" in words
    assert "behind 200 of them the next waits for about 30" in words
