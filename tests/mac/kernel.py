"""Show what the kernel does where macOS's is said to differ from Linux's, then wait to be killed: see samples."""

import errno
import os
import resource
import socket
import time


def outcome(function):
    """What becomes of a call: its result, or its error, and the milliseconds that it took."""
    began = time.monotonic()
    try:
        result = function()
    except OSError as error:
        result = f"{errno.errorcode.get(error.errno)} {error}"
    return f"{result}, after {(time.monotonic() - began) * 1000:.0f} ms"


def connect(address):
    with socket.socket() as client:
        client.settimeout(2)
        client.connect(address)
        return "connected"


def places(backlog):
    """How many connections a listen queue takes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)
        clients = []
        try:
            while len(clients) < 200:
                clients.append(socket.create_connection(listener.getsockname(), 0.5))
        except OSError as error:
            return f"{len(clients)}, then {error!r}"
        finally:
            for client in clients:
                client.close()
        return f"{len(clients)} or more"


def accept_without_descriptors():
    """What accept does for want of a descriptor, and what becomes of its client."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        client.connect(listener.getsockname())
        client.settimeout(1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
        try:
            failed = outcome(listener.accept)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return f"{failed}; its client: {outcome(lambda: client.recv(1))}"


def main():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        print("a port that is bound and does not listen:", outcome(lambda: connect(bound.getsockname())))
    print("127.0.0.2:", outcome(lambda: connect(("127.0.0.2", 9))))
    for backlog in (0, 5, 1024):
        print(f"listen({backlog}) takes", places(backlog))
    print("accept without a descriptor:", accept_without_descriptors())
    listener = socket.create_server(("127.0.0.1", 0))
    both = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=socket.has_dualstack_ipv6())
    ports = [one.getsockname()[1] for one in (listener, both)]
    # For each an accepted client, and for the first another one in its queue
    held = [socket.create_connection(("127.0.0.1", port)) for port in (*ports, ports[0])]
    held += [one.accept()[0] for one in (listener, both)]
    if os.fork() == 0:
        os._exit(0)  # a zombie
    print(f"ready: port {ports[0]} and, of both families, {ports[1]}, with {len(held)} ends of connections")
    time.sleep(60)


if __name__ == "__main__":
    main()
