"""A reader's own server: how its command starts it, and how it differs from ours.

Nothing is known of it but the command. What is wrong with the command or the server is said here, for its author.
"""

import errno
import functools
import math
import os
import shlex
import shutil
import signal
import subprocess

from grading.verdicts import plain
from harness import system
from harness.ports import free_port
from harness.servers import Server, fill
from harness.users import NOTHING, READS_ALL, TRACES_ALL, as_user
from harness.waiting import Impossible, Patience, Unusable, wait_until

MUCH_OUTPUT = 100_000  # characters; more, and no listening socket, is treated as an endless loop
STARTING = 5  # seconds to start, at least: Java takes one or two
DAEMON = (
    "If it goes into the background, as a daemon does, keep it in the foreground: leave out the"
    " call of daemon() or of fork before the loop, or use its option for that, often -f or -d."
)


class Grading:
    """How to start the graded server: --server and the options that go with it.

    port is None if the command takes one, delay (seconds) if each test chooses its own.
    """

    def __init__(self, command, port, delay):
        self.command = command
        self.port = None if "{port}" in command else port or 8888
        self.delay = delay

    def words(self):
        """The command's words, as a shell splits them. Raises Unusable if it cannot be split."""
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise Unusable(f"The command {self.command!r} cannot be split: {error}.") from None
        if not words:
            raise Unusable("The command of --server is empty.")
        if words[0] == "cd" or {"&&", "||", ";", "|", ">"} & set(words):
            raise Unusable(
                "No shell runs the command. Where it needs one, as for cd and &&, write"
                f" sh -c {shlex.quote(self.command)}"
            )
        return words

    @functools.cached_property
    def capabilities(self):
        """The capabilities of the server's own user, if root grades: NOTHING or READS_ALL.

        That user must be able to read the files that the command names, the interpreter among
        them. None if root can't start a program as another user and inspect its descriptors, as
        in most containers (capabilities(7)): then the server runs as root.
        """
        if os.getuid() != 0 or not system.LINUX:
            return NOTHING  # it runs as the grader's user
        if not system.capable(TRACES_ALL):
            return None
        words = [part for word in self.words() for part in (word, *word.split())]
        files = [shutil.which(word) or word for word in words]
        files = [file for file in files if os.path.exists(file)]
        test = ["sh", "-c", 'for file; do [ -r "$file" ] || exit 1; done', "sh", *files]
        if starts(NOTHING, test):
            return NOTHING
        return READS_ALL if starts(READS_ALL, ["true"]) else None


def starts(capabilities, command):
    """Whether a command succeeds that root runs as another user with these capabilities."""
    if shutil.which("setpriv") is None:
        return False
    wrapper = as_user(20000 + free_port(), capabilities)
    return subprocess.run([*wrapper, *command], stderr=subprocess.DEVNULL).returncode == 0


class GradedServer(Server):
    """A reader's own server. Raises Unusable, with a sentence for its author, if it can't be graded."""

    last = None  # the one that was started last, if it listens

    def __init__(self, grading, delay=None, limits=None, processes=None, port=None):
        GradedServer.last = None
        command = grading.words()
        if shutil.which(command[0]) is None:
            raise Unusable(f"There is no program {command[0]!r} that I could start.")
        port = port or grading.port or free_port()
        if system.listening(port):
            raise Unusable(
                f"Port {port} is taken: another program listens on it. End that one,"
                " or write {port} where your command says the port."
            )
        if grading.delay is not None:
            delay = grading.delay
        delay = math.ceil(delay or 0)  # sleep(3) takes whole seconds
        if grading.capabilities is None and processes:
            raise Impossible("the limit on processes does not hold for root. Grade as another user")
        self.asked = "/hello"  # the last path asked for
        self.ended_by_us = False
        self.command = grading.command
        by_hand = str(min(delay, 60))  # nobody waits longer
        self.by_hand = fill(grading.command, {"{port}": "8888", "{delay}": by_hand})
        super().__init__(
            [fill(word, {"{delay}": str(delay)}) for word in command],
            delay=delay,
            port=port,
            processes=None if grading.capabilities is None else processes or 1000,
            capabilities=grading.capabilities,
            limits=limits,
            terminal=True,
        )
        GradedServer.last = self

    @property
    def output(self):
        """Its output so far, without colours: their codes hold numbers, which claims search for."""
        return plain(super().output)

    def ask(self, path="/hello"):
        self.asked = path
        return super().ask(path)

    def ask_when_idle(self, path="/hello"):
        self.asked = path
        return super().ask_when_idle(path)

    def send_signal(self, number):
        """As Program.send_signal(). Remembers that we ended it: the report leaves that out."""
        if number in (signal.SIGINT, signal.SIGKILL) and not self.ended_by_us:
            self.ended_by_us, self.before_its_end = True, self.output
        super().send_signal(number)

    def load(self, *options):
        """Start client3.py. Its clients wait twice as long as a claim."""
        return super().load(*options, f"--timeout={2 * Patience.seconds:g}")

    def end(self):
        """The line of a report that says how it ended; none if it runs, or if we ended it."""
        if self.running or self.ended_by_us:
            return []
        return [f"Ended     the server has ended, with status {self.popen.poll()}."]

    def last_words(self, again):
        """The last lines that it printed, and how to see the same by hand, as lines of a report."""
        said = self.before_its_end if self.ended_by_us else self.output
        said = said.splitlines()[-5:] or ["nothing"]
        port = 8888 if "{port}" in self.command else self.port
        again = again or f"curl {shlex.quote(f'localhost:8888{self.asked}')}"
        again = again.replace("8888", str(port))
        return [
            *(f"{'Said' if n == 0 else '':10}{line}" for n, line in enumerate(said)),
            f"Again     {self.by_hand}",
            f"          and in another terminal: {again}",
        ]

    def wait_until_listening(self):
        """Wait until one of its processes listens on the port.

        Without a connection: the server would serve it, and perhaps sleep.
        """
        allow = max(0, STARTING - Patience.seconds)
        try:
            self.pid = wait_until(self._listens, "the server listens", allow)
        except AssertionError:
            if len(self.output) > MUCH_OUTPUT:
                raise Unusable("The server prints without end.") from None
            raise Unusable(
                f"Your server runs, but does not listen on port {self.port}. Write {{port}}"
                " where your command says the port, or pass --server-port."
            ) from None
        if not system.reachable(self.port):
            raise Unusable(
                f"Your server listens on port {self.port}, but not on 127.0.0.1, where its"
                " clients come. Bind it to 127.0.0.1, or to all addresses."
            )

    def _listens(self):
        """The PID of the process that listens; None before it does. Raises Unusable if it has ended."""
        if self.popen.poll() is not None and not self.processes():
            said = self.output.strip()
            if os.strerror(errno.EADDRINUSE) in said:
                said += "\nDoes it set SO_REUSEADDR before it calls bind?"
            if self.popen.returncode == 0:
                said += f"\n{DAEMON}"
            raise Unusable(
                f"Your server ended with status {self.popen.returncode} before it listened"
                f" on port {self.port}. It said:\n{said or 'nothing'}"
            )
        found = system.listening(self.port)
        if found and not super().running:
            raise Unusable(f"Your server went into the background. {DAEMON}")
        return found and self._listener(found[0])

    def _listener(self, listen_socket):
        """The PID of the process that holds the socket; the parent's if several do."""
        if not listen_socket:
            return self.popen.pid
        holders = {
            process.pid: process.parent
            for process in self.processes()
            if listen_socket in system.descriptors(process.pid).values()
        }
        return next((pid for pid in holders if holders[pid] not in holders), None)

    @property
    def running(self):
        """Whether the process that listened still runs."""
        if self.pid == self.popen.pid:
            return super().running
        return any(p.pid == self.pid for p in self.processes())

    def wait(self, allow=0):
        """As Program.wait(). If a shell started it, the status is the shell's."""
        wait_until(lambda: not self.running, "the server ends", allow)
        wait_until(lambda: self.popen.poll() is not None, "its command ends")
        return self.popen.returncode
