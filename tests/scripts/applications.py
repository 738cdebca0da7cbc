"""WSGI applications that use, test and break the rules of PEP 3333.

The WSGI server under test serves them from this folder: /environ is answered by do_environ, and so on.
"""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from wsgiref.validate import validator

TEXT = [("Content-Type", "text/plain")]
MIB = 2**20

# Those that break the validator's rules, and one that returns a list, so that the server sees its length
UNRULY = "text never_start start_twice say endless lines catch swallow hello".split()


def app(environ, start_response):
    """Call the function that the first part of the path names.

    The standard library's validator watches, unless the function breaks the rules on purpose.
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
    """The environ as JSON: texts and truth values as they are, all else by its repr."""
    start_response("200 OK", TEXT)
    shown = {k: v if isinstance(v, (str, bool)) else repr(v) for k, v in environ.items()}
    return [json.dumps(shown).encode()]


def do_mirror(environ, start_response):
    """The texts in the environ, and the body, as JSON."""
    body = b"".join(body_in_blocks(environ)).decode("latin-1")
    start_response("200 OK", TEXT)
    return [json.dumps([{k: v for k, v in environ.items() if isinstance(v, str)}, body]).encode()]


def do_say(environ, start_response):
    """Answer with the status, the header fields and the pieces that are the request's body, as JSON."""
    status, headers, pieces = json.load(environ["wsgi.input"])
    start_response(status, [*TEXT, *map(tuple, headers)])
    return [piece.encode() for piece in pieces]


def do_endless(environ, start_response):
    """An endless body with a Content-Length of 5."""
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return itertools.repeat(b"ab")


def do_nothing(environ, start_response):
    start_response("200 OK", TEXT)
    return []


def do_large(environ, start_response):
    """Pieces of some MiB: /large?8x1 is 8 pieces of 1 MiB, one of them in memory."""
    pieces, size = map(int, environ["QUERY_STRING"].split("x"))
    start_response("200 OK", TEXT)
    return [b"x" * (size * MIB)] * pieces


def do_write(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"written, ")
    return [b"returned"]


class Closed:
    """An iterable that reports on standard error when it is closed. None among its blocks is a failure."""

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
    """The length of the body and its SHA-256."""
    digest, length = hashlib.sha256(), 0
    for block in body_in_blocks(environ):
        digest.update(block)
        length += len(block)
    start_response("200 OK", TEXT)
    return [f"{length} {digest.hexdigest()}".encode()]


def do_lines(environ, start_response):
    """The lines of the body, read in every way that a file has."""
    file = environ["wsgi.input"]
    lines = [file.readline(), file.readline(3), *file.readlines(1), *file]
    start_response("200 OK", TEXT)
    return [repr([*lines, file.read(1), file.read()]).encode()]


def do_answer_first(environ, start_response):
    """Send a piece of the answer, read the body, send the rest."""
    start_response("200 OK", TEXT)
    yield b""
    yield b"first, "
    yield str(sum(map(len, body_in_blocks(environ)))).encode()


def do_read_first(environ, start_response):
    """Call start_response, read the body, then send the first byte."""
    start_response("200 OK", TEXT)
    yield b""
    print("reading", file=environ["wsgi.errors"], flush=True)
    yield str(sum(map(len, body_in_blocks(environ)))).encode()


def do_until(environ, start_response):
    """Send empty pieces until the file that the query names exists, and one more. Then answer with the body."""
    start_response("200 OK", TEXT)
    print("waiting", file=environ["wsgi.errors"], flush=True)
    while not os.path.exists(environ["QUERY_STRING"]):
        time.sleep(0.003)
        yield b""
    yield b""
    yield environ["wsgi.input"].read(100)


def do_catch(environ, start_response):
    """Catch the error of reading the body. The query says what comes next."""
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
    """Fail after the first piece of the body, with ?empty an empty one."""
    start_response("200 OK", TEXT)
    return Closed([b"" if environ["QUERY_STRING"] == "empty" else b"some", None])


def do_exit(environ, start_response):
    sys.exit("the application has had enough")


def do_start_again(environ, start_response):
    """Replace the answer by an error page; with ?late, after it has begun."""
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
    """Ignore the error of write(): after half a body, write text, or as many MiB as the query says."""
    write = start_response("200 OK", TEXT)
    write(b"half")
    try:
        write(b"x" * int(environ["QUERY_STRING"]) * MIB if environ["QUERY_STRING"] else "text")
    except Exception:
        pass
    return []


# Processes


def do_prints(environ, start_response):
    """Print without a newline, and without flushing."""
    print("printed", end="")
    environ["wsgi.errors"].write("an error, unflushed")
    start_response("200 OK", TEXT)
    return []


def do_pause(environ, start_response):
    """Never finish, whatever the client does. A query sets an alarm after that many seconds."""
    signal.setitimer(signal.ITIMER_REAL, float(environ["QUERY_STRING"] or 0))
    print("pausing", file=environ["wsgi.errors"], flush=True)
    while True:
        signal.pause()


def do_wait(environ, start_response):
    """Send empty pieces forever, as a stream without news does."""
    start_response("200 OK", TEXT)
    print("waiting", file=environ["wsgi.errors"], flush=True)

    def pieces():
        while True:
            time.sleep(0.003)
            yield b""

    return Closed(pieces())


def do_terminate(environ, start_response):
    """Answer with the signal that ended a child, as Process.terminate() sends it."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    os.kill(pid, signal.SIGTERM)
    start_response("200 OK", TEXT)
    return [str(os.waitpid(pid, 0)[1]).encode()]


def do_run(environ, start_response):
    """Answer with the exit status of a program."""
    start_response("200 OK", TEXT)
    return [str(subprocess.run(["sh", "-c", "exit 7"]).returncode).encode()]


def do_demo(environ, start_response):
    from wsgiref.simple_server import (
        demo_app,  # it imports http.server, which the others do without
    )

    return demo_app(environ, start_response)
