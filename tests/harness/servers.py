"""Servers under test, as their clients meet them, and races between clients made deterministic."""

import contextlib
import os
import re
import signal
import sys

from harness import system
from harness.clients import Attempt, Connection
from harness.observed import ObservedProgram
from harness.ports import free_port
from harness.programs import Program
from harness.stages import DEFAULT_DELAY, LONG, ROOT
from harness.users import MANY_PROCESSES, READS_ALL, many_processes_lock, user_with_few_processes
from harness.waiting import mismatch, wait_until


class Server(ObservedProgram):
    """A program that listens on a port. `{port}` in its command is replaced by a free one.

    delay is how long it sleeps after an answer, in seconds. For `processes` and `capabilities` see
    user_with_few_processes(). Raises AssertionError or Unusable if it never starts listening.
    """

    def __init__(self, command, delay=0, port=None, processes=None, capabilities=None, **program_options):
        self.port = port or free_port()
        self.delay = delay
        self._clients = contextlib.ExitStack()
        self._clients_so_far = 0
        command = [fill(str(word), {"{port}": str(self.port)}) for word in command]
        with contextlib.ExitStack() as lock:
            if processes is not None:
                if processes < MANY_PROCESSES:
                    lock.enter_context(many_processes_lock())
                few = user_with_few_processes(processes, capabilities or READS_ALL)
                few["limits"].update(program_options.get("limits") or {})
                program_options.update(few)
            super().__init__(command, **program_options)
            self._lock = lock.pop_all()  # until its processes are gone
        try:
            self.wait_until_listening()
            self._helpers = [child.pid for child in self.children()]
        except BaseException:
            self.kill()
            raise

    def wait_until_listening(self):
        """Wait until there is a listening socket on its port."""
        self.wait_while_running(lambda: system.listening(self.port), "the server listens")

    def allowance(self):
        """How many seconds a client may have to wait because the server sleeps for those before it."""
        return 0 if self.delay == LONG else self.delay * (self._clients_so_far + 1)

    def kill(self):
        """Kill it, its clients, and all that it started."""
        with self._lock:
            self._clients.close()
            super().kill()

    # Clients

    def connect(self):
        """Connect. Raises OSError if that fails."""
        connection = Connection(self.port, self.allowance())
        self._clients_so_far += 1
        self._clients.callback(connection.close)
        return connection

    def try_to_connect(self):
        """Start connecting, without waiting for success."""
        attempt = Attempt(self.port)
        self._clients.callback(attempt.close)
        return attempt

    def connect_and_settle(self):
        """Connect, then wait until the server has accepted and gone idle.

        Whatever this client or its child does next finds the parent blocked in accept. That matters for a signal:
        one that comes just before the call doesn't interrupt it (signal(7)), and Python calls the handler only
        when the call returns, that is, when the next client comes.
        """
        client = self.connect()
        self.wait_while_running(
            lambda: system.accepted(self.port, client.port) and self.blocked(),
            "the client is accepted, and the server asleep",
            self.allowance(),
        )
        return client

    def ask(self, path="/hello"):
        """Connect and request a path."""
        connection = self.connect()
        connection.ask(path)
        return connection

    def ask_when_idle(self, path="/hello"):
        """As ask(), after connect_and_settle()."""
        client = self.connect_and_settle()
        client.ask(path)
        return client

    def run(self, *command):
        """Start a client program."""
        program = Program(command)
        self._clients.callback(program.kill)
        return program

    def load(self, *options):
        """Start client3.py."""
        self._lock.enter_context(many_processes_lock())
        client = [sys.executable, ROOT / "client3.py"]
        return self.run(*client, "--host", "127.0.0.1", "--port", str(self.port), *options)

    # The listen queue and the workers

    def wait_until_queued(self, count, unless):
        """Wait until `count` connections are in the listen queue, and stay there.

        They stay if the server is asleep and the queue is the same before and after: a server in accept() would
        have been woken before the connection showed in the queue. Raises AssertionError if the connection
        `unless` is answered meanwhile.
        """

        def seen():
            assert not unless.answered(), mismatch("the client is answered at once", "it waits")
            queued = system.queued(self.port)
            return queued == count and self.blocked() and system.queued(self.port) == count

        wait_until(seen, f"{count} connections wait in the listen queue")

    def listen_socket(self):
        """Its listening socket, as system.descriptors() shows it."""
        return system.listening(self.port)[0] or system.sockets(self.pid)[0]

    def workers(self):
        """The PIDs of its other processes that can accept: they have a listening socket of its port."""
        return [process.pid for process in self.listeners() if process.pid != self.pid]

    def listeners(self):
        """Those of its processes that have a listening socket of its port.

        They share one, or each has its own (SO_REUSEPORT, socket(7)).
        """
        processes, found = self.processes(), []
        if not system.LINUX:
            pids = system.holders(self.listen_socket(), [process.pid for process in processes])
            return [process for process in processes if process.pid in pids]
        sockets = self.listening_sockets()
        for process in processes:
            with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
                found += [process] if sockets.intersection(system.sockets(process.pid)) else []
        return found

    def listening_sockets(self):
        """The listening sockets of its port, as system.descriptors() shows them (Linux)."""
        rows = system.tcp(self.port)
        return {f"socket:[{row.inode}]" for row in rows if (row.state, row.port) == (system.LISTENING, self.port)}

    def listens_more_than_once(self):
        """Whether its processes have more than one listening socket (SO_REUSEPORT, socket(7))."""
        return system.LINUX and len(self.listening_sockets()) > 1

    def worker_of(self, client):
        """The PID of the worker that has accepted a client; None before one has."""
        name = f"->127.0.0.1:{client.port} "  # as lsof shows it
        if system.LINUX:
            rows = system.tcp(self.port)
            inodes = [row.inode for row in rows if (row.port, row.client) == (self.port, client.port)]
            name = f"socket:[{inodes[0]}]" if inodes else ""
        for pid in self.workers():
            with contextlib.suppress(FileNotFoundError):
                if name and any(name in text for text in system.sockets(pid)):
                    return pid
        return None

    def wait_until_workers(self, *counts, why=""):
        """Wait until it has as many workers as one of the counts, all asleep. Returns them. why explains the counts."""
        wanted = " or ".join(map(str, sorted(set(counts))))
        wait_until(
            lambda: len(self.workers()) in counts,
            f"{wanted}, the workers{why}",
            seen=lambda: f"{len(self.workers())} processes besides the parent have the listening socket",
        )
        self.wait_until_blocked()
        return self.workers()

    # Making races deterministic

    @contextlib.contextmanager
    def only(self, worker):
        """Stop all workers but one in this context (SIGSTOP), so that this one accepts. None stops all."""
        others = [pid for pid in self.workers() if pid != worker]

        def stopped():
            now = system.snapshot()
            return all(one.state == system.STOPPED for one in [system.process(pid, now) for pid in others] if one)

        try:
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
            wait_until(stopped, "the other workers are stopped")
            yield
        finally:
            for pid in others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        self.wait_until_blocked()

    def stop_while_children_end(self, count):
        """Stop it, and let `count` children end, about which it gets one SIGCHLD when it resumes.

        A signal that is pending already is not queued again (signal(7)).
        """
        clients = [self.connect() for _ in range(count)]
        self.wait_while_running(
            lambda: system.accepted(self.port, *(client.port for client in clients)),
            f"{count} clients are accepted",
        )
        self.wait_until_blocked()  # each child in recv, the parent in accept
        self.stop()
        for client in clients:
            client.ask()
        for client in clients:
            client.wait_for_end()
        wait_until(
            lambda: self.zombies() == self.children(),
            f"{count} children end when they have answered",
        )

    def assert_zombies_left(self, expected, of):
        """Let `of` children end while it is stopped, resume it, and assert how many of them stay zombies.

        A right server may look for ended children only from time to time, so it is given time.
        """
        before = len(self.children())
        self.stop_while_children_end(of)
        self.resume()
        self.wait_until_blocked()

        def left():
            self.assert_running()
            return len(self.zombies()) - before

        with contextlib.suppress(AssertionError):
            wait_until(lambda: left() <= expected and self.blocked(), "the children are reaped")
        assert left() == expected, mismatch(f"{left()} of {of} children stay zombies", expected)


class StageServer(Server):
    """A stage's script, started on a free port and ready for clients.

    A stage with --delay gets it; other options follow. flags are Python's own; folder is where the script is.
    """

    def __init__(self, stage, *options, delay=0, port=0, folder=ROOT, flags=(), **program_options):
        script = folder / f"webserver{stage}.py"
        command = [sys.executable, *flags, script, "--port", str(port), *options]
        if stage in DEFAULT_DELAY:
            command += ["--delay", str(delay)]
        super().__init__(command, delay=delay, **program_options)

    def wait_until_listening(self):
        """Wait for its first line, which names the port."""

        def first_line():
            return re.match(r"Serving HTTP on port (\d+) \.\.\.\n", self.output)

        self.port = int(self.wait_while_running(first_line, "the server prints its port")[1])


def fill(word, values):
    """Replace each name in a word by its value."""
    for name, value in values.items():
        word = word.replace(name, value)
    return word
