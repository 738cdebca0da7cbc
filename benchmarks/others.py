"""Peers of the stages: the same designs from the standard library, or as short as they get.

Type    python3 benchmarks/others.py fork 8888      in one terminal,
        curl localhost:8888                         in another.
Expect  The work of a stage, done by another design: it receives and shows the
        request, sends the stages' answer and closes the connection.

Each design imports only what it uses, because the modules that a process has loaded
make fork(2) slower.
"""

import os
import signal
import socket
import sys

REQUEST_QUEUE_SIZE = 1024
RESPONSE = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"Hello, World!\n"
)


def fork(port):
    """The shortest loop that forks for each connection and leaves no zombie.

    A parent that ignores SIGCHLD has none (wait(2), "NOTES").
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listen_socket = socket.create_server(("127.0.0.1", port), backlog=REQUEST_QUEUE_SIZE)
    while True:
        client_connection, client_address = listen_socket.accept()
        if os.fork() == 0:
            request = client_connection.recv(64 * 1024)
            os.write(1, f"{request!r}\n".encode())
            client_connection.sendall(RESPONSE)
            os._exit(0)
        client_connection.close()


def socketservers(kind):
    """A design with this server class of the module socketserver."""

    def design(port):
        import socketserver

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                request = self.request.recv(64 * 1024)
                os.write(1, f"{request!r}\n".encode())
                self.request.sendall(RESPONSE)

        serve(getattr(socketserver, kind), Handler, port)

    return design


def http(port):
    """http.server.ThreadingHTTPServer, which has a log of its own."""
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"Hello, World!\n")

    serve(http.server.ThreadingHTTPServer, Handler, port)


def serve(server_class, handler_class, port):
    class Server(server_class):
        allow_reuse_address = True
        daemon_threads = True
        request_queue_size = REQUEST_QUEUE_SIZE

    Server(("127.0.0.1", port), handler_class).serve_forever()


def loop(port):
    """One thread and a selector, and no defence against misbehaving clients or systems."""
    import selectors

    selector = selectors.DefaultSelector()
    listen_socket = socket.create_server(("127.0.0.1", port), backlog=REQUEST_QUEUE_SIZE)
    selector.register(listen_socket, selectors.EVENT_READ)
    while True:
        for key, events in selector.select():
            if key.fileobj is listen_socket:
                client_connection, client_address = listen_socket.accept()
                selector.register(client_connection, selectors.EVENT_READ)
            else:
                request = key.fileobj.recv(64 * 1024)
                os.write(1, f"{request!r}\n".encode())
                key.fileobj.sendall(RESPONSE)
                selector.unregister(key.fileobj)
                key.fileobj.close()


def streams(port):
    """asyncio streams: one thread, and a coroutine for each connection."""
    import asyncio

    async def handle(reader, writer):
        request = await reader.read(64 * 1024)
        os.write(1, f"{request!r}\n".encode())
        writer.write(RESPONSE)
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(handle, "127.0.0.1", port, backlog=REQUEST_QUEUE_SIZE)
        await server.serve_forever()

    asyncio.run(main())


DESIGNS = {
    "fork": fork,
    "forking": socketservers("ForkingTCPServer"),
    "threading": socketservers("ThreadingTCPServer"),
    "http": http,
    "loop": loop,
    "streams": streams,
}

if __name__ == "__main__":
    try:
        DESIGNS[sys.argv[1]](int(sys.argv[2]))
    except KeyboardInterrupt:
        pass
