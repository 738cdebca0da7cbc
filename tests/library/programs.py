"""Start programs, wait for what they do, and leave none of them behind.

Nothing here waits for time to pass: wait_until() looks until it sees what it waits for,
and its deadline is there for failures only.
"""

import contextlib
import fcntl
import itertools
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import tempfile
import termios
import time

from library import system

MOST_OUTPUT = 2_000_000  # bytes; who prints more prints without end
MARK = f"webserver3-tests-of-{os.getpid()}-"  # starts the mark of each program


class Patience:
    """How long to wait for what has to come, in seconds. Only a failure takes so long."""

    seconds = 20


class Unusable(Exception):
    """A program with which no test can be made, for the reason that is the message."""


def mismatch(seen, expected):
    """What a failing assertion says: what was seen, and what was to be seen."""
    return f"Seen      {seen}.\nExpected  {expected}."


def wait_until(condition, expected, allow=0):
    """Returns what condition() returns, as soon as that is true.

    Looks again after a tenth of the time that it has waited, 50 ms at most. Raises
    AssertionError, which says what was expected, when that takes longer than
    Patience.seconds and the seconds that are allowed besides.
    """
    __tracebackhide__ = True
    seconds = Patience.seconds + allow
    began = time.monotonic()
    while True:
        for program in _programs:
            program.drain()
        result = condition()
        if result:
            return result
        waited = time.monotonic() - began
        if waited > seconds:
            raise AssertionError(mismatch(f"not within {seconds:g} seconds", expected))
        time.sleep(min(max(waited / 10, 0.002), 0.05))


class Program:
    """A program in a process group of its own, and with a mark in its environment.

    Its output goes to files without a name, or to stdout, a file; with terminal, all of
    it to a terminal, where programs do not hold it back (stdio(3)); with keyboard, that
    is its input, too, and controls it (credentials(7)), so that one can type. limits, a
    dict such as {resource.RLIMIT_NOFILE: 256}, are its resource limits (getrlimit(2)).
    Raises OSError if the program cannot be started.
    """

    numbers = itertools.count()

    def __init__(
        self,
        command,
        limits=None,
        stdout=None,
        env=None,
        cwd=None,
        terminal=False,
        keyboard=False,
    ):
        self._stdout = tempfile.TemporaryFile()
        self._stderr = tempfile.TemporaryFile()
        self._terminal = None
        self._prints_without_end = False
        self._mark = f"{MARK}{next(self.numbers)}."
        # Tests may start tests, as practise3.py does: what these start has the marks of both.
        marks = os.environ.get("WEBSERVER3_MARK", "") + self._mark
        if terminal:
            self._terminal, stdout = pty.openpty()
            os.set_blocking(self._terminal, False)

        def prepare():
            for limit, value in (limits or {}).items():
                resource.setrlimit(limit, (value, value))
            if keyboard:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
                attributes = termios.tcgetattr(0)
                attributes[3] &= ~termios.ECHO  # the one who types knows it
                termios.tcsetattr(0, termios.TCSANOW, attributes)

        try:
            self.popen = subprocess.Popen(
                command,
                stdin=stdout if keyboard else subprocess.DEVNULL,
                stdout=stdout or self._stdout,
                stderr=stdout if terminal else self._stderr,
                env={**clean_environment(), "WEBSERVER3_MARK": marks, **(env or {})},
                cwd=cwd,
                start_new_session=True,
                preexec_fn=prepare if limits or keyboard else None,
            )
        finally:
            if terminal:
                os.close(stdout)
        self.group = self.pid = self.popen.pid
        tell_guard(f"started {self.group}")
        _programs.add(self)

    @property
    def output(self):
        """What it has written so far to standard output, or to its terminal."""
        self.drain()
        return read_file(self._stdout)

    @property
    def errors(self):
        """What it has written so far to standard error, or to its terminal."""
        return self.output if self._terminal else read_file(self._stderr)

    def drain(self):
        """Take what it has written from its terminal, if it has one: that holds but little.

        Raises Unusable when it prints without end, once; then it may wait to print.
        """
        try:
            while self._terminal and not self._prints_without_end:
                data = os.read(self._terminal, 65536)
                if not data:
                    return
                self._stdout.write(data.replace(b"\r\n", b"\n"))
                self._stdout.flush()
                if self._stdout.tell() > MOST_OUTPUT:
                    self._prints_without_end = True
                    raise Unusable("The server prints without end.")
        except OSError:
            pass  # nothing more has been written (EAGAIN), or nobody is left to (EIO)

    @property
    def running(self):
        """Whether it has not ended."""
        return self.popen.poll() is None

    def processes(self):
        """What is left of it and of all that it started, zombies not counted.

        On Linux also what has left its process group, as a daemon does (setsid(2)).
        """
        return living([self.group], self._mark, ours())

    def send_signal(self, number):
        """Send a signal to the program alone, not to its children (kill(2))."""
        os.kill(self.pid, number)

    def press_ctrl_c(self):
        """What a terminal does at Ctrl-C: SIGINT to the whole group (termios(3))."""
        os.killpg(self.group, signal.SIGINT)

    def wait(self, allow=0):
        """Wait for its end. Returns its exit status, -N if signal N ended it.

        Raises AssertionError if it takes too long; allow is as for wait_until().
        """
        wait_until(lambda: not self.running, "the program ends", allow)
        return self.popen.returncode

    def kill(self):
        """End it and all that it started, and wait until that is gone."""
        self.popen.kill()
        self.popen.wait()
        kill_all([self.group], self._mark, ours)
        for process in ours():  # its orphans, which have become ours
            if process.group == self.group and process.state == system.ZOMBIE:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, 0)
        _programs.discard(self)
        if self._terminal:
            os.close(self._terminal)
        self._stdout.close()
        self._stderr.close()
        tell_guard(f"gone {self.group}")


def living(groups, mark, among):
    """Those of some processes that are in process groups, or on Linux have a mark, but no zombies."""
    return [
        process
        for process in among
        if process.state != system.ZOMBIE
        and (process.group in groups or system.marked(process, mark))
    ]


def ours():
    """All that descends from this process, in which guarded() adopts orphans; on macOS all."""
    return system.descendants(os.getpid()) if system.LINUX else system.processes()


def kill_all(groups, mark, among):
    """SIGKILL to process groups (kill(2)), and on Linux to all with a mark, until none lives.

    among is a function that returns the processes to look at.
    """
    for group in groups:
        # On macOS it is not permitted where nothing but zombies is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    while left := living(groups, mark, among()):
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.003)


# What would change how Python, curl or a library that draws tables behaves
CHANGES = re.compile(r"(?i)py(thon|test).*|.*_proxy|(force|no|cli)_?color.*|columns|lines|term")


def clean_environment():
    """The environment without its owner's taste, as a service of CI has it, or a desktop."""
    return {name: value for name, value in os.environ.items() if not CHANGES.fullmatch(name)}


def read_file(file):
    """All of an open file, as text. Leaves its position, which others share, alone.

    The encoding is the locale's, which the programs have inherited and print in.
    """
    size = os.fstat(file.fileno()).st_size
    written = os.pread(file.fileno(), size, 0)
    return written.decode(sys.getfilesystemencoding(), errors="backslashreplace")


@contextlib.contextmanager
def guarded():
    """While this lasts, programs can be started, and none outlives this process.

    A process of its own sees to that. It reads from a pipe what is started and what is
    gone; at the end of the pipe, however this process ends, it kills what is left.
    """
    global _guard
    read, _guard = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(_guard)
            os.setsid()  # out of reach of a Ctrl-C
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            watch(read)
        finally:
            os._exit(0)
    os.close(read)
    # What programs inherit: a shell starts background jobs with SIGINT ignored, for one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    system.adopt_orphans()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGCHLD})
    try:
        yield
    finally:
        os.close(_guard)
        _guard = None
        os.waitpid(pid, 0)


def watch(pipe):
    """Read from a pipe which groups are started and gone, to its end. Then kill what is left."""
    groups = set()
    with open(pipe, encoding="utf-8") as lines:
        for line in lines:
            event, group = line.split()
            (groups.add if event == "started" else groups.discard)(int(group))
    kill_all(groups, MARK, system.processes)


def tell_guard(line):
    """Tell the guard that a group is 'started' or 'gone'."""
    os.write(_guard, f"{line}\n".encode())


_guard = None  # the pipe to it
_programs = set()  # those that were started and not killed
