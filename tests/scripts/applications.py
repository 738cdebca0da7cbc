"""WSGI applications for the tests of webserver3h.py, which serves them from this folder."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from wsgiref.simple_server import demo_app
from wsgiref.validate import validator

TEXT = [("Content-Type", "text/plain")]
not_callable = "something else"


UNRULY = "one_piece text never_start start_twice status header lines own_length own_fields"
UNRULY = [*UNRULY.split(), "ignore_errors", "wrap_errors", "read_on", "swallow"]


def app(environ, start_response):
    """Does what the path's first part says: the function of that name is called.

    If it is not meant to break the rules, the standard library's validator watches.
    """
    name = environ["PATH_INFO"].strip("/").partition("/")[0].replace("-", "_") or "hello"
    function = globals()[f"do_{name}"]
    if name not in UNRULY:
        function = validator(function)
    return function(environ, start_response)


def body_in_blocks(environ):
    return iter(lambda: environ["wsgi.input"].read(65536), b"")


def do_environ(environ, start_response):
    """The environ as JSON, of what is no text its type."""
    start_response("200 OK", TEXT)
    shown = {k: v if isinstance(v, (str, bool)) else repr(v) for k, v in environ.items()}
    return [json.dumps(shown).encode()]


def do_digest(environ, start_response):
    """How long the body is, and its SHA-256."""
    digest, length = hashlib.sha256(), 0
    for block in body_in_blocks(environ):
        digest.update(block)
        length += len(block)
    start_response("200 OK", TEXT)
    return [f"{length} {digest.hexdigest()}".encode()]


def do_lines(environ, start_response):
    """The body as a file's lines, each as read in another way."""
    file = environ["wsgi.input"]
    lines = [file.readline(), file.readline(3), *file.readlines(1), *file]
    start_response("200 OK", TEXT)
    return [repr([*lines, file.read(1), file.read()]).encode()]


def do_answer_first(environ, start_response):
    """A piece of the answer, then all of the body, then the rest of the answer."""
    start_response("200 OK", TEXT)
    yield b""
    yield b"first, "
    yield str(sum(map(len, body_in_blocks(environ)))).encode()


def do_read_first(environ, start_response):
    """start_response and nothing else, until the body has come."""
    start_response("200 OK", TEXT)
    yield b""
    print("reading", file=environ["wsgi.errors"], flush=True)
    yield str(sum(map(len, body_in_blocks(environ)))).encode()


def do_one_piece(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"one piece"]


def do_hello(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"Hello, World!"]


def do_large(environ, start_response):
    """As many MiB as the query says, of which no more than one is in memory."""
    start_response("200 OK", TEXT)
    return (b"x" * 2**20 for _ in range(int(environ["QUERY_STRING"])))


def do_one_large(environ, start_response):
    """As many MiB as the query says, at once."""
    start_response("200 OK", TEXT)
    return [b"x" * (int(environ["QUERY_STRING"]) * 2**20)]


class Closed:
    """An iterable that says on standard error when it is closed."""

    def __init__(self, blocks):
        self.blocks = blocks

    def __iter__(self):
        for block in self.blocks:
            if block is None:
                raise RuntimeError("failed amid the body")
            yield block

    def close(self):
        print("close() was called", file=sys.stderr)


def do_close(environ, start_response):
    start_response("200 OK", TEXT)
    return Closed([b"some", b" pieces"])


def do_fail(environ, start_response):
    raise RuntimeError("failed at once")


def do_fail_amid(environ, start_response):
    start_response("200 OK", TEXT)
    return Closed([b"some", None])


def do_exit(environ, start_response):
    sys.exit("the application has had enough")


def do_start_again(environ, start_response):
    """An error page in place of an answer that was not begun."""
    start_response("200 OK", [*TEXT, ("X-First", "yes")])
    try:
        raise RuntimeError("changed its mind")
    except RuntimeError:
        start_response("503 Service Unavailable", TEXT, sys.exc_info())
    return [b"an error page"]


def do_start_again_late(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"some")
    try:
        raise RuntimeError("changed its mind late")
    except RuntimeError:
        start_response("503 Service Unavailable", TEXT, sys.exc_info())
    return [b"an error page"]


def do_start_twice(environ, start_response):
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return []


def do_never_start(environ, start_response):
    return [b"without a head"]


def do_write(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"written, ")
    return [b"returned"]


def do_text(environ, start_response):
    start_response("200 OK", TEXT)
    return ["no bytes"]


def do_nothing(environ, start_response):
    start_response("200 OK", TEXT)
    return []


def do_status(environ, start_response):
    """The status that the body says, with a body and a length, allowed or not."""
    status = environ["wsgi.input"].read().decode("latin-1")
    start_response(status, [*TEXT, ("Content-Length", "6")])
    return [b"a body"]


def do_header(environ, start_response):
    """A header field that the body has, as Latin-1: name, |, value."""
    name, value = environ["wsgi.input"].read().decode("latin-1").split("|")
    start_response("200 OK", [*TEXT, (name, value)])
    return [b"pieces", b" of a body"]


def do_own_length(environ, start_response):
    """A body without an end, of a length that the body of the request says."""
    length = environ["wsgi.input"].read().decode()
    start_response("200 OK", [*TEXT, ("content-LENGTH", length)])
    return itertools.chain([b"ab"], itertools.repeat(b"cd", 3))


def do_own_fields(environ, start_response):
    start_response("200 OK", [*TEXT, ("date", "today"), ("SERVER", "mine")])
    return [b"a", b"b"]


def do_prints(environ, start_response):
    """Output that is not flushed, and no end of a line."""
    print("printed", end="")
    environ["wsgi.errors"].write("told")
    start_response("200 OK", TEXT)
    return []


def do_pause(environ, start_response):
    """What does not finish whatever the client does."""
    print("pausing", file=environ["wsgi.errors"], flush=True)
    while True:
        signal.pause()


def do_wrap_errors(environ, start_response):
    try:
        environ["wsgi.input"].read()
    except Exception as error:
        raise RuntimeError("not readable") from error


def do_ignore_errors(environ, start_response):
    """An application that answers although its body could not be read."""
    try:
        environ["wsgi.input"].read()
    except Exception:
        pass
    start_response("200 OK", TEXT)
    return [b"all is well"]


def do_read_on(environ, start_response):
    """An application that reads on where its body has failed, and answers with that."""
    for _ in range(2):
        try:
            body = environ["wsgi.input"].read()
        except Exception:
            body = b"unreadable"
    start_response("200 OK", TEXT)
    return [body]


def do_swallow(environ, start_response):
    """An application to which it does not matter that a part of its body is missing."""
    write = start_response("200 OK", TEXT)
    write(b"half")
    try:
        write("the other half, which is no bytes")
    except TypeError:
        pass
    return []


def do_swallow_large(environ, start_response):
    """As many MiB as the query says, and never mind if not all are sent."""
    write = start_response("200 OK", TEXT)
    try:
        write(b"x" * (int(environ["QUERY_STRING"]) * 2**20))
    except Exception:
        pass
    return []


def do_run(environ, start_response):
    """The status of a program that the application runs."""
    start_response("200 OK", TEXT)
    return [str(subprocess.run([sys.executable, "-c", "exit(7)"]).returncode).encode()]


def exercise(environ, start_response):
    """The application of test_wsgi_exercise.py. It asks little of its server.

    With a query it is a client who waits for others: there are as many files in a folder
    as clients have come so far, and it answers when they are 20.
    """
    folder = environ.get("QUERY_STRING")
    if folder:
        tempfile.mkstemp(dir=folder)
        while len(os.listdir(folder)) < 20:
            time.sleep(0.003)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Exercise", "yes")])
    return [b"You asked for ", environ["PATH_INFO"].encode("latin-1"), b"\n"]


demo = validator(demo_app)
