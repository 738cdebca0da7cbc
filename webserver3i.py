"""Stage 3i: 3h with care. A concurrent WSGI server for real use.

Shows   what 3h lacks: HTTP read with care, limits to every wait, and an end
        that finishes what has begun. WSGI (PEP 3333) is the same.
Type    python3 webserver3i.py                  in one terminal,
        curl localhost:8888/hello               in another.
        python3 webserver3i.py flaskapp:app     serves app of flaskapp.py.
Expect  The application's answer. The server prints a line for each request:
        client, request line, status, bytes of the body, and milliseconds since
        the first byte of the request.
Try     curl -v -T a-large-file localhost:8888  It asks with "Expect" whether
        to send the file. This application answers and reads nothing of it.
        Ctrl-C while a request is served: it is finished first.
        Ctrl-C once more: the server ends at once.
Note    A client that leaves is noticed at the second piece sent after that, or
        at once at an empty one; not while the application computes or sleeps.
        Give what it waits for a timeout, or let signal.alarm(60) end the child.
Next    webserver4a.py forks its children before the clients come. docs/3i.md
        says what 3i is not, and how its application goes on under gunicorn.
"""

import argparse
import contextlib
import email.utils
import importlib
import io
import os
import re
import select
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback
import urllib.parse
from wsgiref.util import is_hop_by_hop

REQUEST_QUEUE_SIZE = 1024
BLOCK = 64 * 1024  # bytes: the most that recv takes, and that a head may have
HEAD_TIME = 10  # seconds, at most, for a head
PACE = 500 * 1000  # bytes of a body that a client has to send or read in --timeout
MEMORY = 1024 * 1024  # bytes of a chunked body; more are kept in a file
CHUNKED_MOST = 1024 * MEMORY  # bytes of a chunked body, at most
LINGER = 5  # seconds, at most, for what a client sends when it has its answer
SMALL = 8 * 1024  # bytes of an answer that are on their way at once (RFC 6928)
RESET = struct.pack("ii", 1, 0)  # for SO_LINGER: what close does (socket(7))


def hello_world(environ, start_response):
    """The application that is served where none is named."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Hello, World!\n"]


def make_listen_socket(host, port):
    listen_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listen_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listen_socket.bind((host, port))
    listen_socket.listen(REQUEST_QUEUE_SIZE)
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
    show(f"Serving HTTP on port {listen_socket.getsockname()[1]} ...")
    children = set()
    while True:
        room = len(children) < options.max_children  # else clients wait in the queue
        sources = [signals, listen_socket] if room else [signals]
        ready, _, _ = select.select(sources, [], [])
        if signals in ready and grim_reaper(children, signals):
            break
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
        signal.pthread_sigmask(signal.SIG_BLOCK, handled)  # the child has our pipe at first
        try:
            pid = os.fork()
        except OSError as error:  # no process: give up this client
            show(f"fork failed, one client given up: {error}", 2)
            pid = None
        if pid == 0:  # the child
            try:
                signal.set_wakeup_fd(-1)  # the parent ends by signals, the child with its answer
                signal.signal(signal.SIGTERM, signal.SIG_DFL)  # but kill CHILD ends it
                signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
                listen_socket.close()  # the child's copy
                handle_request(client_connection, client_address, application, options)
            finally:
                os._exit(0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
        if pid:
            children.add(pid)
        client_connection.close()  # the parent's copy
    listen_socket.close()
    finish(children, signals, options.timeout)


def handle_request(client_connection, client_address, application, options):
    connection = Connection(client_connection, options.timeout)
    answer = Answer(connection)
    body, trouble, gone = None, "", ""
    try:
        connection.receive()
    except (RequestError, ClientGone):
        return connection.end(True)  # who sends nothing gets nothing
    began = time.monotonic()
    try:
        head, fields = read_head(connection)
        body = Body(connection, answer, fields, head["SERVER_PROTOCOL"])
        answer.run(application, make_environ(head, fields, body, client_address))
    except ClientGone:
        gone = ", client gone"
    except BaseException as error:  # whatever the application does
        trouble = "" if isinstance(error, RequestError) else traceback.format_exc()
        answer.fail(error)
    milliseconds = round(1000 * (time.monotonic() - began))
    connection.end(answer.complete)
    if trouble:
        show(trouble.rstrip(), 2)
    show(
        f"{client_address[0]}:{client_address[1]} {connection.request_line!a}"
        f" {answer.status[:3] or '-'} {answer.sent} bytes {milliseconds} ms{gone}"
    )
    quiet = body and not body.left and not connection.received and answer.sent <= SMALL
    connection.drain(0.001 if quiet else LINGER)
    for file in (sys.stdout, sys.stderr):
        file.flush()  # os._exit does not


def show(text, descriptor=1):
    """Print a line. One that nobody reads is dropped: no client waits for the log."""
    with contextlib.suppress(OSError):
        if select.select([], [descriptor], [], 0)[1]:
            os.write(descriptor, f"{text}\n".encode())


class RequestError(Exception):
    """A request that cannot be served: the reason, and the status of the answer."""


class ClientGone(Exception):
    """The client has closed the connection, or does not read any more."""


def require(condition, reason, status="400 Bad Request"):
    if not condition:
        raise RequestError(reason, status)


class Connection:
    """A client's connection: receive, read a line, send, end."""

    def __init__(self, client_connection, timeout):
        self.socket, self.timeout = client_connection, timeout
        self.patience = min(HEAD_TIME, timeout)  # seconds left to wait for what it sends
        self.received = bytearray()  # and not used yet
        self.beginning = b""  # of all that was received
        self.read_by = 0  # when the slowest client that we allow would have read all
        # If this process dies before the end, the client sees that.
        client_connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def receive(self):
        """Receive what comes next. Waiting for it uses up the patience."""
        began = time.monotonic()
        try:
            self.socket.settimeout(self.patience)
            data = self.socket.recv(BLOCK)
        except socket.timeout:
            data, self.patience = b"", 0
        except OSError:
            raise ClientGone
        self.patience -= time.monotonic() - began
        require(self.patience > 0, "it did not come in time", "408 Request Timeout")
        require(data, "it ends early")
        self.received += data
        self.beginning += data[: 1000 - len(self.beginning)]

    def allow(self, seconds):
        """Be patient for so much longer, but never for more than --timeout."""
        self.patience = min(self.patience + seconds, self.timeout)

    def take(self, size):
        data, self.received[:size] = bytes(self.received[:size]), b""
        return data

    def read_line(self, room=BLOCK, too_long="400 Bad Request"):
        """Receive a line of at most room bytes. Returns it without its CR LF."""
        searched = 0
        while (end := self.received.find(b"\n", searched, room)) < 0:
            searched = len(self.received)
            require(searched < room, "a line is too long", too_long)
            self.receive()
        line = self.take(end + 1)
        # A server may take LF alone (RFC 9112, 2.2). Where another does not, it is an attack.
        require(line.endswith(b"\r\n"), "a line ends with CR LF, not LF alone: nc -C (macOS: nc -c)")
        return line[:-2].decode("latin-1")

    @property
    def request_line(self):
        """The request line, or as much of it as has come."""
        line, _, _ = self.beginning.lstrip(b"\r\n").partition(b"\n")
        return line.rstrip(b"\r").decode("latin-1")

    def send(self, data):
        """Send all of data. The client gets --timeout seconds to take some of it, and as
        long again for each PACE bytes that the kernels keep and it may not have read yet."""
        data = memoryview(data)
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

    def require_client(self):
        """Raise ClientGone if the client has closed the connection, or its sending half."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN | getattr(select, "POLLRDHUP", 0))
        if any(events & ~select.POLLIN for _, events in poll.poll(0)):
            raise ClientGone

    def end(self, complete):
        """End the answer, or if it is not complete the connection, with a reset."""
        with contextlib.suppress(OSError):  # it has been reset
            if not complete:
                return self.socket.close()
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
            self.socket.shutdown(socket.SHUT_WR)

    def drain(self, seconds):
        """Receive what still comes. After close it would be answered by a reset, which
        destroys what the client has not got yet of the answer (RFC 9112, 9.6)."""
        self.patience = seconds
        with contextlib.suppress(RequestError, ClientGone):
            while True:
                self.received.clear()
                self.receive()


# A request is refused if it is not well-formed (RFC 9110, RFC 9112). Where two programs
# take the same bytes for different requests, an attacker gets in between.

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
TEXT = r"[\t -~\x80-\xff]*"  # bytes decoded from Latin-1 (RFC 9110, 5.5)
REQUEST_LINE = re.compile(rf"({TOKEN}) ([!\"$-~]+) HTTP/([0-9])\.([0-9])")  # RFC 9112, 3
FIELD = re.compile(rf"({TOKEN}):({TEXT})")  # RFC 9112, 5
ONLY_ONCE = ("content-length", "content-type", "host")  # RFC 9110, 5.3
ESCAPE = "%[0-9A-Fa-f]{2}"
HOST = re.compile(rf"(?:\[([0-9A-Fa-f:.]+)\]|(?:[0-9A-Za-z_.~!$&'()*+,;=-]|{ESCAPE})+)(?::[0-9]*)?")
TARGET = re.compile(r"(?:[Hh][Tt][Tt][Pp]://([^/?]+))?(/[^?]*)?(?:\?(.*))?")  # RFC 9112, 3.2
LENGTH = re.compile(r"[0-9]{1,18}")
QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'  # RFC 9110, 5.6.4
EXTENSION = rf"[ \t]*;[ \t]*{TOKEN}(?:[ \t]*=[ \t]*(?:{TOKEN}|{QUOTED}))?"
CHUNK_SIZE = re.compile(rf"([0-9A-Fa-f]{{1,15}})((?:{EXTENSION})*)")  # RFC 9112, 7.1
STATUS = re.compile(rf"[2-9][0-9][0-9] {TEXT}")  # RFC 9112, 4


def read_head(connection):
    """What the request line says, as PEP 3333 names it, and the fields by small names."""
    for _ in range(9):  # at most 8 empty lines before it (RFC 9112, 2.2)
        line = connection.read_line(BLOCK, "414 URI Too Long")  # RFC 9112, 3
        if line:
            break
    bad = b"".join(re.findall(b"[^ -~]", line.encode("latin-1"))).hex().upper()
    require(not bad, f"the request line has the byte 0x{bad[:2]}: a URI writes it as %{bad[:2]}")
    found = REQUEST_LINE.fullmatch(line)
    require(found, "not a request line, such as GET /hello HTTP/1.1")
    method, target, major, minor = found.groups()
    require(major == "1", "this is HTTP/1.1", "505 HTTP Version Not Supported")
    fields = read_fields(connection, BLOCK - len(line) - 2)
    require("host" in fields or minor == "0", "no Host")  # RFC 9112, 3.2
    authority, path, query = split_target(method, target)
    for host in filter(None, (fields.get("host"), authority)):
        require_host(host)
        fields["host"] = host  # the authority goes before the field (RFC 9112, 3.2.2)
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": urllib.parse.unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.0" if minor == "0" else "HTTP/1.1",  # RFC 9110, 2.5
    }, fields


def read_fields(connection, room=BLOCK):
    """Receive header fields, or those of a trailer, up to the empty line."""
    fields = {}
    while line := connection.read_line(room, "431 Request Header Fields Too Large"):
        room -= len(line) + 2
        found = FIELD.fullmatch(line)
        require(found, "not a header field")
        name, value = found[1].lower(), found[2].strip(" \t")
        if name in fields:  # RFC 9110, 5.3; RFC 6265, 5.4
            require(name not in ONLY_ONCE, f"{name} comes twice")
            value = fields[name] + ("; " if name == "cookie" else ", ") + value
        fields[name] = value
    return fields


def require_host(host):
    """A name or an address, and maybe a port (RFC 9110, 4.2.1 and 7.2; RFC 3986, 3.2.2)."""
    found = HOST.fullmatch(host)
    with contextlib.suppress(OSError):
        if found and socket.inet_pton(socket.AF_INET6, found[1] or "::"):
            return
    raise RequestError("not a host", "400 Bad Request")


def split_target(method, target):
    """The host, if it says one, the path and the query (RFC 9112, 3.2)."""
    require(method != "CONNECT", "this is not a proxy")
    if (method, target) == ("OPTIONS", "*"):
        return None, "", ""
    found = TARGET.fullmatch(target)
    require(found and (found[1] or found[2]), "not a path")
    lone = "%" in re.sub(ESCAPE, "", target)  # RFC 3986, 2.1
    require(not lone, "a % without two hexadecimal digits: a URI writes it as %25")
    authority, path, query = found.groups()
    return authority, path or "/", query or ""


def length_of_body(fields, protocol):
    """The length of the body, None if it is chunked (RFC 9112, 6)."""
    length = fields.get("content-length", "0")
    require(LENGTH.fullmatch(length), "not a length")
    if "transfer-encoding" not in fields:
        return int(length)
    require("content-length" not in fields, "a length and a transfer coding")  # 6.1
    require(protocol != "HTTP/1.0", "a transfer coding in HTTP/1.0")  # 6.1
    codings = [word.strip(" \t") for word in fields["transfer-encoding"].lower().split(",")]
    require(codings[-1] == "chunked", "the last transfer coding is not chunked")  # 6.3
    require({*codings} <= {"chunked", ""}, "unknown transfer coding", "501 Not Implemented")
    require(codings == ["chunked"], "not chunked once")  # 6.1


class Body(io.RawIOBase):
    """The body of a request as a file: it is received when it is read. A chunked one is
    received before the application is called, which gets its length."""

    def __init__(self, connection, answer, fields, protocol):
        self.connection, self.answer = connection, answer
        length = length_of_body(fields, protocol)
        self.left = self.length = length or 0  # bytes, to receive and in all
        expects = fields.get("expect", "").lower()
        self.expects_continue = expects == "100-continue" and protocol != "HTTP/1.0"
        connection.allow(connection.timeout)
        self.chunks = self.receive_chunks() if length is None else None

    def receive(self, size):
        """Receive some of the body, at most size bytes."""
        if not self.connection.received:
            if self.expects_continue and not self.answer.begun:  # RFC 9110, 10.1.1
                self.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.connection.receive()
        self.expects_continue = False
        data = self.connection.take(size)
        self.connection.allow(len(data) / PACE * self.connection.timeout)
        return data

    def receive_chunks(self):
        """Receive a chunked body (RFC 9112, 7.1). Returns a file with what it says."""
        self.receive(0)
        file, extensions = tempfile.SpooledTemporaryFile(MEMORY), 0
        while True:
            found = CHUNK_SIZE.fullmatch(self.connection.read_line())
            require(found, "not the size of a chunk")
            extensions += len(found[2])
            require(extensions <= BLOCK, "too many chunk extensions")  # 7.1.1
            if not (left := int(found[1], 16)):
                break
            self.length += left
            require(self.length <= CHUNKED_MOST, "too many chunks", "413 Content Too Large")
            while left:
                left -= file.write(self.receive(left))
            while len(self.connection.received) < 2:
                self.connection.receive()
            require(self.connection.take(2) == b"\r\n", "a chunk is longer than it says")
        read_fields(self.connection)  # the trailer
        file.seek(0)
        return file

    def readable(self):
        return True

    def readinto(self, target):
        """Receive some of the body. Returns the number of bytes, 0 at its end."""
        if self.chunks:
            data = self.chunks.read(len(target))
        else:
            with self.answer.sticky_errors():
                data = self.receive(min(len(target), self.left)) if self.left else b""
            self.left -= len(data)
        target[: len(data)] = data
        return len(data)


def make_environ(head, fields, body, client_address):
    """What PEP 3333 has the application know."""
    server_name, server_port = body.connection.socket.getsockname()
    environ = {
        **head,
        "SCRIPT_NAME": "",
        "SERVER_NAME": server_name,
        "SERVER_PORT": str(server_port),
        "REMOTE_ADDR": client_address[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BufferedReader(body, BLOCK),
        "wsgi.input_terminated": True,  # it ends where the body does
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": True,
    }
    if fields.pop("transfer-encoding", None):  # it is decoded (RFC 9112, 7.1.3)
        fields["content-length"] = str(body.length)
    for name, value in fields.items():
        if "_" not in name:  # or it could pass for one with a hyphen
            prefix = "" if name in ("content-type", "content-length") else "HTTP_"
            environ[prefix + name.upper().replace("-", "_")] = value
    return environ


class Answer:
    """An answer: what the application says of it, and what was sent of it."""

    status = ""
    length = None  # of the whole body, if it is known
    left = None  # how many bytes of the body may be sent; None: any number
    sent = 0  # bytes of the body
    begun = complete = False  # whether some of it may have been sent, and all
    error = None  # of reading or writing, even if the application has caught it

    def __init__(self, connection):
        self.connection = connection

    def run(self, application, environ):
        body = application(environ, self.start_response)
        try:
            one_piece = hasattr(body, "__len__") and len(body) == 1
            for data in body:
                if one_piece:
                    self.length = len(data)
                elif not data:
                    self.connection.require_client()
                self.write(data)
                if data and self.left == 0:
                    break
            if not self.begun:
                self.length = 0
                self.write(b"")
            if self.error:
                raise self.error
            if self.left:
                raise RuntimeError("the body is shorter than its Content-Length")
            self.complete = True
        finally:
            if hasattr(body, "close"):
                body.close()

    @contextlib.contextmanager
    def sticky_errors(self):
        """Raise an error in this block again in the next: the application may catch it."""
        if self.error:
            raise self.error
        try:
            yield
        except BaseException as error:
            self.error = error
            raise

    def start_response(self, status, headers, exc_info=None):
        if exc_info and self.begun:
            raise exc_info[1].with_traceback(exc_info[2])
        if self.status and not exc_info:
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
        if status[:3] in ("204", "205"):  # RFC 9110, 8.6 and 15.3.6
            headers = [field for field in headers if field[0].lower() != "content-length"]
            headers += [("Content-Length", "0")] * (status[:3] == "205")
        self.status, self.headers = status, headers
        self.head_only = self.connection.request_line.startswith("HEAD ")
        self.no_body = status[:3] in ("204", "205", "304")  # RFC 9112, 6.3
        self.left = 0 if self.head_only or self.no_body else int(lengths[0]) if lengths else None
        return self.write

    def write(self, data):
        """Send some of the body, and the head before the first byte of it."""
        with self.sticky_errors():
            if not isinstance(data, bytes):
                raise TypeError(f"the body is made of bytes, not of {type(data).__name__}")
            if not self.status:
                raise RuntimeError("start_response was not called")
            if not data and self.length is None:
                return  # before the first byte the application may change its mind
            head, data = b"" if self.begun else self.make_head(), data[: self.left]
            self.begun = True
            self.connection.send(head + data)
            self.sent += len(data)
            if self.left is not None:
                self.left -= len(data)

    def make_head(self):
        names = [name.lower() for name, _ in self.headers]
        lines = [f"HTTP/1.1 {self.status}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers if not is_hop_by_hop(name)]
        own = {"Date": email.utils.formatdate(usegmt=True), "Server": "webserver3i"}
        known = self.length or self.length == 0 and not self.head_only  # a GET's may differ
        if known and not self.no_body:
            own["Content-Length"] = self.length
        lines += [f"{name}: {own[name]}" for name in own if name.lower() not in names]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def fail(self, error):
        """Answer with an error. Where the head is out, it is too late for that."""
        if self.begun:
            return
        reason, status = "it failed", "500 Internal Server Error"
        if isinstance(self.error or error, RequestError):
            reason, status = (self.error or error).args
        text = f"{status}: {reason}\n".encode()
        self.status, self.error, self.length = "", None, len(text)  # all of it anew
        with contextlib.suppress(ClientGone):
            self.start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
            self.write(text)
            self.complete = True


def grim_reaper(children, signals):
    """Wait for the children that have ended. Returns whether a signal says: end."""
    numbers = os.read(signals, BLOCK)
    with contextlib.suppress(ChildProcessError):  # no child is left
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            children.discard(pid)
    return signal.SIGINT in numbers or signal.SIGTERM in numbers


def finish(children, signals, timeout):
    """Wait for the children. After timeout seconds, or if told again, end them."""
    deadline = time.monotonic() + timeout
    while children:
        ready, _, _ = select.select([signals], [], [], max(deadline - time.monotonic(), 0))
        if not ready or grim_reaper(children, signals):
            break
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def find_application(name):
    """What MODULE:CALLABLE names, found from the current folder, or what MODULE:MAKE() makes."""
    module, _, attribute = name.partition(":")
    right = re.sub(r"^[./]+|\.py$", "", module).replace("/", ".") or "flaskapp"
    if not attribute or module != right:
        sys.exit(f"Cannot serve {name}: write MODULE:CALLABLE, as {right}:{attribute or 'app'}")
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # what the module imports is its author's affair, as all its errors are
        sys.exit(f"Cannot serve {name}: {error}")
    application = getattr(found, attribute.removesuffix("()"), None)
    if attribute.endswith("()") and callable(application):
        application = application()
    if not callable(application):
        sys.exit(f"Cannot serve {name}: {module} has no such callable")
    return application


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("application", metavar="MODULE:CALLABLE", nargs="?", help="what to serve")
    parser.add_argument("--host", default="127.0.0.1", help="(default: %(default)s)")
    parser.add_argument("--port", type=int, default=8888, help="0: any (default: 8888)")
    parser.add_argument(
        "--timeout", type=float, default=30, metavar="SECONDS",
        help="how long to wait for a client, and as long again for each 500 kB of a body"
        " (default: %(default)s); for the head of its request at most 10",
    )
    parser.add_argument(
        "--max-children", type=int, default=64, metavar="N",
        help="how many clients at once (default: %(default)s); an idle one keeps its"
        " place for 10 seconds, so behind 200 of them the next waits for about 30",
    )
    options = parser.parse_args()
    if not (0 < options.timeout <= 86400 and 1 <= options.max_children <= 10000):
        parser.error("--timeout is above 0, at most 86400; --max-children from 1 to 10000")
    if not hasattr(os, "fork"):
        sys.exit(f"{parser.prog} needs fork. On Windows, use WSL.")
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:  # it was closed: no file may take
        os.set_inheritable(null, True)  # its place, or the log would go there
    os.close(null)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")
    application = find_application(options.application) if options.application else hello_world
    try:
        listen_socket = make_listen_socket(options.host, options.port)
    except (OSError, OverflowError, TypeError) as error:
        sys.exit(f"Cannot listen on {options.host} port {options.port}: {error}")
    serve_forever(listen_socket, application, options)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
