"""Stage 3f: an interrupted accept is called again. Some zombies stay.

Shows   that signals are not queued. Children that end together may cause a
        single SIGCHLD, and one wait reaps one child.
Type    python3 webserver3f.py                  in one terminal,
        curl localhost:8888/hello               in another, a few times.
Expect  Every curl is served and every child is reaped.
Try     python3 client3.py --max-clients 128    and then ps -ef: many children
        are still listed, as <defunct>.
Next    webserver3g.py reaps them all.
"""

import argparse
import ctypes
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
LIBC = ctypes.CDLL(None, use_errno=True)


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
            client_connection = accept(listen_socket)
        except InterruptedError:  # a child has ended: call accept again
            continue
        if os.fork() == 0:  # the child
            listen_socket.close()  # the child's copy
            handle_request(client_connection, delay)
            client_connection.close()
            os._exit(0)
        # The parent's copy. The connection stays open: the child has one, too.
        client_connection.close()


def accept(listen_socket):
    fd = LIBC.accept(listen_socket.fileno(), None, None)  # once, without a retry
    if fd == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return socket.socket(fileno=fd)


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
    pid, status = os.wait()
    show(f"Child {pid} terminated with status {status}")


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
