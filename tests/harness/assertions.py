"""Assertions that several stages' tests make, and the waits for what a server prints."""

import contextlib
import errno
import os
import re
import resource
import signal
import time

from harness import system
from harness.waiting import Unusable, mismatch, wait_until


def wait_until_printed(server, pattern, what=None, after=0):
    """Wait until the server has printed a line that matches a regular expression.

    Ignores the first `after` characters of its output. Raises AssertionError if it never prints that, and Unusable
    if its output is held back in a buffer, because then no test will ever see any of it.
    """

    def printed():
        return re.search(pattern, server.output[after:], re.MULTILINE)

    try:
        wait_until(printed, f"the server prints {what or pattern}")
    except AssertionError:
        if is_printed_at_the_end(server, printed):
            raise Unusable(
                "What your server prints shows only when it ends: it is held back in a"
                " buffer. Flush it after each line, as print(..., flush=True) does in"
                " Python, fflush(stdout) in C."
            ) from None
        raise


def is_printed_at_the_end(server, printed):
    """Interrupt a server (SIGINT). Whether printed() becomes true by its end."""
    with contextlib.suppress(AssertionError, ProcessLookupError):
        server.send_signal(signal.SIGINT)
        wait_until(lambda: printed() or not server.processes(), "it ends")
    return bool(printed())


def wait_until_counted(server, paths):
    """Wait until requests for these paths are printed. Returns their numbers, in this order.

    Raises AssertionError if one is never printed as `Request 7: ... GET /path`.
    """
    numbers = []
    for path in paths:
        # The nearest number: the lines of two threads may be one, because Python prints an end of line apart.
        pattern = rf"(?i)request (\d+)\b(?:(?!request \d).)*GET {re.escape(path)}(?![\w/-])"
        wait_until_printed(server, pattern, f"a line with 'Request', its number, and GET {path}")
        numbers.append(int(re.search(pattern, server.output)[1]))
    return numbers


def assert_not_answered(client):
    """Assert that a client that has sent nothing has not been answered."""
    assert not client.answered(), mismatch("a client that has not asked is answered", "it waits")


def size(server):
    """How many processes a server has, and how many threads in all of them."""
    pids = [process.pid for process in server.processes()]
    return len(pids), sum(map(system.threads, pids))


def cost(server, before):
    """How many more processes, and threads besides those, a server has than before: its size() then.

    Runtimes have threads of their own: what clients cost is what counts.
    """
    processes, threads = (now - then for now, then in zip(size(server), before))
    return processes, threads - processes


def assert_no_thread_each(server, before, count):
    """Assert that `count` clients cost a server, whose size() was `before`, neither processes nor threads.

    A runtime may start a few meanwhile, so half of what a thread for each client costs is too much.
    """
    for number, what in zip(cost(server, before), ("processes", "threads")):
        assert number < count / 2, mismatch(f"{count} clients cost {number} {what}", "none, however many come")


def connect_silent_clients(server, count):
    """Connect clients that say nothing, more than the server has threads. Returns them.

    Otherwise threads that wait in a pool could have one each.
    """
    return [server.connect() for _ in range(min(count + size(server)[1], 500))]


def assert_reaped(pid):
    """Assert that a process that has been killed is waited for by its parent."""
    wait_until(lambda: system.process(pid) is None, "the killed worker is reaped", seen=lambda: "it stays a zombie")


def assert_survives_without_descriptors(serve):
    """Assert that a server with at most 64 descriptors goes on when none is left.

    While a client waits it must be mostly asleep; a busy loop never is. When the others have left, it serves a client
    that comes then; the one that waited it may have dropped.
    """
    server = serve(limits={resource.RLIMIT_NOFILE: 64})
    server.ask().wait_for_end()  # some runtimes open files at the first request
    server.wait_until_blocked()
    silent = [server.connect() for _ in range(64 - len(server.descriptors()))]
    wait_until(
        lambda: len(server.descriptors()) == 64,
        "it has 64, and none is left",
        seen=lambda: f"it has {len(server.descriptors())} descriptors",
    )
    server.try_to_connect()
    assert_at_rest(server)
    for client in silent:
        client.close()
    wait_until(lambda: len(server.descriptors()) < 50, "it closes the connections of clients that have left")
    server.ask().wait_for_answer()


def assert_at_rest(server):
    """Assert that a server is asleep in a fifth of 40 looks, over two seconds.

    What retries each second, and prints a traceback each time, is asleep for most of it. A busy loop never is.
    """
    started, asleep = time.monotonic(), []

    def looked():
        server.assert_running()
        if time.monotonic() - started >= 0.05 * len(asleep):
            asleep.append(server.blocked())
        return asleep.count(True) == 8 or len(asleep) == 40

    try:
        wait_until(looked, "it is looked at", 10)
    except Unusable as unusable:  # it prints without end
        raise AssertionError(mismatch(str(unusable), "it sleeps")) from None
    times = asleep.count(True)
    assert times == 8, mismatch(f"it is asleep {times} of {len(asleep)} times, while it cannot accept", "most")


def assert_died_of(server, error, load=None):
    """Wait for a server's end. Assert that its status is not 0 and that it names the error.

    error is the number of a system error, such as errno.EMFILE. Languages report it differently: by its name, its
    number, or what strerror(3) says. load is the client program that causes the end, if any: it must end, too.
    """
    if load:
        wait_until(lambda: not (server.running and load.running), "the load ends", 60)
    status = server.wait()
    reason = os.strerror(error)
    assert status != 0, mismatch("it ends with status 0, as if all were well", "another status")
    said = server.errors + server.output
    words = [reason, errno.errorcode[error], f"Errno {error}"]
    last = (said.strip() or "nothing").splitlines()[-1]
    assert any(word.lower() in said.lower() for word in words), mismatch(
        f"it ends with status {status}, saying: {last}", f"an end because of: {reason}"
    )
