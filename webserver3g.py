"""Stage 3g: a concurrent server that cleans up after itself.

Shows   that one SIGCHLD may stand for many children. The handler has to ask
        again, without blocking, until no ended child is left.
Type    python3 webserver3g.py                  in one terminal,
        curl localhost:8888/hello               in another,
        python3 client3.py --max-clients 128    as often as you like.
Expect  Every client is served, and ps -ef shows no <defunct> child afterwards.
        The parent's descriptors and memory stay as they were.
Note    This is Python's own accept again; 3f's loop is built into it (PEP 475).
        The handler reports no child, to save time. What killed 3d does not kill
        this server: when accept or fork fails, it says so and goes on.
Note    A small gap remains. Python runs the handler between two of its own
        steps: a SIGCHLD that comes just before accept blocks is handled only
        when the next client comes. webserver3i.py closes the gap.
Next    webserver3h.py runs a web application in this way; webserver4a.py forks
        before a client comes.
"""

import argparse
import os
import signal
import socket
import sys
import time

REQUEST_QUEUE_SIZE = 1024
DELAY = 0  # seconds
RESPONSE = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"Hello, World!\n"
)


def make_listen_socket(host, port):
    listen_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listen_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listen_socket.bind((host, port))
    listen_socket.listen(REQUEST_QUEUE_SIZE)
    return listen_socket


def serve_forever(listen_socket, delay):
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
            handle_request(client_connection, delay)
            client_connection.close()
            os._exit(0)
        # The parent's copy. The connection stays open: the child has one, too.
        client_connection.close()


def handle_request(client_connection, delay):
    try:
        request = client_connection.recv(64 * 1024)
        if request:
            client_connection.sendall(RESPONSE)
            show(f"Child {os.getpid()} of {os.getppid()}: {request!r}")
            time.sleep(delay)
    except OSError:
        pass  # the client is gone, or the terminal


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
    parser.add_argument("--host", default="127.0.0.1", help="(default: %(default)s)")
    parser.add_argument("--port", type=int, default=8888, help="0: any (default: 8888)")
    parser.add_argument("--delay", type=float, default=DELAY, metavar="SECONDS",
                        help="sleep after an answer (default: %(default)s)")
    options = parser.parse_args()
    if not 0 <= options.delay <= 86400:
        parser.error("argument --delay: must be from 0 to 86400 seconds")
    if not hasattr(os, "fork"):
        sys.exit(f"{parser.prog} needs fork. On Windows, use WSL.")
    try:
        listen_socket = make_listen_socket(options.host, options.port)
    except (OSError, OverflowError, TypeError) as error:
        sys.exit(f"Cannot listen on {options.host} port {options.port}: {error}")
    port = listen_socket.getsockname()[1]
    show(f"Serving HTTP on port {port} ...\nParent PID: {os.getpid()}")
    serve_forever(listen_socket, options.delay)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
