"""Terminal windows to type into, as a reader of the pages does."""

import contextlib
import functools
import os
import re
import shutil
import signal
import sys
import time

from harness import system
from harness.programs import Program
from harness.users import WRITES_ALL, user_with_few_processes
from harness.waiting import wait_until

# The prompts: the reader's $ or >>>, and inside a statement or here-document ... or >. They are printable: libedit,
# which is readline on macOS, hides what follows a \x01 or \x02.
READY, MORE = "<ready>", "<more>"
BOLD = r"\x1b\[[0-9;]*m"  # and other renditions (ECMA-48): curl -i prints fields in bold
IDLE = system.BLOCKED + system.ZOMBIE + system.STOPPED
# All other variables, such as HOME or COLUMNS, are user settings.
INHERITED = {"LD_LIBRARY_PATH", "LD_PRELOAD", "PATH", "TMPDIR"}


class Terminal(Program):
    """A terminal in which a program runs that prompts for input. Its python3 is the Python that runs this."""

    def __init__(self, command, folder):
        self._taken = 0  # length of the output that take() has dropped
        self._heard, self._heard_at = 0, time.monotonic()  # length of the output, and when it last grew
        self._typed = 0  # length of the output when a line was last typed
        self.tty = None  # its name, if a shell runs in it
        environment = {
            "HOME": "/nonexistent",
            "LC_ALL": "C",  # and all that Python prints is UTF-8 (PEP 540)
            "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
            "PS1": READY,
            "PS2": MORE,
            "PYTHON_BASIC_REPL": "1",  # the REPL of Python 3.13 redraws what is typed
            "TERM": "dumb",
        }
        settings = set(os.environ) - INHERITED - {*environment, "WEBSERVER3_MARK"}
        unset = [word for name in settings for word in ("-u", name)]
        super().__init__(["env", *unset, *command], env=environment, cwd=folder, terminal=True, keyboard=True)

    @property
    def output(self):
        """All its output so far, which is UTF-8 whatever our own locale is."""
        self.drain()
        self._stdout.seek(0)
        return self._stdout.read().decode(errors="backslashreplace")

    @property
    def lines(self):
        """The lines shown since the last take(), without prompts and without blank lines at either end."""
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

    def seconds_quiet(self):
        """How long this function has seen no new output, in seconds."""
        if len(self.output) != self._heard:
            self._heard, self._heard_at = len(self.output), time.monotonic()
        return time.monotonic() - self._heard_at

    def take(self):
        """Clear the screen."""
        self._taken = len(self.output)

    def type(self, lines):
        """Type a command, or the lines of a statement, each at its prompt; or ^C.

        ^C sends SIGINT to the foreground (termios(3)) at any time. Otherwise raises AssertionError if no prompt comes.
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


@functools.cache
def readers_wrapper():
    """The start of each terminal's command: one unprivileged user runs them all."""
    return user_with_few_processes(0, WRITES_ALL)["wrapper"]


# The shells that a page can be followed in: their options, for no files of the user's and no line editor; and the
# command that fixes which python3 they run. By themselves they skip one that only root may read: they ask access(2),
# which ignores capabilities.
SHELLS = {
    "bash": (["--norc", "--noprofile", "--noediting"], 'hash -p "${PATH%%:*}/python3" python3'),
    "zsh": (["-f", "+Z", "-o", "no_prompt_cr", "-o", "no_prompt_sp"], 'hash python3="${PATH%%:*}/python3"'),
}


def shell(folder, name="bash"):
    """A terminal with a shell, in a folder. It doesn't run as root, whom ulimit(1) doesn't limit."""
    options, hash_python3 = SHELLS[name]
    terminal = Terminal([*readers_wrapper(), shutil.which(name), *options], folder)
    terminal.type([f"{hash_python3}; tty"])
    wait_until(lambda: terminal.ready, "there is a prompt")
    terminal.tty = terminal.lines[-1].partition("/dev/")[2]
    terminal.take()
    return terminal


def python(folder):
    """A terminal with Python's prompt, in a folder."""
    python3 = os.path.join(os.path.dirname(sys.executable), "python3")
    prompts = f"import sys; sys.ps1, sys.ps2 = {READY!r}, {MORE!r}"
    return Terminal([*readers_wrapper(), python3, "-q", "-i", "-c", prompts], folder)


class Terminals(dict):
    """The terminals of a page, by the names in its captions. One opens when it is first used.

    shell is one of SHELLS. pids holds the PIDs of all processes that census() has seen.
    """

    def __init__(self, folder, shell="bash"):
        super().__init__()
        self.folder = folder
        self.shell = shell
        self.pids = set()

    def __missing__(self, name):
        self[name] = python(self.folder) if name == "Python" else shell(self.folder, self.shell)
        return self[name]

    def shells(self):
        """A dict from names such as pts/1 to the PIDs of the shells there."""
        return {terminal.tty: terminal.pid for terminal in self.values() if terminal.tty}

    def census(self):
        """Yield all processes in the terminals, the last terminal's first, and add their PIDs to `pids`."""
        now = system.snapshot()
        for terminal in reversed(list(self.values())):
            family = [system.process(terminal.pid, now)]
            for one in filter(None, family):  # grows during the loop
                self.pids.add(one.pid)
                yield one
                family += system.children(one.pid, now) if one.state != system.ZOMBIE else []

    def reap_orphans(self):
        """Reap zombies that have lost their parents, as init does: guarded() makes us their parent (Linux)."""
        shells = {terminal.pid for terminal in self.values()}
        for one in system.children(os.getpid()) if system.LINUX else []:
            if one.state == system.ZOMBIE and one.pid not in shells and os.getsid(one.pid) in shells:
                os.waitpid(one.pid, 0)

    def kill(self):
        """Kill all processes in the terminals.

        Jobs in the background have groups of their own, and in a container their marks may not be readable.
        """
        family = [one.pid for one in self.census()]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for terminal in self.values():
            terminal.kill()
        wait_until(
            lambda: all(one.state == system.ZOMBIE for one in filter(None, map(system.process, family))),
            "the jobs in the background end",
        )
        self.reap_orphans()
