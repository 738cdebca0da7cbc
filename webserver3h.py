"""Stage 3h: a concurrent WSGI server. It runs a real web application.

Shows   what lies between 3g and a server for real use: HTTP, read with care, and
        WSGI (PEP 3333), the interface to an application.
Type    python3 webserver3h.py                  in one terminal,
        curl localhost:8888/hello               in another. To serve `app` in
        python3 webserver3h.py flaskapp:app     flaskapp.py, in this folder.
Expect  The application's answer. The server prints a line for each request: client,
        request line, status, bytes of the body, milliseconds.
Try     curl -v -T a-large-file localhost:8888  It waits for "100 Continue".
        Ctrl-C while a request is served: it is finished first.
Next    docs/3h.md says what it is not, and how the same application goes on from
        here, under gunicorn.
"""

import argparse
import contextlib
import email.utils
import errno
import importlib
import io
import os
import re
import select
import signal
import socket
import struct
import sys
import time
import traceback
import urllib.parse
from wsgiref.util import is_hop_by_hop

REQUEST_QUEUE_SIZE = 1024
BLOCK = 64 * 1024  # bytes: at once, and at most for a head
LINGER = 5  # seconds, at most, for what a client sends when it has its answer
BAD_REQUEST = "400 Bad Request"

# What is well-formed (RFC 9110, RFC 9112), as bytes decoded from Latin-1.
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
TEXT = r"[\t -~\x80-\xff]*"
REQUEST_LINE = re.compile(rf"({TOKEN}) ([!\"$-~]+) HTTP/([0-9])\.([0-9])")
TARGET = re.compile(r"(?:[Hh][Tt][Tt][Pp]://([^/?]+))?(/[^?]*)?(?:\?(.*))?")
FIELD = re.compile(rf"({TOKEN}):({TEXT})")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_.~!$&'()*+,;=%-]*)(:[0-9]*)?")
LENGTH = re.compile(r"[0-9]{1,18}")
CHUNK_SIZE = re.compile(rf"([0-9A-Fa-f]{{1,15}})([ \t]*;{TEXT})?")
STATUS = re.compile(rf"[2-9][0-9][0-9] {TEXT}")
LONE_CR_OR_LF = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n")


class RequestError(Exception):
    """A request that cannot be served: the status of the answer, and the reason."""


class ClientGone(Exception):
    """The client has closed the connection, or does not read any more."""


def check(condition, reason, status=BAD_REQUEST):
    if not condition:
        raise RequestError(status, reason)


def make_listen_socket(host, port):
    listen_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listen_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listen_socket.bind((host, port))
        listen_socket.listen(REQUEST_QUEUE_SIZE)
    except (OSError, UnicodeError) as error:
        message = f"Cannot listen on {host} port {port}: {error}"
        if errno.EADDRINUSE in error.args:
            message += ". Is an earlier stage still running?"
        sys.exit(message)
    return listen_socket


def serve_forever(listen_socket, application, options):
    signals, signals_write = os.pipe()  # Python writes to it which signal has come
    os.set_blocking(signals_write, False)
    signal.set_wakeup_fd(signals_write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda signum, frame: None)
    print(f"Serving HTTP on port {listen_socket.getsockname()[1]} ...", flush=True)
    listen_socket.setblocking(False)
    children = set()
    while True:
        room = len(children) < options.max_children  # else clients wait in the queue
        sources = [signals, listen_socket] if room else [signals]
        ready, _, _ = select.select(sources, [], [])
        if signals in ready:
            if told_to_end(signals):
                break
            grim_reaper(children)
        if listen_socket not in ready:
            continue
        try:
            client_connection, client_address = listen_socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue  # the client is gone
        except OSError as error:  # no descriptor: let some connections end
            complain(f"accept failed, trying again: {error}")
            time.sleep(1)
            continue
        try:
            pid = os.fork()
        except OSError as error:  # no process: give up this client
            complain(f"fork failed, one client given up: {error}")
            client_connection.close()
            continue
        if pid == 0:  # the child
            try:
                signal.set_wakeup_fd(-1)  # signals: none of its business
                for copy in (listen_socket.detach(), signals, signals_write):
                    os.close(copy)
                handle_request(client_connection, client_address, application, options)
            finally:
                os._exit(0)
        children.add(pid)
        client_connection.close()  # the parent's copy
    listen_socket.close()
    finish(children, signals, options.timeout)


def complain(message):
    with contextlib.suppress(OSError):  # nobody may be there to read it
        print(message, file=sys.stderr, flush=True)


def told_to_end(signals):
    numbers = os.read(signals, BLOCK)
    return signal.SIGINT in numbers or signal.SIGTERM in numbers


def grim_reaper(children):
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return  # no child is left
        if pid == 0:
            return  # those that are left have not ended
        children.discard(pid)


def finish(children, signals, timeout):
    """Wait for the children to end, and after timeout seconds end them."""
    deadline = time.monotonic() + timeout
    grim_reaper(children)
    while children and time.monotonic() < deadline:
        seconds = max(deadline - time.monotonic(), 0)
        ready, _, _ = select.select([signals], [], [], seconds)
        if ready:
            os.read(signals, BLOCK)
        grim_reaper(children)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def handle_request(client_connection, client_address, application, options):
    began = time.monotonic()
    request = Request(client_connection, options.timeout)
    response = Response(request)
    try:
        if not request.read_head():
            return  # who sends nothing gets nothing
        response.run(application, make_environ(request, client_address))
    except RequestError as error:
        response.fail(*error.args)
        request.error = error
    except ClientGone:
        pass
    except BaseException:  # whatever the application does
        error = request.error or RequestError("500 Internal Server Error", "it failed")
        response.fail(*error.args)
        complain(traceback.format_exc().rstrip())
    milliseconds = round(1000 * (time.monotonic() - began))
    if response.complete:
        request.end_connection()
    log = f"{client_address[0]}:{client_address[1]} {request.line!a} "
    log += f"{response.status[:3] or '-'} {response.sent} bytes {milliseconds} ms\n"
    os.write(1, log.encode())
    for file in (sys.stdout, sys.stderr):
        file.flush()  # os._exit does not


class Request(io.RawIOBase):
    """A request: its head, and as a file its body, received when it is read.

    What is not well-formed is refused. Where two programs take the same bytes for
    different requests, an attacker gets in between.
    """

    line = method = ""
    left = 0  # bytes of the body, or of the chunk
    chunked = expects_continue = False
    error = None

    def __init__(self, connection, timeout):
        self.connection = connection
        self.timeout = timeout
        self.received = b""  # and not used yet
        self.fields = {}

    def read_head(self):
        """Receive the head, and take it apart. Returns whether anything came."""
        try:
            self.receive(time.monotonic() + self.timeout)
        except (RequestError, ClientGone):
            return False
        while self.received[:2] in (b"", b"\r", b"\r\n"):  # empty lines: RFC 9112, 2.2
            if len(self.received) < 2:
                self.receive(time.monotonic() + self.timeout)
            else:
                self.received = self.received[2:]
        self.line = self.received.partition(b"\r\n")[0].decode("latin-1")
        head = self.read_until(b"\r\n\r\n", "431 Request Header Fields Too Large")
        self.line, *lines = head.split("\r\n")
        found = REQUEST_LINE.fullmatch(self.line)
        check(found, "not a request line")
        self.method, self.target, major, self.minor = found.groups()
        check(major == "1", "this is HTTP/1.1", "505 HTTP Version Not Supported")
        for line in lines:
            found = FIELD.fullmatch(line)
            check(found, "not a header field")
            name, value = found[1].lower(), found[2].strip(" \t")
            if name in self.fields:  # of two lengths or hosts, that makes no valid one
                comma = "; " if name == "cookie" else ", "
                value = self.fields[name] + comma + value
            self.fields[name] = value
        self.check_fields()
        return True

    def check_fields(self):
        old = self.minor == "0"  # HTTP/1.0
        check(old or "host" in self.fields, "no Host")
        check(HOST.fullmatch(self.fields.get("host", "")), "not one Host")
        length = self.fields.get("content-length", "0")
        check(LENGTH.fullmatch(length), "not one length")
        self.left = int(length)
        if "transfer-encoding" in self.fields:
            coding = self.fields["transfer-encoding"].lower()
            check("content-length" not in self.fields, "a length and a transfer coding")
            check(not old, "a transfer coding in HTTP/1.0")
            known = {word.strip() for word in coding.split(",")} <= {"chunked", ""}
            check(known, "unknown transfer coding", "501 Not Implemented")
            check(coding == "chunked", "not chunked once")
            self.chunked = True
        expectation = self.fields.get("expect", "").lower()
        if expectation == "100-continue" and not old:
            self.expects_continue = self.chunked or self.left > 0

    def receive(self, deadline):
        try:
            self.connection.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self.connection.recv(BLOCK)
        except socket.timeout:
            raise RequestError("408 Request Timeout", "it did not come in time")
        except OSError:
            raise ClientGone
        check(data, "it ends early")
        self.received += data

    def read_until(self, end, status=BAD_REQUEST, limit=BLOCK):
        deadline = time.monotonic() + self.timeout
        while True:
            taken, found, rest = self.received.partition(end)
            check(not LONE_CR_OR_LF.search(taken), "a line has to end with CR LF")
            most = limit if found else limit + len(end) - 1  # a part of the end
            check(len(taken) <= most, f"more than {limit} bytes", status)
            if found:
                self.received = rest
                return taken.decode("latin-1")
            self.receive(deadline)

    def readable(self):
        return True

    def readinto(self, target):
        """Receive some of the body. Returns the number of bytes, 0 at its end."""
        try:
            data = self.read_body(len(target))
        except RequestError as error:
            self.error = error  # the application may catch it, but cannot answer
            raise
        target[: len(data)] = data
        return len(data)

    def read_body(self, size):
        if self.expects_continue and not self.received:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.expects_continue = False
        if self.chunked and not self.left:
            found = CHUNK_SIZE.fullmatch(self.read_until(b"\r\n"))
            check(found, "not the size of a chunk")
            self.left = int(found[1], 16)
            if not self.left:  # the last chunk, and then a trailer
                self.chunked = False
                for line in iter(lambda: self.read_until(b"\r\n"), ""):
                    check(FIELD.fullmatch(line), "not a trailer field")
        if self.left and not self.received:
            self.receive(time.monotonic() + self.timeout)
        data = self.received[: min(size, self.left)]
        self.received = self.received[len(data) :]
        self.left -= len(data)
        if self.chunked and not self.left:
            check(not self.read_until(b"\r\n", limit=1), "not a chunk's end")
        return data

    def send(self, data):
        try:
            self.connection.settimeout(self.timeout)
            while data:
                data = data[self.connection.send(data) :]
        except OSError:
            raise ClientGone

    def reset_when_closed(self, yes):
        """Whether the client gets a reset if the connection is closed (socket(7))."""
        linger = struct.pack("ii", yes, 0)
        with contextlib.suppress(OSError):  # it has been reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def end_connection(self):
        """End it so that the client gets the answer, even if it is sending still."""
        self.reset_when_closed(False)
        now = time.monotonic()
        more = self.error or self.chunked or self.left or self.received
        with contextlib.suppress(OSError, RequestError, ClientGone):
            self.connection.shutdown(socket.SHUT_WR)
            while True:
                self.received = b""
                self.receive(now + LINGER if more else now)
                more = True


def make_environ(request, client_address):
    """What PEP 3333 has the application know."""
    found = TARGET.fullmatch(request.target)
    if (request.method, request.target) == ("OPTIONS", "*"):
        authority, path, query = None, "", None
    else:
        check(found and (found[1] or found[2]), "not a path")
        authority, path, query = found[1], found[2] or "/", found[3]
    check(not re.search("%(?![0-9A-Fa-f]{2})", path), "not a path")
    check(request.method != "CONNECT", "this is not a proxy")
    if authority:  # goes before the field (RFC 9112, 3.2.2)
        check(HOST.fullmatch(authority) and authority[0] != ":", "not a host")
        request.fields["host"] = authority
    server_name, server_port = request.connection.getsockname()
    environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": urllib.parse.unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query or "",
        "SERVER_NAME": server_name,
        "SERVER_PORT": str(server_port),
        "SERVER_PROTOCOL": f"HTTP/1.{request.minor}",
        "REMOTE_ADDR": client_address[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BufferedReader(request, BLOCK),
        "wsgi.input_terminated": True,  # so that frameworks read a chunked body
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": True,
    }
    for name, value in request.fields.items():
        if "_" not in name:  # or it could pass for one with a hyphen
            key = name.upper().replace("-", "_")
            own = key in ("CONTENT_TYPE", "CONTENT_LENGTH")
            environ[key if own else f"HTTP_{key}"] = value
    return environ


class Response:
    """An answer: what the application says of it, and what was sent of it."""

    status = ""
    head_sent = complete = False
    left = None  # how many bytes of the body may be sent; None: any number
    sent = 0  # bytes of the body

    def __init__(self, request):
        self.request = request

    def run(self, application, environ):
        body = application(environ, self.start_response)
        try:
            for data in body:
                whole = hasattr(body, "__len__") and len(body) == 1
                self.write(data, len(data) if whole else None)
                if self.left == 0:
                    break
            if not self.head_sent:
                self.write(b"", 0)
            if self.left:
                raise RuntimeError("the body is shorter than its Content-Length")
            self.complete = True
        finally:
            if hasattr(body, "close"):
                body.close()

    def start_response(self, status, headers, exc_info=None):
        if exc_info:
            try:
                if self.head_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # it would refer to itself
        elif self.status:
            raise RuntimeError("start_response was called twice")
        if not STATUS.fullmatch(status):
            raise ValueError(f"not a status: {status!r}")
        headers = list(headers)
        lengths = 0
        for name, value in headers:
            found = FIELD.fullmatch(name + ":" + value)
            bad = not found or found[1] != name or is_hop_by_hop(name)
            if name.lower() == "content-length":
                lengths += 1
                bad = lengths > 1 or not LENGTH.fullmatch(value)
            if bad:
                raise ValueError(f"not a header field to send: {name!r}: {value!r}")
        self.status, self.headers = status, headers
        return self.write

    def write(self, data, length=None):
        """Send some of the body. The head goes first, if it was not sent."""
        if not isinstance(data, bytes):
            raise TypeError(f"the body is made of bytes, not of {type(data).__name__}")
        if not data and length is None:
            return
        head = b"" if self.head_sent else self.make_head(length)
        data = data[: self.left]
        for start in range(0, len(data) or 1, BLOCK):
            block = data[start : start + BLOCK]
            self.request.send(head + block)
            self.sent += len(block)
            head = b""
        if self.left is not None:
            self.left -= len(data)

    def make_head(self, length):
        if self.request.error:
            raise self.request.error
        if not self.status:
            raise RuntimeError("start_response was not called")
        fields = {name.lower(): value for name, value in self.headers}
        lines = [f"HTTP/1.1 {self.status}", "Connection: close"]
        for name, value in self.headers:
            if self.status[:3] != "204" or name.lower() != "content-length":
                lines.append(f"{name}: {value}")
        if "date" not in fields:
            lines.append(f"Date: {email.utils.formatdate(usegmt=True)}")
        if "server" not in fields:
            lines.append("Server: webserver3h")
        head_only = self.request.method == "HEAD"
        no_body = self.status[:3] in ("204", "304")
        if "content-length" in fields:
            self.left = int(fields["content-length"])
        elif length is not None and not no_body and (length or not head_only):
            lines.append(f"Content-Length: {length}")
        if head_only or no_body:
            self.left = 0
        self.head_sent = True
        self.request.expects_continue = False  # too late for that
        self.request.reset_when_closed(True)  # if this process dies before the end
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def fail(self, status, reason):
        """Answer with an error. Where the head is out, it is too late for that."""
        if self.head_sent:
            return
        text = f"{status}: {reason}\n".encode()
        self.status = status
        self.headers = [("Content-Type", "text/plain; charset=utf-8")]
        self.request.error = self.left = None
        with contextlib.suppress(ClientGone):
            self.write(text, len(text))
            self.complete = True


def hello_world(environ, start_response):
    """The application that is served where none is named."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Hello, World!\n"]


def find_application(name):
    """The application that MODULE:CALLABLE names, found from the current folder."""
    module, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        application = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, TypeError, ValueError) as error:
        sys.exit(f"Cannot serve {name}: {error}")
    if not callable(application):
        sys.exit(f"Cannot serve {name}: {module} has no such callable")
    return application


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "application", metavar="MODULE:CALLABLE", nargs="?", help="what to serve"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="where to listen (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8888, help="0: any free one (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30,
        metavar="SECONDS",
        help="how long to wait for a client (default: %(default)s)",
    )
    parser.add_argument(
        "--max-children",
        type=int,
        default=64,
        metavar="N",
        help="how many requests at once (default: %(default)s)",
    )
    options = parser.parse_args()
    if not 0 <= options.port <= 65535:
        parser.error("argument --port: must be from 0 to 65535")
    if not 0 < options.timeout <= 86400:
        parser.error("argument --timeout: must be above 0, at most 86400 seconds")
    if not 1 <= options.max_children <= 10000:
        parser.error("argument --max-children: must be from 1 to 10000")
    if not hasattr(os, "fork"):
        sys.exit(f"{parser.prog} needs fork, which this system does not have")
    return options


def main():
    options = parse_options()
    application = hello_world
    if options.application:
        application = find_application(options.application)
    listen_socket = make_listen_socket(options.host, options.port)
    serve_forever(listen_socket, application, options)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
