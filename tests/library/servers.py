"""Servers under test, and their clients; how a stage's script is started."""

import contextlib
import errno
import functools
import itertools
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

from library import system
from library.clients import Attempt, Connection
from library.programs import Program, Unusable, mismatch, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
STAGES = ["3a", "3b", "3c", "3d", "3e", "3f", "3g", "4a", "4b", "4c", "4d", "4e"]
# The seconds that a server sleeps after an answer, of the stages that take --delay
ARTICLES_DELAY = {"3b": 60, "3c": 60, "3d": 0, "3e": 3, "3f": 0, "3g": 0}
ARTICLES_DELAY.update({stage: 0 for stage in STAGES if stage >= "4a"})  # ours, not the article's
COUNTED = r"(?i)request (\d+)\b.*GET (\S+)"  # as a server prints a request from 4a on
# RES_OPTIONS (resolv.conf(5)): where no name server answers, do not wait for it long.
QUICK_DNS = {"RES_OPTIONS": "timeout:1 attempts:1"}
LONG = 600  # a delay in seconds that no test sees the end of


class Server(Program):
    """A program that listens on a port: a free one, which its command has for {port}.

    delay is how long it sleeps after an answer, in seconds, wrapper what its command
    starts with; processes and capabilities are as for user_with_few_processes(). Raises
    AssertionError or Unusable if it does not come to listen.
    """

    def __init__(
        self, command, delay=0, wrapper=(), port=None, processes=None, capabilities=None, limits=None, **program_options
    ):
        if processes is not None:
            few = user_with_few_processes(processes, capabilities or READS_ALL)
            wrapper, limits = few["wrapper"], {**few["limits"], **(limits or {})}
        self.port = port or free_port()
        command = [fill(str(word), {"{port}": str(self.port)}) for word in command]
        self.delay = delay
        self._wrapper = wrapper
        self._clients = contextlib.ExitStack()
        self._clients_so_far = 0
        self._helpers = []
        super().__init__([*wrapper, *command], limits=limits, **program_options)
        try:
            self.wait_until_listening()
            self._helpers = [child.pid for child in self.children()]
        except BaseException:
            self.kill()
            raise

    def wait_until_listening(self):
        """Wait until there is a listening socket on its port."""

        def listens():
            self.assert_running()
            return system.listening(self.port)

        wait_until(listens, "the server listens")

    def assert_running(self):
        """Raises AssertionError, with the last that it said, if it has ended."""
        if not self.running:
            last = (self.errors.strip() or "nothing").splitlines()[-1]
            raise AssertionError(mismatch(f"the server ends, saying: {last}", "it goes on"))

    def allowance(self):
        """How many seconds its clients have to wait at most, because it sleeps for those before."""
        return 0 if self.delay == LONG else self.delay * (self._clients_so_far + 1)

    def kill(self):
        """End it, and the clients that were made for it."""
        self._clients.close()
        super().kill()

    # As a client

    def connect(self):
        """A new connection to it, established. Raises OSError if that fails."""
        connection = Connection(self.port, self.allowance())
        self._clients_so_far += 1
        self._clients.callback(connection.close)
        return connection

    def try_to_connect(self):
        """A new connection to it that need not come to be established."""
        attempt = Attempt(self.port)
        self._clients.callback(attempt.close)
        return attempt

    def connect_and_rest(self):
        """A new connection, accepted, with the server and its children asleep again.

        What such a client does next, or its child, meets a parent that is blocked in
        accept. It matters for a signal: one that comes just before the call does not
        interrupt it (signal(7)), and Python calls the handler when the call returns, which
        is when the next client comes.
        """
        client = self.connect()

        def seen():
            self.assert_running()
            return system.accepted(self.port, client.port) and self.blocked()

        wait_until(seen, "the client is accepted, and the server asleep", self.allowance())
        return client

    def ask_at_rest(self, path="/hello"):
        """As ask(), after connect_and_rest()."""
        client = self.connect_and_rest()
        client.ask(path)
        return client

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

    def load(self, *options):
        """client3.py, started."""
        client = [sys.executable, ROOT / "client3.py"]
        return self.run(*client, "--host", "127.0.0.1", "--port", str(self.port), *options)

    # As someone who looks at it with ps, ls /proc/PID/fd and ss

    def children(self):
        """Its children, zombies among them, but for those that it had before it listened."""
        return [child for child in system.children(self.pid) if child.pid not in self._helpers]

    def zombies(self):
        """Those of its children that have ended and were not waited for."""
        return [p for p in self.children() if p.state == system.ZOMBIE]

    def descriptors(self):
        """What system.descriptors() says of it. Raises AssertionError if it has ended."""
        self.assert_running()
        return system.descriptors(self.pid)

    def listen_socket(self):
        """What system.descriptors() says of its listening socket."""
        return system.listening(self.port)[0] or system.sockets(self.pid)[0]

    def wait_until_children(self, count):
        """Wait until it has count children, zombies among them. Returns them.

        Raises AssertionError if it ends: then it has none, for another reason.
        """

        def seen():
            self.assert_running()
            return len(self.children()) == count

        wait_until(seen, f"the server has {count} children")
        return self.children()

    def wait_until_zombies(self, count):
        """Wait until it has count zombies, which takes the delay of those that sleep.

        Raises AssertionError if it does not come to have them, or ends.
        """

        def seen():
            self.assert_running()
            return len(self.zombies()) == count

        wait_until(seen, f"children that have ended stay zombies: {count}", self.allowance())

    def blocked(self):
        """Whether it and all its children are asleep in a system call, or zombies."""
        resting = system.BLOCKED + system.ZOMBIE
        family = [system.process(self.pid), *system.children(self.pid)]
        return None not in family and all(process.state in resting for process in family)

    def wait_until_blocked(self):
        """Wait until nothing more happens in it before somebody, or a timer, wakes it.

        Raises AssertionError if it ends.
        """

        def seen():
            self.assert_running()
            return self.blocked()

        wait_until(seen, "the server and its children are asleep")

    def wait_until_queued(self, count, unless):
        """Wait until count connections are in the listen queue, and stay there.

        They stay when the server is asleep before and after it is looked at: a server
        in accept() would have been woken before the connection showed in the queue.
        Raises AssertionError if the connection `unless` is answered meanwhile.
        """

        def seen():
            assert not unless.answered, mismatch("the client is answered at once", "it waits")
            queued = system.queued(self.port)
            return queued == count and self.blocked() and system.queued(self.port) == count

        wait_until(seen, f"{count} connections wait in the listen queue")

    def workers(self):
        """The PIDs of its other processes that can accept: they have its listening socket."""
        listen_socket = self.listen_socket()
        others = [process.pid for process in self.processes() if process.pid != self.pid]
        return [pid for pid in others if listen_socket in system.sockets(pid)]

    def wait_until_workers(self, count):
        """Wait until it has count workers, all asleep. Returns them."""
        wait_until(lambda: len(self.workers()) == count, f"the server has {count} workers")
        self.wait_until_blocked()
        return self.workers()

    # As someone who arranges what is otherwise luck

    @contextlib.contextmanager
    def only(self, worker):
        """While this lasts, all workers but one are stopped (SIGSTOP): it has to accept. None: all."""
        others = [pid for pid in self.workers() if pid != worker]

        def stopped():
            return all(p.state == "T" for p in system.processes() if p.pid in others)

        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        wait_until(stopped, "the other workers are stopped")
        yield
        for pid in others:
            os.kill(pid, signal.SIGCONT)
        self.wait_until_blocked()

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

        def stopped():
            self.assert_running()
            return system.process(self.pid).state == "T"

        wait_until(stopped, "the server is stopped")

    def go_on(self):
        """Let it go on after stop() (SIGCONT)."""
        self.send_signal(signal.SIGCONT)

    def stop_while_children_end(self, count):
        """Stop it, and let count children end, which it has not been told when it goes on.

        All their SIGCHLDs have become one by then: a signal that is pending already is
        not queued again (signal(7)).
        """
        clients = [self.connect() for _ in range(count)]

        def accepted():
            self.assert_running()
            return all(system.accepted(self.port, client.port) for client in clients)

        wait_until(accepted, f"{count} clients are accepted")
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

    def stop_and_go(self, count, left):
        """As stop_while_children_end(), and let it go on until `left` of them stay zombies.

        Raises AssertionError if others than so many stay. A right server may look for
        ended children from time to time, so it gets time to come to that.
        """
        before = len(self.children())
        self.stop_while_children_end(count)
        self.go_on()
        self.wait_until_blocked()

        def stay():
            self.assert_running()
            return len(self.zombies()) - before

        def seen():
            return stay() <= left and self.blocked()

        with contextlib.suppress(AssertionError):
            wait_until(seen, "the children are reaped")
        assert stay() == left, mismatch(f"{stay()} of {count} children stay zombies", left)


class StageServer(Server):
    """A stage's script, started on a free port and ready for clients.

    delay is passed on to a stage that takes one, and so are further options, and flags to
    Python. folder is where the script lies.
    """

    def __init__(self, stage, *options, delay=0, port=0, folder=ROOT, flags=(), **program_options):
        script = folder / f"webserver{stage}.py"
        command = [sys.executable, *flags, script, "--port", str(port), *options]
        if stage in ARTICLES_DELAY:
            command += ["--delay", str(delay)]
        super().__init__(command, delay=delay, **program_options)

    def wait_until_listening(self):
        """Wait for its first line, which says the port."""

        def printed():
            self.assert_running()
            return re.match(r"Serving HTTP on port (\d+) \.\.\.\n", self.output)

        self.port = int(wait_until(printed, "the server prints its port")[1])


def fill(word, values):
    """A word with values put in for the names in it."""
    for name, value in values.items():
        word = word.replace(name, value)
    return word


def free_port():
    """A port of 127.0.0.1 that is nobody else's while this process lasts.

    It lies below the ports that the kernel gives to clients (ip(7)). A process that wants
    some takes a hundred, by a UDP socket on the first of them that it keeps: only one can
    have that, and for TCP the port stays free. Raises RuntimeError if all are taken.
    """
    for port in _ports:
        with socket.socket() as unused, contextlib.suppress(OSError):
            unused.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("there is no free port")


def own_ports():
    """The ports that this process has to itself, each once."""
    for first in range(10000, first_ephemeral_port() - 99, 100):
        taken = socket.socket(type=socket.SOCK_DGRAM)
        try:
            taken.bind(("127.0.0.1", first))
        except OSError:
            taken.close()
            continue
        _taken.append(taken.detach())  # open as long as this process is
        yield from range(first, first + 100)


def first_ephemeral_port():
    """The first port that the kernel gives to clients (ip(7)), or that of most systems."""
    with contextlib.suppress(FileNotFoundError):
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
            first = int(file.read().split()[0])
            return first if first > 11000 else 32768
    return 32768


_taken = []
_ports = own_ports()


# What a user may do besides, as setpriv(1) says it, and that capability's number
NOTHING, READS_ALL, WRITES_ALL = "-all", "-all,+dac_read_search", "-all,+dac_override"
TRACES_ALL = 19  # CAP_SYS_PTRACE: look into processes of other users (proc_pid_fd(5))


def user_with_few_processes(count, capabilities=READS_ALL):
    """How to start a Server that cannot come to have more than count processes.

    The limit (RLIMIT_NPROC, getrlimit(2)) counts all that the user runs, and does not
    hold for root. So root starts the server as a user whom nobody else is, with one
    capability at the most: to read all files, because the interpreter may lie where only
    root can read. Raises SkipTest where root cannot do that, as in some containers.
    """
    if os.getuid() != 0 or not system.LINUX:
        # What others of the user's run comes and goes. Only 0 is certain: no process more.
        most = count + system.tasks_of_user(os.getuid()) if count > 1 else 0
        return {"wrapper": [], "limits": {resource.RLIMIT_NPROC: most}}
    if why_no_other_user(capabilities):  # a container may lack that one: most need none
        capabilities = NOTHING
    if why_no_other_user(capabilities):
        raise unittest.SkipTest(why_no_other_user(capabilities))
    wrapper = as_user(unused_user(), capabilities)
    return {"wrapper": wrapper, "limits": {resource.RLIMIT_NPROC: count}}


def unused_user():
    """The number of a user who runs nothing, and whom no other test becomes.

    No two servers have the same: what is left of the one before would be counted.
    """
    users = (20000 + free_port() for _ in itertools.count())
    return next(user for user in users if system.tasks_of_user(user) == 0)


def as_user(user, capabilities):
    """What a command starts with so that it is run as a user, by number (setpriv(1))."""
    command = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"]
    if capabilities != NOTHING:
        command += ["--inh-caps", capabilities, "--ambient-caps", capabilities]
    return command


@functools.lru_cache(maxsize=None)
def why_no_other_user(capabilities):
    """Why root cannot run Python as another user with capabilities; '' if that works."""
    if shutil.which("setpriv") is None:
        return "there is no setpriv"
    command = [*as_user(unused_user(), capabilities), sys.executable, "-c", ""]
    tried = subprocess.run(command, stderr=subprocess.PIPE, encoding="utf-8")
    return f"root cannot be another user here: {tried.stderr.strip()}" if tried.returncode else ""


def wait_until_printed(server, pattern, what=None, after=0):
    """Wait until the server has printed a line in which a regular expression is found.

    after is how many characters of its output came before that line could.
    Raises AssertionError if it does not print it, and Unusable if it does when it is
    told to end: its output is held back in a buffer then, and no test will see it.
    """

    def printed():
        return re.search(pattern, server.output[after:], re.MULTILINE)

    try:
        wait_until(printed, f"the server prints {what or pattern}")
    except AssertionError:
        with contextlib.suppress(AssertionError, ProcessLookupError):
            server.send_signal(signal.SIGINT)
            wait_until(lambda: printed() or not server.processes(), "it ends")
        if printed():
            raise Unusable(
                "What your server prints shows only when it ends: it is held back in a"
                " buffer. Flush it after each line, as print(..., flush=True) does in"
                " Python, fflush(stdout) in C."
            ) from None
        raise


def wait_until_counted(server, paths):
    """Wait until requests for these paths are printed. Returns their numbers, in this order.

    Raises AssertionError if that of one is not printed, as `Request 7: ... GET /path`.
    """
    for path in paths:
        what = f"a line with 'Request', its number, and GET {path}"
        wait_until_printed(server, rf"(?i)request \d+\b.*GET {path}\b", what)
    numbers = {path: int(number) for number, path in re.findall(COUNTED, server.output)}
    return [numbers[path] for path in paths]


def assert_one_thread(server):
    """Assert that a server has no child, made before or after it listened, and one thread."""
    children, threads = len(system.children(server.pid)), system.threads(server.pid)
    what = f"there are {children} children and {threads} threads"
    assert (children, threads) == (0, 1), mismatch(what, "one process with one thread")


def assert_survives_without_descriptors(serve):
    """Assert that a server which may have 64 descriptors goes on when none is left.

    It is asleep most times that one looks while a client waits: a loop that works in vain
    never is. And it serves that client when another has left.
    """
    server = serve(limits={resource.RLIMIT_NOFILE: 64})
    silent = [server.connect() for _ in range(64)]
    waiting = server.ask()
    asleep = []

    def seen_twenty_times():
        asleep.append(server.blocked())
        return len(asleep) == 20

    try:
        wait_until(lambda: len(server.descriptors()) == 64, "it has no descriptor left")
        wait_until(seen_twenty_times, "one looks at it")
    except Unusable as unusable:  # it prints without end
        raise AssertionError(mismatch(str(unusable), "it sleeps")) from None
    times = asleep.count(True)
    assert times > 10, mismatch(f"it is asleep {times} of 20 times, while it cannot accept", "most")
    for client in silent:
        client.close()
    waiting.wait_for_answer()


def assert_not_answered(client):
    """Assert that a client which has sent nothing has not been answered."""
    assert not client.answered, mismatch("a client that has not asked is answered", "it waits")


def assert_died_of(server, error, load=None):
    """Wait for its end, and assert that it says why and has a status that is not 0.

    load is the program that puts load on it, if one does: the wait is for its end, too.
    error is the number of a system error, such as errno.EMFILE. What a process says of
    it is not the same in all languages: its name, its number, or what strerror(3) says.
    """
    if load:
        wait_until(lambda: not (server.running and load.running), "the load ends", 60)
    status = server.wait()
    reason = os.strerror(error)
    assert status != 0, mismatch("it ends with status 0, as if all were well", "another status")
    said = server.errors + server.output
    words = [reason, errno.errorcode[error], f"Errno {error}"]
    last = (said.strip() or "nothing").splitlines()[-1]
    assert any(word.lower() in said.lower() for word in words), mismatch(
        f"it ends with status {status}, saying: {last}", f"an end because of: {reason}"
    )
