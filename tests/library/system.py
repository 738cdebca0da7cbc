"""What the system knows of processes, descriptors and connections.

Read from /proc on Linux (proc(5)), asked of ps, lsof and netstat elsewhere.
"""

import contextlib
import ctypes
import math
import os
import subprocess
import sys
import unittest
from typing import NamedTuple

LINUX = sys.platform == "linux"
BLOCKED = "SI"  # process states: asleep in a system call (ps(1); I is macOS's)
ZOMBIE = "Z"
LISTENING = "0A"  # a state in /proc/net/tcp
# Ends of addresses there, as either kind of processor writes them: 127.0.0.1, and all.
LOOPBACK = ("0100007F", "7F000001", "00000000")


class Process(NamedTuple):
    """A process: three process IDs, and its state as one letter of ps(1).

    On Linux it is running ('R') if any of its threads is.
    """

    pid: int
    parent: int
    group: int
    state: str


def children(pid):
    """The children of a process, zombies among them."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        lists = [read(f"/proc/{pid}/task/{thread}/children") for thread in threads]
    except FileNotFoundError:  # another system, or a kernel that does not list them
        return [one for one in processes() if one.parent == pid]
    now = (process(child.decode()) for children in lists for child in children.split())
    return [child for child in now if child]


def descendants(pid):
    """The children of a process, theirs, and so on, zombies among them."""
    family = children(pid)
    for one in family:  # which grows meanwhile
        if one.state != ZOMBIE:
            family += children(one.pid)
    return family


def adopt_orphans():
    """Become the parent of what descendants leave behind, as init is (prctl(2), Linux)."""
    if LINUX:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def processes():
    """All processes of the system."""
    if not LINUX:
        rows = run("ps", "-axo", "pid=,ppid=,pgid=,state=").splitlines()
        fields = [row.split() for row in rows]
        return [Process(int(f[0]), int(f[1]), int(f[2]), f[3][0]) for f in fields]
    now = (process(name) for name in os.listdir("/proc") if name.isdigit())
    return [one for one in now if one]


def process(pid):
    """A process by its ID; None if it has ended meanwhile."""
    if not LINUX:
        return next((one for one in processes() if one.pid == int(pid)), None)
    try:
        fields = stat(pid)
        if int(fields[17]) > 1:
            threads = [stat(f"{pid}/task/{thread}") for thread in os.listdir(f"/proc/{pid}/task")]
            fields = max(threads, key=lambda thread: thread[0] == b"R")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent, group = fields[:3]
    return Process(int(pid), int(parent), int(group), state.decode())


def read(path):
    """The bytes of a file in /proc, in one read: what it says of one moment."""
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def stat(name):
    """What follows the name of a process or thread in its /proc/PID/stat (proc(5))."""
    return read(f"/proc/{name}/stat").rpartition(b")")[2].split()


def descriptors(pid):
    """The open descriptors of a process, each with what it refers to.

    A dict from number to text, such as {0: '/dev/null', 3: 'socket:[4711]'}: two
    descriptors with the same text after a fork refer to the same socket.
    Raises FileNotFoundError (Linux) if there is no such process, and SkipTest if it is
    another user's and may not be looked into: in a container root may lack CAP_SYS_PTRACE
    (proc_pid_fd(5)).
    """
    targets = {}
    if not LINUX:
        listing = run("lsof", "-a", "-p", str(pid), "-d", "0-65535", "-nP", "-Fftdn")
        for line in listing.splitlines():
            if line[0] == "f":
                number = int(line[1:])
                targets[number] = ""
            elif line[0] in "tdn":
                targets[number] += f"{line[1:]} "
        return targets
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                targets[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
    except PermissionError as error:
        raise unittest.SkipTest(f"another user's process may not be looked into: {error}") from None
    return targets


def sockets(pid):
    """What those descriptors of a process refer to that are sockets."""
    kind = "socket:" if LINUX else "IPv"
    return [target for target in descriptors(pid).values() if target.startswith(kind)]


def memory(pid):
    """The resident memory of a process, in KiB."""
    if not LINUX:
        return int(run("ps", "-o", "rss=", "-p", str(pid)))
    return int(status(pid, "VmRSS"))


def threads(pid):
    """How many threads a process has."""
    if not LINUX:
        return len(run("ps", "-M", "-p", str(pid)).splitlines()) - 1
    return int(status(pid, "Threads"))


def processor_time(pid):
    """The seconds of processor time that a process has used (proc(5), utime and stime)."""
    if not LINUX:
        minutes, _, seconds = run("ps", "-o", "time=", "-p", str(pid)).strip().rpartition(":")
        return 60 * int(minutes) + float(seconds)
    return sum(map(int, stat(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


class Socket(NamedTuple):
    """A row of /proc/net/tcp (proc(5)): two ports, how much is queued, 0 for no inode.

    local says whether its own end is reached by way of 127.0.0.1.
    """

    local: bool
    port: int
    client: int
    state: str
    queued: int
    inode: int


def tcp(port):
    """The TCP sockets of both families with a port at either end (Linux)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not os.path.exists(table):
            continue  # a system without IPv6
        with open(table, encoding="ascii") as file:
            for row in file:
                if f":{port:04X} " not in row:
                    continue
                _, own, other, state, queues, _, _, _, _, inode, *_ = row.split()
                ports = [int(end.rpartition(":")[2], 16) for end in (own, other)]
                local = own.partition(":")[0].endswith(LOOPBACK)
                queued = int(queues.partition(":")[2], 16)
                yield Socket(local, *ports, state, queued, int(inode))


def listening(port):
    """The listening socket on a port of 127.0.0.1: what descriptors() says of it (Linux,
    else ''), and how many connections wait to be accepted on it.

    On Linux that is its rx_queue in /proc/net/tcp (proc(5)), or in /proc/net/tcp6,
    where a socket for all addresses of both families is. None if nobody listens.
    """
    if not LINUX:
        for row in run("netstat", "-anL", "-p", "tcp").splitlines():
            fields = row.split()
            if fields and fields[-1].endswith(f".{port}"):
                return "", int(fields[1].split("/")[0])
        return None
    for row in tcp(port):
        if row.state == LISTENING and row.port == port:
            return f"socket:[{row.inode}]", row.queued
    return None


def longest_queue():
    """How long a listen queue may be, whatever listen(2) says; math.inf if not known."""
    try:
        return int(read("/proc/sys/net/core/somaxconn"))
    except FileNotFoundError:
        return math.inf


def queued(port):
    """How many connections wait to be accepted on a port; None if nobody listens."""
    listener = listening(port)
    return listener and listener[1]


def reachable(port):
    """Whether a socket that listens on a port can be reached by way of 127.0.0.1.

    True where that cannot be seen, as on macOS.
    """
    if not LINUX:
        return True
    listeners = [row for row in tcp(port) if (row.state, row.port) == (LISTENING, port)]
    return not listeners or any(row.local for row in listeners)


def accepted(port, client_port):
    """Whether the connection from a client's port to a port of 127.0.0.1 has been accepted.

    On Linux its server's end has an inode in /proc/net/tcp then (proc(5)), or in
    /proc/net/tcp6; elsewhere lsof finds a process that has it.
    """
    if not LINUX:
        return f":{port}->127.0.0.1:{client_port} " in run("lsof", "-nP", f"-iTCP:{port}")
    return any((row.port, row.client) == (port, client_port) and row.inode for row in tcp(port))


def status(pid, name):
    """A value in /proc/PID/status (proc(5))."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(line for line in file if line.startswith(name)).split()[1]


def marked(process, mark):
    """Whether a process has a text in its environment. Always False but on Linux."""
    try:
        return mark.encode() in read(f"/proc/{process.pid}/environ")
    except OSError:
        return False  # it has ended meanwhile, or is nobody's business


def capable(number):
    """Whether this process has a capability (capabilities(7)), by its number (Linux)."""
    return bool(int(status("self", "CapEff"), 16) >> number & 1)


def tasks_of_user(uid):
    """How many processes a user has, and on Linux threads: what `ulimit -u` counts.

    (RLIMIT_NPROC in getrlimit(2))
    """
    if not LINUX:
        return run("ps", "-axo", "uid=").split().count(str(uid))
    count = 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == uid:
                count += len(os.listdir(f"/proc/{name}/task"))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended meanwhile
    return count


def run(*command):
    """The output of a command; that of lsof and ps also when they find nothing."""
    return subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8").stdout
