"""Whether a run prints what a page shows, although PIDs, ports and terminals differ each time.

On a page they are *placeholders*. `values` is a dict from the page's placeholders to what they stand for in a run.
"""

import functools
import re

FIRST_PORT = 32768  # placeholders below are PIDs, the others ports
PLACEHOLDER = re.compile(r"\b\d{5}\b|\bpts/\d+|\bttys\d+")
VALUE = re.compile(r"pts/\d+|ttys\d+|\b\d+\b")
# What may differ between a page and a run, and its substitute in both
NORMALIZED = [
    (r"\s+", " "),  # columns
    (r"curl/[\w.-]+", "curl/VERSION"),
    (r"\d+ ms$", "MILLISECONDS"),
    (r", at \d\d:\d\d:\d\d$", ", at CLOCK"),
    (r" of \d{3,} descriptors", " of LIMIT descriptors"),
    (r"(?<=\d [DIRSTZ])[<N]", ""),  # nice(2), in the column STAT of ps(1)
    # Descriptors in strace: libffi, which ctypes needs, may keep one open.
    (r"^accept\(\d+", "accept(DESCRIPTOR"),
    (r"(?<=NULL\) = )\d+$", "DESCRIPTOR"),
]


def match(expected, seen, values, any_order=False):
    """Compare lines of a page with lines of a run.

    Returns `values` with the new placeholders added, or None if the lines differ.
    """
    if not expected:
        return None if seen else values
    if expected[0] == "…":
        rests = (match(expected[1:], seen[n:], values) for n in range(len(seen) + 1))
        return next((rest for rest in rests if rest is not None), None)
    for n in range(len(seen) if any_order else min(len(seen), 1)):
        more = match_line(expected[0], seen[n], values)
        if more is not None:
            rest = match(expected[1:], seen[:n] + seen[n + 1 :], more, any_order)
            if rest is not None:
                return rest
    return None


def match_line(expected, seen, values):
    """Compare two lines as match() does."""
    pattern, placeholders = pattern_of(expected)
    found = pattern.fullmatch(normalized(seen))
    if not found:
        return None
    values = dict(values)
    for placeholder, real in zip(placeholders, found.groups()):
        others = [values[other] for other in values if other != placeholder and kind(other) == kind(placeholder)]
        if values.setdefault(placeholder, real) != real or real in others:
            return None
    return values


@functools.cache
def pattern_of(line):
    """A regular expression for a line of a page, with a group for each placeholder, and the placeholders."""
    line = normalized(line)
    placeholders = PLACEHOLDER.findall(line)
    literals = [".*?".join(map(re.escape, text.split("…"))) for text in PLACEHOLDER.split(line)]
    groups = [r"(pts/\d+|ttys\d+)" if kind(one) == "terminal" else r"(\d+)" for one in placeholders]
    return re.compile("".join(map("".join, zip(literals, [*groups, ""])))), placeholders


def kind(placeholder):
    """Classify a placeholder: PID, port or terminal. Placeholders of different kinds may have equal values."""
    if not placeholder.isdigit():
        return "terminal"
    return "PID" if int(placeholder) < FIRST_PORT else "port"


def normalized(line):
    """A line without what may differ between a page and a run."""
    for pattern, substitute in NORMALIZED:
        line = re.sub(pattern, substitute, line.strip())
    return line


def repaired(line, expected, values, pids):
    """A line of a run in the page's words, and `values` with the placeholders that this adds.

    It is one of the expected lines, if one matches. Otherwise placeholders replace their values, and each other PID
    of the run becomes a new placeholder.
    """
    for old in expected:
        more = match_line(old, line, values)
        if more is not None and old != "…":
            return old, more
    values = dict(values)
    for real in VALUE.findall(line):
        if real.isdigit() and int(real) in pids and real not in values.values():
            values[unused_placeholder(real, values)] = real
    placeholders = {real: placeholder for placeholder, real in reversed(list(values.items()))}
    return VALUE.sub(lambda real: placeholders.get(real[0], real[0]), line), values


def unused_placeholder(pid, values):
    """A placeholder for a PID: the PID itself, if it can be one."""
    if len(pid) == 5 and kind(pid) == "PID" and pid not in values:
        return pid
    return next(str(n) for n in range(10001, FIRST_PORT) if str(n) not in values)
