"""Adapt a page to this run and this system: another port, shorter delays, other words for errors.

Pages show the article's port, and delays that leave a reader time to look. Tests follow many pages at once, each on a
port of its own, and don't need that time.
"""

import errno
import os
import re

from harness import system

ARTICLES_PORT = 8888
LONG_DELAY, SHORT_DELAY = "--delay 15", "--delay 3"
# Errors as Linux numbers them and glibc words them, as the pages show them
ERRORS = {
    errno.EINTR: "[Errno 4] Interrupted system call",
    errno.ECHILD: "[Errno 10] No child processes",
    errno.EAGAIN: "[Errno 11] Resource temporarily unavailable",
    errno.EMFILE: "[Errno 24] Too many open files",
}

# What zsh says, and how bash says it, as the pages have it
ZSH = [
    (r"zsh: suspended( \(signal\))? +(.*)", r"[1]+  Stopped                 \2"),
    (r"\[1\]  [+-] continued +", ""),
    (r"zsh: terminated +.*", "Terminated"),
]


def for_this_run(line, port, shells):
    """A line as it is typed. shells is a dict from terminals, such as pts/1, to the PIDs of their shells."""

    def limit(found):  # leaves room for the user's other processes
        enough = os.getuid() and system.tasks_of_user(os.getuid()) + 200
        return f"ulimit -u {max(int(found[1]), enough)}"

    def session(found):  # not the terminal: another container may have one of that name
        return f"-s {shells[found[1]]}" if system.LINUX and found[1] in shells else found[0]

    line = re.sub(r"ulimit -u (\d+)", limit, line)
    line = re.sub(r"-t (pts/\d+)", session, line)
    line = line.replace(".venv/bin/python ", "python3 ")
    if port == ARTICLES_PORT:
        return line
    line = re.sub(r"(python3? (?:webserver[34]\w|client3|watch3)\.py)", rf"\1 --port {port}", line)
    line = re.sub(rf"{LONG_DELAY}|--delay 20\b", SHORT_DELAY, line)
    return re.sub(rf"\b{ARTICLES_PORT}\b", str(port), line)


def ps_row(line):
    """A row of ps -o pid,ppid,stat,comm as Linux prints it, or any other line as it is.

    macOS prints argv[0], with its path, for a Python from python.org that of an application. It names a zombie
    <defunct>; some versions of Linux's ps add that word.
    """
    if re.fullmatch(r" *PID +PPID +STAT +COMM *", line):
        return line.replace("COMM", "COMMAND")
    row = re.fullmatch(r"(?P<facts> *\d+ +\d+ +(?P<state>[A-Z])\S* +)(?P<name>\S.*?)( <defunct>)? *", line)
    if not row:
        return line
    name = row["name"].rpartition("/")[2].lstrip("-")  # a login shell is -zsh
    if name == "Python" or name == "<defunct>" and row["state"] == system.ZOMBIE:
        name = "python3"  # no page shows another program's zombie
    return row["facts"] + re.sub(r"^python3[\d.]*$", "python3", "bash" if name == "zsh" else name)


def as_on_page(lines, port):
    """Lines of a terminal in the page's words."""
    adapted = []
    for line in lines:
        if re.fullmatch(r"[ ~^]+", line):  # below the code, in some versions' tracebacks
            continue
        line = re.sub(r'File "[^"]*/', 'File "…/', line)
        line = line.replace(f" --port {port}", "").replace(SHORT_DELAY, LONG_DELAY)
        for words, bash in ZSH:
            line = re.sub(f"^{words}", bash, line)
        line = ps_row(line)
        line = line.replace("socket.timeout:", "TimeoutError:")  # Python 3.9
        for number, words in ERRORS.items():
            line = line.replace(f"[Errno {number}] {os.strerror(number)}", words)
        adapted.append(re.sub(rf"\b{port}\b", str(ARTICLES_PORT), line))
    return adapted
