"""Stage 3b: an iterative server that sleeps after each answer.

Shows   how one slow client holds up all the others. The server answers, sleeps,
        and only then closes the connection.
Type    python3 webserver3b.py                  in one terminal,
        curl localhost:8888/hello               in two more, at once.
Expect  The first curl prints "Hello, World!" at once and ends after 60 seconds.
        The second is connected, by the kernel, and waits in the listen queue.
        Its answer comes when the first one ends, and a sleep of its own
        follows.
Try     --delay 5 for a shorter sleep. n clients take n delays.
Next    webserver3c.py serves them all at once.
"""

import argparse
import os
import socket
import sys
import time

REQUEST_QUEUE_SIZE = 5
DELAY = 60  # seconds
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
    while True:
        client_connection, client_address = listen_socket.accept()
        handle_request(client_connection, delay)
        client_connection.close()


def handle_request(client_connection, delay):
    try:
        request = client_connection.recv(64 * 1024)
        if request:
            client_connection.sendall(RESPONSE)
            show(repr(request))
            time.sleep(delay)
    except OSError:
        pass  # the client is gone, or the terminal


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
    try:
        listen_socket = make_listen_socket(options.host, options.port)
    except (OSError, OverflowError, TypeError) as error:
        sys.exit(f"Cannot listen on {options.host} port {options.port}: {error}")
    port = listen_socket.getsockname()[1]
    show(f"Serving HTTP on port {port} ...")
    serve_forever(listen_socket, options.delay)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
