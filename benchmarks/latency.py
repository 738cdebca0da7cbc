"""How long a client waits for its answer behind slow clients."""

import statistics
import time

from harness import system
from harness.servers import StageServer
from harness.stages import LONG
from harness.waiting import wait_until

DELAY = 0.1  # seconds that 3b sleeps
ROUNDS = 5
QUEUE = 6  # clients that 3b's listen queue holds
SLOW = [*range(QUEUE + 1), 12, 25, 50, 100, 200]


def ask(server):
    """Seconds from a new client's connect to the first bytes of its answer.

    Raises AssertionError if the connection ends without any.
    """
    began = time.perf_counter()
    connection = server.connect()
    connection.ask()
    assert connection.socket.recv(4096), "the connection ends without an answer"
    return time.perf_counter() - began


def behind_3b(step, numbers=SLOW[: QUEUE + 1]):
    """A dict from the number of slow clients to the seconds that the next one waits.

    The clock starts when the first of them asks; by then the others are in the queue. There are no more than it
    holds: the kernel would not connect them.
    """
    found = {}
    server = StageServer("3b", delay=DELAY)
    try:
        for slow in numbers:
            first = server.connect()
            wait_until(lambda: system.queued(server.port) == 0, "the first is accepted")
            behind = [server.ask() for _ in range(slow)]
            began = time.perf_counter()
            first.ask()
            last = behind[-1] if behind else first
            assert last.socket.recv(4096), "the connection ends without an answer"
            found[slow] = time.perf_counter() - began
            last.wait_for_end()  # the next round starts with an idle server
            step()
    finally:
        server.kill()
    return found


def beside(stage, step):
    """The same for 3c or 3g, whose slow clients come one after the other."""
    found, served = {}, 0
    server = StageServer(stage, delay=LONG if stage == "3c" else 0)
    try:
        for slow in SLOW:
            for _ in range(served, slow):
                ask(server) if stage == "3c" else server.connect()
            server.wait_until_children(slow)
            found[slow] = ask(server)
            served = slow + (stage == "3c")  # that one's child sleeps, too
            step()
    finally:
        server.kill()
    return found


def all_stages(rounds, step):
    """For each stage, a dict from the number of slow clients to the median wait in milliseconds."""
    results = {}
    for stage in ("3b", "3c", "3g"):
        found = [behind_3b(step) if stage == "3b" else beside(stage, step) for _ in range(rounds)]
        results[stage] = {slow: 1000 * statistics.median(each[slow] for each in found) for slow in found[0]}
    return results
