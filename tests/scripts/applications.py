"""WSGI applications for the tests of webserver3h.py, which serves them from this folder."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from wsgiref.simple_server import demo_app
from wsgiref.validate import validator

TEXT = [("Content-Type", "text/plain")]
MIB = 2**20

# What breaks the rules of the validator, and a list whose length the server is to see
UNRULY = "text never_start start_twice say endless lines catch swallow hello".split()


def app(environ, start_response):
    """Does what the path's first part says: the function of that name is called.

    If it is not meant to break the rules, the standard library's validator watches.
    """
    name = environ["PATH_INFO"].strip("/").partition("/")[0].replace("-", "_") or "hello"
    function = globals()[f"do_{name}"]
    if name not in UNRULY:
        function = validator(function)
    return function(environ, start_response)


# Answers


def do_hello(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"Hello, World!"]


def do_environ(environ, start_response):
    """The environ as JSON: the text of what is text, and the type of all else."""
    start_response("200 OK", TEXT)
    shown = {k: v if isinstance(v, (str, bool)) else repr(v) for k, v in environ.items()}
    return [json.dumps(shown).encode()]


def do_say(environ, start_response):
    """What the body of the request says, as JSON: status, header fields, and pieces."""
    status, headers, pieces = json.load(environ["wsgi.input"])
    start_response(status, [*TEXT, *map(tuple, headers)])
    return [piece.encode() for piece in pieces]


def do_endless(environ, start_response):
    """A body without an end, of which five bytes are announced."""
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return itertools.repeat(b"ab")


def do_nothing(environ, start_response):
    start_response("200 OK", TEXT)
    return []


def do_large(environ, start_response):
    """Pieces of so many MiB, as in /large?8x1 for 8 of 1 MiB: no more is in memory."""
    pieces, size = map(int, environ["QUERY_STRING"].split("x"))
    start_response("200 OK", TEXT)
    return [b"x" * (size * MIB)] * pieces


def do_write(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"written, ")
    return [b"returned"]


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


# Bodies of requests


def body_in_blocks(environ):
    return iter(lambda: environ["wsgi.input"].read(65536), b"")


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


def do_catch(environ, start_response):
    """Catches the error of reading, and goes on as the query says."""
    body = b"all is well"
    try:
        environ["wsgi.input"].read()
    except Exception as error:
        if environ["QUERY_STRING"] == "wrap":
            raise RuntimeError("not readable") from error
        if environ["QUERY_STRING"] == "read-on":
            try:
                body = environ["wsgi.input"].read()
            except Exception:
                body = b"unreadable"
    start_response("200 OK", TEXT)
    return [body]


# Failures


def do_fail(environ, start_response):
    raise RuntimeError("failed at once")


def do_fail_amid(environ, start_response):
    start_response("200 OK", TEXT)
    return Closed([b"some", None])


def do_exit(environ, start_response):
    sys.exit("the application has had enough")


def do_start_again(environ, start_response):
    """An error page in place of an answer, which with ?late has begun already."""
    write = start_response("200 OK", [*TEXT, ("X-First", "yes")])
    if environ["QUERY_STRING"] == "late":
        write(b"some")
    try:
        raise RuntimeError("changed its mind")
    except RuntimeError:
        start_response("503 Service Unavailable", TEXT, sys.exc_info())
    return [b"an error page"]


def do_start_twice(environ, start_response):
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return []


def do_never_start(environ, start_response):
    return [b"without a head"]


def do_text(environ, start_response):
    start_response("200 OK", TEXT)
    return ["no bytes"]


def do_swallow(environ, start_response):
    """Half a body, and never mind if the rest cannot be sent: text, or as many MiB as said."""
    write = start_response("200 OK", TEXT)
    write(b"half")
    try:
        write(b"x" * int(environ["QUERY_STRING"]) * MIB if environ["QUERY_STRING"] else "text")
    except Exception:
        pass
    return []


# Processes


def do_prints(environ, start_response):
    """Output that is not flushed, and no end of a line."""
    print("printed", end="")
    environ["wsgi.errors"].write("told")
    start_response("200 OK", TEXT)
    return []


def do_pause(environ, start_response):
    """What does not finish whatever the client does, unless the query says after how long."""
    signal.setitimer(signal.ITIMER_REAL, float(environ["QUERY_STRING"] or 0))
    print("pausing", file=environ["wsgi.errors"], flush=True)
    while True:
        signal.pause()


def do_wait(environ, start_response):
    """Empty pieces for ever: what a stream does that has nothing to say."""
    start_response("200 OK", TEXT)
    print("waiting", file=environ["wsgi.errors"], flush=True)

    def pieces():
        while True:
            time.sleep(0.003)
            yield b""

    return Closed(pieces())


def do_terminate(environ, start_response):
    """The signal that ends a child of the application, as Process.terminate does."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    os.kill(pid, signal.SIGTERM)
    start_response("200 OK", TEXT)
    return [str(os.waitpid(pid, 0)[1]).encode()]


def do_run(environ, start_response):
    """The status of a program that the application runs."""
    start_response("200 OK", TEXT)
    return [str(subprocess.run([sys.executable, "-c", "exit(7)"]).returncode).encode()]


do_demo = demo_app
