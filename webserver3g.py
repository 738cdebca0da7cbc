"""Stage 3g: a concurrent server that cleans up after itself.

Shows   that the handler has to ask again, without blocking, until no ended child
        is left: one SIGCHLD may stand for many.
Type    python3 webserver3g.py                  in one terminal,
        curl localhost:8888/hello               in another,
        python3 client3.py --max-clients 128    as often as you like.
Expect  Every client is served, and ps -ef shows no <defunct> child afterwards.
        The parent's descriptors and memory stay as they were.
Note    This is Python's own accept again; 3f's loop is built into it (PEP 475).
        When fork or accept fails for want of processes or descriptors, which
        was the end of 3d, this server says so and goes on.
Next    webserver3h.py runs a real web application in this way.
"""

import argparse
import errno
import functools
import os
import signal
import socket
import sys
import time

REQUEST_QUEUE_SIZE = 1024
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


def serve_forever(listen_socket):
    signal.signal(signal.SIGCHLD, grim_reaper)
    while True:
        try:
            client_connection, client_address = listen_socket.accept()
        except OSError as error:  # no descriptor: let some connections end
            print(f"accept failed, trying again: {error}", file=sys.stderr)
            time.sleep(1)
            continue
        try:
            pid = os.fork()
        except OSError as error:  # no process: give up this client
            print(f"fork failed, one client given up: {error}", file=sys.stderr)
            client_connection.close()
            continue
        if pid == 0:  # the child
            listen_socket.close()  # the child's copy
            handle_request(client_connection)
            client_connection.close()
            os._exit(0)
        client_connection.close()  # the parent's copy


def handle_request(client_connection):
    try:
        request = client_connection.recv(64 * 1024)
        if request:
            os.write(1, f"{request!r}\n".encode())
            client_connection.sendall(RESPONSE)
    except OSError:
        pass  # the client is gone


def grim_reaper(signum, frame):
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return  # no child is left
        if pid == 0:
            return  # those that are left have not ended


def parse_options():
    help_format = functools.partial(argparse.RawDescriptionHelpFormatter, width=80)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=help_format)
    parser.add_argument(
        "--host", default="127.0.0.1", help="where to listen (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8888, help="0: any free one (default: %(default)s)"
    )
    options = parser.parse_args()
    if not 0 <= options.port <= 65535:
        parser.error("argument --port: must be from 0 to 65535")
    if not hasattr(os, "fork"):
        sys.exit(f"{parser.prog} needs fork, which this system does not have")
    return options


def main():
    options = parse_options()
    listen_socket = make_listen_socket(options.host, options.port)
    print(f"Serving HTTP on port {listen_socket.getsockname()[1]} ...", flush=True)
    serve_forever(listen_socket)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
