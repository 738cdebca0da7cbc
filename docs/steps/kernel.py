"""What Linux says of processes, descriptors and connections. For step3.py."""

import contextlib
import os
import platform
import re
import socket
import struct
from typing import NamedTuple, Optional

HIDDEN = 200  # the number of the first descriptor that is inside.py's
# TCP's states, by Linux's numbers
STATES = [
    "", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE",
    "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "SYN_RECV",
]  # fmt: skip
# System calls and their numbers, as in watch3.py (proc_pid_syscall(5))
CALLS = {
    "x86_64": "read 0 write 1 poll 7 271 select 23 270 sleep 35 230 accept 43 288 send 44 46 "
    "recv 45 47 wait 61 247 sigwait 128 lock 202 epoll 232 281",
    "aarch64": "epoll 22 read 63 write 64 select 72 poll 73 wait 95 260 lock 98 sleep 101 115 "
    "sigwait 137 accept 202 242 send 206 211 recv 207 212",
}.get(platform.machine(), "")
# The same by the kernel's own functions, where one may not see the call (proc_pid_wchan(5))
FUNCTIONS = {
    "inet_csk_accept": "accept", "sk_wait_data": "recv", "hrtimer_nanosleep": "sleep",
    "do_wait": "wait", "ep_poll": "epoll", "futex_wait_queue": "lock", "do_sigtimedwait": "sigwait",
}  # fmt: skip


def read(path):
    """A file of /proc, in one read; '' if its process is gone."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall().decode()
    except OSError:
        return ""


def listed(path):
    """The numbers that a folder of /proc has as names, in order; [] if its process is gone."""
    with contextlib.suppress(OSError):
        return sorted(map(int, os.listdir(path)))
    return []


def status(task):
    """What /proc/PID/status says, as a dict; {} if its process is gone."""
    return dict(line.split(":\t", 1) for line in read(f"/proc/{task}/status").splitlines())


def call_of(task):
    """The system call that a thread waits in, such as 'accept'; 'a call' if it is another."""
    number, *arguments = read(f"/proc/{task}/syscall").split() or [""]
    if not number.isdigit():
        return FUNCTIONS.get(read(f"/proc/{task}/wchan").partition(".")[0], "a call")
    name = re.search(rf"(\w+)[ \d]* {number}(?= |$)|$", CALLS)[1] or "a call"
    waits_for_none = name == "select" and arguments[0] == "0x0"  # Python 3.10's sleep
    return "sleep" if waits_for_none else name


def descriptors(pid):
    """What the descriptors of a process refer to, by their numbers."""
    found = {}
    for number in listed(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if number < HIDDEN:
                found[number] = os.readlink(f"/proc/{pid}/fd/{number}")
    return found


class Socket(NamedTuple):
    """A socket of TCP: its state, and what its descriptors refer to.

    first and second are the length of the listen queue and its limit, or else the bytes that
    were not read yet and those that were not acknowledged yet.
    """

    state: str
    name: Optional[str]
    first: int
    second: int


def tcp(own, other=0):
    """One end of a connection, by the ports of both, or the socket that listens on a port.

    None if there is none, or nobody has anything to do with it any more. The kernel is asked by
    sock_diag(7) for that one: to go through all of them, as /proc/net/tcp does, takes a while.
    """
    here = socket.inet_aton("127.0.0.1")
    protocol = socket.AF_INET, socket.IPPROTO_TCP
    request = struct.pack("=IHHIIBBxxI", 72, 20, 1, 0, 0, *protocol, 0xFFFFFFFF)
    there = here if other else b""
    request += struct.pack("!HH4s12x4s12x4x8s", own, other, here, there, 8 * b"\xff")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:
        kernel.send(request)
        answer = kernel.recv(8192)
    if struct.unpack_from("=4xH", answer) == (2,):  # NLMSG_ERROR: there is none (netlink(7))
        return None
    first, second, _, inode = struct.unpack_from("=IIII", answer, 72)
    found = Socket(STATES[answer[17]], f"socket:[{inode}]" if inode else None, first, second)
    wanted = found.state != "TIME_WAIT" and (found.state == "LISTEN") == (other == 0)
    return found if wanted else None
