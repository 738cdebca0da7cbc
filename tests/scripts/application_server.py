"""Our WSGI servers with applications.py, and the requests and answers of their tests.

Shared by test_wsgi_*.py, test_3h.py, test_h11.py and test_frameworks.py. None of them grades: the exercise asks far
less of a reader's server.
"""

import json
import pathlib
import re

from harness.servers import Server, StageServer
from harness.waiting import mismatch, wait_until

STAGE = "3i"
MIB = 2**20
GET = "GET {} HTTP/1.1\r\nHost: here\r\n\r\n"
POST = "POST {} HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n\r\n"
CHUNKED = "POST {} HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"


class ApplicationServer(StageServer):
    """A WSGI server with options, serving an application that it finds in the folder cwd."""

    def __init__(self, *options, stage=STAGE, application="applications:app", cwd=None, env=None, **program_options):
        cwd = cwd or pathlib.Path(__file__).parent
        environment = {"PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
        super().__init__(stage, application, *options, cwd=cwd, env=environment, **program_options)

    def send(self, request):
        """Connect and send a request, text or bytes. Returns the connection."""
        connection = self.connect()
        connection.send(request.encode() if isinstance(request, str) else request)
        return connection

    def exchange(self, request):
        """Send a request. Returns the status, the header fields and the body of the answer."""
        connection = self.send(request)
        answer = whole_answer(connection)
        connection.close()
        return answer

    def wait_until_reaped(self):
        """Wait until no child is left. 3h is in accept when the last one ends, or its small gap may keep a zombie."""
        client = self.connect_and_settle()
        client.send(GET.format("/hello").encode())
        client.wait_for_end()
        self.wait_until_children(0)

    def get(self, path):
        """The answer to a GET."""
        return self.exchange(GET.format(path))

    def post(self, path, body):
        """The answer to a POST of bytes."""
        return self.exchange(POST.format(path, len(body)).encode() + body)

    def say(self, status="200 OK", headers=(), pieces=("some ", "pieces")):
        """The answer of an application that returns just that."""
        return self.post("/say", json.dumps([status, headers, pieces]).encode())

    def run_curl(self, path, *options):
        """Run curl to its end. Returns its output, its status and its errors."""
        url = f"http://127.0.0.1:{self.port}{path}"
        curl = self.run("curl", "-q", "--silent", "--show-error", *options, url)
        status = curl.wait(60)
        return curl.output, status, curl.errors

    def log_line(self, request):
        """The line of the log for the one request that has this text in it, once it is there."""
        pattern = rf"^.*{re.escape(request)}.*$"
        return wait_until(lambda: re.search(pattern, self.output, re.MULTILINE), f"it logs {request}")[0]


class UnreadServer(ApplicationServer):
    """One whose output can't be read, so that its port has to be chosen in advance."""

    def __init__(self, *options, **program_options):
        super().__init__(*options, "--port", "{port}", **program_options)

    wait_until_listening = Server.wait_until_listening


def whole_answer(connection):
    """The status, the header fields by their names, and the body of everything that comes.

    Raises AssertionError if it ends with a reset, or isn't an answer.
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
