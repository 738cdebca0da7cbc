"""Stage 3g: every child is reaped, and the server outlives what killed 3d."""

import errno
import os
import resource

from harness import LINUX_ONLY, user_with_few_processes, wait_until


def test_clients_are_served_at_the_same_time(serve):
    server = serve()
    server.connect()  # and says nothing
    server.ask().wait_for_end()


def test_single_requests_one_at_a_time_leave_no_zombie(serve):
    server = serve()
    for _ in range(5):
        assert server.ask().wait_for_end() != b""
        server.wait_until_children(0)


def test_children_that_end_together_leave_no_zombie(serve):
    server = serve()
    assert server.stop_and_go(20) == 0


def test_128_clients_leave_no_zombie(serve):
    server = serve()
    load = server.load("--max-clients", "128")
    assert load.wait() == 0, load.output
    server.wait_until_children(0)


def test_thousands_of_requests_leave_descriptors_and_memory_as_they_were(serve):
    server = serve()

    def load(rounds):
        for _ in range(rounds):
            assert server.load("--max-clients=4", "--max-conns=125").wait() == 0
        server.wait_until_children(0)
        return server.descriptors(), server.memory()

    descriptors, memory = load(1)
    descriptors_later, memory_later = load(4)
    assert descriptors_later == descriptors
    assert memory_later <= memory + 128  # KiB: 64 bytes for each connection since


@LINUX_ONLY
def test_it_goes_on_when_fork_fails_and_is_well_again_afterwards(serve):
    server = serve(**user_with_few_processes(100))
    with server.soft_limit(resource.RLIMIT_NPROC, 0):
        for n in (1, 2):
            given_up = server.ask()
            assert given_up.wait_for_end() == b""
            server.wait_until_blocked()
            assert server.errors.count("\n") == n
            assert server.errors.count(os.strerror(errno.EAGAIN)) == n
    assert server.ask().wait_for_end() != b""
    server.wait_until_children(0)


@LINUX_ONLY
def test_it_goes_on_when_accept_fails_and_is_well_again_afterwards(serve):
    server = serve()
    with server.soft_limit(resource.RLIMIT_NOFILE, len(server.descriptors())):
        # The call of accept that is under way has got its descriptor; the next has not.
        assert server.ask().wait_for_end() != b""
        waiting = server.ask()
        wait_until(lambda: os.strerror(errno.EMFILE) in server.errors, "it says why")
        server.wait_until_queued(1, unless=waiting)
        assert server.running
    assert waiting.wait_for_end() != b""
    server.wait_until_children(0)
