"""Stage 3a: an iterative server. It serves one client at a time.

Shows   the system calls that make a server: socket, setsockopt, bind and
        listen, then accept, recv, send and close for each client.
Type    python3 webserver3a.py                  in one terminal,
        curl localhost:8888/hello               in another.
Expect  curl prints "Hello, World!" and ends. The server prints the request,
        byte for byte. Any other path gets the same answer.
Try     curl telnet://localhost:8888            in a third terminal. It says
        nothing. A curl in the second terminal has to wait now: the server is in
        recv, waiting for the silent client. End that one with Ctrl-C.
Next    webserver3b.py takes its time over each client.
"""

import argparse
import os
import socket
import sys

REQUEST_QUEUE_SIZE = 5
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


def serve_forever(listen_socket):
    while True:
        client_connection, client_address = listen_socket.accept()
        handle_request(client_connection)
        client_connection.close()


def handle_request(client_connection):
    try:
        request = client_connection.recv(64 * 1024)
        if request:
            client_connection.sendall(RESPONSE)
            show(repr(request))
    except OSError:
        pass  # the client is gone, or the terminal


def show(text):
    os.write(1, f"{text}\n".encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--host", default="127.0.0.1", help="(default: %(default)s)")
    parser.add_argument("--port", type=int, default=8888, help="0: any (default: 8888)")
    options = parser.parse_args()
    try:
        listen_socket = make_listen_socket(options.host, options.port)
    except (OSError, OverflowError, TypeError) as error:
        sys.exit(f"Cannot listen on {options.host} port {options.port}: {error}")
    port = listen_socket.getsockname()[1]
    show(f"Serving HTTP on port {port} ...")
    serve_forever(listen_socket)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
