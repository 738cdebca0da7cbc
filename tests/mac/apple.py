#!/usr/bin/env -S python3 -IS
"""ps, lsof, netstat and sysctl as macOS prints them, filled in by Linux: the programs in bin/ are links to this file.

So the code for macOS is tested on Linux, as far as it reads what these print. They know the questions that the tests
and the pages ask, and refuse all others. The formats are those of Apple's sources (macOS 15): adv_cmds-237/ps,
network_cmds-741/netstat.tproj/inet.c, lsof-76. What is asked most is started hundreds of times, so it imports little.
"""

import os
import sys

# What the launcher of a Python from python.org starts, and so its argv[0]
PYTHON = "/Library/Frameworks/Python.framework/Versions/3.13/Resources/Python.app/Contents/MacOS/Python"
TICKS = os.sysconf("SC_CLK_TCK")  # of processor time in a second
PAGE = os.sysconf("SC_PAGE_SIZE") // 1024  # KiB
STATES = "? ESTABLISHED SYN_SENT SYN_RCVD FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT CLOSED CLOSE_WAIT LAST_ACK LISTEN CLOSING"
SYSCTL = {"kern.ipc.somaxconn": 128}


class Refused(Exception):
    """A question that isn't imitated."""


class Process:
    """A process, from proc_pid_stat(5). Raises OSError if it is gone."""

    def __init__(self, pid):
        self.pid = int(str(pid).rpartition("/")[2])
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            name, _, rest = file.read().partition(b"(")[2].rpartition(b") ")
        letter, *numbers = rest.split()
        numbers = list(map(int, numbers[:21]))
        self.parent, self.group, self.session, self.terminal, self.foreground = numbers[:5]
        self.ticks, self.nice, self.threads, self.pages = sum(numbers[10:12]), *numbers[15:17], numbers[20]
        self.zombie = letter == b"Z"
        self.letter = {"D": "U", "I": "S", "t": "T"}.get(letter.decode(), letter.decode())
        python = name.startswith(b"python")
        self.name = "Python" if python else name.decode(errors="replace")
        self.python = python and not self.zombie

    @property
    def uid(self):
        """Its user."""
        return os.stat(f"/proc/{self.pid}").st_uid

    @property
    def state(self):
        """The column STAT. R if any thread runs."""
        letter = self.letter
        if self.threads > 1 and not self.zombie:
            threads = [Process(f"{self.pid}/task/{name}") for name in os.listdir(f"/proc/{self.pid}/task")]
            letter = "R" if any(thread.letter == "R" for thread in threads) else letter
        letter += "<" if self.nice < 0 else "N" if self.nice > 0 else ""
        letter += "s" if self.session == self.pid else ""
        return letter + "+" * (self.terminal != 0 and self.group == self.foreground)

    @property
    def command(self):
        """argv[0] as it was started, with its path."""
        if self.zombie or self.python:
            return PYTHON if self.python else "<defunct>"
        with open(f"/proc/{self.pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read().partition("\0")[0] or f"({self.name})"


def processes(pids=None):
    """The processes with these IDs, or all, in macOS's order: those without a terminal first."""
    found = []
    for pid in pids or (name for name in os.listdir("/proc") if name.isdigit()):
        try:
            found.append(Process(pid))
        except OSError:
            pass  # it has ended
    return sorted(found, key=lambda one: (one.terminal, one.pid))


def ps_time(one):
    hundredths = one.ticks * 100 // TICKS
    return f"{hundredths // 6000:3}:{hundredths // 100 % 60:02}.{hundredths % 100:02}"


COLUMNS = {  # keyword: heading, width (negative: to the left), value
    "comm": ("COMM", -16, lambda one: one.command),
    "pgid": ("PGID", 5, lambda one: one.group),
    "pid": ("PID", 5, lambda one: one.pid),
    "ppid": ("PPID", 5, lambda one: one.parent),
    "rss": ("RSS", 6, lambda one: one.pages * PAGE),
    "stat": ("STAT", -4, lambda one: one.state),
    "state": ("STAT", -4, lambda one: one.state),
    "time": ("TIME", 9, ps_time),
    "uid": ("UID", 5, lambda one: one.uid),
}


def ps(words):
    """ps -o COLUMNS with -ax, -p PID or -t TERMINAL, and ps -M -p PID. Keywords all end with = or none does."""
    options = words[:-1] if words[-2:-1] in (["-p"], ["-t"]) else words
    if options == ["-M", "-p"]:
        (one,) = processes([words[-1]]) or sys.exit(1)
        print("USER   PID   TT   %CPU STAT PRI     STIME     UTIME COMMAND")
        for number in range(one.threads):
            print("user" if number == 0 else "    ", f"{one.pid:5}   ??    0.0 {one.letter:4} 31T   0:00.00   0:00.00")
        return
    keywords = words[1].split(",")
    columns = [COLUMNS[keyword.rstrip("=")] for keyword in keywords]
    if options == ["-axo", words[1]]:
        listed = processes()
    elif options == ["-o", words[1], "-p"]:
        listed = processes([words[-1]])
    elif options == ["-o", words[1], "-t"]:
        device = os.stat(f"/dev/{words[-1]}").st_rdev
        listed = [one for one in processes() if one.terminal == os.major(device) << 8 | os.minor(device)]
    else:
        raise Refused
    rows = [[heading for heading, _, _ in columns]] if not keywords[0].endswith("=") else []
    for one in listed:
        try:
            rows.append([value(one) for _, _, value in columns])
        except OSError:
            pass  # it has ended
    for row in rows:
        print(" ".join(f"{text:{'<' if width < 0 else '>'}{abs(width)}}" for text, (_, width, _) in zip(row, columns)))


def end(text, point):
    """An address and a port as /proc/net/tcp has them, in macOS's words."""
    address, port = bytes.fromhex(text.partition(":")[0]), int(text.partition(":")[2], 16)
    address = b"".join(address[n : n + 4][:: -1 if sys.byteorder == "little" else 1] for n in range(0, len(address), 4))
    if address[:12] == bytes(10) + b"\xff\xff":  # IPv4 in IPv6
        address = address[12:]
    if not any(address):
        name = "*"
    elif len(address) == 4:
        name = ".".join(map(str, address))
    else:
        name = "::1" if point == "." else "[::1]"  # no other address is used here
    return f"{name}{point}{port or '*'}"


def sockets():
    """All TCP sockets, as (inode, type, own end, other end, state, length of the receive queue)."""
    for family, table in (("4", "/proc/net/tcp"), ("6", "/proc/net/tcp6")):
        if not os.path.exists(table):
            continue  # a system without IPv6
        with open(table, encoding="ascii") as file:
            for row in file.read().splitlines()[1:]:
                _, own, other, state, queues, _, _, _, _, inode, *_ = row.split()
                yield inode, f"IPv{family}", own, other, STATES.split()[int(state, 16)], int(queues[9:], 16)


def netstat(words):
    """netstat -anL -p tcp: two columns, without the protocol that FreeBSD has first."""
    if words != ["-anL", "-p", "tcp"]:
        raise Refused
    print("Current listen queue sizes (qlen/incqlen/maxqlen)")
    print(f"{'Listen':14} {'Local Address':39}")
    for _, _, own, _, state, queued in sockets():
        if state == "LISTEN":
            print(f"{f'{queued}/0/128':14} {end(own, '.'):22} ")


def descriptors(one):
    """The descriptors of a process, as (number, what it refers to); none if we may not look."""
    try:
        names = sorted(os.listdir(f"/proc/{one.pid}/fd"), key=int)
    except OSError:
        return
    for name in names:
        try:
            yield int(name), os.readlink(f"/proc/{one.pid}/fd/{name}")
        except OSError:
            pass  # closed meanwhile


def lsof(words):
    """lsof -nP -iTCP:PORT [-sTCP:LISTEN] as a table, or the descriptors of processes as fields."""
    known = {
        inode: (kind, f"{end(own, ':')}->{end(other, ':')}" if end(other, ":") != "*:*" else end(own, ":"), state)
        for inode, kind, own, other, state, _ in sockets()
    }
    if words[:2] == ["-a", "-p"] and words[3:] == ["-d", "0-65535", "-nP", "-Fftdn"]:
        for one in processes(words[2].split(",")):
            lines = [line for number, target in descriptors(one) for line in fields(number, target, known)]
            print(*[f"p{one.pid}"] * bool(lines), *lines, sep="\n", end="\n" * bool(lines))
        return
    if words[0] not in ("-nP", "-lnP") or not words[1].startswith("-iTCP:") or words[2:] not in ([], ["-sTCP:LISTEN"]):
        raise Refused
    port, rows = words[1].rpartition(":")[2], []
    for one in processes():
        for number, target in descriptors(one):
            kind, name, state = known.get(target[8:-1], ("", "", ""))
            if f":{port}-" in f"{name}-" and (state == "LISTEN" or not words[2:]):
                rows.append(f"{one.name:9.9} {one.pid:5} {one.uid:4} {number:4}u  {kind} 0x{int(target[8:-1]):016x}")
                rows[-1] += f"      0t0  TCP {name} ({state})"
    if rows:
        print("COMMAND     PID USER   FD   TYPE             DEVICE SIZE/OFF NODE NAME", *rows, sep="\n")


def fields(number, target, known):
    """The lines of lsof -F for a descriptor."""
    kind, _, inode = target.rstrip("]").partition(":[")
    if kind == "socket":
        family, name, _ = known.get(inode, ("unix", "->(none)", ""))
        return [f"f{number}", f"t{family}", f"d0x{int(inode):016x}", f"n{name}"]
    if kind == "pipe":
        return [f"f{number}", "tPIPE", f"d0x{int(inode):016x}", f"n->0x{int(inode) + 1:016x}"]
    if target == "anon_inode:[eventpoll]":
        return [f"f{number}", "tKQUEUE", "ncount=0, state=0xa"]
    return [f"f{number}", "tCHR" if target.startswith("/dev/") else "tREG", f"n{target}"]


def sysctl(words):
    """sysctl [-n] NAME"""
    name = words[-1]
    print(SYSCTL[name] if words[0] == "-n" else f"{name}: {SYSCTL[name]}")


if __name__ == "__main__":
    program = os.path.basename(sys.argv[0])
    try:
        {"ps": ps, "lsof": lsof, "netstat": netstat, "sysctl": sysctl}[program](sys.argv[1:])
    except (Refused, IndexError, KeyError):
        sys.exit(f"{program}: not imitated: {' '.join(sys.argv[1:])}")
