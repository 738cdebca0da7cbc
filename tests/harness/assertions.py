"""Assertions that several stages' tests make, and the waits for what a server prints."""

import contextlib
import errno
import os
import re
import resource
import signal

from harness import system
from harness.waiting import Unusable, mismatch, wait_until

COUNTED = r"(?i)request (\d+)\b.*GET (\S+)"  # how a server prints a request from 4a on


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
    for path in paths:
        what = f"a line with 'Request', its number, and GET {path}"
        wait_until_printed(server, rf"(?i)request \d+\b.*GET {path}\b", what)
    numbers = {path: int(number) for number, path in re.findall(COUNTED, server.output)}
    return [numbers[path] for path in paths]


def assert_not_answered(client):
    """Assert that a client that has sent nothing has not been answered."""
    assert not client.answered(), mismatch("a client that has not asked is answered", "it waits")


def assert_one_thread(server):
    """Assert that a server has one thread, and no child from before or after it listened."""
    children, threads = len(system.children(server.pid)), system.threads(server.pid)
    what = f"there are {children} children and {threads} threads"
    assert (children, threads) == (0, 1), mismatch(what, "one process with one thread")


def assert_survives_without_descriptors(serve):
    """Assert that a server with at most 64 descriptors goes on when none is left.

    While a client waits it must be mostly asleep; a busy loop never is. When another client has left, it serves
    the one that waits. (One that comes then, on macOS: its kernel closes a client for which accept has no descriptor.)
    """
    server = serve(limits={resource.RLIMIT_NOFILE: 64})
    silent = [server.connect() for _ in range(64)]
    waiting = None if system.DARWIN else server.ask()
    asleep = []

    def checked_twenty_times():
        asleep.append(server.blocked())
        return len(asleep) == 20

    try:
        wait_until(lambda: len(server.descriptors()) == 64, "it has no descriptor left")
        wait_until(checked_twenty_times, "it is checked", 20)
    except Unusable as unusable:  # it prints without end
        raise AssertionError(mismatch(str(unusable), "it sleeps")) from None
    times = asleep.count(True)
    assert times > 10, mismatch(f"it is asleep {times} of 20 times, while it cannot accept", "most")
    for client in silent:
        client.close()
    (waiting or server.ask()).wait_for_answer()


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
