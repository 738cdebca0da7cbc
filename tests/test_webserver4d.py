"""Stage 4d: coroutines. A handler that awaits lets the others run.

Make a task for each client. It awaits the request and the delay, and counts where nothing
is awaited in between. Nobody waits for anybody, and one thread does it all.
"""

import time

from harness.assertions import (
    assert_no_thread_each,
    assert_not_answered,
    assert_survives_without_descriptors,
    connect_silent_clients,
    size,
    wait_until_counted,
)
from harness.clients import body_of
from harness.stages import LONG
from harness.waiting import mismatch


def test_clients_are_answered_at_once_by_one_thread(serve):
    """Clients are all answered at once, by one thread.

    Hint: Make a task for each client, and await the delay: await asyncio.sleep(delay).
    Again: for n in 1 2 3 4 5; do curl localhost:8888/$n & done; sleep 1; .venv/bin/python watch3.py --once
    """
    server = serve(delay=LONG)
    before = size(server)
    clients = [server.ask() for _ in range(20)]
    for client in clients:
        client.wait_for_answer()
    assert_no_thread_each(server, before, len(clients))


def test_clients_all_end_after_about_one_delay(serve):
    """100 clients all end after about one delay.

    Hint: time.sleep holds up the whole loop. What is awaited lets the others run, but for what
    sleeps in a pool of threads there are only so many threads.
    Again: time (for n in $(seq 50); do curl -s localhost:8888/$n & done; wait)
    """
    server = serve(delay=0.5)
    start = time.monotonic()
    clients = []
    while len(clients) < 100:
        clients.append(server.ask())
        clients[-1].wait_for_answer()  # one after the other: the listen queue may be short
        if clients[0].ended():
            break  # a slow machine, or no delay
    last = time.monotonic()
    for client in clients:
        client.wait_for_end()
    end = time.monotonic()
    assert end - start >= server.delay, mismatch(f"they take {end - start:.2f} s", f"{server.delay} s")
    what = f"the last of {len(clients)} ends {end - last:.2f} s after it was answered"
    most = 2.5 * server.delay
    assert end - last < most, mismatch(what, f"it ends after {server.delay} s, not {most:g} s")


def test_silent_clients_hold_up_nobody(serve):
    """100 silent clients hold up nobody.

    Hint: Await what comes from a client, in a task of its own.
    Again: curl telnet://localhost:8888, and then in one more: curl localhost:8888
    """
    server = serve()
    before = size(server)
    silent = connect_silent_clients(server, 100)
    assert body_of(server.ask().wait_for_end()) != b"", mismatch("the answer is empty", "a greeting")
    assert_no_thread_each(server, before, len(silent))
    for client in silent:
        assert_not_answered(client)


def test_requests_at_the_same_time_are_counted(serve):
    """Also asked: requests that come together are counted right, although they overlap: 1 to 20.

    Hint: Let no await stand between reading the count and writing it. Print the number
    as `Request 1: b'GET ...'`.
    Again: for n in $(seq 20); do curl localhost:8888/$n & done; wait
    """
    server = serve(delay=LONG)
    paths = [f"/{n}" for n in range(20)]
    for path in paths:
        server.ask(path)
    numbers = sorted(wait_until_counted(server, paths))
    assert numbers == [*range(1, 21)], mismatch(f"they are counted {numbers}", "1 to 20")


def test_waits_at_rest_for_a_free_descriptor(serve):
    """Without a free descriptor it rests. When there are some again, it serves the next client.

    Hint: accept fails then. Await a second's sleep before you call it again. (That of
    asyncio.start_server tries as often as its backlog says, each second.)
    Again: ulimit -n 64; for n in $(seq 64); do sleep 9 | curl -s telnet://localhost:8888 & done; sleep 5;
    ps -o stat,time -p $(pgrep -of {command}); wait; curl localhost:8888
    """
    assert_survives_without_descriptors(serve)
