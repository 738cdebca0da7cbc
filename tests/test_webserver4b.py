"""Stage 4b: a thread for each client, in one process.

Start a thread for each client, where 3g forks. All threads share one count of requests:
read it before the delay, and write it after the delay. That it goes wrong is the lesson.
"""

import time

from harness import system
from harness.assertions import assert_not_answered, wait_until_counted
from harness.clients import body_of
from harness.stages import LONG
from harness.waiting import mismatch, wait_until


def test_clients_are_answered_at_once_each_by_a_thread(serve):
    """Clients are all answered at once, each by a thread of the one process.

    Hint: Start a thread after accept. It answers and sleeps, and the main thread accepts
    the next client.
    """
    server = serve(delay=LONG)
    for client in [server.ask() for _ in range(5)]:
        client.wait_for_answer()
    children, threads = len(server.children()), system.threads(server.pid)
    assert children == 0, mismatch(f"the server has {children} children", "threads, no child")
    assert threads >= 6, mismatch(f"5 clients have {threads} threads", "6 with the main one")


def test_clients_all_end_after_about_one_delay(serve):
    """Six clients all end after about one delay.

    Hint: The threads sleep at the same time, so that nobody waits for another's sleep.
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
    """Requests that come one at a time are counted right: 1, 2, 3.

    Hint: Count in a variable that all threads share, and print `Request 1: b'GET ...'`.
    Write the new number before the connection is closed.
    """
    server = serve()
    paths = ["/first", "/second", "/third"]
    for path in paths:
        assert body_of(server.ask(path).wait_for_end()) != b"", mismatch("the answer is empty", "a greeting")
    numbers = wait_until_counted(server, paths)
    assert numbers == [1, 2, 3], mismatch(f"they are counted {numbers}", "1, 2, 3")


def test_requests_at_the_same_time_are_lost_from_the_count(serve):
    """Requests that come together are all number 1: the others are lost from the count.

    Hint: Read the count, do the work, which is the delay here, and write the count plus one.
    All threads have read 0 before one writes 1. (A lock would be the cure.)
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
    Again: python3 client3.py --max-clients=4 --max-conns=25
    """
    server = serve()

    def kept():
        return system.threads(server.pid), len(server.descriptors())

    server.ask().wait_for_end()
    wait_until(lambda: system.threads(server.pid) == 1, "the client's thread ends")
    before = kept()
    for client in [server.ask() for _ in range(100)]:
        client.wait_for_end()
    wait_until(lambda: kept() == before, "there are no more threads and descriptors than before")
