"""How long a client waits for its answer while others, slow ones, are being served."""

import statistics
import time

from servers import OwnServer

DELAY = 0.1  # seconds that 3b sleeps
LONG = 60  # seconds that 3c's children sleep: longer than this looks at them
ROUNDS = 3
QUEUE = 6  # clients that can wait for 3b
SLOW = [*range(QUEUE + 1), 12, 25, 50, 100, 200]


def ask(server):
    """A new client's connection, and how many seconds it took until it was answered.

    From before the connect to the first bytes. Raises OSError if none come.
    """
    began = time.perf_counter()
    connection = server.connect()
    connection.ask()
    connection.received = connection.socket.recv(4096)
    return connection, time.perf_counter() - began


def behind_3b(step):
    """A dict from how many slow clients there are to the seconds that the next one waits.

    No more than the queue holds: the kernel would not connect it.
    """
    found = {}
    server = OwnServer("3b", delay=DELAY)
    try:
        for slow in SLOW[: QUEUE + 1]:
            clients = []
            for _ in range(slow):
                clients.append(server.ask())
                clients[0].wait_for_answer()  # being served: none of the queue
            connection, found[slow] = ask(server)
            connection.wait_for_end()  # so there is nobody left to wait for
            step()
    finally:
        server.kill()
    return found


def beside_3c(step):
    """The same for 3c, to which there is one slow client more after each look."""
    found = {}
    server = OwnServer("3c", delay=LONG)
    served = 0
    try:
        for slow in SLOW:
            while served < slow:
                ask(server)
                served += 1
            _, found[slow] = ask(server)
            served += 1
            step()
    finally:
        server.kill()
    return found


def beside_3g(step):
    """The same for 3g."""
    found = {}
    server = OwnServer("3g")
    served = 0
    try:
        for slow in SLOW:
            while served < slow:
                server.connect()
                served += 1
            server.wait_until_children(slow)
            _, found[slow] = ask(server)
            server.wait_until_children(slow)
            step()
    finally:
        server.kill()
    return found


def all_stages(rounds, step):
    """A dict from stage to a dict: how many slow clients, and the median wait in ms."""
    results = {}
    for stage, measure in (("3b", behind_3b), ("3c", beside_3c), ("3g", beside_3g)):
        found = [measure(step) for _ in range(rounds)]
        results[stage] = {
            slow: 1000 * statistics.median(each[slow] for each in found)
            for slow in found[0]
        }
    return results
