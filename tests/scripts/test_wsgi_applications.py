"""The WSGI server and its applications: what they are given, may do, and may do wrong (PEP 3333)."""

import json
import re

import pytest
from application_server import (
    POST,
    STAGE,
    ApplicationServer,
    assert_reset,
    whole_answer,
)
from forked import run_forked
from harness.stages import script_path
from harness.waiting import wait_until

# The request


def test_environ_has_what_wsgi_requires(wsgi):
    request = (
        "PUT /environ/%E4%2f%3f?a=%20&b HTTP/1.1\r\nhOST: here:80\r\nX-Twice: 1\r\n"
        "x-twice:  2 \r\nCookie: a\r\nCookie: b\r\nContent-Type: text/x\r\n"
        "X_Twice: 3\r\nContent_Length: 4\r\nContent-Length: 5\r\n\r\n12345"
    )
    status, _, body = wsgi.exchange(request)
    assert status == 200
    environ = json.loads(body)
    assert re.fullmatch("<.*>", environ.pop("wsgi.input"))
    assert re.fullmatch("<.*>", environ.pop("wsgi.errors"))
    assert environ == {
        "REQUEST_METHOD": "PUT",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/environ/\xe4/?",
        "QUERY_STRING": "a=%20&b",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "5",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(wsgi.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
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
def test_target_is_a_path_or_a_whole_url(wsgi, target, host, path, query):
    environ = json.loads(wsgi.get(target)[2])
    assert environ["HTTP_HOST"] == host
    assert environ["PATH_INFO"] == path
    assert environ["QUERY_STRING"] == query


def test_input_ends_where_the_body_does(wsgi):
    body = "one\ntwo and three\nfour\nfive"
    _, _, lines = wsgi.exchange(POST.format("/lines", len(body)) + body + "more")
    expected = [b"one\n", b"two", b" and three\n", b"four\n", b"five", b"", b""]
    assert lines == repr(expected).encode()


# The answer


def test_head_waits_for_the_first_byte_of_the_body(wsgi, reported):
    client = wsgi.send(POST.format("/read-first", 4) + "12")
    reported("reading\n")
    assert not client.answered()
    client.send(b"34")
    assert whole_answer(client)[2] == b"4"


def test_pieces_of_the_body_are_sent_as_they_come(wsgi):
    client = wsgi.send(POST.format("/answer-first", 4) + "12")
    wait_until(lambda: b"first" in client.receive_available(), "a piece comes")
    assert client.received.endswith(b"\r\n\r\nfirst, ")
    client.send(b"34")
    assert whole_answer(client)[2] == b"first, 4"


def test_iterable_is_closed(wsgi, reported):
    assert wsgi.get("/close")[2] == b"some pieces"
    reported("close() was called")


def test_application_may_write(wsgi):
    assert wsgi.get("/write")[::2] == (200, b"written, returned")


def test_application_may_change_its_mind(wsgi):
    status, fields, body = wsgi.get("/start-again")
    assert (status, body) == (503, b"an error page")
    assert "X-First" not in fields


def test_application_may_run_programs(wsgi):
    assert wsgi.get("/run")[::2] == (200, b"7")


def test_output_of_the_application_is_not_lost(wsgi, reported):
    assert wsgi.get("/prints")[0] == 200
    wait_until(lambda: "printed" in wsgi.output, "what it prints shows")
    reported("an error, unflushed")


def test_demo_app_satisfies_the_validator(wsgi):
    wsgi.wait_until_children(0)
    before = wsgi.errors
    status, _, body = wsgi.get("/demo/path?a=b")
    assert (status, body.splitlines()[0]) == (200, b"Hello world!")
    assert b"PATH_INFO = '/demo/path'" in body
    wsgi.wait_until_children(0)
    assert wsgi.errors == before


def test_fields_of_the_application_stay(wsgi):
    headers = {"date": "today", "SERVER": "mine", "X-Field": "a\tb \xe4"}
    _, fields, body = wsgi.say(headers=[*headers.items()])
    assert body == b"some pieces"
    assert headers.items() <= fields.items()
    assert not fields.keys() & {"Date", "Server", "Content-Length"}


def test_fields_about_the_connection_are_left_out(wsgi):
    """An application must not set them (PEP 3333), but they do no harm."""
    headers = [("Connection", "keep-alive"), ("Keep-Alive", "timeout=5"), ("Upgrade", "x")]
    status, fields, body = wsgi.say(headers=headers)
    assert (status, body) == (200, b"some pieces")
    assert fields["Connection"] == "close"
    assert not {"Keep-Alive", "Upgrade"} & fields.keys()


PIECES = ["ab", "cd", "cd", "cd"]


@pytest.mark.parametrize("length, body", [("5", b"abcdc"), ("8", b"abcdcdcd"), ("0", b"")])
def test_answer_is_as_long_as_the_application_says(wsgi, length, body):
    _, fields, seen = wsgi.say("200 OK", [("content-LENGTH", length)], PIECES)
    assert fields["content-LENGTH"] == length
    assert seen == body


def test_endless_body_is_cut_off_at_its_length(wsgi):
    assert wsgi.get("/endless")[2] == b"ababa"


def test_body_shorter_than_its_length_ends_with_a_reset(wsgi):
    too_short = json.dumps(["200 OK", [("Content-Length", "9")], PIECES])
    assert_reset(wsgi.send(POST.format("/say", len(too_short)) + too_short))


# Applications that fail


@pytest.mark.parametrize("path", ["fail", "fail-amid?empty", "exit", "never-start", "start-twice", "text"])
def test_failure_is_a_500_and_a_traceback(wsgi, reported, path):
    status, _, body = wsgi.get(f"/{path}")
    assert status == 500
    assert b"failed" in body
    reported("Traceback")


@pytest.mark.parametrize(
    "path, body, reports",
    [
        ("fail-amid", b"some", ["Traceback", "close() was called"]),
        ("start-again?late", b"some", ["Traceback"]),
        ("swallow", b"half", ["Traceback"]),  # the error of write()
    ],
)
def test_failure_amid_the_body_is_a_reset(wsgi, reported, path, body, reports):
    answer = assert_reset(wsgi.ask(f"/{path}"))
    assert answer == b"" or answer.endswith(b"\r\n\r\n" + body)
    for text in reports:
        reported(text)


@pytest.mark.parametrize(
    "name, value",
    [
        ("Transfer-Encoding", "chunked"),
        ("X Field", "a"),
        ("X-Field:", "a"),
        ("", "a"),
        ("X-Field", "a\r\nX-Other: b"),
        ("X-Field", "a\rb"),
        ("X-Field", "a\nb"),
        ("X-Field", "a\0b"),
        *(("Content-Length", length) for length in ("-2", "+2", "0_2", "two", "2, 2", "")),
    ],
)
def test_invalid_field_is_a_500_without_it(wsgi, name, value):
    status, fields, _ = wsgi.say(headers=[(name, value)])
    assert status == 500
    assert not {"X-Field", "X-Other", "X", "Transfer-Encoding"} & fields.keys()


@pytest.mark.parametrize("status", ["200", "99 Low", "100 Continue", "x", "200 a\r\nX: b"])
def test_invalid_status_is_a_500(wsgi, status):
    seen, fields, _ = wsgi.say(status)
    assert seen == 500
    assert "X" not in fields


@pytest.mark.parametrize("path", ["/digest", "/catch?ignore", "/catch?wrap", "/catch?read-on"])
def test_body_that_ends_early_is_a_400_even_if_that_is_caught(wsgi, path):
    client = wsgi.send(POST.format(path, 10) + "12345")
    client.finish_sending()
    assert whole_answer(client)[0] == 400


# Finding the application

MINE = """
thing = 1

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"mine"]

def make():
    return app
"""
CANNOT_SERVE = {
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
}


@pytest.fixture
def serve_name(tmp_path):
    """serve_name(name) runs the WSGI server, to its end, for an application in a folder with mine.py."""
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    return lambda name: run_forked(script_path(STAGE), "--port", "0", name, cwd=tmp_path)


def test_application_is_found_in_the_current_folder(start, tmp_path):
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    server = start(ApplicationServer, application="mine:make()", cwd=tmp_path)
    assert server.get("/")[2] == b"mine"


def test_missing_application_is_one_line(serve_name):
    for name, reason in CANNOT_SERVE.items():
        ended = serve_name(name)
        assert ended.status == 1
        (line,) = ended.errors.splitlines()
        assert line.startswith(f"Cannot serve {name}: ")
        assert reason in line


@pytest.mark.parametrize(
    "text, error",
    [("int('x')", "ValueError: invalid literal"), ("import absent", "ModuleNotFoundError: No module named 'absent'")],
)
def test_module_that_fails_shows_its_author_where(serve_name, tmp_path, text, error):
    (tmp_path / "wrong.py").write_text(text, encoding="utf-8")
    ended = serve_name("wrong:app")
    assert ended.status == 1
    assert 'wrong.py", line 1' in ended.errors
    assert error in ended.errors.splitlines()[-1]
