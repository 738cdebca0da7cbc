"""Stage 4e: a worker for each processor, and an event loop in each worker.

Fork the workers as in 4a, as many as there are processors, and serve as in 4d in each.
"""

import collections
import os
import signal
from functools import partial

import pytest
from harness.assertions import (
    assert_no_thread_each,
    assert_not_answered,
    assert_reaped,
    connect_silent_clients,
    size,
    wait_until_counted,
)
from harness.clients import body_of
from harness.stages import LONG
from harness.waiting import mismatch, wait_until

# All of the machine, and those that a process may use (Linux): either is right
PROCESSORS = [os.cpu_count() or 1]
if hasattr(os, "sched_getaffinity"):
    PROCESSORS.append(len(os.sched_getaffinity(0)))


def test_there_is_a_worker_for_each_processor(serve):
    """There is a worker for each processor, and it has the listening socket.

    Hint: Fork the workers before there is a loop, as many as this machine has processors. Each
    runs a loop of its own, and accepts from the same listening socket itself. (A parent that
    accepts for its workers, as Node's cluster does by default, is another design.)
    Again: pgrep -f {command}; nproc
    """
    serve().wait_until_workers(*PROCESSORS, why=": this machine has so many processors")


@pytest.mark.depends_on("test_there_is_a_worker_for_each_processor")
def test_each_worker_counts_its_own(serve):
    """Also asked: each worker accepts clients, and counts its own requests.

    Hint: Print `Request 1: b'GET ...'` in each worker. After fork each has its own count.
    Again: for n in $(seq 20); do curl localhost:8888/$n; done
    """
    server = serve()
    workers = server.wait_until_workers(*PROCESSORS)
    paths, counted = [], collections.Counter()
    fewest = 2 * len(workers) + 2
    while len(paths) < fewest or counted[1] < len(workers) and len(paths) < 40:
        paths.append(f"/{len(paths)}")
        server.ask(paths[-1]).wait_for_end()
        counted.update(wait_until_counted(server, paths[-1:]))
    # Each worker's numbers begin with 1: no number is there more often than the one before, and 1 once for each.
    series = [counted[n] for n in range(1, len(paths) + 1)]
    right = counted[1] <= len(workers) and sum(series) == len(paths) and series == sorted(series, reverse=True)
    assert right, mismatch(f"the workers count {sorted(counted.elements())}", "each 1, 2, 3 ...")
    if counted[1] == len(workers) or counted[1] > 1 and server.listens_more_than_once():
        return  # with a listening socket for each, the kernel may choose one that is stopped, and the client waits
    tried = set()
    for _ in workers[:3]:  # one may be faster than the others, and serve them all
        # One that was stopped may have ended (its epoll_wait fails with EINTR then, signal(7)), and is replaced.
        worker = next(pid for pid in server.wait_until_workers(len(workers)) if pid not in tried)
        tried.add(worker)
        paths = [f"/{worker}-{n}" for n in (1, 2)]
        with server.only(worker):
            for path in paths:
                server.ask(path).wait_for_end()
        first, second = wait_until_counted(server, paths)
        assert second == first + 1, mismatch(f"a worker counts {first}, {second}", "one more each time")
        counted[1] += first == 1
    assert counted[1] > 1 or len(workers) == 1, mismatch("all workers have one count", "each counts its own")


def test_silent_clients_hold_up_nobody(serve):
    """100 silent clients hold up nobody, and no thread is made for them.

    Hint: A worker awaits what comes from a client, in a task of its own.
    Again: for n in 1 2 3; do sleep 9 | curl -s telnet://localhost:8888 & done; sleep 1; curl localhost:8888;
    .venv/bin/python watch3.py --once
    """
    server = serve()
    server.wait_until_blocked()
    before = size(server)
    silent = connect_silent_clients(server, 100)
    assert body_of(server.ask().wait_for_end()) != b"", mismatch("the answer is empty", "a greeting")
    assert_no_thread_each(server, before, len(silent))
    for client in silent:
        assert_not_answered(client)


@pytest.mark.depends_on("test_there_is_a_worker_for_each_processor")
def test_clients_are_answered_at_once_by_the_workers(serve):
    """20 clients are all answered at once, and no process or thread is made for them.

    Hint: A worker awaits the delay, and serves others meanwhile.
    Again: for n in 1 2 3 4 5; do curl localhost:8888/$n & done; sleep 1; .venv/bin/python watch3.py --once
    """
    server = serve(delay=LONG)
    workers = server.wait_until_workers(*PROCESSORS)
    before = size(server)
    clients = [server.ask() for _ in range(20)]
    for client in clients:
        client.wait_for_answer()
    assert_no_thread_each(server, before, len(clients))
    after = server.workers()
    assert after == workers, mismatch(f"{workers} become {after}", "the workers stay the same")


@pytest.mark.depends_on("test_there_is_a_worker_for_each_processor")
def test_worker_that_is_killed_takes_its_own_clients_along_and_is_replaced(serve):
    """A worker that is killed takes its own clients along, is reaped, and replaced.

    Hint: Let the parent call wait in a loop, and fork another worker when one has ended.
    Again: pgrep -f {command}; pkill -9 -nf {command}; sleep 2; pgrep -f {command}
    """
    server = serve()
    workers = server.wait_until_workers(*PROCESSORS)
    clients = [server.connect() for _ in range(8)]
    accepted = {each: wait_until(partial(server.worker_of, each), "a worker accepts it") for each in clients}
    killed = accepted[clients[0]]
    os.kill(killed, signal.SIGKILL)
    for client in clients:
        if accepted[client] == killed:
            wait_until(client.ended, "the killed worker's clients lose their connections")
    after = server.wait_until_workers(len(workers))
    assert_reaped(killed)
    gone = set(workers) - set(after) - {killed}
    assert not gone, mismatch(f"{gone} end, too", "only the killed worker does")
    ended = sum(client.ended() for client in clients if accepted[client] != killed)
    assert ended == 0, mismatch(f"{ended} clients of other workers lose their connections", "none does")
    server.ask().wait_for_answer()
