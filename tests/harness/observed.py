"""A program seen from outside: what ps and ls /proc/PID/fd would show of it and its children."""

import contextlib
import signal
import subprocess
import sys

from harness import system
from harness.programs import Program
from harness.waiting import mismatch, wait_until


class ObservedProgram(Program):
    """A program whose processes can be inspected, stopped and limited.

    wrapper is the start of its command: setpriv, for one. For `limits` and the others see Program.
    """

    def __init__(self, command, wrapper=(), **program_options):
        self._wrapper = wrapper
        self._helpers = []  # children that don't count
        super().__init__([*wrapper, *command], **program_options)

    def allowance(self):
        """The seconds that it may take longer than usual."""
        return 0

    def assert_running(self):
        """Raise AssertionError, with the last line that it printed, if it has ended."""
        if not self.running:
            last = (self.errors.strip() or "nothing").splitlines()[-1]
            raise AssertionError(mismatch(f"the server ends, saying: {last}", "it goes on"))

    def wait_while_running(self, condition, expected, allow=0, seen=None):
        """As wait_until(), but raise AssertionError at once if it ends."""
        __tracebackhide__ = True

        def met():
            self.assert_running()
            return condition()

        return wait_until(met, expected, allow, seen)

    # Its children

    def children(self):
        """Its children, zombies included, except those that a server had before it listened."""
        return [child for child in system.children(self.pid) if child.pid not in self._helpers]

    def zombies(self):
        """Its children that have ended and were not waited for."""
        return [child for child in self.children() if child.state == system.ZOMBIE]

    def wait_until_children(self, count):
        """Wait until it has `count` children, zombies included. Returns them.

        Raises AssertionError if it ends: then it has none, for another reason.
        """
        self.wait_while_running(
            lambda: len(self.children()) == count,
            f"the server has {count} children",
            seen=lambda: f"it has {len(self.children())}",
        )
        return self.children()

    def wait_until_zombies(self, count):
        """Wait until it has `count` zombies; those that sleep first take their delay. Returns them.

        Raises AssertionError if it never has that many, or ends.
        """
        expected = f"children that have ended stay zombies: {count}"
        self.wait_while_running(
            lambda: len(self.zombies()) == count,
            expected,
            self.allowance(),
            seen=lambda: f"{len(self.zombies())} of {len(self.children())} children are zombies",
        )
        return self.zombies()

    # What its processes do

    def blocked(self):
        """Whether it and all its children are asleep in a system call, or zombies."""
        now = system.snapshot()
        family = [system.process(self.pid, now), *system.children(self.pid, now)]
        return None not in family and all(one.state in system.BLOCKED + system.ZOMBIE for one in family)

    def wait_until_blocked(self):
        """Wait until nothing happens in it until a client or a timer wakes it.

        Raises AssertionError if it ends.
        """
        self.wait_while_running(self.blocked, "the server and its children are asleep")

    def descriptors(self):
        """Its system.descriptors(). Raises AssertionError if it has ended."""
        self.assert_running()
        found = {}
        with contextlib.suppress(FileNotFoundError):
            found = system.descriptors(self.pid)
        if not found:  # a server has one at least: it is ending
            wait_until(lambda: not self.running, "the server ends")
            self.assert_running()
        return found

    # Interfering

    def stop(self):
        """Stop it, but not its children (SIGSTOP, signal(7)), and wait until it is stopped."""
        self.send_signal(signal.SIGSTOP)
        self.wait_while_running(lambda: system.process(self.pid).state == system.STOPPED, "the server is stopped")

    def resume(self):
        """Let it run again after stop() (SIGCONT)."""
        self.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def soft_limit(self, limit, value):
        """Lower a resource limit of the running program in this context (prlimit(2), Linux).

        limit is RLIMIT_NPROC or another of the module resource. A process of the program's user sets it, which
        may be another user than ours.
        """
        code = """if True:
            import resource, sys
            pid, limit, soft = map(int, sys.argv[1:])
            hard = resource.prlimit(pid, limit)[1]
            resource.prlimit(pid, limit, (hard if soft < 0 else soft, hard))
        """

        def set_to(soft):
            change = [sys.executable, "-c", code, str(self.pid), str(limit), str(soft)]
            subprocess.run([*self._wrapper, *change], check=True)

        set_to(value)
        try:
            yield
        finally:
            if self.running:
                set_to(-1)
