"""Stage 3f: an interrupted accept is called again; one wait per signal misses zombies."""


def test_next_client_is_served_after_the_interruption(serve):
    server = serve()
    for _ in range(3):
        client = server.connect()
        server.wait_until_children(1)
        server.wait_until_blocked()  # the child in recv, the parent back in accept
        client.ask()
        assert client.wait_for_end() != b""
        server.wait_until_children(0)  # reaped, and so accept was interrupted
    assert server.running


def test_single_requests_one_at_a_time_leave_no_zombie(serve):
    server = serve()
    for _ in range(5):
        server.ask().wait_for_end()
        server.wait_until_children(0)


def test_clients_are_served_at_the_same_time(serve):
    server = serve()
    server.connect()  # and says nothing
    server.ask().wait_for_end()


def test_children_that_end_together_leave_all_but_one_as_zombies(serve):
    server = serve()
    assert server.stop_and_go(20) == 19


def test_128_clients_leave_zombies(serve):
    server = serve()
    load = server.load("--max-clients", "128")
    assert load.wait() == 0, load.output
    server.wait_until_blocked()
    assert server.zombies() != []
