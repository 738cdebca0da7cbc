"""A live picture of a server: its queue, its processes, and who holds what.

Type    python3 webserver3d.py              in one terminal,
        curl localhost:8888/hello           in another,
        .venv/bin/python watch3.py          in a third; add
        --once                              for one picture, as text, or
        --svg picture.svg                   for one picture, as a drawing.
Expect  The picture of whatever server is on port 8888, updated until Ctrl-C.
        With --once or --svg, exit status 0 if there is a server, else 1.
Note    It needs rich 12.4 and psutil 6 or newer. The README's test command
        installs them in .venv.
Note    It only observes: it opens no connection, stops no process, and marks what
        it may not see of other users' processes. Only Linux shows the listen
        queue, pending signals, and the call that a process waits in.
"""

import argparse
import collections
import contextlib
import io
import itertools
import os
import platform
import re
import signal
import socket
import struct
import sys
import time
from typing import NamedTuple, Optional


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    port = "watch the server on this port (default: %(default)s)"
    which.add_argument("--port", type=int, default=8888, help=port)
    which.add_argument("--pid", type=int, help="watch this process instead")
    interval = (
        "seconds between two updates (default: %(default)s); more if updating would take over a tenth of a processor"
    )
    parser.add_argument("--interval", type=float, default=0.5, metavar="SECONDS", help=interval)
    parser.add_argument("--once", action="store_true", help="print one picture and exit")
    parser.add_argument("--svg", metavar="FILE", help="draw one picture and exit")
    options = parser.parse_args()
    if not 1 <= options.port <= 65535:
        parser.error("argument --port: must be from 1 to 65535")
    if options.pid is not None and options.pid < 1:
        parser.error("argument --pid: must be 1 or more")
    if not 0.1 <= options.interval <= 3600:
        parser.error("argument --interval: must be from 0.1 to 3600 seconds")
    return options


OPTIONS = parse_options()  # before the imports: loading the libraries takes a while

try:
    import psutil

    psutil.Process.net_connections  # since version 6
    from rich.console import Console, Group
    from rich.live import Live
    from rich.segment import Segment
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree
except (AttributeError, ImportError) as error:
    sys.exit(f"{error}. Type .venv/bin/pip install 'rich>=12.4' 'psutil>=6'")

LINUX = sys.platform == "linux"
GONE = (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess)
HIDDEN = (PermissionError, psutil.AccessDenied)
SCAN_SECONDS = 1  # between two searches for the clients' programs, which read all processes
PAUSE = 9  # times the processor time of an update: at most a tenth of a processor
CLIENT_WIDTH = 15  # columns for a client's program and PID
ZOMBIE = "Z"

# The states of TCP (RFC 9293, section 3.3.2) by Linux's numbers, and what each says of its end.
# TIME_WAIT is left out: it belongs to no process.
STATES = {
    1: ("ESTABLISHED", "open"),
    2: ("SYN_SENT", "asks to be connected, and has no reply yet"),
    3: ("SYN_RECV", "was asked, and is being connected"),
    4: ("FIN_WAIT1", "has closed, and waits for a reply to that"),
    5: ("FIN_WAIT2", "has closed, and waits for the other end to close"),
    7: ("CLOSE", "is over"),
    8: ("CLOSE_WAIT", "knows that the other end has closed, and has not closed itself"),
    9: ("LAST_ACK", "has closed last, and waits for a reply to that"),
    10: ("LISTEN", "takes connections"),
    11: ("CLOSING", "has closed at the same time as the other end"),
}
MEANING = dict(STATES.values())

# Python's names for system calls, by number. Those in ON_DESCRIPTOR take a descriptor first.
CALLS = {
    "x86_64": {
        0: "read", 1: "write", 7: "poll", 23: "select", 35: "sleep", 43: "accept",
        44: "send", 45: "recv", 46: "send", 47: "recv", 61: "wait", 128: "sigwait",
        202: "a lock", 230: "sleep", 232: "epoll", 247: "wait", 270: "select", 271: "poll",
        281: "epoll", 288: "accept",
    },
    "aarch64": {
        22: "epoll", 63: "read", 64: "write", 72: "select", 73: "poll", 95: "wait",
        98: "a lock", 101: "sleep", 115: "sleep", 137: "sigwait", 202: "accept",
        206: "send", 207: "recv", 211: "send", 212: "recv", 242: "accept", 260: "wait",
    },
}.get(platform.machine(), {})  # fmt: skip
ON_DESCRIPTOR = ("accept", "read", "recv", "send", "write")
# The same by kernel function. Users may see that of all their processes (proc_pid_wchan(5)), the
# system call only of those that they may trace (proc_pid_syscall(5)).
FUNCTIONS = {
    "inet_csk_accept": "accept", "sk_wait_data": "recv", "sk_stream_wait_memory": "send",
    "hrtimer_nanosleep": "sleep", "do_wait": "wait", "do_select": "select",
    "do_sys_poll": "poll", "ep_poll": "epoll", "do_epoll_wait": "epoll",
    "futex_wait_queue": "a lock", "futex_do_wait": "a lock", "wait_woken": "recv or send",
    "pipe_read": "read", "anon_pipe_read": "read", "pipe_write": "write",
}  # fmt: skip


# Sockets


class Socket(NamedTuple):
    """A listening socket, or one end of a connection.

    own and other are its two ends, each an address and a port. name is what its descriptors
    refer to; None if it has none, before accept and after the last close. queued counts the
    connections in its listen queue, and backlog is the length that listen was given; both
    None where unknown.
    """

    state: str
    own: tuple
    other: tuple
    name: Optional[str]
    queued: Optional[int] = None
    backlog: Optional[int] = None


def sockets_with(port):
    """The TCP sockets with a port at either end, 0 for any; none in TIME_WAIT.

    On Linux those of all processes, elsewhere those of the processes that we may inspect.
    """
    try:
        ends = {(port, 0), (0, port)}
        return [one for pair in ends for one in sockets_of_the_kernel(*pair)]
    except (AttributeError, OSError):
        sockets = {one for pid in psutil.pids() for one in sockets_of(pid).values()}
        sockets = [one for one in sockets if one.state in MEANING]
        return [one for one in sockets if port in (0, one.own[1], one.other[1])]


def sockets_of_the_kernel(own_port, other_port):
    """Ask Linux for the TCP sockets with these ports, 0 for any (sock_diag(7), netlink(7)).

    Raises AttributeError on another system, OSError if the kernel refuses.
    """
    states = sum(1 << number for number in STATES)
    for family in (socket.AF_INET, socket.AF_INET6):
        request = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, states)
        request += struct.pack("!HH", own_port, other_port) + bytes(36) + 8 * b"\xff"
        header = struct.pack("=IHHII", 16 + len(request), 20, 0x301, 1, 0)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:
            kernel.send(header + request)
            for message in messages(kernel):
                yield unpacked(family, message)


def messages(kernel):
    """The messages of the kernel's answer without their headers of 16 bytes (netlink(7))."""
    while True:
        data = kernel.recv(1 << 18)
        while data:
            length, kind = struct.unpack_from("=IH", data)
            if kind == 3:  # NLMSG_DONE
                return
            if kind == 2:  # NLMSG_ERROR
                raise OSError("the kernel does not list its sockets")
            yield data[16:length]
            data = data[(length + 3) & ~3 :]


def unpacked(family, message):
    """The socket that a struct inet_diag_msg describes (sock_diag(7))."""
    state, own_port, other_port = struct.unpack_from("!xBxxHH", message)
    queued, backlog, _, inode = struct.unpack_from("=IIII", message, 56)
    size = 4 if family == socket.AF_INET else 16
    own, other = (socket.inet_ntop(family, message[start : start + size]).replace("::ffff:", "") for start in (8, 24))
    name = f"socket:[{inode}]" if inode else None
    ends = (own, own_port), (other, other_port)
    return Socket(STATES[state][0], *ends, name, queued, backlog)


def sockets_of(pid):
    """The TCP sockets of a process by descriptor, on systems other than Linux; {} if hidden."""
    sockets = {}
    with contextlib.suppress(*GONE, *HIDDEN):
        for one in psutil.Process(pid).net_connections("tcp"):
            own, other = (tuple(end) or ("", 0) for end in (one.laddr, one.raddr))
            sockets[one.fd] = Socket(one.status, own, other, f"socket:{own}{other}")
    return sockets


# Processes


class Process(NamedTuple):
    """A process. state is a letter of ps(1).

    call is the system call that it waits in, '' if unknown. descriptors is a dict from number
    to what it refers to; None if we may not see it.
    """

    pid: int
    parent: int
    state: str
    threads: int
    call: str
    descriptors: Optional[dict]


def read(path):
    """A file's text; '' if it is gone, or we may not read it."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall().decode(errors="replace")
    except OSError:
        return ""


def process(pid):
    """A process as it is now; None if it is gone."""
    try:
        if LINUX:
            fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            state, parent, threads = fields[0], int(fields[1]), int(fields[17])
        else:
            known = psutil.Process(pid)
            state = ZOMBIE if known.status() == psutil.STATUS_ZOMBIE else "?"
            parent, threads = known.ppid(), 1
    except (IndexError, *GONE):
        return None
    if state == ZOMBIE:
        return Process(pid, parent, state, 0, "", {})
    return Process(pid, parent, state, threads, call(pid), descriptors(pid))


def call(pid):
    """The system call that a process waits in, such as 'accept(3)'; '' if unknown."""
    number, *arguments = read(f"/proc/{pid}/syscall").split() or [""]
    if not number.isdigit():
        return FUNCTIONS.get(read(f"/proc/{pid}/wchan").partition(".")[0], "")
    name, first = CALLS.get(int(number), ""), int(arguments[0], 16)
    if name in ON_DESCRIPTOR:
        return f"{name}({first})"
    if name == "select" and first == 0:  # without descriptors it is Python 3.10's sleep
        return "sleep"
    return name


def descriptors(pid):
    """What the descriptors of a process refer to, by number; None if hidden."""
    targets = {}
    try:
        if not LINUX:
            targets = {file.fd: file.path for file in psutil.Process(pid).open_files()}
            targets.update((fd, one.name) for fd, one in sockets_of(pid).items())
        for number in os.listdir(f"/proc/{pid}/fd") if LINUX else []:
            with contextlib.suppress(*GONE):
                targets[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
    except GONE:
        return {}
    except HIDDEN:
        return None
    return dict(sorted(targets.items()))


def children(one):
    """The PIDs of a process's children, zombies included."""
    try:
        if not LINUX:
            return [child.pid for child in psutil.Process(one.pid).children()]
        folder = f"/proc/{one.pid}/task"
        threads = os.listdir(folder) if one.threads > 1 else [one.pid]
        lists = [read(f"{folder}/{thread}/children").split() for thread in threads]
        return sorted(int(pid) for pids in lists for pid in pids)
    except GONE:
        return []


def family(pid, before=()):
    """A process and all its descendants, parents before children.

    before is what this returned last: a zombie stays as it is and is not read again.
    """
    zombies = {one.pid: one for one in before if one.state == ZOMBIE}
    members, to_do = [], [pid]
    while to_do:
        pid = to_do.pop()
        one = zombies.get(pid) or process(pid)
        if one:
            members.append(one)
            if one.state != ZOMBIE:
                to_do += reversed(children(one))
    return members


# A snapshot


class Connection(NamedTuple):
    """A connection to the server: its client's address, and the sockets at both ends.

    client and server are None for an end that is on another machine, or is gone. copies lists
    the descriptors of the server's end, each as PID and number.
    """

    address: tuple
    client: Optional[Socket]
    server: Optional[Socket]
    copies: list


class Look(NamedTuple):
    """A server at one moment.

    family has its processes, the parent first; it is empty if we may not see them. command is
    the parent's. pending says whether a SIGCHLD is pending for the parent, limit how many
    descriptors it may have; None if unknown. clients is a dict from the names of the server's
    sockets to the clients' ports. kept_out counts this machine's clients that the full queue
    keeps from connecting.
    """

    time: str
    listening: Optional[Socket]
    family: list
    command: str
    pending: Optional[bool]
    limit: Optional[int]
    connections: list
    clients: dict
    kept_out: int


class Watcher:
    """Observes the server on a port, or a process and the port that it listens on.

    seen is the last look at a server, None before the first. ended is when that server ended,
    None while it runs. history has the counts of each look at it. programs is a dict from the
    names of the clients' sockets to their programs and PIDs.
    """

    def __init__(self, port, pid):
        self.port = port
        self.pid = pid
        self.seen = None
        self.ended = None
        self.history = collections.deque(maxlen=200)
        self.programs = {}
        self._looked_for_programs = -SCAN_SECONDS

    def look(self):
        """Take the next look, and add its counts to the history."""
        look = self.server()
        if look is None:
            self.ended = self.ended or time.strftime("%H:%M:%S")
            return
        if self.ended:  # the history is another server's
            self.history.clear()
        self.seen, self.ended = look, None
        descriptors = look.family[0].descriptors if look.family else None
        self.history.append(
            {
                "connections": len(look.connections),
                "children": len(look.family[1:]),
                "zombies": sum(one.state == ZOMBIE for one in look.family),
                "descriptors": len(descriptors or {}),
            }
        )

    def server(self):
        """A look at the server as it is now; None if there is none."""
        sockets = sockets_with(self.port or 0)
        listening = [one for one in sockets if one.state == "LISTEN"]
        listening = [one for one in listening if self.port in (None, one.own[1])]
        if self.port and not listening:
            return None
        pid = self.pid or self.owner(listening)
        processes = family(pid, self.seen.family if self.seen else []) if pid else []
        if self.pid and (not processes or processes[0].state == ZOMBIE):
            return None
        copies = {}
        for one in processes:
            for number, name in (one.descriptors or {}).items():
                copies.setdefault(name, []).append((one.pid, number))
        own = [one for one in listening if one.name in copies]
        first = next(iter(own or (listening if self.port else [])), None)
        return Look(
            time.strftime("%H:%M:%S"), first, processes, command(pid), pending(pid),
            limit(pid), *self.connections(sockets, first, copies),
        )  # fmt: skip

    def owner(self, listening):
        """The PID of the process that has one of the sockets; None if we may not see it.

        If several have one, it is the parent of the last look, or else the process whose own
        parent has none.
        """
        names = {one.name for one in listening}

        def has_one(pid):
            return not names.isdisjoint((descriptors(pid) or {}).values())

        if self.seen and self.seen.family and has_one(self.seen.family[0].pid):
            return self.seen.family[0].pid
        holders = [process(pid) for pid in psutil.pids() if has_one(pid)]
        parents = {one.pid: one.parent for one in holders if one}
        return next((pid for pid, parent in parents.items() if parent not in parents), None)

    def connections(self, sockets, listening, copies):
        """The connections, clients and kept_out of a look."""
        if not listening:
            return [], {}, 0
        port = listening.own[1]
        by_ends = {(one.own, one.other): one for one in sockets if one.state != "LISTEN"}
        connections, kept_out = [], 0
        for (own, other), one in by_ends.items():
            opposite = by_ends.get((other, own))
            if own[1] == port:
                connections.append(Connection(other, opposite, one, copies.get(one.name, [])))
            elif other[1] == port and one.state == "SYN_SENT":
                kept_out += 1
            elif other[1] == port and not opposite:
                connections.append(Connection(own, one, None, []))
        connections.sort(key=lambda one: (not one.copies, one.copies, one.address))
        self.look_for_programs({one.client.name for one in connections if one.client})
        clients = {one.server.name: one.address[1] for one in connections if one.server}
        return connections, clients, kept_out

    def look_for_programs(self, names):
        """Find the programs of the clients, unless all are known or were searched for just now."""
        unknown = names - self.programs.keys()
        if not unknown or time.monotonic() < self._looked_for_programs + SCAN_SECONDS:
            return
        self.programs = {name: self.programs[name] for name in names - unknown}
        for pid in psutil.pids():
            for name in unknown.intersection((descriptors(pid) or {}).values()):
                with contextlib.suppress(*GONE, *HIDDEN):
                    self.programs[name] = printable(psutil.Process(pid).name()), pid
        self._looked_for_programs = time.monotonic()


def printable(text):
    """Strip control characters."""
    return "".join(each if each.isprintable() else "?" for each in " ".join(text.split()))


def command(pid):
    """The command line of a process, its program without the folder."""
    with contextlib.suppress(*GONE, *HIDDEN):
        program, *arguments = psutil.Process(pid).cmdline() or [""]
        return printable(" ".join([os.path.basename(program), *arguments]))
    return ""


def pending(pid):
    """Whether a SIGCHLD is pending for a process (proc_pid_status(5)); None if unknown."""
    masks = re.findall(r"(?:Sig|Shd)Pnd:\s*(\w+)", read(f"/proc/{pid}/status"))
    bit = 1 << signal.SIGCHLD - 1
    return any(int(mask, 16) & bit for mask in masks) if masks else None


def limit(pid):
    """How many descriptors a process may have (RLIMIT_NOFILE, getrlimit(2)); None if unknown."""
    with contextlib.suppress(AttributeError, *GONE, *HIDDEN):
        return psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE)[0]
    return None


# The picture


class Picture:
    """What a watcher has seen, for rich to print in a number of columns and rows."""

    def __init__(self, watcher, columns, rows=sys.maxsize):
        self.watcher = watcher
        self.look = watcher.seen
        self.columns = columns
        self.rows = rows

    def __rich_console__(self, console, options):
        """All its lines; if there are too many, the last one counts those left out."""
        if self.look is None:
            port, pid = self.watcher.port, self.watcher.pid
            yield line(f"Nobody listens on port {port}." if port else f"There is no process {pid}.")
            return
        lines = self.lines(console, options, self.rows, self.rows)
        if len(lines) > self.rows:
            room = max(self.rows - len(self.lines(console, options, 0, 0)), 0)
            # The processes get at least half of the room, and more if the connections leave it.
            living = sum(one.state != ZOMBIE for one in self.look.family[1:])
            processes = min(living, max(room // 2, room - len(self.look.connections)))
            lines = self.lines(console, options, processes, room - processes)
        if len(lines) > self.rows:
            more = line(f"+{len(lines) - self.rows + 1} more lines: make the window larger")
            lines[self.rows - 1 :] = console.render_lines(more, options)
        for segments in lines:
            yield from segments
            yield Segment.line()

    def lines(self, console, options, processes, connections):
        """The lines of a picture that shows at most so many processes and connections."""
        parts = [self.title(), self.queue(), "", self.tree(processes), ""]
        parts += [*self.table(connections), "", self.counts()]
        return console.render_lines(Group(*parts), options, pad=False)

    def title(self):
        if self.watcher.ended:
            ended = f" The server ended at {self.watcher.ended}. Before that: "
            return line((ended, "bold reverse"))
        address, port = self.look.listening.own if self.look.listening else (None, None)
        where = f"port {port} of {address}" if port else "no port"
        return line(f"{where}, at {self.look.time}")

    def queue(self):
        """The listen queue as a bar. On Linux it holds one more than the backlog."""
        listening = self.look.listening
        if not listening or listening.backlog is None:
            return line("listen queue  not to be seen")
        most = listening.backlog + 1
        cells = min(most, 20)
        full = min(-(-listening.queued * cells // most), cells)  # rounded up
        bar = "█" * full + "░" * (cells - full)
        text = f"listen queue  {bar} {listening.queued} of {most}"
        if not self.look.kept_out:
            return line(text)
        kept_out = f"{self.look.kept_out} kept out: SYN sent, no reply"
        return line(f"{text}, ", (kept_out, "bold red"))

    def tree(self, rows):
        """The parent, at most so many of its descendants, and a line for each parent's zombies."""
        if not self.look.family:
            return line("The server is another user's: its process is not yours to see.")
        first, *others = self.look.family
        living = [one for one in others if one.state != ZOMBIE]
        nodes = {first.pid: Tree(Group(*self.parent(first)))}
        for one in living[:rows]:
            text = f"child {one.pid} {doing(one)}".rstrip() + ", "
            text += self.descriptors(one, self.columns - 6 - len(text))
            nodes[one.pid] = nodes.get(one.parent, nodes[first.pid]).add(line(text))
        if len(living) > rows:
            nodes[first.pid].add(line(f"+{len(living) - rows} more children"))
        zombies = collections.defaultdict(list)
        for one in others:
            if one.state == ZOMBIE:  # under the server's parent if their own isn't shown
                zombies[one.parent if one.parent in nodes else first.pid].append(str(one.pid))
        for pid, pids in zombies.items():
            what = f"{len(pids)} ZOMBIE{'S' * (len(pids) > 1)}"
            which = fitting(pids, " ", self.columns - 42 - len(what))
            nodes[pid].add(line((what, "bold red"), f", ended and not waited for: {which}"))
        return nodes[first.pid]

    def parent(self, first):
        """The parent in three lines."""
        facts = [doing(first)] if doing(first) else []
        # There is no room for both, and a process with threads rarely has children.
        alone = first.threads > 1 and not self.look.family[1:]
        if self.look.pending is not None and not alone:
            facts.append("SIGCHLD pending" if self.look.pending else "no SIGCHLD pending")
        if first.threads > 1:
            facts.append(f"{first.threads} threads{where(first)}")
        if first.descriptors is not None:
            most = f" of {self.look.limit}" if self.look.limit else ""
            facts.append(f"{len(first.descriptors)}{most} descriptors:")
        return [
            line(("parent", "bold"), f" {first.pid} {self.look.command}"),
            line(", ".join(facts)),
            line(self.descriptors(first, self.columns)),
        ]

    def descriptors(self, one, width):
        """The descriptors of a process and what they refer to, in at most width columns."""
        if one.descriptors is None:
            return "descriptors not yours to see"
        meanings = {number: self.meaning(to) for number, to in one.descriptors.items()}
        groups = itertools.groupby(meanings, meanings.get)
        parts = [f"{' '.join(map(str, numbers))} {meaning}" for meaning, numbers in groups]
        if len(", ".join(parts)) > width:  # sockets first
            parts.sort(key=lambda part: not re.search("client|listening", part))
        return fitting(parts, ", ", width)

    def meaning(self, target):
        """What a descriptor refers to, in words."""
        if self.look.listening and target == self.look.listening.name:
            return "listening socket"
        if target in self.look.clients:
            return f"client {self.look.clients[target]}"
        kind, colon, rest = target.partition(":")
        if colon and rest.startswith("["):  # such as pipe:[4711] or anon_inode:[eventpoll]
            return rest.strip("[]") if kind == "anon_inode" else kind
        if target.startswith(("/dev/pts/", "/dev/tty")):
            return f"terminal {target[len('/dev/') :]}"
        return printable(target if "/dev/" in target[:5] else os.path.basename(target))

    def table(self, rows):
        """At most so many connections, a row each, and the meaning of their states."""
        if not self.look.connections:
            yield line("no connections")
            return
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        widths = {"client": CLIENT_WIDTH, "port": 5, "client end": 11, "server end": 12}
        for heading, width in {**widths, "descriptors": None}.items():
            table.add_column(heading, width=width, no_wrap=True)
        for connection in self.look.connections[:rows]:
            ends = [one.state if one else "-" for one in (connection.client, connection.server)]
            client = self.program(connection), str(connection.address[1])
            table.add_row(*client, *ends, self.copies(connection))
        yield table
        if len(self.look.connections) > rows:
            yield line(f"+{len(self.look.connections) - rows} more connections")
        ends = [end for one in self.look.connections for end in (one.client, one.server)]
        states = {end.state for end in ends if end}
        for state in sorted(states - {"ESTABLISHED"}):
            yield line(f"{state}: {MEANING[state]}")

    def program(self, connection):
        """A connection's client: its program and PID, or else its address."""
        if not connection.client:
            return connection.address[0]
        if not connection.client.name:
            return "(gone)"
        if connection.client.name not in self.watcher.programs:
            return "unknown"
        program, pid = self.watcher.programs[connection.client.name]
        room = CLIENT_WIDTH - len(f" {pid}")
        return f"{program if len(program) <= room else program[: room - 1] + '…'} {pid}"

    def copies(self, connection):
        """How many descriptors the server's end of a connection has, and whose they are."""
        if not connection.server:
            return "-"
        if not connection.server.name:
            waits = connection.server.state in ("ESTABLISHED", "CLOSE_WAIT")
            return "0: in the listen queue" if waits else "0: left to the kernel"
        if not connection.copies:
            return "hidden: another user's"
        parent = self.look.family[0].pid
        parts = [f"{'parent' if pid == parent else pid}'s {n}" for pid, n in connection.copies]
        return f"{len(parts)}: " + fitting(parts, ", ", self.columns - 55)

    def counts(self):
        """The counts in two lines, each with a curve of its history; all curves have one scale."""
        width = max(self.columns // 2 - 22, 5)
        history = list(self.watcher.history)
        most = max(max(counts.values()) for counts in history)  # drawn or not
        history = history[-width:]
        cells = [
            f"{name:11}  {count:5}  {curve([counts[name] for counts in history], most)}"
            for name, count in history[-1].items()
        ]
        return Group(line("  ".join(cells[:2])), line("  ".join(cells[2:])))


def line(*parts):
    """A line that is never wrapped, from texts and pairs of a text and its style."""
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def doing(one):
    """What a process does, in a word or two; '' if unknown."""
    if one.state in "RTt":
        return "running" if one.state == "R" else "stopped"
    if one.call:
        return f"waits in {one.call}"
    return "asleep" if one.state == "S" else ""


def where(one):
    """The call in which most of a process's threads wait, except its first; '' if unknown."""
    folder = f"/proc/{one.pid}/task"
    with contextlib.suppress(*GONE, *HIDDEN):
        others = [int(thread) for thread in os.listdir(folder) if int(thread) != one.pid]
        calls = collections.Counter(call(thread).partition("(")[0] for thread in others)
        for name, count in calls.most_common(1):
            return f" ({count} in {name})" if name else ""
    return ""


def fitting(parts, between, width):
    """As many of the parts as fit in a line, and the number of the others."""
    for count in range(min(len(parts), width), 0, -1):
        text = between.join(parts[:count])
        if count < len(parts):
            text += f" and {len(parts) - count} more"
        if len(text) <= width:
            return text
    return f"{len(parts)} in all" if parts else ""


def curve(values, most):
    """A small curve of numbers from 0 to most, a character each; '' for a single number."""
    if len(values) == 1:
        return ""
    heights = "▁▂▃▄▅▆▇█"
    return "".join(heights[value * (len(heights) - 1) // max(most, 1)] for value in values)


# Running


def suspend(live):
    """Give the terminal back at Ctrl-Z, and take it again when this goes on."""
    live.stop()
    os.kill(os.getpid(), signal.SIGSTOP)
    live.start(refresh=True)


def main():
    watcher = Watcher(None if OPTIONS.pid else OPTIONS.port, OPTIONS.pid)
    if sys.stdout:
        sys.stdout.reconfigure(errors="replace")  # its encoding may lack bars and curves
    console = Console(highlight=False)
    watcher.look()
    if OPTIONS.svg:
        drawn = Console(record=True, width=80, file=io.StringIO(), highlight=False)
        drawn.print(Picture(watcher, 80))
        svg = drawn.export_svg(title="watch3.py")
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # would load fonts
        with open(OPTIONS.svg, "w", encoding="utf-8") as file:
            file.write(svg)
    elif OPTIONS.once or not console.is_interactive:
        console.print(Picture(watcher, console.width))
        print(end="", flush=True)
    else:
        for number in (signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, signal.default_int_handler)  # restores the terminal
        with Live(console=console, screen=True, auto_refresh=False) as live:
            signal.signal(signal.SIGTSTP, lambda signum, frame: suspend(live))
            used = time.process_time()
            while True:
                live.update(Picture(watcher, *console.size), refresh=True)
                before, used = used, time.process_time()
                time.sleep(max(OPTIONS.interval, PAUSE * (used - before)))
                watcher.look()
    sys.exit(0 if watcher.seen else 1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.stdout = None  # nothing is left to flush
        sys.exit(f"Cannot show the picture: {error}")
