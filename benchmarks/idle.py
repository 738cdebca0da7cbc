"""What silent clients cost: memory, processes, threads, and a newcomer's time."""

import os
import resource
import socket
import statistics
import time

from harness import system
from harness.servers import StageServer
from harness.waiting import wait_until

STAGES = ["3g", "4a", "4b", "4c", "4d", "4e"]
COUNTS = [0, 100, 250, 500, 1000, 2500, 5000]  # silent clients
FEW = ["3g", "4a"]  # at most 500: each client has a process, or waits in the queue
WORKERS = {"4a": 4, "4e": os.cpu_count() or 1}
PATIENCE = 0.5  # seconds after which a newcomer counts as not served
NEWCOMERS = 5
OTHERS = 200  # descriptors besides those of the clients


def counts(stage, most):
    """The numbers of silent clients at which a stage is measured."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if descriptors != resource.RLIM_INFINITY:
        most = min(most, descriptors - OTHERS)
    most = min(most, 500) if stage in FEW else most
    return [count for count in COUNTS if count <= most]


def time_of_newcomer(port):
    """Milliseconds from a client's connect to its answer; None if it is not served."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(b"GET /hello HTTP/1.1\r\n\r\n")
        try:
            assert client.recv(4096), "the connection ends without an answer"
        except socket.timeout:
            return None
    return 1000 * (time.perf_counter() - began)


def time_of_newcomers(port):
    """The median of NEWCOMERS newcomers' milliseconds; None if one is not served."""
    times = []
    while len(times) < NEWCOMERS and None not in times:
        times.append(time_of_newcomer(port))
    return None if None in times else statistics.median(times)


def of_stage(stage, most, step):
    """Measure a stage. Returns a dict of lists: silent clients, MiB, processes, threads, and a newcomer's ms.

    Stops at the first count at which a newcomer isn't served (recorded as None). step() is called after each count.
    Raises AssertionError if the server does not accept its clients.
    """
    names = ("clients", "memory", "processes", "threads", "newcomer")
    found = {name: [] for name in names}
    server, clients = StageServer(stage), []
    try:
        if stage in WORKERS:
            server.wait_until_workers(WORKERS[stage])
        for count in counts(stage, most):
            connect(stage, server, clients, count)
            pids = [server.pid, *(one.pid for one in system.descendants(server.pid))]
            memory = round(sum(map(system.proportional_memory, pids)) / 1024, 1)  # MiB
            threads = sum(map(system.threads, pids))
            newcomer = time_of_newcomers(server.port)
            for name, value in zip(names, (count, memory, len(pids), threads, newcomer)):
                found[name].append(value)
            step()
            if newcomer is None:
                break
        return found
    finally:
        for client in clients:
            client.close()
        server.kill()


def connect(stage, server, clients, count):
    """Connect silent clients until there are `count`, and wait until the server has dealt with them."""
    while len(clients) < count:
        clients.append(socket.create_connection(("127.0.0.1", server.port), timeout=60))
    left = max(count - WORKERS["4a"], 0) if stage == "4a" else 0
    wait_until(lambda: system.queued(server.port) == left, "clients are accepted", allow=60)
    server.wait_until_blocked()  # the last one has its thread, too
    if stage == "3g":
        server.wait_until_children(count)


def all_stages(most, step):
    """A dict from each of STAGES to its of_stage(); {} except on Linux, where Pss is."""
    if not system.LINUX:
        return {}
    return {stage: of_stage(stage, most, step) for stage in STAGES}


def steps(most):
    """How often all_stages() calls step(), at most."""
    return sum(len(counts(stage, most)) for stage in STAGES)
