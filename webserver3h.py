"""Stage 3h: 3g with WSGI in it. It runs a web application.

Shows   WSGI (PEP 3333), what web servers and applications have agreed on: the
        server calls a Python function, and sends what it returns.
Type    python3 webserver3h.py                  in one terminal,
        curl -i localhost:8888/hello            in another.
        python3 webserver3h.py flaskapp:app     serves app of flaskapp.py.
Expect  The application's answer. This one says what the server gave it.
Try     An application that fails: curl gets a 500, the terminal the traceback.
Note    A silent client keeps its child, and a body needs a Content-Length.
Next    webserver3i.py does the same with care.
"""

import argparse
import contextlib
import importlib
import io
import os
import signal
import socket
import sys
import time
import traceback
import urllib.parse

REQUEST_QUEUE_SIZE = 1024
HEAD_MOST = 64 * 1024  # bytes
BODY_MOST = 16 * 1024 * 1024  # bytes, all of them in memory


def make_listen_socket(host, port):
    listen_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listen_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listen_socket.bind((host, port))
    listen_socket.listen(REQUEST_QUEUE_SIZE)
    return listen_socket


def serve_forever(listen_socket, application):
    signal.signal(signal.SIGCHLD, grim_reaper)
    while True:
        try:
            client_connection, client_address = listen_socket.accept()
        except ConnectionAbortedError:
            continue  # the client is gone
        except OSError as error:  # no descriptor is free: one may be, soon
            print(f"accept failed, trying again: {error}", file=sys.stderr)
            time.sleep(1)
            continue
        try:
            pid = os.fork()
        except OSError as error:  # no process is free: give up this client
            print(f"fork failed, one client given up: {error}", file=sys.stderr)
            pid = None
        if pid == 0:  # the child
            listen_socket.close()  # the child's copy
            handle_request(client_connection, application)
            client_connection.close()
            os._exit(0)
        # The parent's copy. The connection stays open: the child has one, too.
        client_connection.close()


def handle_request(client_connection, application):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the application reaps its own children
    try:
        head, environ = receive_request(client_connection)
        answer(environ, application, client_connection)
        show(f"Child {os.getpid()} of {os.getppid()}: {head!r}")
    except BadRequest as error:
        refuse(client_connection, error)
    except OSError:
        pass  # the client is gone, or the terminal
    sys.stdout.flush()  # what the application has printed: os._exit drops it
    sys.stderr.flush()


class BadRequest(Exception):
    """A request that is not served. Its text is the status of the answer."""


class ClientGone(OSError):
    """Apart from the others, since an application has errors of its own."""


def receive_request(client_connection):
    file = client_connection.makefile("rb")  # it receives as often as it has to
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = file.readline(HEAD_MOST)
        if not line:
            raise ClientGone
        head += line
        if len(head) > HEAD_MOST:
            raise BadRequest("431 Request Header Fields Too Large")
    try:
        environ = make_environ(*head.decode("latin-1").split("\r\n")[:-2])
        length = int("0" + environ.get("CONTENT_LENGTH", ""))
    except ValueError:
        raise BadRequest("400 Bad Request")
    if length > BODY_MOST:
        raise BadRequest("413 Content Too Large")
    body = file.read(length)
    if len(body) < length:
        raise ClientGone
    environ["wsgi.input"] = io.BytesIO(body)
    environ["SERVER_NAME"], environ["SERVER_PORT"] = map(str, client_connection.getsockname())
    return head, environ


def make_environ(request_line, *fields):
    method, target, protocol = request_line.split(" ")
    path, _, query = target.partition("?")
    if not path.startswith("/") or not protocol.startswith("HTTP/1."):
        raise ValueError
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": urllib.parse.unquote(path, "latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": protocol,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": True,
    }
    for field in fields:
        name, value = field.split(":", 1)
        if name != name.strip():
            raise ValueError
        name = name.upper().replace("-", "_")
        if name not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            name = f"HTTP_{name}"
        environ[name] = f"{environ[name]}, {value.strip()}" if name in environ else value.strip()
    return environ


def answer(environ, application, client_connection):
    """Call the application, and send what it answers, piece by piece."""
    head, sent, pieces = b"", False, ()

    def start_response(status, fields, exc_info=None):
        nonlocal head
        if exc_info and sent:  # it is too late for another answer
            raise exc_info[1].with_traceback(exc_info[2])
        if head and not exc_info:
            raise RuntimeError("start_response was called twice")
        lines = [f"{name}: {value}" for name, value in [*fields, ("Connection", "close")]]
        head = "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")
        return write

    def write(data):
        nonlocal sent
        if not head:
            raise RuntimeError("start_response was not called")
        body = b"" if environ["REQUEST_METHOD"] == "HEAD" else data
        try:
            client_connection.sendall(body if sent else head + body)
        except OSError:
            raise ClientGone
        sent = True

    try:
        pieces = application(environ, start_response)
        for data in pieces:
            if data:  # the head waits for it: an application may change its mind
                write(data)
        if not sent:
            write(b"")
    except (Exception, SystemExit) as error:
        if not isinstance(error, ClientGone):
            traceback.print_exc()
        if not sent:
            refuse(client_connection, "500 Internal Server Error")
    finally:
        if hasattr(pieces, "close"):
            pieces.close()


def refuse(client_connection, status):
    text = f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n{status}\n"
    with contextlib.suppress(OSError):
        client_connection.sendall(text.encode())
        client_connection.shutdown(socket.SHUT_WR)
        client_connection.settimeout(5)  # seconds
        while client_connection.recv(64 * 1024):
            pass  # close would be a reset, and destroy the answer, with bytes unread


def grim_reaper(signum, frame):
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass  # one is reaped: there may be more
    except ChildProcessError:
        pass  # no child is left


def show(text):
    os.write(1, f"{text}\n".encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("application", metavar="MODULE:CALLABLE", nargs="?",
                        default="wsgiref.simple_server:demo_app")
    parser.add_argument("--host", default="127.0.0.1", help="(default: %(default)s)")
    parser.add_argument("--port", type=int, default=8888, help="0: any (default: 8888)")
    options = parser.parse_args()
    if not hasattr(os, "fork"):
        sys.exit(f"{parser.prog} needs fork. On Windows, use WSL.")
    module, _, name = options.application.partition(":")
    sys.path.insert(0, os.getcwd())
    application = getattr(importlib.import_module(module), name)
    try:
        listen_socket = make_listen_socket(options.host, options.port)
    except (OSError, OverflowError, TypeError) as error:
        sys.exit(f"Cannot listen on {options.host} port {options.port}: {error}")
    port = listen_socket.getsockname()[1]
    show(f"Serving HTTP on port {port} ...\nParent PID: {os.getpid()}")
    serve_forever(listen_socket, application)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
