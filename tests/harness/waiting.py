"""Wait for events, never for time to pass.

A test that sleeps is slow on a fast machine and fails on a slow one. wait_until() checks again and again
until it sees the event; only a failing test reaches its deadline.
"""

import time


class Patience:
    """How long wait_until() waits, in seconds. Only a failure takes that long."""

    seconds = 20


class Unusable(Exception):
    """The program can't be tested; the message says why."""


class Impossible(Exception):
    """This system can't run the test; the message says why. conftest.py skips the test."""


meanwhile = set()  # functions that wait_until() calls before each check


def mismatch(seen, expected):
    """The message of a failing assertion."""
    return f"Seen      {seen}.\nExpected  {expected}."


def wait_until(condition, expected, allow=0, seen=None):
    """Wait until condition() is true. Returns its value.

    The pause before the next check is a tenth of the time waited so far, 2 to 50 ms. Raises AssertionError,
    which names what was expected, after Patience.seconds plus `allow` seconds. seen() says what there is instead,
    such as "it has 8 workers".
    """
    __tracebackhide__ = True
    seconds = Patience.seconds + allow
    began = time.monotonic()
    while True:
        for function in meanwhile:
            function()
        result = condition()
        if result:
            return result
        waited = time.monotonic() - began
        if waited > seconds:
            what = f"{seen()}, after {seconds:g} seconds" if seen else f"not within {seconds:g} seconds"
            raise AssertionError(mismatch(what, expected))
        time.sleep(min(max(waited / 10, 0.002), 0.05))
