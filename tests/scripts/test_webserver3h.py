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
from harness import system
from harness.programs import Program
from harness.servers import Server, StageServer
from harness.stages import ROOT
from harness.users import user_with_few_processes
from harness.waiting import mismatch, wait_until
from marks import LINUX_ONLY, needs

TESTS = ROOT / "tests/scripts"
GET = "GET {} HTTP/1.1\r\nHost: here\r\n\r\n"
POST = "POST {} HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n\r\n"
CHUNKED = "POST {} HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
MIB = 2**20


class ApplicationServer(StageServer):
    """webserver3h.py with options, serving an application that it finds in cwd."""

    def __init__(self, *options, application="applications:app", cwd=TESTS, **program_options):
        environment = {"PYTHONDONTWRITEBYTECODE": "1"}
        super().__init__("3h", application, *options, cwd=cwd, env=environment, **program_options)

    def send(self, request):
        """A new connection on which a request was sent, text or bytes."""
        connection = self.connect()
        connection.send(request.encode() if isinstance(request, str) else request)
        return connection

    def ask_for(self, request):
        """The status, the header fields and the body of the answer to a request."""
        connection = self.send(request)
        found = whole_answer(connection)
        connection.close()
        return found

    def get(self, path):
        """The same for a GET."""
        return self.ask_for(GET.format(path))

    def post(self, path, body):
        """The same for a POST of bytes."""
        return self.ask_for(POST.format(path, len(body)).encode() + body)

    def say(self, status="200 OK", headers=(), pieces=("some ", "pieces")):
        """The same for an application that answers with just that."""
        return self.post("/say", json.dumps([status, headers, pieces]).encode())

    def run_curl(self, path, *options):
        """curl, run to its end. Its output, its status, and what it says of errors."""
        url = f"http://127.0.0.1:{self.port}{path}"
        curl = self.run("curl", "-q", "--silent", "--show-error", *options, url)
        status = curl.wait(60)
        return curl.output, status, curl.errors


def whole_answer(connection):
    """The status, the header fields by their names, and the body of all that comes.

    Raises AssertionError if it ends with a reset, or is no answer.
    """
    answer = connection.wait_for_end()
    assert not connection.was_reset, mismatch(f"a reset after {answer[:100]}", "an end")
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert re.fullmatch(r"HTTP/1\.1 \d\d\d .*", first)
    fields = dict(line.split(": ", 1) for line in lines)
    assert len(fields) == len(lines)
    return int(first.split()[1]), fields, body


def assert_reset(connection):
    """Assert that a reset ends the connection. Returns what came before it."""
    answer = connection.wait_for_end()
    assert connection.was_reset, mismatch(f"an end as if that were all: {answer[:100]}", "a reset")
    return answer


@pytest.fixture(scope="module")
def server():
    server = ApplicationServer()
    descriptors = server.descriptors()
    try:
        yield server
        server.wait_until_children(0)
        wait_until(lambda: server.descriptors() == descriptors, "no descriptor is left")
        assert "collected" not in server.errors  # by the validator: not closed
    finally:
        server.kill()


@pytest.fixture
def told(server):
    """told(text) waits until the module's server says a text on standard error, once more."""
    server.wait_until_children(0)
    before = server.errors
    return lambda text: wait_until(lambda: text in server.errors[len(before) :], f"it says {text}")


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


def test_target_is_a_path_or_a_whole_url(server):
    for target, *expected in [
        ("/environ", "here", "/environ", ""),
        ("http://there:81/environ?x", "there:81", "/environ", "x"),
        ("HTTP://there/environ?http://y/", "there", "/environ", "http://y/"),
        ("//environ?", "here", "//environ", ""),
    ]:
        environ = json.loads(server.get(target)[2])
        seen = [environ[name] for name in ("HTTP_HOST", "PATH_INFO", "QUERY_STRING")]
        assert seen == expected


def test_input_ends_where_the_body_does(server):
    body = "one\ntwo and three\nfour\nfive"
    _, _, lines = server.ask_for(POST.format("/lines", len(body)) + body + "more")
    expected = [b"one\n", b"two", b" and three\n", b"four\n", b"five", b"", b""]
    assert lines == repr(expected).encode()


def test_head_is_sent_with_the_first_byte_of_the_body_and_not_before(server, told):
    client = server.send(POST.format("/read-first", 4) + "12")
    told("reading\n")
    assert not client.answered()
    client.send(b"34")
    assert whole_answer(client)[2] == b"4"


def test_pieces_of_the_body_are_sent_as_they_come(server):
    client = server.send(POST.format("/answer-first", 4) + "12")
    wait_until(lambda: client.answered() and b"first" in client.received, "a piece comes")
    assert client.received.endswith(b"\r\n\r\nfirst, ")
    client.send(b"34")
    assert whole_answer(client)[2] == b"first, 4"


def test_iterable_is_closed_also_when_it_fails(server, told):
    assert server.get("/close")[2] == b"some pieces"
    told("close() was called")


def test_application_may_write_or_change_its_mind_or_run_programs(server):
    assert server.get("/write")[::2] == (200, b"written, returned")
    status, fields, body = server.get("/start-again")
    assert (status, body, "X-First" in fields) == (503, b"an error page", False)
    assert server.get("/run")[::2] == (200, b"7")


@pytest.mark.parametrize("path", ["fail", "exit", "never-start", "start-twice", "text"])
def test_failing_application_is_a_500_and_a_traceback(server, told, path):
    status, _, body = server.get(f"/{path}")
    assert (status, b"failed" in body) == (500, True)
    told("Traceback")


@pytest.mark.parametrize(
    "path, body, says",
    [
        ("fail-amid", b"some", ["Traceback", "close() was called"]),
        ("start-again?late", b"some", ["Traceback"]),
        ("swallow", b"half", ["Traceback"]),  # the error of write()
    ],
)
def test_failure_amid_the_body_resets_the_connection(server, told, path, body, says):
    answer = assert_reset(server.ask(f"/{path}"))
    assert answer == b"" or answer.endswith(b"\r\n\r\n" + body)
    for text in says:
        told(text)


def test_what_would_not_be_a_field_or_a_status_is_refused(server):
    headers = [("Transfer-Encoding", "chunked"), ("X Field", "a"), ("X-Field:", "a"), ("", "a")]
    headers += [("X-Field", value) for value in ("a\r\nX-Other: b", "a\rb", "a\nb", "a\0b")]
    said = [server.say(headers=[field]) for field in headers]
    statuses = ("200", "99 Low", "100 Continue", "x", "200 a\r\nX: b")
    said += [server.say(status) for status in statuses]
    for status, fields, _ in said:
        assert status == 500
        assert not {"X-Field", "X-Other", "X", "Transfer-Encoding"} & fields.keys()


def test_fields_about_the_connection_are_left_out(server):
    """The application has no say in them (PEP 3333), but they do no harm."""
    headers = [("Connection", "keep-alive"), ("Keep-Alive", "timeout=5"), ("Upgrade", "x")]
    status, fields, body = server.say(headers=headers)
    assert (status, body) == (200, b"some pieces")
    assert fields["Connection"] == "close"
    assert not {"Keep-Alive", "Upgrade"} & fields.keys()


def test_answer_is_as_long_as_the_application_says(server):
    pieces = ["ab", "cd", "cd", "cd"]
    for length, body in [("5", b"abcdc"), ("8", b"abcdcdcd"), ("0", b"")]:
        _, fields, seen = server.say("200 OK", [("content-LENGTH", length)], pieces)
        assert (fields["content-LENGTH"], seen) == (length, body)
    for length in ["-2", "+2", "0_2", "two", "2, 2", ""]:
        assert server.say("200 OK", [("Content-Length", length)], pieces)[0] == 500
    assert server.get("/endless")[2] == b"ababa"
    too_short = json.dumps(["200 OK", [("Content-Length", "9")], pieces])
    assert_reset(server.send(POST.format("/say", len(too_short)) + too_short))


def test_fields_of_the_application_stay(server):
    headers = {"date": "today", "SERVER": "mine", "X-Field": "a\tb \xe4"}
    _, fields, body = server.say(headers=[*headers.items()])
    assert (headers.items() <= fields.items(), body) == (True, b"some pieces")
    assert not fields.keys() & {"Date", "Server", "Content-Length"}


def test_what_the_application_prints_is_not_lost(server, told):
    assert server.get("/prints")[0] == 200
    wait_until(lambda: "printed" in server.output, "what is printed comes")
    told("told")


def test_demo_app_behind_the_validator(server):
    server.wait_until_children(0)
    before = server.errors
    status, _, body = server.get("/demo/path?a=b")
    assert (status, body.splitlines()[0]) == (200, b"Hello world!")
    assert b"PATH_INFO = '/demo/path'" in body
    server.wait_until_children(0)
    assert server.errors == before


MINE = """
thing = 1

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"mine"]

def make():
    return app
"""


def test_application_is_found_in_the_current_folder_or_there_is_one_line(start, tmp_path):
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "wrong.py").write_text("int('x')", encoding="utf-8")
    (tmp_path / "needs.py").write_text("import absent", encoding="utf-8")
    server = start(ApplicationServer, application="mine:make()", cwd=tmp_path)
    assert server.get("/")[2] == b"mine"
    script = [sys.executable, "-B", ROOT / "webserver3h.py", "--port", "0"]
    expected = {
        "absent:app": "No module named 'absent'",
        "mine.app:app": "'mine' is not a package",
        "mine:absent": "mine has no such callable",
        "mine:thing": "mine has no such callable",
        "mine:thing()": "mine has no such callable",
        "mine": "write MODULE:CALLABLE, as mine:app",
        "mine.py:make()": "write MODULE:CALLABLE, as mine:make()",
        "./mine:app": "write MODULE:CALLABLE, as mine:app",
        "./some/mine.py": "write MODULE:CALLABLE, as some.mine:app",
        ":app": "write MODULE:CALLABLE, as flaskapp:app",
        # what is wrong with the module itself, its author sees where
        "wrong:app": "ValueError: invalid literal",
        "needs:app": "ModuleNotFoundError: No module named 'absent'",
    }
    for name, program in [(n, start(Program, [*script, n], cwd=tmp_path)) for n in expected]:
        assert program.wait() == 1
        line = program.errors.splitlines()[-1]
        assert expected[name] in line
        if name in ("wrong:app", "needs:app"):
            assert f'{name.replace(":app", ".py")}", line 1' in program.errors
        else:
            assert program.errors == f"{line}\n"
            assert line.startswith(f"Cannot serve {name}: ")


# HTTP/1.1 (RFC 9110, RFC 9112)


def test_answer_has_date_server_and_connection_close_and_its_length_where_known(server):
    status, fields, body = server.get("/hello")
    assert status == 200
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", fields.pop("Date"))
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
    _, fields, _ = server.get("/hello")
    status, head_fields, nothing = server.ask_for(GET.format("/hello").replace("GET", "HEAD"))
    assert (status, nothing) == (200, b"")
    assert {**head_fields, "Date": ""} == {**fields, "Date": ""}
    empty = GET.format("/nothing").replace("GET", "HEAD")
    assert "Content-Length" not in server.ask_for(empty)[1]  # it may differ for a GET
    for malformed in ("HEAD /hello HTTP/1.1\r\n\r\n", "HEAD /hello HTTP/1.1\n\n"):
        assert server.ask_for(malformed)[::2] == (400, b"")


def test_status_without_a_body_has_none(server):
    """RFC 9110, 8.6 and 15.3.6."""
    for status, length in [("204 No Content", None), ("205 Reset", "0"), ("304 Same", "6")]:
        seen, fields, body = server.say(status, [("Content-Length", "6")], ["a body"])
        assert (seen, body) == (int(status[:3]), b"")
        assert fields.get("Content-Length") == length


def test_requests_that_are_rare_but_well_formed_are_served(server):
    status, _, body = server.ask_for("GET /environ HTTP/1.0\r\n\r\n")  # without Host
    assert (status, json.loads(body)["SERVER_PROTOCOL"]) == (200, "HTTP/1.0")
    _, _, body = server.ask_for("GET /environ HTTP/1.2\r\nHost: [::1]:80\r\n\r\n")
    assert json.loads(body)["SERVER_PROTOCOL"] == "HTTP/1.1"  # RFC 9110, 2.5
    for host in ("", "a%20b", "[::ffff:127.0.0.1]", "here:"):
        assert server.ask_for(HOST.format(host))[0] == 200
    assert server.ask_for(GET.format("*").replace("GET", "OPTIONS"))[0] == 200
    assert server.ask_for(CODING.format("Chunked"))[0] == 200
    assert server.ask_for("\r\n\r\n" + GET.format("/digest"))[0] == 200
    client = server.connect()
    for part in ("\r", "\n\r\n", GET.format("/digest")):
        server.wait_until_blocked()
        client.send(part.encode())
    assert whole_answer(client)[0] == 200


def expecting(path, length, field="Expect: 100-continue"):
    """The head of a POST that waits for 100 Continue."""
    return POST.format(path, length).replace("\r\n\r\n", f"\r\n{field}\r\n\r\n")


def test_100_continue_comes_once_when_the_body_is_read_and_not_if_it_has_come(server):
    assert server.ask_for(expecting("/digest", 2) + "12")[0] == 200
    client = server.send(expecting("/digest", 2, "EXPECT: 100-Continue"))
    wait_until(lambda: client.answered(), "the server says that it reads")
    client.send(b"1")
    server.wait_until_blocked()
    client.send(b"2")
    assert client.wait_for_end().count(b"100 Continue") == 1


def test_http_1_0_gets_no_100_continue(server):
    client = server.send(expecting("/read-first", 2).replace("/1.1", "/1.0"))
    server.wait_until_children(1)
    server.wait_until_blocked()
    client.send(b"12")
    assert whole_answer(client)[0] == 200


def test_no_100_continue_comes_amid_the_answer(server):
    client = server.send(expecting("/answer-first", 4))
    wait_until(lambda: client.answered() and b"first" in client.received, "a piece comes")
    server.wait_until_blocked()
    client.send(b"1234")
    assert whole_answer(client)[2] == b"first, 4"


def test_chunked_body_is_put_together(server):
    extensions = ';x="\\"y;" ; z = 1;w'
    chunks = f"3\r\nabc\r\n0a{extensions}\r\n0123456789\r\n000\r\nX-Trailer: 1\r\n\r\n"
    digest = hashlib.sha256(b"abc0123456789").hexdigest()
    body = server.ask_for(CHUNKED.format("/digest") + chunks)[2]
    assert body.decode() == f"13 {digest}"


def test_chunked_body_has_a_length_for_the_application(server):
    """The coding is decoded, so its field is gone (RFC 9112, 7.1.3)."""
    chunks = "3\r\none\r\n6\r\n\ntwo a\r\n0\r\n\r\n"
    environ = json.loads(server.ask_for(CHUNKED.format("/environ") + chunks)[2])
    assert (environ["CONTENT_LENGTH"], "HTTP_TRANSFER_ENCODING" in environ) == ("9", False)
    lines = server.ask_for(CHUNKED.format("/lines") + chunks)[2]
    assert lines == repr([b"one\n", b"two", b" a", b"", b""]).encode()


LINE = "{}\r\nHost: here\r\n\r\n"
TARGET = "GET {} HTTP/1.1\r\nHost: here\r\n\r\n"
HOST = "GET /digest HTTP/1.1\r\nHost: {}\r\n\r\n"
FIELD = "GET /digest HTTP/1.1\r\nHost: here\r\n{}\r\n\r\n"
LENGTH = "POST /digest HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n\r\n12345"
CODING = "POST /digest HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: {}\r\n\r\n0\r\n\r\n"
CHUNKS = CHUNKED.format("/digest") + "{}"
LINES = "a: b\r\n" * 14000
WRONG_EXTENSIONS = (";", ";bad[=x", ";;=", ";a=", ';a="')
REFUSED = [  # the status, a request, and what is put in
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
    (400, "GET /digest HTTP/1.0\r\nHost: {}\r\n\r\n", "here\r\nHost: here"),
    (400, FIELD, "X-Field: a\rb", "X-Field: a\nX-Other: b", "X-Field: a\0b", "X-Field: a\r\n b"),
    (400, FIELD, "X-Field : a", "X Field: a", ": a", "X-Field"),
    (400, FIELD, "Content-Type: a/b\r\nContent-Type: c/d"),
    (431, FIELD, "X-Field: " + "a" * 65536, LINES),
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
    (431, CHUNKS, "0\r\n" + LINES),
    (400, "{}", GET.format("/digest").replace("\r", ""), "\x16\x03\x01\x02\n"),
    (400, "{}", "GET /digest HTTP/1.1\r\n Host: here\r\n\r\n", "GET /digest HTTP/1.1\r\n\r\n"),
]


def test_malformed_requests_are_refused(server):
    wrong = []
    for expected, request, *what in REFUSED:
        for part in what:
            status, _, body = server.ask_for(request.format(part))
            if status != expected:
                wrong.append(f"{status} instead of {expected}: {part[:80]!r}: {body}")
    assert not wrong


MESSAGES = [  # what the answer to a request says
    (CHUNKS.format("2\r\nabc\r\n0\r\n\r\n"), b"a chunk is longer than it says"),
    (TARGET.format("/\xe4"), b"byte 0xC3: a URI writes it as %C3"),
    (TARGET.format("/\0"), b"byte 0x00: a URI writes it as %00"),
    (TARGET.format("/100%"), b"writes it as %25"),
    (GET.format("/digest").replace("\r", ""), b"not LF alone: try nc -C"),
]


def test_refusal_says_what_is_wrong_and_what_to_write(server):
    for request, says in MESSAGES:
        body = server.ask_for(request)[2]
        assert says in body, mismatch(body, says)


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
    assert whole_answer(client)[0] == 200
    client.close()
    server.wait_until_children(0)
    assert seconds_of_children(server) - before < 1


def seconds_of_children(server):
    """The processor time of all its children that it has waited for (proc(5))."""
    with open(f"/proc/{server.pid}/stat", encoding="utf-8") as file:
        user, kernel = file.read().rpartition(")")[2].split()[13:15]
    return (int(user) + int(kernel)) / os.sysconf("SC_CLK_TCK")


def test_whole_of_a_large_answer_arrives_whatever_the_client_sends_meanwhile(server):
    client = server.ask("/large?1x2")
    wait_until(lambda: client.socket.recv(1, socket.MSG_PEEK), "the answer begins")
    for _ in range(3):  # the server has sent all that goes into the kernel's buffers
        server.wait_until_blocked()
        client.send(b"x" * 1000)
    assert len(whole_answer(client)[2]) == 2 * MIB
    client.close()


def test_what_the_client_still_sends_is_read_and_not_answered_by_a_reset(server):
    large = json.dumps(["200 OK", [], ["x" * 40_000]])
    requests = [POST.format("/nothing", 3000), "nonsense\r\n\r\n"]
    for request in [*requests, POST.format("/say", len(large)) + large]:
        server.wait_until_children(0)
        client = server.send(request)
        wait_until(lambda: client.answered(), "it is answered")
        for _ in range(3):
            server.wait_until_blocked()
            client.send(b"x" * 1000)
        server.wait_until_blocked()
        assert len(server.children()) == 1, mismatch("the child has left", "it reads what comes")
        assert whole_answer(client)[0] in (200, 400)
        client.close()


def test_body_that_ends_early_is_a_400_whatever_the_application_does_about_it(server):
    for path in ("/digest", "/catch?ignore", "/catch?wrap", "/catch?read-on"):
        client = server.send(POST.format(path, 10) + "12345")
        client.finish_sending()
        assert whole_answer(client)[0] == 400


# curl


@needs("curl")
def test_curl_uploads_8_mib_after_100_continue(server, tmp_path):
    data = bytes(range(256)) * (8 * MIB // 256)
    (tmp_path / "file").write_bytes(data)
    upload = ["-H", "Expect: 100-continue", "--expect100-timeout", "60", "-v"]
    for how in ([], ["-H", "Transfer-Encoding: chunked"]):
        file = ["--data-binary", f"@{tmp_path / 'file'}"]
        output, status, errors = server.run_curl("/digest", *upload, *how, *file)
        assert (output, status) == (f"{len(data)} {hashlib.sha256(data).hexdigest()}", 0)
        assert "100 Continue" in errors


@needs("curl")
def test_curl_gets_the_answer_to_an_upload_that_nobody_reads(server, tmp_path):
    (tmp_path / "file").write_bytes(bytes(20 * MIB))
    upload = ["-H", "Expect:", "--data-binary", f"@{tmp_path / 'file'}"]
    output, status, _ = server.run_curl("/nothing", *upload, "-w", "%{http_code}")
    assert (output, status) == ("200", 0)


@needs("curl")
def test_curl_downloads_8_mib_and_asks_for_a_head(server):
    size = ["-o", "/dev/null", "-w", "%{size_download}"]
    for path in ("/large?8x1", "/large?1x8"):
        assert server.run_curl(path, *size)[:2] == (str(8 * MIB), 0)
    output, status, _ = server.run_curl("/digest", "--head")
    assert (status, output.splitlines()[0]) == (0, "HTTP/1.1 200 OK")


# Clients that make it wait


@pytest.fixture(scope="module")
def impatient():
    server = ApplicationServer("--timeout", "0.5")
    try:
        yield server
    finally:
        server.kill()


# What a client sends first, and again and again, each time within a timeout
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


def test_client_that_sends_too_slowly_or_nothing_or_does_not_read_is_given_up(impatient):
    clients = {what: impatient.send(begin) for what, (begin, _) in TOO_SLOW.items()}
    silent = impatient.connect()
    reads_nothing = impatient.ask("/swallow?50")  # and the application goes on

    def answered():
        waiting = [what for what in clients if not clients[what].answered()]
        for what in waiting:
            clients[what].send(TOO_SLOW[what][1].encode())
        return not waiting

    wait_until(answered, "the server has waited enough for all of them")
    statuses = {what: whole_answer(client)[0] for what, client in clients.items()}
    assert statuses == {**dict.fromkeys(TOO_SLOW, 408), "empty lines": 400}
    assert silent.wait_for_end() == b""
    for client in clients.values():
        client.close()
    impatient.wait_until_children(0)
    assert_reset(reads_nothing)


def test_client_that_is_slow_but_does_go_on_is_served(impatient):
    """One sends 256 KiB at a time. The other reads 2 MiB at once, as a kernel passes on
    what it has kept for long, and then nothing for two timeouts."""
    reader = impatient.ask("/large?12x1")
    reader.socket.settimeout(20)
    size = 0
    while size < 2 * MIB:
        size += len(reader.socket.recv(2 * MIB - size))
    sender = impatient.send(POST.format("/digest", 10 * 256 * 1024))
    for _ in range(10):
        sender.send(bytes(256 * 1024))
        select.select([], [], [], 0.1)  # a fifth of a timeout
    assert whole_answer(sender)[0] == 200
    for block in iter(lambda: reader.socket.recv(MIB), b""):
        size += len(block)
    assert size > 12 * MIB  # a head, too
    reader.close()


@needs("curl")
def test_requests_that_do_not_finish_are_ended_and_their_clients_see_it(start, tmp_path):
    server = start(ApplicationServer, "--timeout", "0.5")
    url = f"http://127.0.0.1:{server.port}/large?1000x1"
    file = tmp_path / "file"
    curl = server.run("curl", "-q", "-sS", "--limit-rate", "10M", "-o", file, url)
    server.ask("/pause")
    wait_until(lambda: "pausing" in server.errors and file.exists(), "both are at work")
    server.press_ctrl_c()
    assert server.wait() == 0
    assert server.processes() == []
    assert curl.wait() != 0


# Processes


def test_200_requests_at_a_time_are_all_answered(server):
    load = server.load("--max-clients", "200", "--timeout", "60")
    assert load.wait(60) == 0, mismatch(load.output.strip(), "all are answered")
    server.wait_until_children(0)


def test_no_more_children_than_said_and_the_next_one_waits(start):
    server = start(ApplicationServer, "--max-children", "2")
    clients = [server.connect() for _ in range(3)]
    server.wait_until_children(2)
    server.wait_until_blocked()
    for client in clients:
        client.send(GET.format("/digest").encode())
    server.wait_until_blocked()
    for client in clients:
        assert whole_answer(client)[0] == 200
        client.close()


def test_client_that_resets_amid_the_answer_does_no_harm(server):
    server.wait_until_children(0)
    before = server.errors
    client = server.ask("/large?1x50")
    server.wait_until_children(1)
    server.wait_until_blocked()
    client.reset()
    server.wait_until_children(0)
    assert server.errors == before


def test_client_that_has_left_is_noticed_at_an_empty_piece(server, told):
    """Also behind a body that nobody has read, and whether it ends or resets."""
    for leave in ("close", "reset"):
        for request in (GET.format("/wait"), POST.format("/wait", 200_000) + "x" * 100_000):
            server.wait_until_children(0)
            client = server.send(request)
            told("waiting")
            getattr(client, leave)()
            told("close() was called")
    server.wait_until_children(0)
    assert server.output.splitlines()[-1].endswith(" ms, client gone")


def test_milliseconds_count_from_the_first_byte(server):
    server.wait_until_children(0)
    client = server.connect()
    server.wait_until_children(1)
    silent = time.monotonic()
    server.wait_until_blocked()
    select.select([], [], [], 0.1)  # it says nothing
    client.send(GET.format("/hello").encode())
    assert whole_answer(client)[0] == 200
    client.close()
    silent = time.monotonic() - silent
    server.wait_until_children(0)
    milliseconds = int(re.search(r"(\d+) ms$", server.output.strip())[1])
    assert milliseconds < 1000 * silent - 95


@LINUX_ONLY
def test_it_goes_on_when_accept_or_fork_fails(start):
    server = start(ApplicationServer, **user_with_few_processes(10_000))
    with server.soft_limit(resource.RLIMIT_NOFILE, len(server.descriptors())):
        waiting = server.ask("/digest")
        wait_until(lambda: "accept failed" in server.errors, "it says that accept fails")
    assert whole_answer(waiting)[0] == 200
    with server.soft_limit(resource.RLIMIT_NPROC, 0):
        assert server.connect().wait_for_end() == b""
        assert "fork failed" in server.errors
    assert server.get("/digest")[0] == 200


@pytest.mark.parametrize(
    "number, to",
    [(signal.SIGTERM, os.kill), (signal.SIGINT, os.kill), (signal.SIGINT, os.killpg)],
)
def test_signal_lets_the_requests_at_work_finish(start, number, to):
    """Whether it reaches the parent alone, or as Ctrl-C does its children, too."""
    server = start(ApplicationServer)
    client = server.send(POST.format("/digest", 4) + "12")
    server.wait_until_children(1)
    server.wait_until_blocked()
    to(server.pid, number)
    wait_until(lambda: refused(server), "no connection is accepted any more")
    client.send(b"34")
    assert whole_answer(client)[0] == 200
    client.close()
    assert server.wait() == 0
    assert server.errors == ""


def test_sigterm_and_sigalrm_end_a_child_or_its_child_as_everywhere(server, told):
    assert server.get("/terminate")[2] == b"15"
    client = server.ask("/pause")
    told("pausing")
    os.kill(server.wait_until_children(1)[0].pid, signal.SIGTERM)
    assert_reset(client)
    assert_reset(server.ask("/pause?0.01"))  # it has an alarm set


def refused(server):
    """Whether a connection to it is refused."""
    try:
        server.connect().close()
    except (ConnectionRefusedError, ConnectionResetError):  # it stops listening just now
        return True
    return False


def test_second_ctrl_c_ends_it_at_once(start):
    server = start(ApplicationServer, "--timeout", "600")
    client = server.ask("/pause")
    wait_until(lambda: "pausing" in server.errors, "it is at work")
    server.press_ctrl_c()
    wait_until(lambda: refused(server), "no connection is accepted any more")
    server.press_ctrl_c()
    assert server.wait() == 0
    assert server.processes() == []
    assert client.wait_for_end() == b""


BLOCKED = """if True:
    import os, signal, sys
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.execv(sys.argv[1], sys.argv[1:])
"""


def test_children_are_reaped_and_ctrl_c_ends_it_also_if_started_with_signals_blocked(start):
    server = start(ApplicationServer, wrapper=[sys.executable, "-c", BLOCKED])
    assert server.get("/digest")[0] == 200
    server.wait_until_children(0)
    server.press_ctrl_c()
    assert server.wait() == 0


# What it prints


class SilentServer(ApplicationServer):
    """One whose output cannot be read, so that its port has to be chosen before."""

    def __init__(self, *options, **program_options):
        super().__init__(*options, "--port", "{port}", **program_options)

    wait_until_listening = Server.wait_until_listening


def test_no_client_waits_for_a_log_that_nobody_reads(start):
    read, write = os.pipe()
    os.set_blocking(write, False)
    with open(read, encoding="utf-8"), open(write, "wb", buffering=0) as pipe:
        while pipe.write(b"x" * 512):
            pass  # until it is full
        os.set_blocking(write, True)
        server = start(SilentServer, "--max-children", "1", stdout=pipe)
        for _ in range(3):
            assert server.get("/digest")[0] == 200
        server.wait_until_children(0)


def test_log_line_says_who_asked_for_what_and_is_safe_to_print(server):
    server.wait_until_children(0)  # others print no more
    server.get("/digest?log")
    server.ask_for("GET /\x1b[31m\xe4 HTTP/1.1\r\nHost: here\r\n\r\n")
    client = server.send("GET /whole")
    server.wait_until_children(1)
    server.wait_until_blocked()
    client.send(b"line HTTP/1.1\r\n\n")
    assert whole_answer(client)[0] == 400
    client.close()
    server.wait_until_children(0)
    *_, first, second, third = server.output.splitlines()
    who, end = r"127\.0\.0\.1:\d+ ", r" \d+ bytes \d+ ms"
    assert re.fullmatch(rf"{who}'GET /digest\?log HTTP/1\.1' 200{end}", first)
    assert re.fullmatch(rf"{who}'GET /\\x1b\[31m\\xc3\\xa4 HTTP/1\.1' 400{end}", second)
    assert re.fullmatch(rf"{who}'GET /wholeline HTTP/1\.1' 400{end}", third)


def test_help_says_how_long_one_waits_and_what_nobody_notices(start):
    program = start(Program, [sys.executable, ROOT / "webserver3h.py", "--help"])
    assert program.wait() == 0
    words = " ".join(program.output.split())
    assert "as long again for each 500 kB of a body" in words
    assert "for the head of its request at most 10" in words
    assert "behind 200 of them the next waits for about 30" in words
    assert "not while the application computes or sleeps" in words


# What takes long: 1 GiB, idle clients, 20,000 requests

GIB = 1024 * MIB
MOST = 30 * 1024  # KiB of resident memory, of a child


@pytest.mark.slow
@LINUX_ONLY
def test_1_gib_up_chunked_and_down_takes_less_than_30_mib(start):
    server = start(ApplicationServer)
    block = bytes(MIB)
    one_more = POST.format("/digest", GIB + 1)  # with it the child is still there
    for head, chunk, last, size in (
        (one_more, block, b"x", GIB + 1),
        (CHUNKED.format("/digest"), b"%x\r\n%s\r\n" % (MIB, block), b"0\r\n\r\n", GIB),
    ):
        client = server.connect()
        client.send(head.encode())
        for _ in range(1024):
            client.send(chunk)
        child, = server.wait_until_children(1)
        assert peak(child.pid) < MOST
        client.send(last)
        assert whole_answer(client)[2].startswith(b"%d " % size)
        client.close()
        server.wait_until_children(0)
    client = server.connect()
    client.ask("/large?1024x1")
    size, most = 0, 0
    while size < GIB:
        size += len(client.socket.recv(MIB))
        if size > GIB - 16 * MIB and not most:
            child, = server.wait_until_children(1)
            most = peak(child.pid)
    assert 0 < most < MOST


def peak(pid):
    """The most resident memory that a process has had, in KiB (proc(5))."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1])


@pytest.mark.slow
def test_200_idle_clients_hold_up_a_newcomer_for_less_than_a_minute(start):
    """With 64 children for 10 seconds each, it is the turn of the 201st after 30."""
    server = start(ApplicationServer)
    for _ in range(200):
        server.connect()
    newcomer = server.ask("/digest")
    wait_until(lambda: newcomer.answered(), "the newcomer is answered", allow=30)


@pytest.mark.slow
def test_client_that_reads_when_the_child_has_left_gets_all(start):
    """The kernel keeps for it what it cannot have sent yet."""
    server = start(ApplicationServer)
    request = json.dumps(["200 OK", [], ["x" * 150_000]])
    client = server.connect()
    client.send((POST.format("/say", len(request)) + request).encode())
    wait_until(lambda: client.socket.recv(1, socket.MSG_PEEK), "the answer begins")
    server.wait_until_children(0)
    assert len(whole_answer(client)[2]) == 150_000


@pytest.mark.slow
def test_20_000_requests_leave_no_process_no_descriptor_and_no_memory(start):
    server = start(ApplicationServer)

    def load(rounds):
        for _ in range(rounds):
            load = server.load("--max-clients=8", "--max-conns=125", "--timeout=60")
            assert load.wait(60) == 0, mismatch(load.output.strip(), "all are answered")
        server.wait_until_children(0)
        return server.descriptors(), system.memory(server.pid)

    descriptors, memory = load(2)
    after, more = load(20)
    assert after == descriptors
    assert more <= memory + 64  # KiB: three bytes for each request
