"""Free ports for servers: tests run at the same time, so no two processes may pick the same one."""

import contextlib
import socket


def free_port():
    """A port of 127.0.0.1 that no other process of the tests uses while this one runs.

    It is below the ephemeral ports (ip(7)). Each process reserves blocks of a hundred ports by binding a UDP
    socket to the first port of the block: only one process can, and TCP ports stay free. Raises RuntimeError
    if all are taken.
    """
    for port in _ports:
        with socket.socket() as unused, contextlib.suppress(OSError):
            unused.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("there is no free port")


def own_ports():
    """The ports that this process has reserved, each once."""
    for first in range(10000, first_ephemeral_port() - 99, 100):
        reservation = socket.socket(type=socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", first))
        except OSError:
            reservation.close()
            continue
        _reservations.append(reservation.detach())  # open until this process ends
        yield from range(first, first + 100)


def first_ephemeral_port():
    """The first port that the kernel gives to clients (ip(7)); Linux's default where unknown."""
    with contextlib.suppress(FileNotFoundError):
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
            first = int(file.read().split()[0])
            return first if first > 11000 else 32768
    return 32768


_reservations = []
_ports = own_ports()
