"""Stage 4c: an event loop. One thread serves all clients.

Shows   that nobody has to wait in accept or recv. A selector waits for all
        sockets at once, and the loop calls only where something is ready.
Type    python3 webserver4c.py                  in one terminal,
        curl telnet://localhost:8888            in two others, silent,
        curl localhost:8888/hello               in a fourth.
Expect  curl is answered. The count is right without a lock: no other request
        runs between reading and writing it.
Try     python3 webserver4c.py --delay 5, and a few clients at once. They are
        served one after the other, as in 3b: a handler that waits makes
        everybody wait.
Note    When no descriptor is free, the listening socket leaves the selector for
        a while. It would stay ready, and the loop would never sleep.
Note    This answer is short enough for any socket buffer. What send leaves over
        of a longer one has to wait until the selector reports EVENT_WRITE.
Next    webserver4d.py lets a handler wait without holding up the others.
"""

import argparse
import os
import selectors
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
requests = 0  # answered so far


def make_listen_socket(host, port):
    listen_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listen_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listen_socket.bind((host, port))
    listen_socket.listen(REQUEST_QUEUE_SIZE)
    return listen_socket


def serve_forever(listen_socket, delay):
    selector = selectors.DefaultSelector()
    selector.register(listen_socket, selectors.EVENT_READ)
    listen_socket.setblocking(False)
    while True:
        accepting = listen_socket in selector.get_map()
        ready = selector.select(None if accepting else 1)  # waits for all of them
        if not accepting:
            selector.register(listen_socket, selectors.EVENT_READ)
        for key, events in ready:
            if key.fileobj is listen_socket:
                accept(listen_socket, selector)
            else:
                handle_request(key.fileobj, selector, delay)


def accept(listen_socket, selector):
    try:
        client_connection, client_address = listen_socket.accept()
    except (BlockingIOError, ConnectionAbortedError):
        return  # the client is gone
    except OSError as error:  # no descriptor is free: one may be, soon
        print(f"accept failed, trying again: {error}", file=sys.stderr)
        selector.unregister(listen_socket)  # it stays ready: select would not wait
        return
    client_connection.setblocking(False)
    selector.register(client_connection, selectors.EVENT_READ)


def handle_request(client_connection, selector, delay):
    global requests
    try:
        try:
            request = client_connection.recv(64 * 1024)
        except BlockingIOError:
            return  # it was not ready after all
        if request:
            client_connection.sendall(RESPONSE)
            number = requests + 1
            show(f"Request {number}: {request!r}")
            time.sleep(delay)
            requests = number
    except OSError:
        pass  # the client is gone, or the terminal
    selector.unregister(client_connection)
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
