"""That servers of all kinds are graded, and what is said when one cannot be.

Most of it takes seconds, and is marked slow: .venv/bin/pytest -m slow tests/grading
"""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from xml.etree import ElementTree

import pytest
from grading.example import example
from harness import system
from harness.ports import free_port
from harness.programs import Program
from harness.stages import ROOT
from harness.waiting import wait_until
from marks import LINUX_ONLY, needs

pytestmark = pytest.mark.first

slow = pytest.mark.slow

# A server as rough as there are: for all addresses, a head that ends its lines with LF
# and says little, a short read, and output that is not flushed.
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
# Python's accept calls again by itself since 3.5 (PEP 475): Python 2.7's does not.
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

# The command of a server, and what is said of it, once
NOT_GRADABLE = {
    "no-such-program {port}": r"There is no program 'no-such-program' that I could start\.",
    "sh -c 'echo because >&2; exit 3'": r"Your server ended with status 3 before .*because",
    "sleep 600": r"Your server runs, but does not listen on port \d+\.",
    "yes": r"The server prints without end\.",
    "sh -c 'not closed": r"The command .* cannot be split: No closing quotation\.",
    f"{sys.executable} -c 'import os\nwhile True: os.fork()'": (
        # whether the last of its processes has met the limit by then is chance
        "Your server (runs, but does|ended with status 1 before.*BlockingIOError)"
    ),
}


@pytest.fixture
def grade(start, monkeypatch):
    """grade(stage, option, ...) starts to grade a server, from the repository's top."""
    monkeypatch.chdir(ROOT)

    def grade(stage, *options):
        tests = f"tests/test_webserver{stage}.py"
        return start(Program, [sys.executable, "-m", "pytest", tests, *options])

    return grade


def write(path, text):
    """Write a source without the indentation that it has here. Returns its path."""
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


@slow
def test_rough_server_holds(grade, tmp_path):
    server = write(tmp_path / "rough.py", ONCE)
    graded = grade("3e", "--server", f"{sys.executable} {server} {{port}}")
    assert graded.wait(120) == 0, graded.output


@slow
def test_rough_server_that_outlives_the_interruption_fails_for_that(grade, tmp_path):
    server = write(tmp_path / "rough.py", RETRIED)
    command = f"{sys.executable} {server} {{port}}"
    graded = grade("3e", "--server", command, "--patience=5")
    assert graded.wait(120) == 1
    fails = re.findall("^FAILS  (.*)", graded.output, re.MULTILINE)
    interrupted = "The end of a child interrupts accept, and that kills the server."
    assert fails == [interrupted]
    refused = "Further connections are refused, because nobody listens any more."
    assert f"\n-      {refused}\n       Not tried: this fails above: {interrupted}" in graded.output


@slow
def test_server_without_port_is_met_where_server_port_says(grade):
    port = free_port()
    command = f"{sys.executable} webserver3a.py --port {port}"
    graded = grade("3a", "--server", command, "--server-port", str(port))
    assert graded.wait(60) == 0, graded.output


@slow
def test_server_that_a_shell_starts_holds(grade):
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
def test_slow_server_holds(grade, tmp_path, way):
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
    command = f"{sys.executable} {write(tmp_path / 'slow.py', source)} {{port}}"
    graded = grade("3a", "--server", command, "-k", "client_gets")
    assert graded.wait(60) == 0, graded.output


@slow
def test_output_that_is_held_back_is_said_once(grade):
    command = f"sh -c '{sys.executable} webserver3a.py --port {{port}} | tail -n 50'"
    graded = grade("3a", "--server", command, "--patience=3")
    assert graded.wait(60) == 1
    assert graded.output.count("held back in a buffer") == 1


@slow
@pytest.mark.parametrize("command", NOT_GRADABLE)
def test_what_cannot_be_graded_gets_one_plain_sentence(grade, command):
    options = ["--patience=2"] if NOT_GRADABLE[command].startswith("Your server runs") else []
    graded = grade("3d", "--server", command, "--server-port", str(free_port()), *options)
    assert graded.wait(60) == 1
    pattern = rf"\s*{NOT_GRADABLE[command]}[^\n]*\n+no tests ran in [^\n]*\n"
    assert re.fullmatch(pattern, graded.output, re.DOTALL), graded.output
    assert graded.errors == ""


@slow
def test_port_that_is_taken_is_said_at_once(grade):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        graded = grade("3a", "--server", "sleep 600", "--server-port", str(port))
        assert graded.wait(60) == 1
    assert f"Port {port} is taken" in graded.output


# What Docker leaves to root, as setpriv(1) says it
DOCKERS = (
    "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service"
    ",+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap"
)

# Servers in other languages: how each is started, perhaps with a fault put in, and a claim
# of its stage that fails then
PERL, JAVA, C, RUST = "perl {server} {port}", "java {server} {port}", "cc", "rustc"
NEVER_CLOSES = "A client gets the answer, and the connection ends."
ZOMBIES = "Children that end together leave no zombie."
# fmt: off
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
    ("server3g.c", C, ("            close(listener);", ""),
     "A child closes its copy of the listening socket."),
]
# fmt: on


@pytest.fixture
def readable():
    """A folder that everybody can read: Java asks access(2), which knows no capabilities."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder)


@slow
@pytest.mark.parametrize("file, command, fault, broken", LANGUAGES)
def test_server_in_another_language(grade, readable, file, command, fault, broken):
    program = command.split()[0]
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    text = (ROOT / "tests/grading/servers" / file).read_text(encoding="utf-8")
    if fault:
        assert text.count(fault[0]) == 1
        text = text.replace(*fault)
    (readable / file).write_text(text, encoding="utf-8")
    if program in (C, RUST):
        compiler = [program, "-o", readable / "server", readable / file]
        subprocess.run(compiler, check=True, stderr=subprocess.DEVNULL)
        command = f"{readable}/server {{port}}"
    command = command.replace("{server}", str(readable / file))
    stage = re.search(r"3\w", file)[0]
    graded = grade(stage, "--server", command, "--patience=5")
    assert graded.wait(120) == bool(broken), graded.output
    fails = re.findall("^FAILS  (.*)", graded.output, re.MULTILINE)
    assert broken in fails if broken else fails == []


@slow
def test_server_that_does_not_start_again_cannot_be_graded(grade, readable):
    readable.chmod(0o777)
    server = f"{sys.executable} webserver3a.py --port {{port}}"
    graded = grade("3a", "--server", f"sh -c 'mkdir {readable}/once && exec {server}'")
    assert graded.wait(60) == 1
    assert graded.output.strip().startswith("Your server ended with status 1 before")


@slow
def test_server_cannot_read_what_is_not_for_everybody(grade, readable):
    write(readable / "secret", "the secret").chmod(0)
    server = write(readable / "server.sh", 'cat "$(dirname "$0")/secret"; exit 3')
    graded = grade("3a", "--server", f"sh {server}", "--server-port", str(free_port()))
    assert graded.wait(60) == 1
    assert "Permission denied" in graded.output and "the secret" not in graded.output


@slow
def test_class_is_graded_in_one_table(start, tmp_path):
    for name, text in {
        "right": (ROOT / "webserver3a.py").read_text(encoding="utf-8"),
        "wrong": (ROOT / "webserver3g.py").read_text(encoding="utf-8"),
        "silent": "raise SystemExit(3)",
    }.items():
        (tmp_path / "class" / name).mkdir(parents=True)
        (tmp_path / "class" / name / "webserver3a.py").write_text(text, encoding="utf-8")
    server = f"{sys.executable} {{folder}}/webserver{{stage}}.py --port {{port}}"
    (tmp_path / "class/empty").mkdir()
    command = [sys.executable, ROOT / "tests/grading/grade.py", f"{tmp_path}/class/*/"]
    command += ["--stages", "3a", "--command", server, "--junit", tmp_path / "junit"]
    graded = start(Program, command)
    assert graded.wait(120) == 2
    rows = [line.split(None, 1) for line in graded.output.splitlines()[1:5]]
    words = {row[0].split("/")[-2]: row[1] for row in rows}
    assert words == {
        "empty": "missing", "right": "holds", "silent": "does not start", "wrong": "1 of 7 fail",
    }  # fmt: skip
    assert "Your server ended with status 3" in graded.output
    assert "Not tried: this fails above: A client that connects" in graded.output
    reports = {each.stem.split("-")[-2]: ElementTree.parse(each) for each in tmp_path.glob("junit/*")}
    failures = {name: report.find("testsuite").get("failures") for name, report in reports.items()}
    assert failures == {"empty": "1", "right": "0", "silent": "1", "wrong": "1"}


def test_ctrl_c_ends_the_grading_of_a_class(start, tmp_path):
    for name in ("one", "another"):
        (tmp_path / "class" / name).mkdir(parents=True)
    command = [sys.executable, ROOT / "tests/grading/grade.py", f"{tmp_path}/class/*"]
    graded = start(Program, [*command, "--command", "sleep 1234{port}"])

    def servers():
        return sum(b"sleep" in command_line(process.pid) for process in graded.processes())

    if system.LINUX:  # elsewhere they are in other groups, out of sight
        wait_until(lambda: servers() > 1, "servers have been started")
    graded.press_ctrl_c()
    assert graded.wait() == 130
    wait_until(lambda: graded.processes() == [], "nothing that it started is left")


# Tests that are started by a test: they print the PID of what they have started themselves.
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
def test_program_that_inner_tests_have_started_is_gone_when_these_are_killed(start):
    inner = start(Program, [sys.executable, "-c", INNER, ROOT / "tests"])
    pid = int(wait_until(lambda: inner.output.endswith("\n") and inner.output, "it prints the PID"))
    wait_until(lambda: b"sleep" in command_line(pid), "the program is started")
    inner.kill()
    assert pid not in [one.pid for one in system.processes() if one.state != system.ZOMBIE]


def command_line(pid):
    """The words of a process's command, each with a 0 byte after it (proc(5)); b'' if it is gone."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def test_page_grades_the_server_as_it_says(start, tmp_path):
    source, tests, server, printed = example()
    (tmp_path / "first.py").write_text(source, encoding="utf-8")
    server = server.replace("first.py", str(tmp_path / "first.py"))
    grade = [sys.executable, "-m", "pytest", tests, "--server", server, "--patience=2"]
    program = start(Program, grade, cwd=ROOT)
    assert program.wait(60) == 1
    said = program.output.replace(f"{tmp_path}/", "")
    assert re.sub(r"in [\d.]+s", "in 0.51s", said.strip()) == printed.strip()


# What is said of servers that are wrong in one way: a text of ours, and by what it is replaced,
# the claim that is graded, and what its remark has to say
REMARKED = {
    "an indented status line": (
        "3a", 'b"HTTP/1.1 200 OK', 'b"  HTTP/1.1 200 OK', "client_gets",
        ["the answer starts with b'  HTTP/1.1 200 OK", "The first byte of the answer is the H"],
    ),
    "the path that failed": (
        "3a", "if request:", "if b'/hello' in request:", "any_path",
        ["/ gets b''", "curl localhost:8888/\n"],
    ),
    "another path that failed": (
        "3a", "show(repr(request))", "pass", "client_gets or request_is_printed",
        ["FAILS  Also asked: the server prints the request.", "curl localhost:8888/some/path"],
    ),
    "no signal of the grader's own": (
        "3g", 'show(f"Child {os.getpid()} of {os.getppid()}: {request!r}")', "pass",
        "request_is_printed", ["the server prints GET /some/path"],
    ),
    "a parent that reads": (
        "3g", "            pid = os.fork()\n",
        "            client_connection.recv(1, socket.MSG_PEEK)\n            pid = os.fork()\n",
        "silent_client", ["Does your parent read the request?"],
    ),
    "colours": (
        "3a", "show(repr(request))", "show('\\33[1;31mred\\33[0m'); client_connection.close()",
        "request_is_printed or client_gets", ["Said      Serving HTTP on port", "\n                 red\n"],
    ),
}  # fmt: skip


@slow
@pytest.mark.parametrize("kind", REMARKED)
def test_remark_helps(grade, tmp_path, kind):
    stage, old, new, tests, remarks = REMARKED[kind]
    text = (ROOT / f"webserver{stage}.py").read_text(encoding="utf-8")
    assert old in text
    text = text.replace(old, new, 1).replace("except KeyboardInterrupt", "except EOFError")
    server = write(tmp_path / "server.py", text)
    command = f"{sys.executable} {server} --port {{port}}"
    graded = grade(stage, "--server", command, "-k", tests, "--patience=1")
    assert graded.wait(60) == 1
    for remark in remarks:
        assert remark in graded.output, graded.output
    assert "status -2" not in graded.output
    assert "KeyboardInterrupt" not in graded.output  # the grader's own end is no news
    assert "\33" not in graded.output


@LINUX_ONLY
@slow
def test_daemon_is_told_to_stay_in_the_foreground(grade, tmp_path):
    text = (ROOT / "webserver3g.py").read_text(encoding="utf-8")
    daemon = "    os.fork() and os._exit(0)\n    os.setsid()\n    options = parse_options()\n"
    text = text.replace("    options = parse_options()\n", daemon)
    server = write(tmp_path / "server.py", text)
    graded = grade("3g", "--server", f"{sys.executable} {server} --port {{port}}")
    assert graded.wait(60) == 1
    assert graded.output.strip().startswith("Your server went into the background.")


@slow
def test_claims_about_output_can_be_left_out(grade, tmp_path):
    text = (ROOT / "webserver3g.py").read_text(encoding="utf-8")
    text = text.replace('show(f"Child {os.getpid()} of {os.getppid()}: {request!r}")', "pass")
    server = write(tmp_path / "server.py", text)
    graded = grade(
        "3g", "--server", f"{sys.executable} {server} --port {{port}}", "--claims=behaviour"
    )
    assert graded.wait(60) == 0, graded.output
    assert "prints" not in graded.output


def test_stage_test_without_docstring_gets_a_clear_message(start, tmp_path):
    (tmp_path / "tests").mkdir()
    tests = write(tmp_path / "tests/test_webserver3a.py", "def test_without(serve): pass\n")
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-p", "grading.grader"]
    graded = start(Program, [*command, tests, "--server", "true"])
    assert graded.wait(60) == 4
    assert "test_without has no docstring" in graded.errors
    assert "INTERNALERROR" not in graded.output + graded.errors


@LINUX_ONLY
@slow
@needs("setpriv")
@pytest.mark.parametrize("capabilities", ["-all", DOCKERS, "-dac_read_search"])
def test_root_without_capabilities_grades_all_the_same(start, capabilities):
    if os.getuid() != 0:
        pytest.skip("this is not root")
    server = f"{sys.executable} webserver3d.py --port {{port}} --delay {{delay}}"
    setpriv = ["setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities]
    command = [sys.executable, "-m", "pytest", "tests/test_webserver3d.py", "--server", server]
    graded = start(Program, [*setpriv, *command], cwd=ROOT)
    assert graded.wait(60) == 0, graded.output
    assert "FAILS" not in graded.output
    assert graded.output.count("the limit on processes does not hold for root") <= 1
