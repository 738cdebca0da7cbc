"""What a graded reader sees of a claim that fails: what was seen, what helps, how to see it by hand.

Pure functions, apart from the plugin, so that they need no pytest to be read or changed.
"""

import errno
import os
import re
from typing import NamedTuple

from harness.waiting import mismatch

GOES_ON = "Seen      (the server ends|the connection is refused)"

# Better hints than a claim's own: (pattern in the remark, text in the server's output, hint)
HINTS = [
    (
        "the connection is ended by the server",
        "",
        "Close the connection after the answer. After fork there are two copies, and it ends when both are closed:"
        " close the parent's, too.",
    ),
    (
        "children that have ended stay",
        "",
        "A child ends when it has answered, and nobody waits for it here: no wait, no handler of SIGCHLD, no SIG_IGN"
        " for it.",
    ),
    (
        GOES_ON,
        os.strerror(errno.EINTR),
        "A signal has interrupted a system call (EINTR). Call it again then, or install the handler with SA_RESTART.",
    ),
    (
        GOES_ON,
        os.strerror(errno.ECHILD),
        "No child is left, and wait fails with ECHILD. The handler has to take that as its end.",
    ),
    (GOES_ON, "", "The server has ended, and should go on. What it printed last may say why."),
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
    lines = seen(error)
    if not any(line.startswith("Hint ") for line in lines):
        lines.append(f"Hint      {better_hint(lines, server.output if server else '') or claim.hint}")
    if server:
        lines = [*server.end(), *lines, *server.last_words(claim.again)]
    return [plain(line) for line in lines]


def seen(error):
    """What was seen of the server and what was expected, in lines, without what pytest adds."""
    if isinstance(error, ConnectionRefusedError):
        text = mismatch("the connection is refused: nobody listens any more", "it is accepted")
    elif isinstance(error, OSError):
        text = mismatch(f"the connection fails: {error.strerror or error}", "it does not")
    else:
        text, _, _ = str(error).partition("\nassert ")
    return [line.strip() for line in text.splitlines()]


def better_hint(lines, output):
    """The hint that fits a remark and the server's output, whichever claim failed; None without any."""
    for pattern, printed, hint in HINTS:
        if re.search(pattern, "\n".join(lines)) and printed in output:
            return hint
    return None


def plain(text):
    """A text without escape sequences (ECMA-48), such as colours, and with other control characters escaped."""
    text = re.sub(r"\r+\n", "\n", text)
    text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-~])", "", text)
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)
