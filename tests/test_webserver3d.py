"""Stage 3d: the parent keeps its copy of every connection, and reaps no child."""

import errno
import os
import re
import resource
import signal

from harness import user_with_few_processes, wait_until


def test_curl_prints_the_answer_and_never_ends(serve):
    server = serve()
    curl = server.curl()
    wait_until(lambda: curl.output != "", "curl has printed the answer")
    server.wait_until_zombies(1)  # the child has closed its copy and is gone
    server.wait_until_blocked()
    assert curl.running


def test_connection_ends_when_the_server_is_stopped(serve):
    server = serve()
    client = server.ask()
    client.wait_for_answer()
    server.wait_until_zombies(1)
    assert not client.ended
    server.press_ctrl_c()
    server.wait()
    client.wait_for_end()


def test_each_connection_costs_the_parent_one_more_descriptor(serve):
    server = serve()
    before = len(server.descriptors())
    for n in range(1, 6):
        server.ask().wait_for_answer()
        server.wait_until_zombies(n)
        server.wait_until_blocked()
        assert len(server.descriptors()) == before + n


def test_printed_count_goes_up_by_one_with_each_connection(serve):
    server = serve()
    counts = []
    for n in range(1, 6):
        before = server.output
        server.ask().wait_for_answer()
        server.wait_until_zombies(n)
        server.wait_until_blocked()
        counts.append([int(n) for n in re.findall(r"\d+", server.output[len(before) :])])
    assert any(
        all(first + n in printed for n, printed in enumerate(counts))
        for first in counts[0]
    ), counts


def test_each_connection_leaves_a_zombie(serve):
    server = serve()
    for _ in range(5):
        server.ask().wait_for_answer()
    server.wait_until_zombies(5)


def test_kill_9_does_not_remove_a_zombie_but_the_servers_end_does(serve):
    server = serve()
    server.ask().wait_for_answer()
    server.wait_until_zombies(1)
    zombie, = server.zombies()
    os.kill(zombie.pid, signal.SIGKILL)
    server.ask().wait_for_answer()  # the kernel has had time for the signal
    server.wait_until_zombies(2)
    assert zombie in server.zombies()
    server.press_ctrl_c()
    server.wait()
    wait_until(lambda: server.zombies() == [], "the zombies are gone")


def test_many_clients_kill_it_in_accept_for_want_of_descriptors(serve):
    server = serve(limits={resource.RLIMIT_NOFILE: 256})
    server.load("--max-clients=300")
    assert server.wait() != 0
    assert os.strerror(errno.EMFILE) in server.errors
    assert "accept" in server.errors


def test_many_clients_kill_it_in_fork_for_want_of_processes(serve):
    how = user_with_few_processes(400)
    how["limits"][resource.RLIMIT_NOFILE] = 500
    server = serve(**how)
    server.load("--max-clients=500")
    assert server.wait() != 0
    assert os.strerror(errno.EAGAIN) in server.errors
    assert "fork" in server.errors
