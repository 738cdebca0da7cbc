"""Start programs, meet servers as a client does, and wait for what they do.

Nothing here waits for time to pass: wait_until() looks until it sees what it waits for,
and its deadline is there for failures only.
"""

import contextlib
import os
import pathlib
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import pytest
import system

ROOT = pathlib.Path(__file__).resolve().parent.parent
STAGES = ["3a", "3b", "3c", "3d", "3e", "3f", "3g"]
SLEEPING_STAGES = ["3b", "3c", "3e"]
LINUX_ONLY = pytest.mark.skipif(not system.LINUX, reason="looks at what is Linux's own")
LONG = 600  # a delay in seconds that no test sees the end of
DEADLINE = 20  # seconds; only a failure takes that long


def wait_until(condition, what):
    """Returns what condition() returns, as soon as that is true.

    Raises AssertionError, which says what was waited for, after DEADLINE seconds.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + DEADLINE
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {DEADLINE} seconds in vain until {what}")
        time.sleep(0.003)


class Program:
    """A program in a process group of its own, its output in files without a name.

    limits, a dict such as {resource.RLIMIT_NOFILE: 256}, are its resource limits
    (getrlimit(2)); stdout is a file for its output. Raises OSError if the program cannot
    be started.
    """

    def __init__(self, command, limits=None, stdout=None, env=None):
        self._stdout = tempfile.TemporaryFile()
        self._stderr = tempfile.TemporaryFile()

        def set_limits():
            for limit, value in limits.items():
                resource.setrlimit(limit, (value, value))

        self.popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout or self._stdout,
            stderr=self._stderr,
            env={**clean_environment(), **(env or {})},
            start_new_session=True,
            preexec_fn=set_limits if limits else None,
        )
        self.pid = self.popen.pid
        guard.tell(f"started {self.pid}")

    @property
    def output(self):
        """What it has written to standard output so far."""
        return read_file(self._stdout)

    @property
    def errors(self):
        """What it has written to standard error so far."""
        return read_file(self._stderr)

    @property
    def running(self):
        return self.popen.poll() is None

    def processes(self):
        """The processes of its group that have not ended: it, its children and theirs."""
        return [
            process
            for process in system.processes()
            if process.group == self.pid and process.state != system.ZOMBIE
        ]

    def send_signal(self, number):
        """Send a signal to the program alone, not to its children (kill(2))."""
        os.kill(self.pid, number)

    def press_ctrl_c(self):
        """What a terminal does at Ctrl-C: SIGINT to the whole group (termios(3))."""
        os.killpg(self.pid, signal.SIGINT)

    def wait(self):
        """Wait for its end. Returns its exit status, -N if signal N ended it."""
        wait_until(lambda: not self.running, "the program has ended")
        return self.popen.returncode

    def kill(self):
        """End its whole group, if there is any of it left, and wait until it is gone."""
        left = kill_group(self.pid)
        self.popen.wait()
        if left:
            wait_until(lambda: not self.processes(), "the program's children have ended")
        self._stdout.close()
        self._stderr.close()
        guard.tell(f"gone {self.pid}")


class Server(Program):
    """A stage's script, started on a free port and ready for clients.

    delay, in seconds, and further options are passed on to it, flags to Python. folder
    is where the script lies, wrapper what its command starts with. Raises
    AssertionError if it does not come to listen.
    """

    def __init__(
        self, stage, *options, delay=None, folder=ROOT, flags=(), wrapper=(), **how
    ):
        script = folder / f"webserver{stage}.py"
        command = [*wrapper, sys.executable, *flags, script, "--port", "0", *options]
        if delay is not None:
            command += ["--delay", str(delay)]
        self.delay = delay
        self._wrapper = wrapper
        self._clients = contextlib.ExitStack()
        super().__init__(command, **how)
        try:
            self.port = wait_until(self._printed_port, "the server has printed its port")
        except BaseException:
            self.kill()
            raise

    def _printed_port(self):
        assert self.running, f"the server ended: {self.errors}"
        printed = re.match(r"Serving HTTP on port (\d+) \.\.\.\n", self.output)
        return printed and int(printed[1])

    def kill(self):
        """End it, and the clients that were made for it."""
        self._clients.close()
        super().kill()

    # As a client

    def connect(self):
        """A new connection to it, established. Raises OSError if that fails."""
        connection = Connection(self.port)
        self._clients.callback(connection.close)
        return connection

    def try_to_connect(self):
        """A new connection to it that need not come to be established."""
        attempt = Attempt(self.port)
        self._clients.callback(attempt.close)
        return attempt

    def run(self, *command):
        """A client program, started."""
        program = Program(command)
        self._clients.callback(program.kill)
        return program

    def ask(self, path="/hello"):
        """A new connection on which a path was asked for."""
        connection = self.connect()
        connection.ask(path)
        return connection

    def curl(self, path="/hello"):
        """curl, started and asking for a path. Nothing of its output is held back (-N)."""
        url = f"http://127.0.0.1:{self.port}{path}"
        return self.run("curl", "-q", "--silent", "--show-error", "-N", url)

    def load(self, *options):
        """client3.py, started."""
        client = [sys.executable, ROOT / "client3.py"]
        return self.run(*client, "--host", "127.0.0.1", "--port", str(self.port), *options)

    # As someone who looks at it with ps, ls /proc/PID/fd and ss

    def children(self):
        return [p for p in system.processes() if p.parent == self.pid]

    def zombies(self):
        return [p for p in self.children() if p.state == system.ZOMBIE]

    def descriptors(self):
        return system.descriptors(self.pid)

    def memory(self):
        """Its resident memory in KiB."""
        return system.memory(self.pid)

    def wait_until_children(self, count):
        """Wait until it has count children, zombies among them. Returns them.

        Raises AssertionError if it ends: then it has none, for another reason.
        """

        def seen():
            assert self.running, f"the server ended: {self.errors}"
            return len(self.children()) == count

        wait_until(seen, f"there are {count} children")
        return self.children()

    def wait_until_zombies(self, count):
        wait_until(lambda: len(self.zombies()) == count, f"there are {count} zombies")

    def blocked(self):
        """Whether it and all its children are asleep in a system call, or zombies."""
        resting = system.BLOCKED + system.ZOMBIE
        family = [p for p in system.processes() if self.pid in (p.pid, p.parent)]
        return family != [] and all(process.state in resting for process in family)

    def wait_until_blocked(self):
        """Wait until nothing more happens in it before somebody, or a timer, wakes it.

        Raises AssertionError if it ends.
        """

        def seen():
            assert self.running, f"the server ended: {self.errors}"
            return self.blocked()

        wait_until(seen, "the server and its children are asleep")

    def wait_until_queued(self, count, unless):
        """Wait until count connections are in the listen queue, and stay there.

        They stay when the server is asleep before and after it is looked at: a server
        in accept() would have been woken before the connection showed in the queue.
        Raises AssertionError if the connection `unless` is answered meanwhile.
        """

        def seen():
            assert not unless.answered, "the client was answered and did not have to wait"
            queued = system.queued(self.port)
            return queued == count and self.blocked() and system.queued(self.port) == count

        wait_until(seen, f"{count} connections wait in the listen queue")

    # As someone who arranges what is otherwise luck

    @contextlib.contextmanager
    def soft_limit(self, limit, value):
        """Lower a limit of the running server, and put it back (prlimit(2), Linux).

        limit is RLIMIT_NPROC or another of the module resource. This is done as the
        server's user, who need not be ours.
        """
        code = """if True:
            import resource, sys
            pid, limit, soft = map(int, sys.argv[1:])
            hard = resource.prlimit(pid, limit)[1]
            resource.prlimit(pid, limit, (hard if soft < 0 else soft, hard))
        """
        change = [*self._wrapper, sys.executable, "-c", code, str(self.pid), str(limit)]
        subprocess.run([*change, str(value)], check=True)
        yield
        subprocess.run([*change, "-1"], check=True)

    def stop(self):
        """Stop it, but not its children (SIGSTOP, signal(7)), and see it stopped."""
        self.send_signal(signal.SIGSTOP)
        wait_until(
            lambda: any(p.pid == self.pid and p.state == "T" for p in system.processes()),
            "the server is stopped",
        )

    def go_on(self):
        """Let it go on after stop() (SIGCONT)."""
        self.send_signal(signal.SIGCONT)

    def stop_and_go(self, count):
        """Let count children end while it is stopped, and then let it go on.

        All their SIGCHLDs have become one by then: a signal that is pending already is
        not queued again (signal(7)). Returns how many of them stay zombies.
        """
        before = len(self.children())
        clients = [self.connect() for _ in range(count)]
        self.wait_until_children(before + count)
        self.wait_until_blocked()  # each child in recv, the parent in accept
        self.stop()
        for client in clients:
            client.ask()
        for client in clients:
            client.wait_for_end()
        self.wait_until_zombies(before + count)
        self.go_on()
        self.wait_until_blocked()
        return len(self.zombies()) - before


class Attempt:
    """An attempt to connect to a port of 127.0.0.1 that need not succeed."""

    def __init__(self, port):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))

    def wait_until_kept_waiting(self):
        """Wait until the kernel has asked again and is not connected all the same.

        It asks again when there is no reply for a second (RFC 6298). Seen in the
        first bytes of struct tcp_info (tcp(7)): the state, 2 being SYN_SENT, something
        else, and the number of retransmissions. Linux only.
        """

        def seen():
            info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 3)
            state, _, retransmissions = info
            assert state == 2, "the connection was established or refused"
            return retransmissions > 0

        wait_until(seen, "the kernel repeats its SYN")

    def close(self):
        self.socket.close()


class Connection:
    """A client's connection to a port of 127.0.0.1, established when this returns."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.received = b""
        self.was_reset = False
        self._ended = False

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, path="/hello"):
        """Send a request for a path (RFC 9112)."""
        self.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def look(self):
        """Take in what has arrived by now, without waiting for more."""
        self.socket.setblocking(False)
        try:
            while not self._ended:
                data = self.socket.recv(4096)
                self.received += data
                self._ended = not data
        except BlockingIOError:
            pass  # nothing more has arrived
        except ConnectionResetError:
            self._ended = self.was_reset = True

    @property
    def answered(self):
        """Whether any byte of an answer has come."""
        self.look()
        return bool(self.received)

    @property
    def ended(self):
        """Whether the server has ended the connection (its FIN or RST has come)."""
        self.look()
        return self._ended

    def wait_for_answer(self):
        wait_until(lambda: self.answered, "the first bytes of the answer come")

    def wait_for_end(self):
        """Wait until the server has closed the connection. Returns all that came."""
        wait_until(lambda: self.ended, "the connection is ended by the server")
        return self.received

    def close(self):
        self.socket.close()

    def finish_sending(self):
        """Send nothing more: the server reads an end of file (shutdown(2))."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        """Break the connection off, with a RST (socket(7), SO_LINGER of 0 seconds)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def kill_group(group):
    """SIGKILL to all of a process group (kill(2)). Returns whether any of it was left."""
    try:
        os.killpg(group, signal.SIGKILL)
        return True
    except (ProcessLookupError, PermissionError):
        return False  # on macOS not permitted: nothing but zombies was left


def user_with_few_processes(count):
    """How to start a Server that cannot come to have more than count processes.

    The limit (RLIMIT_NPROC, getrlimit(2)) counts all that the user runs, and does not
    hold for root. So root starts the server as a user whom nobody else is, who may
    read all files, because the interpreter may lie where only root can read
    (setpriv(1), capabilities(7)).
    """
    if os.getuid() == 0:
        user = str(20000 + os.getpid() % 40000)
        may = "-all,+dac_override"
        wrapper = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"]
        wrapper += ["--inh-caps", may, "--ambient-caps", may]
    else:
        wrapper = []
        count += system.tasks_of_user(os.getuid())
    return {"wrapper": wrapper, "limits": {resource.RLIMIT_NPROC: count}}


def clean_environment():
    """The environment without what would change how Python or curl behaves."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and not name.lower().endswith("_proxy")
    }


def read_file(file):
    """All of an open file, as text. Leaves its position, which others share, alone."""
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode(errors="backslashreplace")


class _Guard:
    """A process that outlives this one, however it ends, and then kills what is left.

    It reads of what is started and what is gone from a pipe, whose end it sees when
    this process is gone, too.
    """

    def __init__(self):
        read, self.write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.write)
            os.setsid()  # out of reach of a Ctrl-C
            try:
                self._watch(read)
            finally:
                os._exit(0)
        os.close(read)

    def _watch(self, read):
        groups = set()
        with open(read) as lines:
            for line in lines:
                event, group = line.split()
                (groups.add if event == "started" else groups.discard)(int(group))
        for group in groups:
            kill_group(group)

    def tell(self, line):
        os.write(self.write, f"{line}\n".encode())

    def dismiss(self):
        os.close(self.write)
        os.waitpid(self.pid, 0)


guard = _Guard()
# A shell starts background jobs with SIGINT ignored, which the programs would inherit.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
