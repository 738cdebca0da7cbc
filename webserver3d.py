"""Stage 3d: the parent keeps its copy of every connection. That is a mistake.

Shows   that a connection ends only when the last copy of its descriptor is
        closed, and that a careless server runs out of descriptors, or of
        processes.
Type    python3 webserver3d.py                  in one terminal,
        curl localhost:8888/hello               in another.
Expect  curl prints "Hello, World!" and never ends. The child has closed its
        copy and is gone, but the parent still holds one. Each connection costs
        the parent a descriptor and leaves a zombie, <defunct> in ps -ef, which
        even kill -9 does not remove. Both go when the server goes.
Try     (ulimit -n 256; python3 webserver3d.py)   in one terminal,
        python3 client3.py --max-clients=300      in another. The server dies
        in accept: too many open files.
Try     (ulimit -n 500; ulimit -u 400; python3 webserver3d.py)
        python3 client3.py --max-clients=100 --max-conns=5
        in the same way, but not as root, who has no such limit. The server
        dies in fork: no more processes.
Next    webserver3e.py closes its copy again, and reaps its children.
"""

import argparse
import os
import socket
import sys
import time

REQUEST_QUEUE_SIZE = 5
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
    client_connections = []
    while True:
        client_connection, client_address = listen_socket.accept()
        if os.fork() == 0:  # the child
            listen_socket.close()  # the child's copy
            handle_request(client_connection, delay)
            client_connection.close()
            os._exit(0)
        client_connections.append(client_connection)  # never closed
        show(f"Connections kept open: {len(client_connections)}")


def handle_request(client_connection, delay):
    try:
        request = client_connection.recv(64 * 1024)
        if request:
            client_connection.sendall(RESPONSE)
            show(f"Child {os.getpid()} of {os.getppid()}: {request!r}")
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
