"""A reader's own server: how its command starts it, and how it differs from ours.

Nothing is known of it but the command. What is wrong with the command or the server is said here, for its author.
"""

import contextlib
import errno
import functools
import math
import os
import re
import shlex
import shutil
import signal
import subprocess

from grading.verdicts import plain
from harness import system
from harness.ports import free_port
from harness.servers import Server, fill
from harness.users import MANY_PROCESSES, NOTHING, READS_ALL, TRACES_ALL, as_user, capable
from harness.waiting import Impossible, Patience, Unusable, wait_until

MUCH_OUTPUT = 100_000  # characters; more, and no listening socket, is treated as an endless loop
STARTING = 5  # seconds to start, at least: Java takes one or two
SHEBANG = " If it is a script, its first line has to say what runs it, such as #!/usr/bin/env python3"
DAEMON = (
    "If it goes into the background, as a daemon does, keep it in the foreground: leave out the"
    " call of daemon() or of fork before the loop, or use its option for that, often -f or -d."
)


class Grading:
    """How to start the graded server: --server and the options that go with it.

    port is None if the command takes one, delay (seconds) if each test chooses its own. stage is what it is
    graded as.
    """

    def __init__(self, command, port, delay, stage=None):
        self.command = command
        self.stage = stage
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
        in most containers (capabilities(7)) and on macOS: then the server runs as root.
        """
        if os.getuid() != 0:
            return NOTHING  # it runs as the grader's user
        if not (system.LINUX and capable(TRACES_ALL)):
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


def for_a_script(error):
    """A sentence for a script that the system cannot start, by the error's number; '' for other errors."""
    return SHEBANG if error == errno.ENOEXEC else ""


class GradedServer(Server):
    """A reader's own server. Raises Unusable, with a sentence for its author, if it can't be graded."""

    last = None  # the one that was started last, if it listened

    def __init__(self, grading, delay=None, limits=None, processes=None, port=None):
        self.restarted = port is not None
        if not self.restarted:
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
        if delay and grading.delay == 0:
            raise Impossible(
                "how long your server sleeps is not known. Write {delay} where your command says it, or pass"
                " --server-delay"
            )
        if grading.delay is not None:
            delay = grading.delay
        delay = math.ceil(delay or 0)  # sleep(3) takes whole seconds
        if grading.capabilities is None and processes:
            raise Impossible("the limit on processes does not hold for root. Grade as another user")
        self.asked, self.ended_by_us = "/hello", False  # the last path asked for
        self.command, self.stage = grading.command, grading.stage
        by_hand = str(min(delay, 60))  # nobody waits longer
        self.by_hand = fill(grading.command, {"{port}": "8888", "{delay}": by_hand})
        try:
            super().__init__(
                [fill(word, {"{delay}": str(delay)}) for word in command],
                delay=delay,
                port=port,
                processes=None if grading.capabilities is None else processes or MANY_PROCESSES,
                capabilities=grading.capabilities,
                limits=limits,
                terminal=True,
            )
        except OSError as error:
            raise Unusable(f"{command[0]} cannot be started: {error.strerror}.{for_a_script(error.errno)}") from None
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
        # A SYN that finds the listen queue full is repeated after 1, 3 and 7 seconds.
        return super().load(*options, f"--timeout={max(10, 2 * Patience.seconds):g}")

    def end(self):
        """The line of a report that says how it ended; none if it runs, or if we ended it."""
        if self.running or self.ended_by_us:
            return []
        return [f"Ended     the server has ended, with status {self.popen.poll()}."]

    def last_words(self, again):
        """The last lines that it printed, and how to see the same by hand, as lines of a report."""
        said = self.before_its_end if self.ended_by_us else self.output
        said = said.splitlines()[-5:] or ["nothing"]
        server, client = self.typed(again)
        return [
            *(f"{'Said' if n == 0 else '':10}{line}" for n, line in enumerate(said)),
            f"Again     {server}",
            f"          and in another terminal: {client}",
        ]

    def typed(self, again):
        """The commands that show the same by hand: one starts the server, and one is typed in another terminal.

        again is a claim's, '' for curl and the last path. {server} in it is the first command, {command} is that as
        pgrep -f finds it. A ulimit at its start is the server's.
        """
        server, port = self.by_hand, 8888 if "{port}" in self.command else self.port
        again = again or f"curl {shlex.quote(f'localhost:8888{self.asked}')}"
        limit = re.match(r"(ulimit -\w \d+); ", again)
        if limit:
            server, again = f"({limit[1]}; {server})", again[limit.end() :]
        words = shlex.split(self.by_hand)
        while words[0] == "env" or re.match(r"\w+=", words[0]):
            del words[0]
        if port != 8888:
            again = re.sub(r"(client3|watch3)\.py", rf"\g<0> --port {port}", again)
        again = fill(again, {"8888": str(port), "{server}": server, "{command}": shlex.quote(" ".join(words))})
        return server, again

    # What hints are about

    def has_forked(self):
        """Whether it has had a child, as far as can be seen: one that is there, or that it has waited for."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return bool(system.children(self.pid)) or not system.LINUX or system.has_waited(self.pid)
        return False

    def workers(self):
        """As Server.workers(). Where each worker listens for itself, the server is their parent, which does not.

        A machine with one processor has one worker, whose parent runs the same command: a shell's is another.
        """
        listeners = self.listeners()
        parents = {process.parent for process in listeners}
        mine = {process.pid for process in self.processes()}
        if len(parents) == 1 and parents <= mine:
            (parent,) = parents
            commands = {system.command_line(pid) for pid in (parent, listeners[0].pid)}
            if len(listeners) > 1 or system.LINUX and len(commands) == 1:
                self.pid = parent
        return super().workers()

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
            raise Unusable(f"Your server runs, but does not listen on port {self.port}. {self._port_hint()}") from None
        if not system.reachable(self.port):
            raise Unusable(
                f"Your server listens on port {self.port}, but not on 127.0.0.1, where its"
                " clients come. Bind it to 127.0.0.1, or to all addresses."
            )

    def _port_hint(self):
        """What to do for a server that does not listen on the port of its command."""
        if "{port}" not in self.command:
            return "Write {port} where your command says the port, or pass --server-port."
        return "Take the port from the first argument, as int(sys.argv[1]) does in Python: it is another each time."

    def _listens(self):
        """The PID of the process that listens; None before it does. Raises Unusable if it has ended."""
        if self.popen.poll() is not None and not self.processes():
            said = self.output.strip()
            if os.strerror(errno.EADDRINUSE) in said:
                reuse = "Does it set SO_REUSEADDR before it calls bind?"
                fixed = "{port}" in self.command and not self.restarted  # ours was free
                said += f"\n{self._port_hint() if fixed else reuse}"
            if os.strerror(errno.ENOEXEC) in said:
                said += for_a_script(errno.ENOEXEC)
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
        holders = {}
        for process in self.processes():
            with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
                if listen_socket in system.descriptors(process.pid).values():
                    holders[process.pid] = process.parent
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
