"""Stage 3g: every child is reaped."""

from library.programs import saw


def test_silent_client_holds_up_nobody(serve):
    """A client that connects and says nothing holds up nobody.

    Hint: Only the child may wait in recv, never the parent, and the parent may wait for
    no child that has not ended.
    """
    server = serve()
    server.connect()  # and says nothing
    server.ask_at_rest().wait_for_end()
    server.wait_until_children(1)  # the silent one's
    server.ask().wait_for_answer()


def test_single_requests_one_at_a_time_leave_no_zombie(serve):
    """Single requests, one at a time, are all served and leave no zombie.

    Hint: When a child ends, SIGCHLD comes: let its handler wait for the child.
    """
    server = serve()
    for _ in range(5):
        answer = server.ask_at_rest().wait_for_end()
        assert answer != b"", saw("the connection ends without an answer", "an answer")
        server.wait_until_children(0)


def test_children_that_end_together_leave_no_zombie(serve):
    """Children that end together leave no zombie.

    Hint: Signals of one kind are not queued: one wait per signal misses the others. Call
    waitpid with WNOHANG in a loop, until it has no more ended children.
    """
    left = serve().stop_and_go(20)
    ended = f"{left} of 20 children that ended together stay zombies"
    assert left == 0, saw(ended, "none does")


def test_128_clients_leave_no_zombie(serve):
    """128 clients at once are all served, and leave no zombie.

    Hint: One SIGCHLD may stand for many children: wait for all that have ended.
    """
    server = serve()
    load = server.load("--max-clients", "128", "--timeout", "60")
    assert load.wait(60) == 0, saw(load.output.strip(), "all are answered")
    server.ask_at_rest().wait_for_end()  # its child's end is seen for certain
    server.wait_until_children(0)


def test_hundreds_of_requests_leave_no_zombie_and_no_descriptor(serve):
    """500 requests leave no zombie and no descriptor.

    Hint: The parent has to close each connection after fork, and wait for each child.
    """
    server = serve()
    before = len(server.descriptors())
    load = server.load("--max-clients=4", "--max-conns=125", "--timeout=60")
    assert load.wait(60) == 0, saw(load.output.strip(), "all are answered")
    server.ask_at_rest().wait_for_end()  # its child's end is seen for certain
    server.wait_until_children(0)
    more = len(server.descriptors()) - before
    assert more == 0, saw(f"the parent has {more} more descriptors", "none")
