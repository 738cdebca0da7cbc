"""Records a run of a server, step by step, from what the kernel says. For step3.py.

The server runs in inside.py, where it tells where it is and waits to be let go. So nothing moves
while the recorder looks. What is luck otherwise is decided by a scenario, STAGE.json: lines such
as "client 1 connects" and "child 2 steps to blocked".
"""

import collections
import contextlib
import ctypes
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

from kernel import call_of, descriptors, listed, read, status, tcp

INSIDE = pathlib.Path(__file__).with_name("inside.py")
PATIENCE = 10  # seconds; a server that is busy for longer never waits
PAUSE = 0.003  # seconds between two looks
MOST_OUTPUT, MOST_STEPS = 100_000, 400  # bytes, statements; more is treated as an endless loop
SIGCHLD_BIT = 1 << (signal.SIGCHLD - 1)  # in the masks of /proc/PID/status (proc_pid_status(5))
SIGNALS = {
    "stops": signal.SIGSTOP, "goes": signal.SIGCONT, "wakes": signal.SIGUSR2,
    "interrupts": signal.SIGINT,
}  # fmt: skip
STATE_TO = {"asks": "open", "ends": "end"}  # in which a client has to be
# States of TCP that last until the other end replies
PASSING = {"SYN_SENT", "SYN_RECV", "FIN_WAIT1", "LAST_ACK", "CLOSING"}
STATE = {"Z": "zombie", "T": "stopped"}  # of processes, in /proc/PID/status; all others live
# Tracebacks look the same whatever the version of Python and the reader's taste.
ENVIRONMENT = {"PYTHONNODEBUGRANGES": "1", "PYTHON_COLORS": "0", "PYTHONUNBUFFERED": "1"}


class Unsteppable(Exception):
    """A server that cannot be stepped through, for the reason that is the message."""


class Client:
    """A client that does what curl does: it connects, asks, reads to the end, and ends."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setblocking(False)
        self.port, self.sent, self.got, self.state = self.socket.getsockname()[1], "", b"", "open"

    def asks(self):
        self.sent = "GET /hello"
        self.socket.sendall(b"GET /hello HTTP/1.1\r\nHost: localhost:8888\r\n\r\n")

    def reads(self):
        """Take what has come. After the last byte the state is 'end'."""
        with contextlib.suppress(BlockingIOError):
            while self.state == "open":
                try:
                    data = self.socket.recv(65536)
                except ConnectionResetError:
                    data = b""
                self.got += data
                self.state = "open" if data else "end"

    def ends(self):
        self.state = "gone"
        self.socket.close()


class Recorder:
    """Runs a server step by step. frames has what there was after each step, as dicts.

    A task is a process, a thread or a coroutine: a process ID, a thread ID, and a number or None.
    """

    def __init__(self, script, lines, port, arguments):
        self.lines, self.port, self.frames, self.steps = lines, port, [], 0
        self.clients = {}  # by their numbers
        self.tasks = {}  # the last message of each
        self.held = {}  # the tasks that wait to be let go, by their threads
        self.sockets, self.threads = [], {}  # to the server's threads, and which is whose
        self.shared = {}  # the global variables of each process
        self.output = b""  # what was printed since the last frame
        address = f"step3-{os.getpid()}-{port}"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind("\0" + address)
        self.listener.listen()
        self.listener.setblocking(False)
        self.terminal, self.inside = os.openpty()
        os.set_blocking(self.terminal, False)
        self.mark = os.open(os.ttyname(self.inside), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        self.command = [sys.executable, INSIDE, address, script, *arguments]
        self.server, self.names = None, {}  # of processes, by PID, in the order of their start

    def run(self):
        """Start the server. A Ctrl-C has to wait for that, or nobody would end it."""
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: its orphans become ours
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        self.server = subprocess.Popen(
            self.command, stdin=self.inside, stdout=self.inside, stderr=self.inside,
            start_new_session=True, env={**os.environ, **ENVIRONMENT},
        )  # fmt: skip
        self.names[self.server.pid] = "parent"
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self):
        """End the server and all that it has started."""
        for pid in self.names:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.server:
            self.server.wait()
            self.reap()
        for one in [self.listener, *self.sockets, *(one.socket for one in self.clients.values())]:
            one.close()
        for number in (self.mark, self.inside, self.terminal):
            os.close(number)

    def reap(self):
        """Do what init does for orphans."""
        for pid in self.names if self.server.poll() is not None else ():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def settle(self):
        """Wait until each process is held, waits in a call, is stopped or has ended."""
        before, deadline = None, time.monotonic() + PATIENCE
        while self.hears() or not before or self.moment() != before:
            before = self.moment()
            if time.monotonic() > deadline:
                raise Unsteppable("It computes without end: it never waits in a call.")
            time.sleep(PAUSE)

    def hears(self):
        """Take what has come from the server. Whether one of its threads has told something."""
        heard = False
        with contextlib.suppress(BlockingIOError):
            while True:
                self.sockets.append(self.listener.accept()[0])
                self.sockets[-1].setblocking(False)
        for one in self.sockets:
            with contextlib.suppress(BlockingIOError):
                while data := one.recv(65536):
                    message, heard = json.loads(data), True
                    thread = tuple(message["thread"])
                    task = (*thread, message["coroutine"])
                    self.tasks[task] = {name: message[name] for name in ("stack", "variables")}
                    self.threads[thread] = one
                    self.shared[task[0]] = message["shared"] or self.shared.get(task[0], {})
                    if message["waits"]:
                        self.held[thread] = task
        marked = False  # what it has printed comes before a mark of ours
        while b"\0" not in self.output:
            with contextlib.suppress(BlockingIOError):
                marked = marked or os.write(self.mark, b"\0")
            with contextlib.suppress(BlockingIOError):
                self.output += os.read(self.terminal, 65536)
            if len(self.output) > MOST_OUTPUT:
                raise Unsteppable("It prints without end.")
        self.output = self.output.replace(b"\0", b"")
        for client in self.clients.values():
            client.reads()
        return heard

    def moment(self):
        """All that may move, to be compared with a later moment; None if something does move."""
        self.reap()
        moment = [len(self.output), [len(one.got) for one in self.clients.values()], tcp(self.port)]
        for pid in list(self.names):
            for thread in listed(f"/proc/{pid}/task"):
                for child in read(f"/proc/{pid}/task/{thread}/children").split():
                    self.names.setdefault(int(child), f"child {len(self.names)}")
                known = status(f"{pid}/task/{thread}")
                if known.get("State", "R")[0] in "RD":
                    return None
                moment.append([thread, known["State"], known["voluntary_ctxt_switches"]])
        for client in self.clients.values():
            for end in (tcp(self.port, client.port), tcp(client.port, self.port)):
                if end and (end.state in PASSING or end.second):
                    return None
                moment.append(end)
        return moment

    def frame(self, by, did):
        """Wait until nothing moves, and add what there is then to the frames."""
        self.settle()
        targets = {pid: descriptors(pid) for pid in self.names}
        counts = collections.Counter(to for held in targets.values() for to in held.values())
        queue = tcp(self.port)
        words, connections = {queue.name: "listening"} if queue else {}, []
        for number, client in self.clients.items():
            server, own = tcp(self.port, client.port), tcp(client.port, self.port)
            words[server and server.name] = f"client {number}"
            waits = server and not server.name and server.state in ("ESTABLISHED", "CLOSE_WAIT")
            body = client.got.partition(b"\r\n\r\n")[2].decode(errors="replace")
            connections.append({
                "client": number, "port": client.port, "queued": bool(waits),
                "server": server and server.state, "own": own and own.state,
                "references": counts[server.name] if server else 0,
                "sent": client.sent, "got": body.strip()[:40], "state": client.state,
            })  # fmt: skip
        self.frames.append({
            "by": by, "did": did, "connections": connections,
            "processes": [self.process(pid, targets[pid], words) for pid in self.names],
            "listening": queue and {
                "queued": queue.first, "backlog": queue.second, "references": counts[queue.name],
            },
            "printed": self.output.decode(errors="replace").replace("\r\n", "\n"),
        })  # fmt: skip
        self.output = b""

    def process(self, pid, targets, words):
        """A process, as a frame has it. words are for what its descriptors refer to."""
        known = status(pid)
        state = STATE.get(known["State"][0], "lives") if known else "gone"
        pending = int(known.get("SigPnd", "0"), 16) | int(known.get("ShdPnd", "0"), 16)
        catches = int(known.get("SigCgt", "0"), 16) & SIGCHLD_BIT
        threads = listed(f"/proc/{pid}/task") if state not in ("zombie", "gone") else []
        tasks = [
            {"name": self.name(task), "state": self.state(task), **one}
            for task, one in self.tasks.items()
            if task[0] == pid and task[1] in threads and one["stack"]
        ]
        return {
            "name": self.names[pid], "pid": pid, "state": state, "tasks": tasks,
            "pending": bool(pending & SIGCHLD_BIT) if catches else None,
            "descriptors": [[number, words.get(to) or plain(to)] for number, to in targets.items()],
            "shared": self.shared.get(pid, {}) if tasks else {},
        }  # fmt: skip

    def state(self, task):
        """What a task does: 'runs' if it is held at a statement, or else what it waits in."""
        held = self.held.get(task[:2])
        if held == task:
            return "runs"
        waits = "await" if held else call_of(f"{task[0]}/task/{task[1]}")
        return "await" if task[2] is not None and waits == "epoll" else waits

    def name(self, task):
        """A task's name in the scenarios."""
        threads = list(dict.fromkeys(one[1] for one in self.tasks if one[0] == task[0]))
        number = task[2] or threads.index(task[1])
        return f"{'coroutine' if task[2] else 'thread'} {number}" if number else self.names[task[0]]

    def play(self, scenario, own):
        """Do what a scenario says. Its sentences are true of its own stage's server only.

        A server of the reader's may not be where the scenario has it: it goes on to the end.
        """
        self.run()
        self.wait_for_port()
        self.frame("", "")
        for entry in scenario["run"]:
            for line in [entry["do"]] if isinstance(entry["do"], str) else entry["do"]:
                self.do(*re.fullmatch(r"(\w+(?: \d+)?) (\w+)(?: on| to (.+))?", line).groups())
            if own:
                self.frames[-1].update({name: entry[name] for name in entry if name != "do"})
        while self.held and not own:
            self.advance(self.name(next(iter(self.held.values()))), "blocked", each=False)
        for number in self.clients if not own else ():
            self.do(f"client {number}", "ends", None)

    def wait_for_port(self):
        """Let the server go until it listens, and has come to its first statement after that."""
        deadline = time.monotonic() + PATIENCE
        while self.hears() or not tcp(self.port):
            if self.server.poll() is not None:
                said = self.output.decode(errors="replace").strip() or "It prints nothing."
                raise Unsteppable(f"It ends at once. {said.splitlines()[-1]}")
            if time.monotonic() > deadline:
                raise Unsteppable(f"It does not listen on port {self.port}, its first argument.")
            for thread in list(self.held) if not tcp(self.port) else ():
                self.go(thread)
            time.sleep(PAUSE)
        self.settle()
        if not self.tasks:
            raise Unsteppable("It waits outside its functions. Put its loop into one.")

    def do(self, who, what, until):
        """Do one line of a scenario, who does what, until something, if that is possible."""
        if what in ("steps", "runs"):
            return self.advance(who, until, what == "steps")
        with contextlib.suppress(ConnectionError, ProcessLookupError):  # the server is gone
            if who.startswith("client"):
                number = int(who.split()[1])
                if what == "connects":
                    self.clients[number] = Client(self.port)
                elif number not in self.clients or self.clients[number].state != STATE_TO[what]:
                    return
                else:
                    getattr(self.clients[number], what)()
            else:
                pid = next((pid for pid, name in self.names.items() if name == who), None)
                if not pid or (what == "wakes" and call_of(pid) != "sleep"):
                    return
                os.kill(pid, SIGNALS[what])
            self.frame(who, what)

    def advance(self, who, until, each):
        """Let a task go, by one statement, or until it waits in a call or comes to a text.

        each says whether there is a frame for each statement, or one for all.
        """
        while thread := self.thread(who):
            by = self.name(self.held[thread])
            self.go(thread)
            self.settle()
            coming = thread in self.held and self.tasks[self.held[thread]]["stack"][0][1]
            done = not until or (coming and until in self.lines[coming - 1])
            if each or done or not self.thread(who):
                self.frame(by, "steps" if each else "runs")
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise Unsteppable(f"It never waits: {MOST_STEPS} statements, and no end.")
            if done:
                return

    def thread(self, who):
        """The thread that is held at a task of this name, or at any coroutine of that process."""
        for thread, task in self.held.items():
            if self.name(task) == who or (task[2] is not None and self.names[task[0]] == who):
                return thread
        return None

    def go(self, thread):
        """Let a thread go on with the statement that it is held at."""
        del self.held[thread]
        self.threads[thread].send(b".")


def plain(target):
    """What a descriptor refers to, in a word."""
    terminal = target.startswith(("/dev/pts/", "/dev/tty"))
    word = "epoll" if "eventpoll" in target else os.path.basename(target.partition(":")[0])
    return "terminal" if terminal else word
