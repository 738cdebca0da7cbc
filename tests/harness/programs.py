"""Start programs, and leave none of them behind.

Servers under test fork, hang, detach and die. So each program gets a process group and a mark in its environment
by which all that it started can be found, and a watchdog process kills what pytest couldn't.
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

from harness import system, waiting
from harness.waiting import Unusable, wait_until

MOST_OUTPUT = 2_000_000  # bytes; more than this is treated as an endless loop
MARK = f"webserver3-tests-of-{os.getpid()}-"  # the start of each program's mark
# For programs that look up a name: give up soon where no name server answers (resolv.conf(5)).
QUICK_DNS = {"RES_OPTIONS": "timeout:1 attempts:1"}
# Environment variables that change how Python, curl or a library that draws tables behaves
USER_SETTINGS = re.compile(r"(?i)py(thon|test).*|.*_proxy|(force|no|cli)_?color.*|columns|lines|term")


class Program:
    """A program in a process group of its own, with a mark in its environment.

    Its output goes to anonymous files, or to the file `stdout`. With `terminal`, both streams go to a terminal,
    where programs don't buffer (stdio(3)); with `keyboard` as well, that is also its input and its controlling
    terminal (credentials(7)), so that a test can type. limits, such as {resource.RLIMIT_NOFILE: 256}, are its
    resource limits (getrlimit(2)). Raises OSError if the program can't be started.
    """

    numbers = itertools.count()

    def __init__(self, command, limits=None, stdout=None, env=None, cwd=None, terminal=False, keyboard=False):
        self._stdout = tempfile.TemporaryFile()
        self._stderr = tempfile.TemporaryFile()
        self._terminal = None
        self._prints_without_end = False
        self._mark = f"{MARK}{next(self.numbers)}."
        # Tests may start tests, as practise3.py does: what these start has the marks of both.
        marks = os.environ.get("WEBSERVER3_MARK", "") + self._mark
        if terminal:
            self._terminal, stdout = pty.openpty()
            self._device = stdout  # stays open: its last close discards on macOS what has not been read
            os.set_blocking(self._terminal, False)

        def prepare():
            for limit, value in (limits or {}).items():
                resource.setrlimit(limit, (value, value))
            if keyboard:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
                attributes = termios.tcgetattr(0)
                attributes[3] &= ~termios.ECHO  # the typist knows
                termios.tcsetattr(0, termios.TCSANOW, attributes)

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
        self.group = self.pid = self.popen.pid
        notify_watchdog(f"started {self.group}")
        if terminal:
            waiting.meanwhile.add(self.drain)

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
        """Drain the pty: its buffer is small, and the program blocks when it is full.

        Raises Unusable, once, when the program prints without end; from then on it may block.
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
            pass  # nothing more has been written (EAGAIN), or the terminal has been taken away (EIO)

    @property
    def running(self):
        """Whether it has not ended."""
        return self.popen.poll() is None

    def processes(self):
        """All living processes that it started, and itself; no zombies.

        On Linux this includes processes that have left its group, as a daemon does (setsid(2)).
        """
        return living([self.group], self._mark, candidates())

    def send_signal(self, number):
        """Send a signal to the program, not to its children (kill(2))."""
        os.kill(self.pid, number)

    def press_ctrl_c(self):
        """Send SIGINT to the whole group, as a terminal does at Ctrl-C (termios(3))."""
        os.killpg(self.group, signal.SIGINT)

    def wait(self, allow=0):
        """Wait for its end. Returns its exit status, -N if signal N ended it.

        Raises AssertionError if that takes too long; for `allow` see wait_until().
        """
        wait_until(lambda: not self.running, "the program ends", allow)
        return self.popen.returncode

    def kill(self):
        """Kill it and all that it started, and wait until all are gone."""
        self.popen.kill()
        self.popen.wait()
        kill_all([self.group], self._mark, candidates)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self.group, os.WNOHANG)[0]:
                pass  # its orphans: this process has adopted them
        if self._terminal:
            waiting.meanwhile.discard(self.drain)
            os.close(self._terminal)
            os.close(self._device)
        self._stdout.close()
        self._stderr.close()
        notify_watchdog(f"gone {self.group}")


def clean_environment():
    """The environment without user settings (colours, proxies, PYTHON*, PYTEST*)."""
    return {name: value for name, value in os.environ.items() if not USER_SETTINGS.fullmatch(name)}


def read_file(file):
    """The whole text of an open file. Doesn't move its position, which programs share.

    The encoding is the locale's, in which the programs print, too.
    """
    size = os.fstat(file.fileno()).st_size
    written = os.pread(file.fileno(), size, 0)
    return written.decode(sys.getfilesystemencoding(), errors="backslashreplace")


def candidates():
    """The processes among which a program's are: the descendants of this one, which adopts orphans; on macOS all."""
    return system.descendants(os.getpid()) if system.LINUX else system.processes()


def living(groups, mark, among):
    """Those of some processes that are in the process groups or, on Linux, have the mark; no zombies."""
    return [
        process
        for process in among
        if process.state != system.ZOMBIE and (process.group in groups or system.marked(process, mark))
    ]


def kill_all(groups, mark, among):
    """Send SIGKILL to process groups, and on Linux to all processes with a mark, until none lives.

    among() returns the processes to choose from.
    """
    for group in groups:
        # macOS refuses this for a group of nothing but zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    while left := living(groups, mark, among()):
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.003)


@contextlib.contextmanager
def guarded():
    """Programs can be started in this context, and none outlives this process, however it ends.

    A watchdog process reads from a pipe which programs are started and gone. At the end of the pipe it kills the
    rest.
    """
    global _watchdog
    read, _watchdog = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(_watchdog)
            os.setsid()  # out of reach of Ctrl-C
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            run_watchdog(read)
        finally:
            os._exit(0)
    os.close(read)
    # Programs inherit what is ignored: a shell starts background jobs without SIGINT, nohup without SIGHUP.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda signum, frame: None)  # still nothing here, and the default in programs
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGCHLD})
    system.adopt_orphans()
    try:
        yield
    finally:
        os.close(_watchdog)
        _watchdog = None
        os.waitpid(pid, 0)


def run_watchdog(pipe):
    """Read from a pipe, to its end, which groups are started and gone. Then kill those left."""
    groups = set()
    with open(pipe, encoding="utf-8") as lines:
        for line in lines:
            event, group = line.split()
            (groups.add if event == "started" else groups.discard)(int(group))
    kill_all(groups, MARK, system.processes)


def notify_watchdog(line):
    """Report that a group is 'started' or 'gone'."""
    os.write(_watchdog, f"{line}\n".encode())


_watchdog = None  # the pipe to it
