"""Terminal windows into which one types, as the tutorial's reader does."""

import functools
import os
import re
import shlex
import shutil
import sys
import time

from harness.programs import Program
from harness.users import WRITES_ALL, user_with_few_processes
from harness.waiting import wait_until

READY = "\x02"  # stands for the prompt, which is $ or >>> to the reader
MORE = "\x03"  # stands for the prompt within a statement or a here document: ... or >
BOLD = r"\x1b\[[0-9;]*m"  # and other renditions (ECMA-48): curl -i prints fields in bold


class Terminal(Program):
    """A terminal with a program in it that prompts for input, and runs it in folder.

    Its python3 is the Python that runs the tests.
    """

    def __init__(self, command, folder):
        self._taken = 0  # how much of the output was taken
        self._heard, self._heard_at = 0, time.monotonic()  # how much had come, and when
        self._typed = 0  # and how much had come when something was typed last
        self.tty = None  # its name, where there is a shell in it
        environment = {
            "HOME": "/nonexistent",
            "LC_ALL": "C",
            "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
            "PS1": READY,
            "PS2": MORE,
            "PYTHON_BASIC_REPL": "1",  # Python 3.13's other one draws what is typed
            "TERM": "dumb",
        }
        super().__init__(
            command, env=environment, cwd=folder, terminal=True, keyboard=True
        )

    @property
    def lines(self):
        """The lines that it shows since the last take(), without the prompts.

        Empty ones are left out at both ends.
        """
        text = re.sub(f"{READY}|{MORE}|{BOLD}", "", self.output[self._taken :])
        lines = text.strip("\n").split("\n") if text.strip() else []
        return [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in lines]

    @property
    def ready(self):
        """Whether it has prompted for a command, or a statement, since the last one."""
        return READY in self.output[self._typed :]

    @property
    def runs_a_command(self):
        """Whether its shell has put a command in the foreground (tcgetpgrp(3))."""
        return os.tcgetpgrp(self._terminal) != self.pid

    @property
    def quiet(self):
        """The seconds since something new was seen, or since it was first asked for."""
        if len(self.output) != self._heard:
            self._heard, self._heard_at = len(self.output), time.monotonic()
        return time.monotonic() - self._heard_at

    def take(self):
        """Forget what it shows."""
        self._taken = len(self.output)

    def type(self, lines):
        """Type a command, or the lines of a statement, each when it prompts for it; or ^C.

        ^C is a SIGINT to all that run in the foreground (termios(3)), at any time. Else
        AssertionError is raised if there is no prompt.
        """
        if lines == ["^C"]:
            os.write(self._terminal, b"\x03")
            return
        for line in lines:
            wait_until(self._prompts, "there is a prompt")
            self._typed = len(self.output)
            os.write(self._terminal, f"{line}\n".encode())

    def _prompts(self):
        return self.ready or MORE in self.output[self._typed :]


@functools.lru_cache(maxsize=None)
def readers_wrapper():
    """What starts all the terminals of a page as one user."""
    return user_with_few_processes(0, WRITES_ALL)["wrapper"]


def python3():
    """The Python that runs the tests, by the name that readers type."""
    return f"{os.path.dirname(sys.executable)}/python3"


def shell(folder):
    """A terminal with bash(1), as a user whom ulimit(1) holds for: not as root."""
    bash = [shutil.which("bash"), "--norc", "--noprofile", "--noediting"]
    terminal = Terminal([*readers_wrapper(), *bash], folder)
    # Else bash would pass over a python3 that lies where only root can read: it asks
    # access(2), which knows no capabilities.
    terminal.type([f"hash -p {shlex.quote(python3())} python3; tty"])
    wait_until(lambda: terminal.ready, "there is a prompt")
    terminal.tty = terminal.lines[-1].partition("/dev/")[2]
    terminal.take()
    return terminal


def python(folder):
    """A terminal with Python's prompt."""
    prompts = f"import sys; sys.ps1, sys.ps2 = {READY!r}, {MORE!r}"
    command = [python3(), "-q", "-i", "-c", prompts]
    return Terminal([*readers_wrapper(), *command], folder)
