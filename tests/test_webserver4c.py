"""Stage 4c: an event loop. One thread waits for all clients at once.

Wait for all sockets in one call, such as select, poll or epoll, and call the handler of
4b where something has come. Its delay holds up everybody.
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


def test_silent_clients_hold_up_nobody_in_one_thread(serve):
    """100 silent clients hold up nobody, and one thread serves them all.

    Hint: Call recv only where the selector says that something has come.
    Again: for n in 1 2 3; do sleep 9 | curl -s telnet://localhost:8888 & done; sleep 1; curl localhost:8888;
    .venv/bin/python watch3.py --once
    """
    server = serve()
    before = size(server)
    silent = connect_silent_clients(server, 100)
    assert body_of(server.ask().wait_for_end()) != b"", mismatch("the answer is empty", "a greeting")
    assert_no_thread_each(server, before, len(silent))
    for client in silent:
        assert_not_answered(client)


def test_handler_that_waits_makes_everybody_wait(serve):
    """During the first client's delay a second client is connected, but not served.

    Hint: The handler sleeps in the only thread there is: nobody asks the selector.
    Again: curl localhost:8888/first, and in one more, before it ends: curl localhost:8888/second
    """
    server = serve(delay=LONG)
    server.ask("/first").wait_for_answer()
    server.wait_until_queued(1, unless=server.ask("/second"))


def test_three_clients_take_three_delays(serve):
    """Three clients take three delays.

    Hint: All of the delay passes in the only thread, and that for each client.
    Again: time (for n in 1 2 3; do curl localhost:8888/$n & done; wait)
    """
    server = serve(delay=0.2)
    start = time.monotonic()
    for client in [server.ask() for _ in range(3)]:
        client.wait_for_end()
    took = time.monotonic() - start
    three = 3 * server.delay
    assert took >= three, mismatch(f"they take {took:.2f} s", f"at least {three:g} s")


def test_requests_at_the_same_time_are_counted(serve):
    """Also asked: requests that come together are counted right: 1 to 20.

    Hint: Count in one variable and print `Request 1: b'GET ...'`. It needs no lock,
    because the loop calls one handler at a time.
    Again: for n in $(seq 20); do curl localhost:8888/$n & done; wait
    """
    server = serve()
    paths = [f"/{n}" for n in range(20)]
    for client in [server.ask(path) for path in paths]:
        client.wait_for_end()
    numbers = sorted(wait_until_counted(server, paths))
    assert numbers == [*range(1, 21)], mismatch(f"they are counted {numbers}", "1 to 20")


def test_waits_at_rest_for_a_free_descriptor(serve):
    """Without a free descriptor it rests. When there are some again, it serves the next client.

    Hint: accept fails then, and on Linux the listening socket stays ready: take it out of the
    selector until a connection has closed.
    Again: ulimit -n 64; for n in $(seq 64); do sleep 9 | curl -s telnet://localhost:8888 & done; sleep 5;
    ps -o stat,time -p $(pgrep -of {command}); wait; curl localhost:8888
    """
    assert_survives_without_descriptors(serve)
