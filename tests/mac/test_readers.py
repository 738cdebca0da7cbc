"""What macOS's ps, lsof, netstat and sysctl print is understood: texts in the form that Apple's sources give them."""

import math

import pytest
from harness import system
from harness.system import Process
from pages.adaptation import as_on_page


def padded(text):
    """Some rows with blanks at their ends, as Apple's ps and netstat print them."""
    return text.replace("\n", "  \n")


PS = padded("""\
    1     0     1 Ss
  311     1   311 Ss
 4711   311  4711 S+
 4712  4711  4711 Z+
 4713  4711  4711 I+
 4714  4713  4711 R+
99998     1 99998 TN
""")
PS_M = """\
USER   PID   TT   %CPU STAT PRI     STIME     UTIME COMMAND
you   4711 s001    0.0 S    31T   0:00.02   0:00.05 /Library/Frameworks/Python.framework/Versions/3.13/R
      4711         0.0 S    31T   0:00.00   0:00.00
"""
LSOF_FIELDS = """\
p4711
f0
tCHR
n/dev/ttys001
f1
tREG
n/private/var/folders/zz/a folder, with a blank and an é/output
f3
tIPv4
d0x8a6b2c6f0a1b2c3d
n127.0.0.1:8888
f4
tIPv6
d0x8a6b2c6f0a1b2c4d
n[::1]:8888->[::1]:50000
f5
tunix
d0x8a6b2c6f0a1b2c5d
n->0x8a6b2c6f0a1b2c6d
f6
tKQUEUE
ncount=0, state=0xa
f7
tPIPE
d0x8a6b2c6f0a1b2c7d
n->0x8a6b2c6f0a1b2c8d
p4713
f3
tIPv4
d0x8a6b2c6f0a1b2c3d
n127.0.0.1:8888
p4714
f3
tIPv4
d0x8a6b2c6f0a1b2c9d
n127.0.0.1:8888->127.0.0.1:50002
"""
LSOF_TABLE = """\
COMMAND  PID USER   FD   TYPE             DEVICE SIZE/OFF NODE NAME
Python  4711  you    3u  IPv4 0x8a6b2c6f0a1b2c3d      0t0  TCP 127.0.0.1:8888 (LISTEN)
Python  4714  you    4u  IPv4 0x8a6b2c6f0a1b2c9d      0t0  TCP 127.0.0.1:8888->127.0.0.1:50002 (ESTABLISHED)
Python  4714  you    5u  IPv6 0x8a6b2c6f0a1b2cad 0t0 TCP [::ffff:127.0.0.1]:8888->[::ffff:127.0.0.1]:50004 (CLOSE_WAIT)
curl    4800  you    6u  IPv4 0x8a6b2c6f0a1b2cbd      0t0  TCP 127.0.0.1:50002->127.0.0.1:8888 (ESTABLISHED)
curl    4801  you    6u  IPv4 0x8a6b2c6f0a1b2ccd      0t0  TCP 127.0.0.1:50006->127.0.0.1:8888 (ESTABLISHED)
"""
NETSTAT = padded("""\
Current listen queue sizes (qlen/incqlen/maxqlen)
Listen         Local Address
0/0/128        ::1.8888
3/1/128        127.0.0.1.8888
0/0/5          *.18888
7/0/5          *.9000
2/0/128        192.168.178.20.9001
0/0/128        fe80::1c3a:9f0b:.9002
""")


@pytest.fixture
def mac(monkeypatch):
    """mac(text) makes this a Mac whose programs print that. Returns the list of the commands that are run."""

    def mac(text):
        commands = []
        monkeypatch.setattr(system, "LINUX", False)
        monkeypatch.setattr(system, "run", lambda *command: commands.append(command) or text)
        return commands

    return mac


# ps


def test_processes(mac):
    mac(PS)
    assert system.process(4712) == Process(4712, 4711, 4711, system.ZOMBIE)
    assert system.process(99998).state == system.STOPPED
    assert system.process(4713).state in system.BLOCKED
    assert system.process(4715) is None


def test_a_family_is_one_ps(mac):
    commands = mac(PS)
    assert [one.pid for one in system.descendants(311)] == [4711, 4712, 4713, 4714]
    assert len(commands) == 1


def test_a_snapshot_is_one_ps(mac):
    commands = mac(PS)
    now = system.snapshot()
    assert [one.pid for one in system.children(4711, now)] == [4712, 4713]
    assert system.process(4711, now).parent == 311
    assert len(commands) == 1


def test_threads(mac):
    mac(PS_M)
    assert system.threads(4711) == 2


@pytest.mark.parametrize("text", [PS_M.partition("\n")[0] + "\n", ""])
def test_threads_of_a_process_that_is_gone(mac, text):
    mac(text)
    assert system.threads(4711) == 0


@pytest.mark.parametrize("text, seconds", [("  0:00.07\n", 0.07), ("  1:02.50\n", 62.5), ("12345:00.00\n", 740_700)])
def test_processor_time(mac, text, seconds):
    mac(text)
    assert system.processor_time(4711) == seconds


def test_memory_and_processes_of_a_user(mac):
    mac("  7264\n")
    assert system.memory(4711) == 7264
    mac("    0\n  501\n 5010\n  501\n   -2\n")
    assert system.tasks_of_user(501) == 2


# lsof


def test_descriptors(mac):
    mac(LSOF_FIELDS)
    assert sorted(system.descriptors(4711)) == [0, 1, 3, 4, 5, 6, 7]
    assert len(system.sockets(4711)) == 2
    assert system.descriptors(4712) == {}


def test_holders_of_a_socket_are_one_lsof(mac):
    commands = mac(LSOF_FIELDS)
    listen_socket = system.sockets(4711)[0]
    assert system.holders(listen_socket, [4711, 4712, 4713, 4714]) == [4711, 4713]
    assert len(commands) == 2
    assert system.holders(listen_socket, []) == []


def test_accepted(mac):
    commands = mac(LSOF_TABLE)
    assert system.accepted(8888, 50002, 50004)
    assert not system.accepted(8888, 50002, 50006)  # only the client's end is there
    assert not system.accepted(888, 50002)
    assert not system.accepted(8888, 5000)
    assert len(commands) == 4


# netstat and sysctl


@pytest.mark.parametrize(
    "port, queue", [(8888, 3), (18888, 0), (9000, 7), (9001, 2), (9002, 0), (888, None), (1, None)]
)
def test_listen_queue(mac, port, queue):
    mac(NETSTAT)
    assert system.queued(port) == queue


@pytest.mark.parametrize("port, here", [(8888, True), (18888, True), (9001, False), (9002, False), (1, True)])
def test_reachable(mac, port, here):
    mac(NETSTAT)
    assert system.reachable(port) == here


def test_nothing_is_found_where_nothing_is_printed(mac):
    mac("")
    assert system.processes() == system.descendants(1) == []
    assert system.descriptors(1) == {}
    assert system.listening(8888) is None
    assert not system.accepted(8888, 50002)


@pytest.mark.parametrize("text, length", [("128\n", 128), ("", math.inf)])
def test_longest_queue(mac, text, length):
    mac(text)
    assert system.longest_queue() == length


# The pages


@pytest.mark.parametrize(
    "seen, shown",
    [
        ("  PID  PPID STAT COMM", "  PID  PPID STAT COMMAND"),
        ("11242  1311 Ss   login", "11242  1311 Ss   login"),
        ("11244 11242 S    -zsh", "11244 11242 S    bash"),
        ("11244 11242 Ss   /bin/bash", "11244 11242 Ss   bash"),
        ("11760 11244 S+   /Library/Python.app/Contents/MacOS/Python", "11760 11244 S+   python3"),
        ("11760 11244 S+   /a folder/.venv/bin/python3.13", "11760 11244 S+   python3"),
        ("11870 11760 Z+   <defunct>", "11870 11760 Z+   python3"),
        ("11870 11760 Z+   python3 <defunct>", "11870 11760 Z+   python3"),  # some of Linux's
        ("11870 11760 S+   <defunct>", "11870 11760 S+   <defunct>"),
    ],
)
def test_row_of_ps_on_a_page(seen, shown):
    assert as_on_page([seen], 8888) == [shown]
