"""Stage 3a: an iterative server. It serves one client at a time.

Shows   the calls that make a server: socket, setsockopt, bind, listen, then
        accept, recv, send and close for each client.
Type    python3 webserver3a.py                  in one terminal,
        curl localhost:8888/hello               in another.
Expect  curl prints "Hello, World!" and ends. The server prints the request, the
        bytes just as they came. Any other path gets the same answer.
Try     curl telnet://localhost:8888            in a third terminal. It connects
        and says nothing, and a curl in the second one waits: the server is in
        recv() for the silent client. Ctrl-C the silent one, and it is served.
Next    webserver3b.py takes its time over each client.
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
    while True:
        client_connection, client_address = listen_socket.accept()
        handle_request(client_connection)
        client_connection.close()


def handle_request(client_connection):
    try:
        request = client_connection.recv(64 * 1024)
        if request:
            os.write(1, f"{request!r}\n".encode())
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
