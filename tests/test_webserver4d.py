"""Stage 4d: coroutines. A handler that awaits lets the others run.

Make a task for each client. It awaits the request and the delay, and counts where nothing
is awaited in between. Nobody waits for anybody, and one thread does it all.
"""

import time

from harness.assertions import (
    assert_not_answered,
    assert_one_thread,
    assert_survives_without_descriptors,
    wait_until_counted,
)
from harness.clients import body_of
from harness.stages import LONG
from harness.waiting import mismatch


def test_clients_are_answered_at_once_by_one_thread(serve):
    """Clients are all answered at once, by one thread.

    Hint: Make a task for each client, and await the delay: await asyncio.sleep(delay).
    """
    server = serve(delay=LONG)
    for client in [server.ask() for _ in range(5)]:
        client.wait_for_answer()
    assert_one_thread(server)


def test_clients_all_end_after_about_one_delay(serve):
    """Six clients all end after about one delay.

    Hint: time.sleep holds up the whole loop. What is awaited lets the others run.
    """
    server = serve(delay=0.5)
    start = time.monotonic()
    for client in [server.ask() for _ in range(6)]:
        client.wait_for_end()
    took = time.monotonic() - start
    one, six = server.delay, 6 * server.delay
    assert one <= took < six, mismatch(f"they take {took:.2f} s", f"{one} s, not {six} s")


def test_silent_clients_hold_up_nobody(serve):
    """100 silent clients hold up nobody.

    Hint: Await what comes from a client, in a task of its own.
    Again: curl telnet://localhost:8888, and then in one more: curl localhost:8888
    """
    server = serve()
    silent = [server.connect() for _ in range(100)]
    assert body_of(server.ask().wait_for_end()) != b"", mismatch("the answer is empty", "a greeting")
    for client in silent:
        assert_not_answered(client)


def test_requests_at_the_same_time_are_counted(serve):
    """Requests that come together are counted right, although they overlap: 1 to 20.

    Hint: Let no await stand between reading the count and writing it. Print the number
    as `Request 1: b'GET ...'`.
    """
    server = serve(delay=LONG)
    paths = [f"/{n}" for n in range(20)]
    for path in paths:
        server.ask(path)
    numbers = sorted(wait_until_counted(server, paths))
    assert numbers == [*range(1, 21)], mismatch(f"they are counted {numbers}", "1 to 20")


def test_waits_at_rest_for_a_free_descriptor(serve):
    """Without a free descriptor it goes on, without working in vain.

    Hint: accept fails then. Await a second's sleep before you call it again. (That of
    asyncio.start_server tries as often as its backlog says, each second.)
    Again: ulimit -n 64 before the server starts, and 64 silent clients
    """
    assert_survives_without_descriptors(serve)
