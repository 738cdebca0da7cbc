"""Stage 4a: four workers, made before there is a client.

Fork four workers, which accept on the same listening socket. Each serves one client at a
time, as 3b does, and counts its own requests. The parent replaces a worker that dies.
"""

import os
import signal

from harness.assertions import assert_not_answered, assert_reaped, wait_until_counted
from harness.clients import body_of
from harness.stages import LONG
from harness.waiting import mismatch, wait_until


def test_four_clients_are_answered_at_once_and_the_fifth_waits(serve):
    """Four clients are answered at once, and the fifth waits in the listen queue.

    Hint: Fork four workers before the loop. Each calls accept on the same listening
    socket, serves one client at a time, and accepts the next one after that.
    Again: for n in 1 2 3 4 5; do curl localhost:8888/$n & done; wait
    """
    server = serve(delay=LONG)
    clients = [server.ask() for _ in range(4)]

    def answered():
        return sum(client.answered() for client in clients)

    wait_until(lambda: answered() == 4, "all are", seen=lambda: f"{answered()} of 4 clients are answered")
    fifth = server.ask()
    try:
        server.wait_until_queued(1, unless=fifth)
    except AssertionError:
        if not fifth.answered():
            raise
        more = [server.ask() for _ in range(3)]
        server.wait_until_blocked()
        count = 5 + sum(client.answered() for client in more)
        what = f"{count} clients are answered at once"
        raise AssertionError(mismatch(what, "4 are, one by each worker, and the parent serves nobody")) from None


def test_fifth_client_is_served_when_a_silent_one_leaves(serve):
    """Four silent clients hold up everybody, until one of them leaves.

    Hint: A worker waits in recv for its client: that is 3a's problem, four times over.
    Again: for n in 1 2 3 4; do sleep 9 | curl -s telnet://localhost:8888 & done; sleep 1; curl localhost:8888
    """
    server = serve()
    silent = [server.connect_and_settle() for _ in range(4)]
    fifth = server.ask()
    server.wait_until_queued(1, unless=fifth)
    for client in silent:
        assert_not_answered(client)
    silent[2].close()
    fifth.wait_for_answer()


def test_no_process_is_made_for_a_request(serve):
    """The same four workers serve all requests: no process is made for one.

    Hint: Fork before the first client, not after accept. A worker that has served a
    client does not end, but accepts the next one.
    Again: for n in 1 2 3 4 5; do curl localhost:8888/$n; pgrep -f {command}; done
    """
    server = serve()
    before = server.wait_until_workers(4)
    for _ in range(20):
        assert body_of(server.ask().wait_for_end()) != b"", mismatch("the answer is empty", "a greeting")
    after = server.workers()
    assert after == before, mismatch(f"{before} become {after}", "the workers stay the same")


def test_each_worker_counts_its_own_requests(serve):
    """Also asked: each worker counts its own requests, and prints the number with each.

    Hint: Let the worker add one to a variable and print `Request 1: b'GET ...'`. After
    fork each process has a copy of that variable.
    Again: for n in $(seq 20); do curl localhost:8888/$n; done
    """
    server = serve()
    server.wait_until_workers(4)
    silent = [server.connect_and_settle() for _ in range(3)]  # one worker is free
    numbers = count_three(server, "/one")
    assert numbers == [1, 2, 3], mismatch(f"a worker counts {numbers}", "1, 2, 3")
    server.connect_and_settle()  # at that worker: now another gets free
    silent[0].close()
    server.wait_until_blocked()
    numbers = count_three(server, "/other")
    first = numbers[0] if numbers[0] in (1, 2) else 1  # 2 if the silent client counts
    wanted = [first, first + 1, first + 2]
    assert numbers == wanted, mismatch(f"another worker counts {numbers}", "1, 2, 3: its own requests")


def count_three(server, path):
    """Ask three times, one after the other. Returns the numbers that are printed."""
    paths = [f"{path}-{n}" for n in (1, 2, 3)]
    for each in paths:
        server.ask(each).wait_for_end()
        server.wait_until_blocked()  # the worker is back in accept
    return wait_until_counted(server, paths)


def test_worker_that_is_killed_takes_one_client_along_and_is_replaced(serve):
    """A worker that is killed takes one client along, is reaped, and replaced.

    Hint: Let the parent call wait in a loop, and fork another worker when one has ended.
    Again: pgrep -f {command}; pkill -9 -nf {command}; sleep 2; pgrep -f {command}
    """
    server = serve()
    workers = server.wait_until_workers(4)
    silent = [server.connect_and_settle() for _ in range(4)]
    waiting = server.ask()
    os.kill(workers[0], signal.SIGKILL)
    wait_until(lambda: len(server.workers()) == 4 or waiting.answered(), "the killed worker is replaced")
    waiting.wait_for_answer()
    ended = sum(client.ended() for client in silent)
    assert ended == 1, mismatch(f"{ended} of 4 clients lose their connection", "one does")
    server.wait_until_workers(4)
    assert_reaped(workers[0])
