"""Stage 3d: the parent keeps its copy of every connection. This is a fault.

Shows   that a connection ends when the last copy of its descriptor is closed,
        and what a server runs out of that does not clean up after its children.
Type    python3 webserver3d.py                  in one terminal,
        curl localhost:8888/hello               in another.
Expect  curl prints "Hello, World!" and never ends: the child has closed its copy
        and is gone, but the parent still holds one. Each connection costs the
        parent one more descriptor, and leaves a zombie (<defunct> in ps -ef)
        that even kill -9 does not remove. Both go when the server goes.
Try     ulimit -n 256                           before you start the server, then
        python3 client3.py --max-clients=300    The server dies in accept: too
        many open files. With ulimit -u 400, ulimit -n 500 and 500 clients it
        dies in fork: no more processes (but not as root, who has no such limit).
Next    webserver3e.py closes the connection again, and reaps its children.
"""

import argparse
import errno
import functools
import os
import socket
import sys

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


def serve_forever(listen_socket):
    client_connections = []
    while True:
        client_connection, client_address = listen_socket.accept()
        if os.fork() == 0:  # the child
            listen_socket.close()  # the child's copy
            handle_request(client_connection)
            client_connection.close()
            os._exit(0)
        client_connections.append(client_connection)  # the parent's copy: never closed
        print(f"Connections kept open: {len(client_connections)}", flush=True)


def handle_request(client_connection):
    try:
        request = client_connection.recv(64 * 1024)
        if request:
            client_connection.sendall(RESPONSE)
    except OSError:
        pass  # the client is gone


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
