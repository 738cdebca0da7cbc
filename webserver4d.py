"""Stage 4d: coroutines. The event loop is asyncio's.

Shows   that a handler can read from top to bottom, as 3a's does, and still let
        the others run. Each await marks a place where it may be left.
Type    python3 webserver4d.py --delay 1        in one terminal,
        for i in 1 2 3 4 5; do curl localhost:8888/hello & done; wait
                                                in another.
Expect  All are greeted at once and end after one delay. They are requests 1 to
        5: no await stands between reading and writing the count.
Try     time.sleep(delay) in place of await asyncio.sleep(delay). The clients
        take turns, as in 4c. PYTHONASYNCIODEBUG=1 names the culprit.
Next    webserver4e.py uses all processors.
"""

import argparse
import asyncio
import os
import socket
import sys

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


async def serve_forever(listen_socket, delay):
    loop = asyncio.get_running_loop()
    listen_socket.setblocking(False)
    tasks = set()
    while True:
        try:
            client_connection, client_address = await loop.sock_accept(listen_socket)
        except ConnectionAbortedError:
            continue  # the client is gone
        except OSError as error:  # no descriptor is free: one may be, soon
            print(f"accept failed, trying again: {error}", file=sys.stderr)
            await asyncio.sleep(1)
            continue
        task = asyncio.create_task(handle_request(client_connection, delay))
        tasks.add(task)  # the loop itself may forget it
        task.add_done_callback(tasks.discard)


async def handle_request(client_connection, delay):
    global requests
    loop = asyncio.get_running_loop()
    try:
        request = await loop.sock_recv(client_connection, 64 * 1024)
        if request:
            await loop.sock_sendall(client_connection, RESPONSE)
            requests += 1  # no await between reading and writing it
            show(f"Request {requests}: {request!r}")
            await asyncio.sleep(delay)
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
    asyncio.run(serve_forever(listen_socket, options.delay))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
