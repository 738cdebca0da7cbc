"""What a graded reader sees of a claim that fails: what was seen, what helps, how to see it by hand.

Functions apart from the plugin, so that they need no pytest to be read or changed.
"""

import errno
import os
import re
import socket
from typing import Callable, NamedTuple

from harness.waiting import Unusable, mismatch

GOES_ON = "Seen      (the server ends|the connection is refused)"

FORK_PER_CLIENT = ("3c", "3d", "3e", "3f", "3g", "3h")


class Hint(NamedTuple):
    """A hint that fits better than a claim's own, where its premise was seen.

    seen is a pattern in the remark, printed a text in the server's output, and fits(server) says the rest.
    """

    seen: str
    text: str
    printed: str = ""
    fits: Callable = lambda server: True


HINTS = [
    Hint(
        "",
        "Each of your workers listens for itself (SO_REUSEPORT). The kernel has given each client to one of them, and"
        " asks nobody whether that one is busy. Let them share one listening socket: call listen before you fork.",
        fits=lambda server: server.stage == "4a" and server.listens_more_than_once(),
    ),
    Hint(
        "the connection is ended by the server",
        "Close the connection after the answer. After fork there are two copies, and it ends when both are closed:"
        " close the parent's, too.",
        fits=lambda server: server.stage in FORK_PER_CLIENT and server.has_forked(),
    ),
    Hint(
        "the connection is ended by the server",
        "Close the connection after the answer. A library for HTTP keeps it open for the next request (keep-alive),"
        " unless you tell it not to.",
        fits=lambda server: server.stage not in FORK_PER_CLIENT or not server.has_forked(),
    ),
    Hint(
        "Seen      0 processes besides the parent have the listening socket",
        "You have forked, but your parent accepts for the others, or each is made for a client. Here each worker calls"
        " accept itself: let it keep its copy of the listening socket.",
        fits=lambda server: server.has_forked(),
    ),
    Hint(
        "children that have ended stay",
        "A child ends when it has answered, and nobody waits for it here: no wait, no handler of SIGCHLD, no SIG_IGN"
        " for it.",
        fits=lambda server: server.has_forked(),
    ),
    Hint(
        r"clients cost \d threads",
        "Start a thread of the system for each client. An event loop, goroutines and virtual threads share a few: they"
        " are 4c and 4d.",
        fits=lambda server: server.stage == "4b",
    ),
    Hint(
        r"clients cost \d+ processes",
        "A process for each client is 3g's way. Here the loop waits for all clients at once: fork for none of them.",
        fits=lambda server: server.stage in ("4c", "4d", "4e"),
    ),
    Hint(
        r"clients cost \d+ threads",
        "A thread for each client, also one of a pool, is 4b's way. Here the loop waits for all clients at once.",
        fits=lambda server: server.stage in ("4c", "4d", "4e"),
    ),
    Hint(
        GOES_ON,
        "A signal has interrupted a system call (EINTR). Call it again then, or install the handler with SA_RESTART.",
        printed=os.strerror(errno.EINTR),
    ),
    Hint(
        GOES_ON,
        "No child is left, and wait fails with ECHILD. The handler has to take that as its end.",
        printed=os.strerror(errno.ECHILD),
    ),
    Hint(
        GOES_ON,
        "Without a free descriptor accept fails (EMFILE). Catch that, and wait until one is free, but not in vain.",
        printed=os.strerror(errno.EMFILE),
    ),
    Hint(GOES_ON, "The server has ended, and should go on. What it printed last may say why."),
]


class Claim(NamedTuple):
    """What the docstring of a stage's test says, each part on one line.

    again is what a client has to type to see the same; '' for curl and the last path.
    """

    text: str
    hint: str
    again: str


def claim_of(test):
    """The Claim that a test function makes."""
    text, _, again = test.__doc__.partition("Again: ")
    text, _, hint = text.partition("Hint: ")
    return Claim(*(" ".join(part.split()) for part in (text, hint, again)))


def explain(error, claim, server):
    """The remark on a claim that failed by this error, in lines.

    server is the GradedServer that was started last; None if none was.
    """
    lines = seen(error, server)
    if not any(line.startswith("Hint ") for line in lines):
        lines.append(f"Hint      {server and better_hint(lines, server) or claim.hint}")
    if server:
        lines = [*server.end(), *lines, *server.last_words(claim.again)]
    return [plain(line) for line in lines]


def seen(error, server):
    """What was seen of the server and what was expected, in lines, without what pytest adds."""
    if isinstance(error, (AssertionError, Unusable)):
        text, _, _ = str(error).partition("\nassert ")
    elif isinstance(error, ConnectionRefusedError):
        text = mismatch("the connection is refused: nobody listens any more", "it is accepted")
    elif isinstance(error, socket.timeout):
        text = mismatch("the listen queue is full, and a client cannot connect", "the server accepts the others")
    elif isinstance(error, ConnectionError):
        text = mismatch(f"the connection fails: {error.strerror or error}", "it does not")
    elif server and not server.running:  # it was looked at while it ended
        text = mismatch("the server ends", "it goes on")
    else:
        text = mismatch("nothing certain, because the grader fails", "a verdict")
        text += f"\nHint      This is the grader's own fault, and not yours: {type(error).__name__}: {error}"
    return [line.strip() for line in text.splitlines()]


def better_hint(lines, server):
    """The hint that fits a remark and what is seen of the server, whichever claim failed; None without any."""
    for hint in HINTS:
        printed = hint.printed.lower() in server.output.lower()
        if printed and re.search(hint.seen, "\n".join(lines)) and hint.fits(server):
            return hint.text
    return None


def plain(text):
    """A text without escape sequences (ECMA-48), such as colours, and with other control characters escaped."""
    text = re.sub(r"\r+\n", "\n", text)
    text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-~])", "", text)
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)
