"""Stage 4e: an event loop on each processor.

Shows   4a and 4d together: a parent that keeps workers, and in each worker the
        loop of asyncio. nginx is built like this, and so is gunicorn with
        asyncio workers.
Type    python3 webserver4e.py                  in one terminal,
        curl telnet://localhost:8888            in others, as silent clients,
        curl localhost:8888/hello               in one more.
Expect  curl is answered, as long as a worker has a descriptor left.
Try     python3 client3.py --max-clients 128. Each worker counts its own.
Try     kill -9 a worker. Only its own clients are lost, and it is replaced.
Next    docs/next.md says which well-known servers are built like which stage.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys

REQUEST_QUEUE_SIZE = 1024
DELAY = 0  # seconds
WORKERS = os.cpu_count() or 1
if hasattr(os, "sched_getaffinity"):  # Linux: the processors that it may use
    WORKERS = len(os.sched_getaffinity(0))
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


def keep_workers(count):
    """Returns in each worker. In the parent it never does."""
    signals = {signal.SIGALRM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM}
    signals = {n for n in signals if signal.getsignal(n) != signal.SIG_IGN}  # nohup's
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # sigwait takes them, below
    signal.setitimer(signal.ITIMER_REAL, 1, 1)  # SIGALRM, once a second
    workers, number = set(), signal.SIGALRM
    try:
        while number == signal.SIGALRM:
            for pid in list(workers):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    workers.remove(pid)
                    show(f"Worker {pid} terminated with status {status}, replacing it")
            try:
                while len(workers) < count:
                    pid = os.fork()
                    if pid == 0:  # the worker
                        workers.clear()  # they are its parent's to end
                        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
                        return
                    workers.add(pid)
            except OSError as error:  # no process is free: one may be, soon
                print(f"fork failed, {len(workers)} workers: {error}", file=sys.stderr)
            number = signal.sigwait(signals)
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
    sys.exit()


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
            show(f"Worker {os.getpid()}, request {requests}: {request!r}")
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
    parser.add_argument("--workers", type=int, default=WORKERS, metavar="N",
                        help="processes that serve (default: %(default)s)")
    options = parser.parse_args()
    if not 0 <= options.delay <= 86400:
        parser.error("argument --delay: must be from 0 to 86400 seconds")
    if not 1 <= options.workers <= 1000:
        parser.error("argument --workers: must be from 1 to 1000")
    if not hasattr(os, "fork"):
        sys.exit(f"{parser.prog} needs fork. On Windows, use WSL.")
    try:
        listen_socket = make_listen_socket(options.host, options.port)
    except (OSError, OverflowError, TypeError) as error:
        sys.exit(f"Cannot listen on {options.host} port {options.port}: {error}")
    port = listen_socket.getsockname()[1]
    show(f"Serving HTTP on port {port} ...\nParent PID: {os.getpid()}")
    keep_workers(options.workers)
    asyncio.run(serve_forever(listen_socket, options.delay))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
