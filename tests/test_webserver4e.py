"""Stage 4e: a worker for each processor, and an event loop in each worker.

Fork the workers as in 4a, as many as there are processors, and serve as in 4d in each.
"""

import os
import signal

from harness import system
from harness.assertions import assert_not_answered, wait_until_counted
from harness.clients import body_of
from harness.stages import LONG
from harness.waiting import mismatch, wait_until

PROCESSORS = os.cpu_count()


def test_there_is_a_worker_for_each_processor_and_each_counts_its_own(serve):
    """There is a worker for each processor. It accepts clients, and counts its own requests.

    Hint: Fork the workers before there is a loop. Each runs a loop of its own, and accepts
    from the same listening socket. Print `Request 1: b'GET ...'` in each.
    """
    server = serve()
    for worker in server.wait_until_workers(PROCESSORS)[:3]:
        paths = [f"/{worker}-{n}" for n in (1, 2)]
        with server.only(worker):
            for path in paths:
                server.ask(path).wait_for_end()
        numbers = wait_until_counted(server, paths)
        assert numbers == [1, 2], mismatch(f"a worker counts {numbers}", "1, 2")


def test_silent_clients_hold_up_nobody(serve):
    """100 silent clients hold up nobody.

    Hint: A worker awaits what comes from a client, in a task of its own.
    Again: curl telnet://localhost:8888, and then in one more: curl localhost:8888
    """
    server = serve()
    silent = [server.connect() for _ in range(100)]
    assert body_of(server.ask().wait_for_end()) != b"", mismatch("the answer is empty", "a greeting")
    for client in silent:
        assert_not_answered(client)


def test_clients_are_answered_at_once_by_the_workers(serve):
    """20 clients are all answered at once, and no process is made for them.

    Hint: A worker awaits the delay, and serves others meanwhile.
    """
    server = serve(delay=LONG)
    before = server.wait_until_workers(PROCESSORS)
    for client in [server.ask() for _ in range(20)]:
        client.wait_for_answer()
    after = server.workers()
    assert after == before, mismatch(f"{before} become {after}", "the workers stay the same")


def test_worker_that_is_killed_takes_its_own_clients_along_and_is_replaced(serve):
    """A worker that is killed takes its own clients along, is reaped, and replaced.

    Hint: Let the parent call wait in a loop, and fork another worker when one has ended.
    Again: kill -9 a worker
    """
    server = serve()
    workers = server.wait_until_workers(PROCESSORS)[:2]
    silent = {}
    for worker in workers:
        with server.only(worker):
            silent[worker] = [server.connect() for _ in range(2)]
            wait_until(lambda: system.queued(server.port) == 0, "it accepts them")
    killed = workers[0]
    os.kill(killed, signal.SIGKILL)
    for client in silent.pop(killed):
        client.wait_for_end()
    wait_until(lambda: len(server.workers()) == PROCESSORS, "there are as many workers as before")
    assert system.process(killed) is None, mismatch("the killed worker stays a zombie", "it is reaped")
    for clients in silent.values():
        ended = any(client.ended() for client in clients)
        assert not ended, mismatch("another worker's client loses its connection", "none")
    server.ask().wait_for_end()
