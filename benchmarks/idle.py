"""What clients that say nothing cost: memory, processes, threads, and a newcomer's time."""

import os
import pathlib
import re
import resource
import socket
import statistics
import sys
import time

from harness import system
from harness.servers import StageServer
from harness.waiting import wait_until

STAGES = ["3g", "4a", "4b", "4c", "4d", "4e"]
COUNTS = [0, 100, 250, 500, 1000, 2500, 5000]  # silent clients
FEW = ["3g", "4a"]  # they get at most 500: each has a process, or waits in the queue
WORKERS = {"4a": 4, "4e": os.cpu_count() or 1}
PATIENCE = 0.5  # seconds that a newcomer waits before it counts as not served
NEWCOMERS = 5
OTHERS = 200  # descriptors besides those of the clients


def counts(stage, most):
    """How many silent clients a stage gets, one number after the other."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if descriptors != resource.RLIM_INFINITY:
        most = min(most, descriptors - OTHERS)
    most = min(most, 500) if stage in FEW else most
    return [count for count in COUNTS if count <= most]


def family(pid):
    """The PIDs of a process and of all that descend from it."""
    found, to_do = [], [pid]
    while to_do:
        found.append(to_do.pop())
        to_do += [child.pid for child in system.children(found[-1])]
    return found


def memory(pid):
    """A process's memory in MB, shared pages in proportion (Pss, proc_pid_smaps(5)).

    0 if it has ended. Linux only.
    """
    try:
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    size = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)  # a zombie has none
    return int(size[1]) / 1000 if size else 0


def threads(pid):
    """How many threads a process has; 0 if it has ended."""
    try:
        return len(list(pathlib.Path(f"/proc/{pid}/task").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def newcomer(port):
    """Milliseconds from a client's connect to its answer; None if it is not served."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(b"GET /hello HTTP/1.1\r\n\r\n")
        try:
            assert client.recv(4096), "the connection ends without an answer"
        except TimeoutError if sys.version_info >= (3, 10) else socket.timeout:
            return None
    return 1000 * (time.perf_counter() - began)


def of_stage(stage, most, step):
    """A dict of lists: silent clients, MB, processes, threads, and a newcomer's ms.

    It ends where a newcomer is not served, who is None then.

    step() is called after each number of clients. Raises AssertionError if the server does
    not accept its clients.
    """
    names = ("clients", "memory", "processes", "threads", "newcomer")
    found = {name: [] for name in names}
    server, clients = StageServer(stage), []
    try:
        if stage in WORKERS:
            server.wait_until_workers(WORKERS[stage])
        for count in counts(stage, most):
            while len(clients) < count:
                clients.append(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            left = max(count - WORKERS["4a"], 0) if stage == "4a" else 0
            wait_until(lambda: system.queued(server.port) == left, "clients are accepted", allow=60)
            server.wait_until_blocked()  # the last one has its thread, too
            if stage == "3g":
                server.wait_until_children(count)
            pids = family(server.pid)
            found["clients"].append(count)
            found["memory"].append(round(sum(map(memory, pids)), 1))
            found["processes"].append(len(pids))
            found["threads"].append(sum(map(threads, pids)))
            times = [newcomer(server.port)]
            if times[0] is not None:
                times += [newcomer(server.port) for _ in range(NEWCOMERS - 1)]
            served = None not in times
            found["newcomer"].append(statistics.median(times) if served else None)
            step()
            if not served:
                break  # nor will it be with more
        return found
    finally:
        for client in clients:
            client.close()
        server.kill()


def all_stages(most, step):
    """What of_stage() returns for each of STAGES; nothing where there is no Pss."""
    if sys.platform != "linux":
        return {}
    return {stage: of_stage(stage, most, step) for stage in STAGES}


def steps(most):
    """How often all_stages() calls its step(), at most."""
    return sum(len(counts(stage, most)) for stage in STAGES)
