"""Stage 4b: a thread for each client, in one process.

Start a thread for each client, where 3g forks. All threads share one count of requests:
read it before the delay, and write it after the delay. That it goes wrong is the lesson.
"""

import time

from harness.assertions import assert_not_answered, cost, size, wait_until_counted
from harness.clients import body_of
from harness.stages import LONG
from harness.waiting import mismatch, wait_until


def test_clients_are_answered_at_once_each_by_a_thread(serve):
    """Clients are all answered at once, each by a thread of the one process.

    Hint: Start a thread after accept. It answers and sleeps, and the main thread accepts
    the next client.
    Again: for n in 1 2 3 4 5; do curl localhost:8888/$n & done; sleep 1; .venv/bin/python watch3.py --once
    """
    server = serve(delay=LONG)
    before = size(server)
    clients = [server.ask() for _ in range(20)]
    for client in clients:
        client.wait_for_answer()
    assert body_of(clients[0].received) != b"", mismatch("the answer is empty", "a greeting")
    processes, threads = cost(server, before)
    assert processes < 10, mismatch(f"20 clients cost {processes} processes", "threads of the one process")
    assert threads > 15, mismatch(f"20 clients cost {threads} threads", "20, one for each")


def test_clients_all_end_after_about_one_delay(serve):
    """Six clients all end after about one delay.

    Hint: The threads sleep at the same time, so that nobody waits for another's sleep.
    Again: time (for n in 1 2 3 4 5 6; do curl localhost:8888/$n & done; wait)
    """
    server = serve(delay=0.5)
    start = time.monotonic()
    for client in [server.ask() for _ in range(6)]:
        client.wait_for_end()
    took = time.monotonic() - start
    one, six = server.delay, 6 * server.delay
    assert one <= took < six, mismatch(f"they take {took:.2f} s", f"{one} s, not {six} s")


def test_silent_client_holds_up_nobody(serve):
    """A client that connects and says nothing holds up nobody.

    Hint: Only the client's own thread may wait in recv.
    Again: curl telnet://localhost:8888, and then in one more: curl localhost:8888
    """
    server = serve()
    silent = server.connect_and_settle()
    server.ask().wait_for_end()
    assert_not_answered(silent)


def test_requests_one_at_a_time_are_counted(serve):
    """Also asked: requests that come one at a time are counted right: 1, 2, 3.

    Hint: Count in a variable that all threads share, and print `Request 1: b'GET ...'`.
    Write the new number before the connection is closed.
    Again: for n in 1 2 3; do curl localhost:8888/$n; done
    """
    server = serve()
    paths = ["/first", "/second", "/third"]
    for path in paths:
        server.ask(path).wait_for_end()
    numbers = wait_until_counted(server, paths)
    assert numbers == [1, 2, 3], mismatch(f"they are counted {numbers}", "1, 2, 3")


def test_requests_at_the_same_time_are_lost_from_the_count(serve):
    """Also asked: requests that come together are all number 1. The others are lost from the count.

    Hint: Read the count, do the work, which is the delay here, and write the count plus one.
    All threads have read 0 before one writes 1. (A lock would be the cure.)
    Again: for n in 1 2 3; do curl localhost:8888/$n & done; wait
    """
    server = serve(delay=LONG)
    paths = [f"/{n}" for n in range(20)]
    for path in paths:
        server.ask(path)
    numbers = wait_until_counted(server, paths)
    assert numbers == [1] * 20, mismatch(f"they are counted {numbers}", "all are number 1")


def test_requests_leave_no_thread_and_no_descriptor(serve):
    """100 requests leave no thread and no descriptor.

    Hint: The thread closes its connection, and ends after that.
    Again: python3 client3.py --max-clients=4 --max-conns=25; .venv/bin/python watch3.py --once
    """
    server = serve()
    server.ask().wait_for_end()
    server.wait_until_blocked()  # though its thread may not have ended
    before, descriptors = size(server), len(server.descriptors())

    def kept():
        return max(*cost(server, before), 0), len(server.descriptors()) - descriptors

    for _ in range(25):
        for client in [server.ask() for _ in range(4)]:
            client.wait_for_end()
    wait_until(
        lambda: max(kept()) < 10,  # a runtime may have started a few threads, and opened a file
        "none stays",
        seen=lambda: "{} threads and {} descriptors stay".format(*kept()),
    )
