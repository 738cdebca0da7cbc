"""Facts about processes, descriptors and connections, for the tests, the pages and the benchmarks.

From /proc on Linux (proc(5)), from ps, lsof and netstat elsewhere. psutil does not know listen queues.
"""

import contextlib
import ctypes
import math
import os
import re
import socket
import struct
import subprocess
import sys
from typing import NamedTuple

from harness.waiting import Impossible

# How the kernel behaves, and where facts are found: tests/mac/as-on-a-mac asks Linux's through macOS's programs.
DARWIN = sys.platform == "darwin"
LINUX = sys.platform == "linux" and "WEBSERVER3_AS_ON_A_MAC" not in os.environ
BLOCKED = "SI"  # process states: asleep in a system call (ps(1); I is macOS's)
ZOMBIE, STOPPED = "Z", "T"
LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")  # CONFIG_PROC_CHILDREN
LISTENING, FIN_WAIT2 = "0A", "05"  # states in /proc/net/tcp
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20  # <linux/netlink.h>, <linux/sock_diag.h>
# The ends of addresses in /proc/net/tcp, in either byte order: 127.0.0.1, and all addresses
LOOPBACK = ("0100007F", "7F000001", "00000000")


# Processes


class Process(NamedTuple):
    """A process: three process IDs, and its state as one letter of ps(1).

    On Linux the state is running ('R') if any of its threads is.
    """

    pid: int
    parent: int
    group: int
    state: str


def process(pid, among=None):
    """A process by its ID; None if it is gone. For `among` see snapshot()."""
    if not LINUX:
        return next((one for one in among or processes() if one.pid == int(pid)), None)
    try:
        fields = stat(pid)
        if int(fields[17]) > 1:
            threads = [stat(f"{pid}/task/{thread}") for thread in os.listdir(f"/proc/{pid}/task")]
            fields = max(threads, key=lambda thread: thread[0] == b"R")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent, group = fields[:3]
    return Process(int(pid), int(parent), int(group), state.decode())


def processes():
    """All processes of the system."""
    if not LINUX:
        rows = run("ps", "-axo", "pid=,ppid=,pgid=,state=").splitlines()
        fields = [row.split() for row in rows]
        return [Process(int(f[0]), int(f[1]), int(f[2]), f[3][0]) for f in fields]
    now = (process(name) for name in os.listdir("/proc") if name.isdigit())
    return [one for one in now if one]


def snapshot():
    """What several questions to process(), children() and descendants() can share: one run of ps.

    None on Linux, where each reads no more of /proc than it needs.
    """
    return None if LINUX else processes()


def children(pid, among=None):
    """The children of a process, zombies included. For `among` see snapshot().

    The list is reliable only while no child ends (proc_pid_task(5)): then it is read again.
    """
    if not (LINUX and LISTS_CHILDREN):
        return [one for one in among or processes() if one.parent == pid]
    while True:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
            lists = [read(f"/proc/{pid}/task/{thread}/children") for thread in threads]
        except (FileNotFoundError, ProcessLookupError):
            return []
        found = [process(child.decode()) for children in lists for child in children.split()]
        if None not in found:
            return found


def descendants(pid, among=None):
    """The children of a process, their children, and so on, zombies included. For `among` see snapshot()."""
    among = among or snapshot()
    family = children(pid, among)
    for one in family:  # grows during the loop
        if one.state != ZOMBIE:
            family += children(one.pid, among)
    return family


def adopt_orphans():
    """Become the reaper of orphaned descendants (PR_SET_CHILD_SUBREAPER, prctl(2), Linux)."""
    if LINUX:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def marked(process, mark):
    """Whether a process has a text in its environment. Always False except on Linux."""
    if not LINUX:
        return False
    try:
        return mark.encode() in read(f"/proc/{process.pid}/environ")
    except OSError:
        return False  # it has ended meanwhile, or we may not read it


def command_line(pid):
    """The words of a process's command, each followed by a 0 byte (proc(5), Linux); b'' if it is gone."""
    with contextlib.suppress(OSError):
        return read(f"/proc/{pid}/cmdline")
    return b""


def tasks_of_user(uid):
    """How many processes a user has, on Linux threads: what `ulimit -u` counts (RLIMIT_NPROC, getrlimit(2))."""
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


def exit_status(pid):
    """The exit status of a zombie, -N if signal N ended it (proc_pid_stat(5)). 0 where it is not shown, as on macOS."""
    code = int(stat(pid)[49]) if LINUX else 0
    return -(code & 127) or code >> 8


def has_waited(pid):
    """Whether a process has waited for a child: the page faults of those are added up (proc_pid_stat(5), Linux)."""
    return int(stat(pid)[8]) > 0


# What a process uses


def memory(pid):
    """The resident memory of a process, in KiB."""
    if not LINUX:
        return int(run("ps", "-o", "rss=", "-p", str(pid)))
    return int(status(pid, "VmRSS"))


def peak_memory(pid):
    """The most resident memory that a process has had, in KiB (Linux)."""
    return int(status(pid, "VmHWM"))


def proportional_memory(pid):
    """The memory of a process, in KiB; a page that n processes share counts 1/n (Pss, proc_pid_smaps(5), Linux).

    0 for a zombie, and if it is gone.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1])
    return 0


def threads(pid):
    """How many threads a process has; 0 if it is gone."""
    if not LINUX:
        return max(0, len(run("ps", "-M", "-p", str(pid)).splitlines()) - 1)
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return len(os.listdir(f"/proc/{pid}/task"))
    return 0


def processor_time(pid):
    """The seconds of processor time that a process has used (utime and stime, proc(5))."""
    if not LINUX:
        minutes, _, seconds = run("ps", "-o", "time=", "-p", str(pid)).strip().rpartition(":")
        return 60 * int(minutes) + float(seconds)
    return sum(map(int, stat(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


def processor_time_of_reaped(pid):
    """The same of all the children that a process has waited for (cutime and cstime, proc(5), Linux)."""
    return sum(map(int, stat(pid)[13:15])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid):
    """The open descriptors of a process: a dict from number to what it refers to.

    For example {0: '/dev/null', 3: 'socket:[4711]'}: descriptors with equal texts refer to the same socket, also
    in different processes. Raises FileNotFoundError (Linux) if the process is ending, and Impossible if it is another
    user's and we may not inspect it: in a container root may lack CAP_SYS_PTRACE (proc_pid_fd(5)).
    """
    if not LINUX:
        return listed_descriptors([pid]).get(pid, {})
    targets = {}
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                targets[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
    except PermissionError as error:
        if int(stat(pid)[20]) == 0:  # it has no memory any more, and its descriptors are root's
            raise FileNotFoundError(f"process {pid} is ending") from None
        raise Impossible(f"another user's process may not be looked into: {error}") from None
    return targets


def listed_descriptors(pids):
    """The descriptors() of several processes, by PID, from one run of lsof(8); a process that is gone is missing."""
    found = {}
    listing = run("lsof", "-a", "-p", ",".join(map(str, pids)), "-d", "0-65535", "-nP", "-Fftdn")
    for line in listing.splitlines():
        field, value = line[:1], line[1:]
        if field == "p":
            targets = found[int(value)] = {}
        elif field == "f":
            number = int(value)
            targets[number] = ""
        elif field in ("t", "d", "n"):
            targets[number] += f"{value} "
    return found


def sockets(pid):
    """The sockets among the descriptors of a process: what they refer to."""
    kind = "socket:" if LINUX else "IPv"
    return [target for target in descriptors(pid).values() if target.startswith(kind)]


def holders(target, pids):
    """Those of some processes that have a descriptor of a socket, which is given by its text in descriptors()."""
    if LINUX:
        return [pid for pid in pids if target in sockets(pid)]
    listed = listed_descriptors(pids) if pids else {}
    return [pid for pid in pids if target in listed.get(pid, {}).values()]


# Connections


class Socket(NamedTuple):
    """A row of /proc/net/tcp (proc(5)): two ports, the length of its receive queue, 0 for no inode.

    local says whether its own end can be reached through 127.0.0.1.
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
    """The listening socket on a port: its text in descriptors() ('' except on Linux) and the length of its queue.

    On Linux the queue is its rx_queue in /proc/net/tcp (proc(5)), or in /proc/net/tcp6, which lists the sockets for
    all addresses of both families. None if no process listens.
    """
    if not LINUX:
        queues = listen_queues(port)
        return ("", next(iter(queues.values()))) if queues else None
    for row in tcp(port):
        if row.state == LISTENING and row.port == port:
            return f"socket:[{row.inode}]", row.queued
    return None


def listen_queues(port):
    """The listening sockets on a port: a dict from addresses to the lengths of their queues, from netstat(1).

    A row is `0/0/128  127.0.0.1.8888`; other BSDs have the protocol before it. Those that 127.0.0.1 reaches are first.
    """
    queues = {}
    for row in run("netstat", "-anL", "-p", "tcp").splitlines():
        lengths = [field for field in row.split() if re.fullmatch(r"\d+/\d+/\d+", field)]
        address, _, number = row.strip().rpartition(".")
        if lengths and number == str(port):
            queues[address.split()[-1]] = int(lengths[0].split("/")[0])
    return dict(sorted(queues.items(), key=lambda item: item[0] not in ("127.0.0.1", "*")))


def queued(port):
    """How many connections wait to be accepted on a port; None if no process listens."""
    listener = listening(port)
    return listener and listener[1]


def longest_queue():
    """The system's limit for listen queues (listen(2)); math.inf where it is unknown."""
    try:
        return int(read("/proc/sys/net/core/somaxconn") if LINUX else run("sysctl", "-n", "kern.ipc.somaxconn"))
    except (FileNotFoundError, ValueError):  # another system: no such file, program, or name
        return math.inf


def reachable(port):
    """Whether a listening socket on a port can be reached through 127.0.0.1."""
    if not LINUX:
        addresses = listen_queues(port)
        return not addresses or not {"127.0.0.1", "*"}.isdisjoint(addresses)
    listeners = [row for row in tcp(port) if (row.state, row.port) == (LISTENING, port)]
    return not listeners or any(row.local for row in listeners)


def accepted(port, *client_ports):
    """Whether the connections from client_ports to a port of 127.0.0.1 have all been accepted.

    On Linux the server's end has an inode only then. sock_diag(7) finds it by its address. /proc/net/tcp, for kernels
    without that, lists every connection of the last minute, which may take a tenth of a second. Elsewhere one run of
    lsof finds the processes that have them; of a socket for both families it may show the address as IPv6's.
    """
    if not LINUX:
        listing = run("lsof", "-nP", f"-iTCP:{port}")
        found = re.findall(rf":{port}->(?:\[::ffff:)?127\.0\.0\.1\]?:(\d+) ", listing)
        return {str(client_port) for client_port in client_ports} <= set(found)
    return all(has_inode(port, client_port) for client_port in client_ports)


def has_inode(port, client_port):
    """Whether the server's end of a connection has an inode (Linux)."""
    with contextlib.suppress(OSError):
        state, inode = server_end(port, client_port)
        return state != int(LISTENING, 16) and inode != 0
    return any((row.port, row.client) == (port, client_port) and row.inode for row in tcp(port))


def server_end(port, client_port):
    """The state and the inode of the server's end of a connection (sock_diag(7)), or of the listening socket.

    Raises OSError if the kernel finds neither, or can't search.
    """
    address = socket.inet_aton("127.0.0.1") + bytes(12)
    request = struct.pack("=BBxxI", socket.AF_INET, socket.IPPROTO_TCP, 0xFFFFFFFF)  # in any state
    request += struct.pack("!HH", port, client_port) + 2 * address + struct.pack("=Iq", 0, -1)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, 1, 0, 0) + request)
        reply = kernel.recv(4096)
    if struct.unpack_from("=4xH", reply)[0] != SOCK_DIAG_BY_FAMILY:
        raise OSError(-struct.unpack_from("=16xi", reply)[0], "sock_diag")
    return reply[17], struct.unpack_from("=84xI", reply)[0]


# Reading


def read(path):
    """The bytes of a file in /proc, in one read: a consistent snapshot."""
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def stat(name):
    """The fields after the name of a process or thread in /proc/PID/stat (proc(5))."""
    return read(f"/proc/{name}/stat").rpartition(b")")[2].split()


def status(pid, name):
    """A value in /proc/PID/status (proc(5))."""
    lines = read(f"/proc/{pid}/status").decode().splitlines()
    return next(line for line in lines if line.startswith(name)).split()[1]


def run(*command):
    """The output of a command; also if it fails, as lsof and ps do when they find nothing."""
    return subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8").stdout
