"""How long a client waits for its answer while others, slow ones, are being served."""

import statistics
import time

from servers import OwnServer

DELAY = 0.1  # seconds that 3b sleeps
LONG = 600  # seconds that 3c's children sleep: they are looked at for less
ROUNDS = 5
QUEUE = 6  # clients that can wait for 3b
SLOW = [*range(QUEUE + 1), 12, 25, 50, 100, 200]


def ask(server):
    """A new client's connection, and how many seconds it took until it was answered.

    From before the connect to the first bytes. Raises AssertionError if none come.
    """
    began = time.perf_counter()
    connection = server.connect()
    connection.ask()
    connection.received = connection.socket.recv(4096)
    seconds = time.perf_counter() - began
    assert connection.received, "the connection ends without an answer"
    return connection, seconds


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


def beside(stage, step):
    """The same for 3c or 3g, to which the slow clients come one after the other."""
    found = {}
    server = OwnServer(stage, delay=LONG if stage == "3c" else None)
    served = 0
    try:
        for slow in SLOW:
            while served < slow:
                if stage == "3c":
                    ask(server)
                else:
                    server.connect()
                served += 1
            server.wait_until_children(served)
            _, found[slow] = ask(server)
            if stage == "3c":
                served += 1  # that one's child sleeps, too
            step()
    finally:
        server.kill()
    return found


def all_stages(rounds, step):
    """A dict from stage to a dict: how many slow clients, and the median wait in ms."""
    results = {}
    for stage in ("3b", "3c", "3g"):
        if stage == "3b":
            found = [behind_3b(step) for _ in range(rounds)]
        else:
            found = [beside(stage, step) for _ in range(rounds)]
        results[stage] = {
            slow: 1000 * statistics.median(each[slow] for each in found)
            for slow in SLOW
            if slow in found[0]
        }
    return results
