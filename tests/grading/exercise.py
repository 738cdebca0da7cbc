"""The application that a graded 3h serves. Each path asks another thing of its server (PEP 3333).

It lies in a folder that is no package: any server finds it as exercise:app, by PYTHONPATH=tests/grading. Some paths
get a folder as their query, by whose files the test and this application tell each other what has happened.
"""

import os
import tempfile
import time

# What environ must have, besides the client's header fields: names of strings
STRINGS = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL")
OBJECTS = ("wsgi.version", "wsgi.input", "wsgi.errors", "wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once")
WAITS = 20  # seconds, at the most


def app(environ, start_response):
    """Answer as the path says; any other path is greeted."""
    answer = PATHS.get(environ["PATH_INFO"], greet)
    return answer(environ, start_response)


def respond(start_response, body, status="200 OK", fields=()):
    start_response(status, [("Content-Type", "text/plain"), ("X-Exercise", "yes"), *fields])
    return [body]


def wait_for(condition):
    """Wait until a condition holds. Raises TimeoutError if it doesn't."""
    end = time.monotonic() + WAITS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.003)


def greet(environ, start_response):
    """Greet. With a folder, answer only when 20 clients are here at the same time: each leaves a file there."""
    folder = environ.get("QUERY_STRING")
    if folder:
        tempfile.mkstemp(dir=folder)
        wait_for(lambda: len(os.listdir(folder)) >= 20)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Exercise", "yes")])
    return [b"You asked for ", environ["PATH_INFO"].encode("latin-1"), b"\n"]


def missing(environ, start_response):
    return respond(start_response, b"It is not here.\n", "404 Not Found", [("X-Missing", "yes")])


def tell(environ, start_response):
    """Say what is wrong with environ."""
    wrong = [name for name in (*STRINGS, *OBJECTS, "wsgi.url_scheme") if name not in environ]
    wrong = [f"{name} is missing" for name in wrong]
    texts = [name for name in environ if name in STRINGS or name.startswith(("HTTP_", "QUERY_", "CONTENT_"))]
    wrong += [f"{name} is {environ[name]!r}, no str" for name in texts if type(environ[name]) is not str]
    said = {"REQUEST_METHOD": "GET", "PATH_INFO": "/environ", "QUERY_STRING": "a=b%20c", "HTTP_X_NAME": "value"}
    wrong += [f"{name} is {environ.get(name)!r}" for name in said if environ.get(name) != said[name]]
    return respond(start_response, "; ".join(wrong or ["all is well"]).encode())


def late(environ, start_response):
    """A generator: start_response is called only when the first piece is asked for."""
    yield from respond(start_response, b"later\n")


def pieces(environ, start_response):
    """A piece, and another one when the folder has a file."""
    yield from respond(start_response, b"first\n")
    wait_for(lambda: os.listdir(environ["QUERY_STRING"]))
    yield b"second\n"


class Closed:
    """Pieces, whose close() leaves a file in the folder. They fail after the first, if asked to."""

    def __init__(self, environ, start_response):
        self.folder = environ["QUERY_STRING"]
        self.fails = environ["PATH_INFO"] == "/fails"
        self.pieces = respond(start_response, b"first\n")

    def __iter__(self):
        yield from self.pieces
        if self.fails:
            raise RuntimeError("the exercise fails here, which is part of it")

    def close(self):
        tempfile.mkstemp(dir=self.folder)


def length(environ, start_response):
    """Read the body, and say how many bytes it has."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    return respond(start_response, b"%d bytes" % len(body))


def unread(environ, start_response):
    """Answer without reading the body."""
    return respond(start_response, b"I do not want it.\n")


PATHS = {
    "/missing": missing,
    "/environ": tell,
    "/late": late,
    "/pieces": pieces,
    "/closes": Closed,
    "/fails": Closed,
    "/length": length,
    "/unread": unread,
}
