"""Stage 3b: an iterative server sleeps after each answer, before it closes."""

import time

from harness import LINUX_ONLY, LONG


def test_first_client_is_answered_at_once_and_its_connection_stays(serve):
    server = serve(delay=LONG)
    client = server.ask()
    client.wait_for_answer()
    server.wait_until_blocked()
    assert not client.ended


def test_first_client_ends_after_the_delay(serve):
    server = serve(delay=0.3)
    start = time.monotonic()
    server.ask().wait_for_end()
    assert time.monotonic() - start >= server.delay


def test_curl_shows_the_answer_while_it_waits_for_the_end(serve):
    server = serve(delay=0.3)
    start = time.monotonic()
    curl = server.curl()
    assert curl.wait() == 0
    assert curl.output != ""
    assert time.monotonic() - start >= server.delay


def test_second_client_is_connected_but_neither_answered_nor_printed(serve):
    server = serve(delay=LONG)
    server.ask("/first").wait_for_answer()
    second = server.ask("/second")
    server.wait_until_queued(1, unless=second)
    assert not second.answered
    assert "GET /first" in server.output
    assert "GET /second" not in server.output


def test_second_client_waits_for_the_first_ones_delay_and_then_for_its_own(serve):
    server = serve(delay=0.3)
    start = time.monotonic()
    server.ask("/first").wait_for_answer()
    second = server.ask("/second")
    second.wait_for_answer()
    assert time.monotonic() - start >= server.delay
    assert "GET /second" in server.output
    second.wait_for_end()
    assert time.monotonic() - start >= 2 * server.delay


def test_n_clients_take_n_delays(serve):
    server = serve(delay=0.3)
    start = time.monotonic()
    clients = [server.ask() for _ in range(3)]
    for client in clients:
        client.wait_for_end()
    assert time.monotonic() - start >= len(clients) * server.delay


@LINUX_ONLY
def test_six_clients_wait_and_a_seventh_is_not_connected(serve):
    server = serve(delay=LONG)
    server.ask().wait_for_answer()
    waiting = [server.ask() for _ in range(6)]
    server.wait_until_queued(6, unless=waiting[0])
    server.try_to_connect().wait_until_kept_waiting()
