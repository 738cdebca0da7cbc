"""Stage 3e: the parent reaps its children. This kills it.

Shows   that a signal interrupts a system call. When a child ends, the kernel
        sends SIGCHLD; the handler calls wait, and no zombie is left. But the
        parent was in accept, and accept comes back with an error, EINTR.
Type    python3 webserver3e.py                  in one terminal,
        curl localhost:8888/hello               in another.
Expect  curl prints "Hello, World!" and ends after 3 seconds. The server reports
        the child that it reaped, and dies: InterruptedError, out of accept.
Note    Python 3.5 and newer call accept again by themselves (PEP 475). To show
        what the kernel does, accept() below calls the C library's, once.
Next    webserver3f.py calls it again.
"""

import argparse
import ctypes
import errno
import functools
import os
import signal
import socket
import sys
import time

REQUEST_QUEUE_SIZE = 5
RESPONSE = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"Hello, World!\n"
)


def make_listen_socket(host, port):
    listen_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listen_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listen_socket.bind((host, port))
        listen_socket.listen(REQUEST_QUEUE_SIZE)
    except (OSError, UnicodeError) as error:
        message = f"Cannot listen on {host} port {port}: {error}"
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            message += ". Is an earlier stage still running?"
        sys.exit(message)
    return listen_socket


def serve_forever(listen_socket, delay):
    signal.signal(signal.SIGCHLD, grim_reaper)
    while True:
        client_connection = accept(listen_socket)
        if os.fork() == 0:  # the child
            listen_socket.close()  # the child's copy
            handle_request(client_connection, delay)
            client_connection.close()
            os._exit(0)
        client_connection.close()  # the parent's copy


def accept(listen_socket):
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.accept(listen_socket.fileno(), None, None)  # once, whatever comes
    if fd == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return socket.socket(fileno=fd)


def handle_request(client_connection, delay):
    try:
        request = client_connection.recv(64 * 1024)
        if request:
            os.write(1, f"{request!r}\n".encode())
            client_connection.sendall(RESPONSE)
            time.sleep(delay)
    except OSError:
        pass  # the client is gone


def grim_reaper(signum, frame):
    pid, status = os.wait()
    os.write(1, f"Child {pid} terminated with status {status}\n".encode())


def parse_options():
    help_format = functools.partial(argparse.RawDescriptionHelpFormatter, width=80)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=help_format)
    parser.add_argument(
        "--host", default="127.0.0.1", help="where to listen (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8888, help="0: any free one (default: %(default)s)"
    )
    parser.add_argument(
        "--delay",
        type=float,
        default=3,
        metavar="SECONDS",
        help="how long to sleep after an answer (default: %(default)s)",
    )
    options = parser.parse_args()
    if not 0 <= options.port <= 65535:
        parser.error("argument --port: must be from 0 to 65535")
    if not 0 <= options.delay <= 86400:
        parser.error("argument --delay: must be from 0 to 86400 seconds")
    if not hasattr(os, "fork"):
        sys.exit(f"{parser.prog} needs fork, which this system does not have")
    return options


def main():
    options = parse_options()
    listen_socket = make_listen_socket(options.host, options.port)
    print(f"Serving HTTP on port {listen_socket.getsockname()[1]} ...", flush=True)
    serve_forever(listen_socket, options.delay)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
