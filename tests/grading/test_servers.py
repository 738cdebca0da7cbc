"""Servers of all kinds get the grade that they deserve: rough ones, in other languages, started in other ways.

Most of it takes seconds, and is marked slow: .venv/bin/pytest -m slow tests/grading
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest
from harness import system
from harness.ports import free_port
from harness.programs import Program
from harness.stages import ROOT
from harness.users import user_with_few_processes
from harness.waiting import wait_until
from marks import LINUX_ONLY, needs

slow = pytest.mark.slow

# As rough as they get: for all addresses, a head with bare LFs and little in it, a short read,
# and output that is not flushed.
ROUGH_3E = """
    import os, signal, socket, sys, time
    def reap(signum, frame):
        print("gone: {}".format(os.wait()))
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", int(sys.argv[1])))
    s.listen(5)
    signal.signal(signal.SIGCHLD, reap)
    while True:
        c, a = ACCEPT
        if os.fork() == 0:
            s.close()
            print(c.recv(1024).decode())
            c.sendall(b"HTTP/1.1 200 OK\\n\\nhi")
            time.sleep(3)
            os._exit(0)
        c.close()
"""
# Python's accept retries since 3.5 (PEP 475). The one of Python 2.7 does not.
RETRIED = ROUGH_3E.replace("ACCEPT", "s.accept()")
ONCE = ROUGH_3E.replace("ACCEPT", "accept_once(s), None").replace(
    "    def reap",
    """    import ctypes
    def accept_once(s):
        fd = ctypes.CDLL(None, use_errno=True).accept(s.fileno(), None, None)
        if fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return socket.socket(fileno=fd)
    def reap""",
    1,
)


def claims_that_fail(graded):
    return re.findall("^FAILS  (.*)", graded.output, re.MULTILINE)


@slow
def test_rough_server(grade, write):
    graded = grade("3e", "--server", f"{sys.executable} {write('rough.py', ONCE)} {{port}}")
    assert graded.wait(120) == 0, graded.output


@slow
def test_rough_server_that_retries(grade, write):
    command = f"{sys.executable} {write('rough.py', RETRIED)} {{port}}"
    graded = grade("3e", "--server", command, "--patience=5")
    assert graded.wait(120) == 1
    interrupted = "The end of a child interrupts accept, and that kills the server."
    assert claims_that_fail(graded) == [interrupted]
    refused = "Further connections are refused, because nobody listens any more."
    assert f"\n-      {refused}\n       Not tried: this fails above: {interrupted}" in graded.output


@slow
def test_server_port(grade):
    port = free_port()
    command = f"{sys.executable} webserver3a.py --port {port}"
    graded = grade("3a", "--server", command, "--server-port", str(port))
    assert graded.wait(60) == 0, graded.output


@slow
def test_server_started_by_a_shell(grade):
    command = f"sh -c '{sys.executable} webserver3g.py --port {{port}}; exit $?'"
    graded = grade("3g", "--server", command)
    assert graded.wait(120) == 0, graded.output


# What a server may do before it closes
SLOW = {
    "sleep": "time.sleep(3)",
    "alarm": "signal.signal(signal.SIGALRM, stop); signal.alarm(3); connection.recv(1)",
}


@slow
@pytest.mark.parametrize("way", SLOW)
def test_slow_server(grade, write, way):
    source = f"""
        import contextlib, signal, socket, sys, time
        def stop(signum, frame):
            raise InterruptedError
        listen_socket = socket.create_server(("127.0.0.1", int(sys.argv[1])))
        while True:
            connection, address = listen_socket.accept()
            if connection.recv(1024):
                connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\nhi")
                with contextlib.suppress(InterruptedError):
                    {SLOW[way]}
            connection.close()
    """
    graded = grade("3a", "--server", f"{sys.executable} {write('slow.py', source)} {{port}}", "-k", "client_gets")
    assert graded.wait(60) == 0, graded.output


# Servers in other languages: the command, a fault (old text, new text) or None, and a claim that fails then
PERL, JAVA, C, RUST = "perl {server} {port} {delay}", "java {server} {port} {delay}", "cc", "rustc"
NODE, PYTHON = "node {server} {port} {delay}", f"{sys.executable} {{server}} {{port}} {{delay}}"
NEVER_CLOSES = "A client gets the answer, and the connection ends."
ZOMBIES = "Children that end together leave no zombie."
KEEPS = "A child closes its copy of the listening socket."
REPLACED = "A worker that is killed takes one client along, is reaped, and replaced."
BY_A_THREAD = "Clients are all answered at once, each by a thread of the one process."
AT_REST = "Without a free descriptor it rests. When there are some again, it serves the next client."
OVERLAP = "Also asked: requests that come together are counted right, although they overlap: 1 to 20."
AT_ONCE = "20 clients are all answered at once, and no process or thread is made for them."
POOL = "            java.util.concurrent.ForkJoinPool.commonPool().execute(() -> serve(connection, delay));"
LANGUAGES = [
    ("server3a.pl", PERL, None, None),
    ("server3a.java", JAVA, None, None),
    ("server3a.rs", RUST, None, None),
    ("server3d.c", C, None, None),
    ("server3g.pl", PERL, None, None),
    ("server3g.c", C, None, None),
    ("server3a.pl", PERL, ("close $connection", "push @main::kept, $connection"), NEVER_CLOSES),
    ("server3a.java", JAVA, ("connection.close();", ""), NEVER_CLOSES),
    ("server3g.pl", PERL, ("1 while waitpid", "waitpid"), ZOMBIES),
    ("server3g.c", C, ("while (waitpid", "if (waitpid"), ZOMBIES),
    ("server3g.c", C, ("            close(listener);", ""), KEEPS),
    ("server4a.pl", PERL, None, None),
    ("server4b.java", JAVA, None, None),
    ("server4c.c", C, None, None),
    ("server4d.js", NODE, None, None),
    ("server4e.py", PYTHON, None, None),
    ("server4a.pl", PERL, ("$workers -= wait > 0", "wait"), REPLACED),
    ("server4b.java", JAVA, ("            new Thread(() -> serve(connection, delay)).start();", POOL), BY_A_THREAD),
    ("server4c.c", C, ("errno == EMFILE", "errno == EBADF"), AT_REST),
    ("server4d.js", NODE, ("const number = requests + 1;", "const number = requests + 1; await sleep(9);"), OVERLAP),
    ("server4e.py", PYTHON, ("await asyncio.sleep(delay)", "__import__('time').sleep(delay)"), AT_ONCE),
]


@slow
@pytest.mark.parametrize("file, command, fault, broken", LANGUAGES)
def test_other_language(grade, readable, write, file, command, fault, broken):
    program = command.split()[0]
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    text = (ROOT / "tests/grading/servers" / file).read_text(encoding="utf-8")
    if fault:
        assert text.count(fault[0]) == 1
        text = text.replace(*fault)
    source = write(readable / file, text)
    if program in (C, RUST):
        subprocess.run([program, "-o", readable / "server", source], check=True, stderr=subprocess.DEVNULL)
        command = f"{readable}/server {{port}} {{delay}}"
    stage = re.search(r"\d\w", file)[0]
    # Patient, because java starts slowly on a busy machine
    graded = grade(stage, "--server", command.replace("{server}", str(source)), "--patience=20")
    assert graded.wait(120) == bool(broken), graded.output
    assert broken in claims_that_fail(graded) if broken else claims_that_fail(graded) == []


@slow
def test_server_reads_only_what_everybody_may_read(grade, readable, write):
    write(readable / "secret", "the secret").chmod(0)
    server = write(readable / "server.sh", 'cat "$(dirname "$0")/secret"; exit 3')
    graded = grade("3a", "--server", f"sh {server}", "--server-port", str(free_port()))
    assert graded.wait(60) == 1
    assert "Permission denied" in graded.output and "the secret" not in graded.output


# What Docker leaves to root, in setpriv(1)'s notation
DOCKERS = (
    "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service"
    ",+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap"
)


@LINUX_ONLY
@slow
@needs("setpriv")
@pytest.mark.parametrize("capabilities", ["-all", DOCKERS, "-dac_read_search", "a Mac's"])
def test_root_without_capabilities(start, capabilities):
    if os.getuid() != 0:
        pytest.skip("this is not root")
    server = f"{sys.executable} webserver3d.py --port {{port}} --delay {{delay}}"
    wrapper = ["setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities]
    if capabilities == "a Mac's":
        wrapper = ["tests/mac/as-on-a-mac"]
    command = [sys.executable, "-m", "pytest", "tests/test_webserver3d.py", "--server", server]
    graded = start(Program, [*wrapper, *command], cwd=ROOT)
    assert graded.wait(60) == 0, graded.output
    assert "FAILS" not in graded.output
    assert graded.output.count("the limit on processes does not hold for root") <= 1


# A run of the tests that starts many processes, twice
LOCKED = """if True:
    import sys, time
    sys.path.insert(0, sys.argv[1])
    from harness.users import many_processes_lock
    with many_processes_lock():
        with many_processes_lock():
            pass
        print("locked", flush=True)
        time.sleep(600)
"""


@LINUX_ONLY  # which lists who waits for a lock
@slow
def test_runs_that_start_many_processes_take_turns(start):
    command = [*user_with_few_processes(100)["wrapper"], sys.executable, "-c", LOCKED, ROOT / "tests"]
    first = start(Program, command)
    wait_until(lambda: first.output == "locked\n", "the first run has the lock")
    second = start(Program, command)
    waits = rf"-> FLOCK +ADVISORY +WRITE {second.pid} "  # proc_locks(5)
    wait_until(lambda: re.search(waits, pathlib.Path("/proc/locks").read_text("utf-8")), "the second waits for it")
    assert second.output == ""
    first.send_signal(signal.SIGKILL)
    wait_until(lambda: second.output == "locked\n", "the second has it")


# A test's own test run: it starts a program, and prints its PID
INNER = """if True:
    import sys
    sys.path.insert(0, sys.argv[1])
    from harness.programs import Program, guarded
    with guarded():
        program = Program(["sleep", "600"])
        print(program.pid, flush=True)
        program.popen.wait()
"""


@LINUX_ONLY  # elsewhere a process has no mark
def test_killed_grader_leaves_no_server(start):
    inner = start(Program, [sys.executable, "-c", INNER, ROOT / "tests"])
    pid = int(wait_until(lambda: inner.output.endswith("\n") and inner.output, "it prints the PID"))
    wait_until(lambda: b"sleep" in system.command_line(pid), "the program is started")
    inner.kill()
    assert pid not in [one.pid for one in system.processes() if one.state != system.ZOMBIE]
