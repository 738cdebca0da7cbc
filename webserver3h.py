"""Stage 3h: a concurrent WSGI server. It runs a real web application.

Shows   what lies between 3g and a server for real use: HTTP, read with care,
        and WSGI (PEP 3333), the interface to an application.
Type    python3 webserver3h.py                  in one terminal,
        curl localhost:8888/hello               in another. To serve `app` in
        python3 webserver3h.py flaskapp:app     flaskapp.py, in this folder.
Expect  The application's answer. The server prints a line for each request:
        client, request line, status, bytes of the body, milliseconds.
Try     curl -v -T a-large-file localhost:8888  It waits for "100 Continue".
        Ctrl-C while a request is served: it is finished first.
        Ctrl-C once more: the server ends at once.
Next    docs/3h.md says what it is not, and how the same application goes on
        from here, under gunicorn.
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
from typing import NamedTuple
from wsgiref.util import is_hop_by_hop

REQUEST_QUEUE_SIZE = 1024
BLOCK = 64 * 1024  # bytes: at once, and at most for a head
PACE = 500 * 1000  # bytes that a client has to read in --timeout seconds
HEAD_TIME = 10  # seconds, at most, for a head
LINGER = 5  # seconds, at most, for what a client sends when it has its answer
SMALL = 8 * 1024  # bytes of an answer that are on their way at once (RFC 6928)


def hello_world(environ, start_response):
    """The application that is served where none is named."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Hello, World!\n"]


def handle_request(client_connection, client_address, application, options):
    began = time.monotonic()
    deadline = began + min(HEAD_TIME, options.timeout)
    connection = Connection(client_connection, options.timeout)
    answer = Answer(connection)
    trouble = ""
    try:
        if not read_request_line(connection, deadline):
            return  # who sends nothing gets nothing
        head = read_head(connection, deadline)
        body = Body(connection, head)
        environ = make_environ(head, body, client_connection, client_address)
        answer.run(application, environ)
    except RequestError as error:
        answer.fail(error)
    except ClientGone:
        pass
    except BaseException:  # whatever the application does
        answer.fail(RequestError("it failed", "500 Internal Server Error"))
        trouble = traceback.format_exc()
    milliseconds = round(1000 * (time.monotonic() - began))
    connection.end(answer.complete)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LINGER + 1)  # ends this process, if it has to wait to print
    if trouble:
        show(trouble.rstrip(), 2)
    show(
        f"{client_address[0]}:{client_address[1]} {connection.line[:1000]!a}"
        f" {answer.status[:3] or '-'} {answer.sent} bytes {milliseconds} ms"
    )
    connection.drain(connection.sending or connection.received or answer.sent > SMALL)
    for file in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            file.flush()  # os._exit does not


def show(text, descriptor=1):
    """Print a line, unless nobody reads it: then it is dropped. Returns its length."""
    try:
        _, ready, _ = select.select([], [descriptor], [], 0)
        return os.write(descriptor, f"{text}\n".encode()) if ready else 0
    except OSError:
        return 0


class RequestError(Exception):
    """A request that cannot be served: the reason, and the status of the answer."""

    def __init__(self, reason, status="400 Bad Request"):
        super().__init__(reason)
        self.status = status


class ClientGone(Exception):
    """The client has closed the connection, or does not read any more."""


def require(condition, reason, *status):
    if not condition:
        raise RequestError(reason, *status)


class Connection:
    """A client's connection: receive, read a line, send, end."""

    line = ""  # the request line, or what has come of it
    error = None  # why what the client sends is of no use
    sending = True  # whether the client has to send some of its request still
    answering = False  # whether some of the answer may have been sent

    def __init__(self, client_connection, timeout):
        self.socket = client_connection
        self.timeout = timeout
        self.received = bytearray()  # and not used yet
        self.searched = 0  # how many bytes of that have no line end in them
        self.read_by = 0  # when the client has read all, if it is as slow as it may be

    def receive(self, deadline):
        seconds = deadline - time.monotonic()
        try:
            self.socket.settimeout(max(seconds, 0.001))
            data = self.socket.recv(BLOCK) if seconds > 0 else None
        except socket.timeout:
            data = None
        except OSError:
            raise ClientGone
        require(data is not None, "it did not come in time", "408 Request Timeout")
        require(data, "it ends early")
        self.received += data

    def take(self, size):
        data = bytes(self.received[:size])
        del self.received[:size]
        self.searched = 0
        return data

    def read_line(self, deadline, room=BLOCK, *status):
        """Receive a line of at most room bytes. Returns it without its CR LF."""
        while True:
            size = self.received.find(b"\n", self.searched) + 1
            least = size or len(self.received) + 1  # its last byte has not come
            require(least <= room, "it is too long", *status)
            if size:
                break
            self.searched = len(self.received)
            self.receive(deadline)
        ended = self.received[:size].endswith(b"\r\n")
        require(ended, "a line has to end with CR LF")
        return self.take(size)[:-2].decode("latin-1")

    def send(self, data):
        """Send all of data. The client gets --timeout seconds to take some of it; and as
        long again for each PACE bytes that it may not have read yet, as the kernels keep
        them for it: it may be reading all the time, though nothing more can be sent."""
        try:
            while data:
                now = time.monotonic()
                self.read_by = max(self.read_by, now)
                self.socket.settimeout(self.read_by - now + self.timeout)
                sent = self.socket.send(data)
                self.read_by += sent / PACE * self.timeout
                data = data[sent:]
        except OSError:
            raise ClientGone

    def reset_when_closed(self, yes):
        """Whether the client gets a reset if the connection is closed (socket(7))."""
        linger = struct.pack("ii", yes, 0)
        with contextlib.suppress(OSError):  # it has been reset
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def end(self, complete):
        """End the answer, or if it is not complete the connection, with a reset."""
        if not complete:
            self.socket.close()
            return
        self.reset_when_closed(False)
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def drain(self, wait):
        """Receive what still comes. After close it would be answered by a reset, which
        destroys what the client has not got yet of the answer (RFC 9112, 9.6)."""
        deadline = time.monotonic() + (LINGER if wait else 0.001)
        with contextlib.suppress(RequestError, ClientGone):
            while True:
                self.received.clear()
                self.receive(deadline)


# A request is refused if it is not well-formed (RFC 9110, RFC 9112). Where two programs
# take the same bytes for different requests, an attacker gets in between.

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
TEXT = r"[\t -~\x80-\xff]*"  # bytes decoded from Latin-1
HEAD_TOO_LARGE = "431 Request Header Fields Too Large"
EMPTY_LINES = 8  # that may come before a request (RFC 9112, 2.2)


def read_request_line(connection, deadline):
    """Receive the request line. Returns whether anything came."""
    try:
        connection.receive(deadline)
    except (RequestError, ClientGone):
        return False
    try:
        for _ in range(EMPTY_LINES + 1):
            connection.line = connection.read_line(deadline, BLOCK, HEAD_TOO_LARGE)
            if connection.line:
                return True
    finally:
        came = connection.received.partition(b"\n")[0].decode("latin-1")
        connection.line = connection.line or came
    raise RequestError("empty lines")


class Head(NamedTuple):
    """What the head of a request says."""

    method: str
    path: str  # as it came, with its escapes
    query: str
    minor: str  # of the version, HTTP/1.x
    fields: dict  # from names, in small letters, to values
    length: int  # of the body in bytes, if it is not chunked
    chunked: bool
    expects_continue: bool


REQUEST_LINE = re.compile(rf"({TOKEN}) ([!\"$-~]+) HTTP/([0-9])\.([0-9])")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_.~!$&'()*+,;=%-]*)(:[0-9]*)?")


def read_head(connection, deadline):
    """Take the request line apart, and receive the rest of the head."""
    found = REQUEST_LINE.fullmatch(connection.line)
    require(found, "not a request line")
    method, target, major, minor = found.groups()
    require(major == "1", "this is HTTP/1.1", "505 HTTP Version Not Supported")
    fields = read_fields(connection, deadline, BLOCK - len(connection.line) - 2)
    require("host" in fields or minor == "0", "no Host")
    require(HOST.fullmatch(fields.get("host", "")), "not a host")
    authority, path, query = split_target(method, target)
    if authority:  # goes before the field (RFC 9112, 3.2.2)
        fields["host"] = authority
    length, chunked = length_of_body(fields, minor)
    expects_continue = fields.get("expect", "").lower() == "100-continue"
    expects_continue = expects_continue and minor != "0" and (chunked or length > 0)
    return Head(method, path, query, minor, fields, length, chunked, expects_continue)


FIELD = re.compile(rf"({TOKEN}):({TEXT})")
ONLY_ONCE = ("content-length", "content-type", "host")


def read_fields(connection, deadline, room=BLOCK):
    """Receive header fields, or those of a trailer, up to the empty line."""
    fields = {}
    while True:
        line = connection.read_line(deadline, room, HEAD_TOO_LARGE)
        room -= len(line) + 2
        if not line:
            return fields
        found = FIELD.fullmatch(line)
        require(found, "not a header field")
        name, value = found[1].lower(), found[2].strip(" \t")
        if name in fields:
            require(name not in ONLY_ONCE, f"{name} comes twice")
            value = fields[name] + ("; " if name == "cookie" else ", ") + value
        fields[name] = value


TARGET = re.compile(r"(?:[Hh][Tt][Tt][Pp]://([^/?]+))?(/[^?]*)?(?:\?(.*))?")
BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


def split_target(method, target):
    """The host, if it says one, the path and the query of a request's target."""
    require(method != "CONNECT", "this is not a proxy")
    if (method, target) == ("OPTIONS", "*"):
        return None, "", ""
    found = TARGET.fullmatch(target)
    require(found and (found[1] or found[2]), "not a path")
    authority, path, query = found.groups()
    require(not BAD_ESCAPE.search(path or ""), "not a path")
    if authority:
        require(HOST.fullmatch(authority) and authority[0] != ":", "not a host")
    return authority, path or "/", query or ""


LENGTH = re.compile(r"[0-9]{1,18}")


def length_of_body(fields, minor):
    """The length of the body, and whether it is chunked instead (RFC 9112, 6)."""
    length = fields.get("content-length", "0")
    require(LENGTH.fullmatch(length), "not a length")
    if "transfer-encoding" not in fields:
        return int(length), False
    require("content-length" not in fields, "a length and a transfer coding")
    require(minor != "0", "a transfer coding in HTTP/1.0")
    coding = fields["transfer-encoding"].lower()
    known = {word.strip() for word in coding.split(",")} <= {"chunked", ""}
    require(known, "unknown transfer coding", "501 Not Implemented")
    require(coding == "chunked", "not chunked once")
    return 0, True


CHUNK_SIZE = re.compile(rf"([0-9A-Fa-f]{{1,15}})([ \t]*;{TEXT})?")


class Body(io.RawIOBase):
    """The body of a request as a file: it is received when it is read."""

    def __init__(self, connection, head):
        self.connection = connection
        self.left = head.length  # bytes of the body, or of the chunk
        self.chunked = head.chunked
        self.expects_continue = head.expects_continue
        connection.sending = self.chunked or self.left > 0

    def readable(self):
        return True

    def readinto(self, target):
        """Receive some of the body. Returns the number of bytes, 0 at its end."""
        if self.connection.error:
            raise self.connection.error
        try:
            data = self.read_some(len(target))
        except RequestError as error:  # the application may catch it, but cannot answer
            self.connection.error = error
            raise
        target[: len(data)] = data
        return len(data)

    def read_some(self, size):
        connection = self.connection
        deadline = time.monotonic() + connection.timeout
        if self.expects_continue and not connection.received:
            if not connection.answering:  # else it is too late for that
                connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.expects_continue = False
        if self.chunked and not self.left:
            found = CHUNK_SIZE.fullmatch(connection.read_line(deadline))
            require(found, "not the size of a chunk")
            self.left = int(found[1], 16)
            if not self.left:  # the last chunk, and then a trailer
                self.chunked = False
                read_fields(connection, deadline)
        if self.left and not connection.received:
            connection.receive(deadline)
        data = connection.take(min(size, self.left))
        self.left -= len(data)
        if self.chunked and not self.left:
            require(not connection.read_line(deadline, room=2), "not a chunk's end")
        connection.sending = self.chunked or self.left > 0
        return data


def make_environ(head, body, client_connection, client_address):
    """What PEP 3333 has the application know."""
    server_name, server_port = client_connection.getsockname()
    environ = {
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": urllib.parse.unquote_to_bytes(head.path).decode("latin-1"),
        "QUERY_STRING": head.query,
        "SERVER_NAME": server_name,
        "SERVER_PORT": str(server_port),
        "SERVER_PROTOCOL": f"HTTP/1.{head.minor}",
        "REMOTE_ADDR": client_address[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BufferedReader(body, BLOCK),
        "wsgi.input_terminated": True,  # so that frameworks read a chunked body
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": True,
    }
    for name, value in head.fields.items():
        if "_" not in name:  # or it could pass for one with a hyphen
            key = name.upper().replace("-", "_")
            own = key in ("CONTENT_TYPE", "CONTENT_LENGTH")
            environ[key if own else f"HTTP_{key}"] = value
    return environ


STATUS = re.compile(rf"[2-9][0-9][0-9] {TEXT}")


class Answer:
    """An answer: what the application says of it, and what was sent of it."""

    status = ""
    left = None  # how many bytes of the body may be sent; None: any number
    sent = 0  # bytes of the body
    cut = complete = False

    def __init__(self, connection):
        self.connection = connection

    def run(self, application, environ):
        body = application(environ, self.start_response)
        try:
            for data in body:
                whole = hasattr(body, "__len__") and len(body) == 1
                self.write(data, len(data) if whole else None)
                if self.left == 0:
                    break
            if not self.connection.answering:
                self.write(b"", 0)
            if self.left:
                raise RuntimeError("the body is shorter than its Content-Length")
            self.complete = not self.cut
        finally:
            if hasattr(body, "close"):
                body.close()

    def start_response(self, status, headers, exc_info=None):
        if exc_info:
            try:
                if self.connection.answering:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # it would refer to itself
        elif self.status:
            raise RuntimeError("start_response was called twice")
        if not STATUS.fullmatch(status):
            raise ValueError(f"not a status: {status!r}")
        headers = list(headers)
        for name, value in headers:
            found = FIELD.fullmatch(name + ":" + value)
            if not found or found[1] != name or name.lower() == "transfer-encoding":
                raise ValueError(f"not a header field to send: {name!r}: {value!r}")
        lengths = [v for name, v in headers if name.lower() == "content-length"]
        if len(lengths) > 1 or lengths and not LENGTH.fullmatch(lengths[0]):
            raise ValueError(f"not one length: {lengths}")
        self.status, self.headers = status, headers
        return self.write

    def write(self, data, length=None):
        """Send some of the body, the head before it. length is that of all the body."""
        try:
            if not isinstance(data, bytes):
                kind = type(data).__name__
                raise TypeError(f"the body is made of bytes, not of {kind}")
            if self.connection.error and not self.connection.answering:
                raise self.connection.error
            if not self.status:
                raise RuntimeError("start_response was not called")
            if data or length is not None:
                self.send(data, length)
        except BaseException:  # the application may catch it, but a part is missing
            self.cut = self.connection.answering
            raise

    def send(self, data, length):
        head = b""
        if not self.connection.answering:
            self.connection.answering = True
            self.connection.reset_when_closed(True)  # if this process dies before the end
            head, self.left = self.make_head(length)
        data = data[: self.left]
        for start in range(0, len(data) or 1, BLOCK):
            block = data[start : start + BLOCK]
            self.connection.send(head + block)
            self.sent += len(block)
            head = b""
        if self.left is not None:
            self.left -= len(data)

    def make_head(self, length):
        """The head, and how many bytes of a body may follow it; None: any number."""
        head_only = self.connection.line.startswith("HEAD ")
        no_body = self.status[:3] in ("204", "304")
        fields = {name.lower(): value for name, value in self.headers}
        lines = [f"HTTP/1.1 {self.status}", "Connection: close"]
        for name, value in self.headers:
            no_length = self.status[:3] == "204" and name.lower() == "content-length"
            if not no_length and not is_hop_by_hop(name):
                lines.append(f"{name}: {value}")
        if "date" not in fields:
            lines.append(f"Date: {email.utils.formatdate(usegmt=True)}")
        if "server" not in fields:
            lines.append("Server: webserver3h")
        left = None
        if "content-length" in fields:
            left = int(fields["content-length"])
        elif length is not None and not no_body and (length or not head_only):
            lines.append(f"Content-Length: {length}")
        if head_only or no_body:
            left = 0
        return "\r\n".join([*lines, "", ""]).encode("latin-1"), left

    def fail(self, error):
        """Answer with an error. Where the head is out, it is too late for that."""
        if self.connection.answering:
            return
        error = self.connection.error or error
        text = f"{error.status}: {error}\n".encode()
        self.status = error.status
        self.headers = [("Content-Type", "text/plain; charset=utf-8")]
        with contextlib.suppress(ClientGone):
            self.send(text, len(text))
            self.complete = True


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
    handled = (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM)
    for number in handled:
        signal.signal(number, lambda signum, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)  # whoever started it
    # For each connection: so that the kernel does not keep megabytes for a client.
    listen_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLOCK)
    listen_socket.setblocking(False)
    if not show(f"Serving HTTP on port {listen_socket.getsockname()[1]} ..."):
        show("Cannot print. Clients are served all the same.", 2)
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
            show(f"accept failed, trying again: {error}", 2)
            time.sleep(1)
            continue
        try:
            pid = os.fork()
        except OSError as error:  # no process: give up this client
            show(f"fork failed, one client given up: {error}", 2)
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
    """Wait for the children. After timeout seconds, or if told again, end them."""
    deadline = time.monotonic() + timeout
    grim_reaper(children)
    while children and time.monotonic() < deadline:
        seconds = max(deadline - time.monotonic(), 0)
        ready, _, _ = select.select([signals], [], [], seconds)
        if ready and told_to_end(signals):
            break
        grim_reaper(children)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def open_missing_streams():
    """Open what is closed of descriptors 0 to 2, or a connection gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


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
        help="how long to wait for a client (default: %(default)s);"
        " for the head of its request at most 10",
    )
    parser.add_argument(
        "--max-children",
        type=int,
        default=64,
        metavar="N",
        help="how many clients at once (default: %(default)s); an idle one keeps its"
        " place for 10 seconds, so behind 200 of them the next waits for about 30",
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
    open_missing_streams()
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
