"""Stage 4b: a thread for each client, all of them in one process.

Shows   what threads share. They need no fork, no reaper, and no second copy of
        a descriptor. They also have every variable in common.
Type    python3 webserver4b.py --delay 1        in one terminal,
        for i in 1 2 3 4 5; do curl localhost:8888/hello & done; wait
                                                in another.
Expect  All are greeted at once, and every one of them is "Request 1". Each
        thread read the count before another wrote it. Four requests are lost.
Note    webserver3g.py could not count beyond 1 either, for the opposite reason:
        each of its children would count in a copy of its own.
Note    When no thread can be started, one client is given up, and the server
        goes on.
Next    webserver4c.py serves all clients in a single thread.
"""

import argparse
import os
import socket
import sys
import threading
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
requests = 0  # answered so far


def make_listen_socket(host, port):
    listen_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listen_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listen_socket.bind((host, port))
    listen_socket.listen(REQUEST_QUEUE_SIZE)
    return listen_socket


def serve_forever(listen_socket, delay):
    while True:
        try:
            client_connection, client_address = listen_socket.accept()
        except ConnectionAbortedError:
            continue  # the client is gone
        except OSError as error:  # no descriptor is free: one may be, soon
            print(f"accept failed, trying again: {error}", file=sys.stderr)
            time.sleep(1)
            continue
        arguments = (client_connection, delay)
        thread = threading.Thread(target=handle_request, args=arguments, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread is free: give up this client
            print(f"{error}, one client given up", file=sys.stderr)
            client_connection.close()


def handle_request(client_connection, delay):
    global requests
    try:
        request = client_connection.recv(64 * 1024)
        if request:
            client_connection.sendall(RESPONSE)
            number = requests + 1
            show(f"Request {number}: {request!r}")
            time.sleep(delay)
            requests = number
    except OSError:
        pass  # the client is gone, or the terminal
    client_connection.close()


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
    show(f"Serving HTTP on port {port} ...\nPID: {os.getpid()}")
    serve_forever(listen_socket, options.delay)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
