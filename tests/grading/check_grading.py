"""That servers of all kinds are graded, and what is said when one cannot be.

Not part of the plain test command, for its time: .venv/bin/pytest tests/grading/check_grading.py
"""

import json
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
from library.programs import Program, wait_until
from library.servers import ROOT, free_port
from library.skips import LINUX_ONLY

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
    f"{sys.executable} -c 'import os\nwhile True: os.fork()'": "Your server runs, but does",
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


def test_rough_server_holds(grade, tmp_path):
    server = write(tmp_path / "rough.py", ONCE)
    graded = grade("3e", "--server", f"{sys.executable} {server} {{port}}")
    assert graded.wait(120) == 0, graded.output


def test_rough_server_that_outlives_the_interruption_fails_for_that(grade, tmp_path):
    server = write(tmp_path / "rough.py", RETRIED)
    command = f"{sys.executable} {server} {{port}}"
    graded = grade("3e", "--server", command, "--patience=5")
    assert graded.wait(120) == 1
    fails = re.findall("^FAILS  (.*)", graded.output, re.MULTILINE)
    assert fails == [
        "The end of a child interrupts accept, and that kills the server.",
        "Further connections are refused, because nobody listens any more.",
    ]


def test_server_without_port_is_met_where_server_port_says(grade):
    port = free_port()
    command = f"{sys.executable} webserver3a.py --port {port}"
    graded = grade("3a", "--server", command, "--server-port", str(port))
    assert graded.wait(60) == 0, graded.output


def test_server_that_a_shell_starts_holds(grade):
    command = f"sh -c '{sys.executable} webserver3g.py --port {{port}}; exit $?'"
    graded = grade("3g", "--server", command)
    assert graded.wait(120) == 0, graded.output


# What a server may do before it closes, for longer than nothing may go on anywhere
SLOW = {
    "sleep": "time.sleep(6)",
    "alarm": "signal.signal(signal.SIGALRM, stop); signal.alarm(6); connection.recv(1)",
}


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


@LINUX_ONLY
def test_what_can_never_come_is_not_waited_for(grade, tmp_path):
    text = (ROOT / "webserver3a.py").read_text(encoding="utf-8")
    server = write(tmp_path / "server.py", text.replace("client_connection.close()", "pass"))
    command = f"{sys.executable} {server} --port {{port}}"
    graded = grade("3a", "--server", command, "-k", "client_gets")
    assert graded.wait(60) == 1
    assert "it never will" in graded.output


def test_output_that_is_held_back_is_said_once(grade):
    command = f"sh -c '{sys.executable} webserver3a.py --port {{port}} | tail -n 50'"
    graded = grade("3a", "--server", command, "--patience=3")
    assert graded.wait(60) == 1
    assert graded.output.count("held back in a buffer") == 1


@pytest.mark.parametrize("command", NOT_GRADABLE)
def test_what_cannot_be_graded_gets_one_plain_sentence(grade, command):
    options = ["--patience=2"] if NOT_GRADABLE[command].startswith("Your server runs") else []
    graded = grade("3d", "--server", command, "--server-port", str(free_port()), *options)
    assert graded.wait(60) == 1
    pattern = rf"\s*{NOT_GRADABLE[command]}[^\n]*\n+no tests ran in [^\n]*\n"
    assert re.fullmatch(pattern, graded.output, re.DOTALL), graded.output
    assert graded.errors == ""


def test_port_that_is_taken_is_said_at_once(grade):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        graded = grade("3a", "--server", "sleep 600", "--server-port", str(port))
        assert graded.wait(60) == 1
    assert f"Port {port} is taken" in graded.output


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


def test_server_that_does_not_start_again_cannot_be_graded(grade, readable):
    readable.chmod(0o777)
    server = f"{sys.executable} webserver3a.py --port {{port}}"
    graded = grade("3a", "--server", f"sh -c 'mkdir {readable}/once && exec {server}'")
    assert graded.wait(60) == 1
    assert graded.output.strip().startswith("Your server ended with status 1 before")


def test_server_cannot_read_what_is_not_for_everybody(grade, readable):
    write(readable / "secret", "the secret").chmod(0)
    server = write(readable / "server.sh", 'cat "$(dirname "$0")/secret"; exit 3')
    graded = grade("3a", "--server", f"sh {server}", "--server-port", str(free_port()))
    assert graded.wait(60) == 1
    assert "Permission denied" in graded.output and "the secret" not in graded.output


def test_class_is_graded_in_one_table(start, tmp_path):
    for name, text in {
        "right": (ROOT / "webserver3a.py").read_text(encoding="utf-8"),
        "wrong": (ROOT / "webserver3g.py").read_text(encoding="utf-8"),
        "silent": "raise SystemExit(3)",
    }.items():
        (tmp_path / "class" / name).mkdir(parents=True)
        (tmp_path / "class" / name / "webserver3a.py").write_text(text, encoding="utf-8")
    server = f"{sys.executable} {{folder}}/webserver{{stage}}.py --port {{port}}"
    command = [sys.executable, ROOT / "tests/grading/grade.py", f"{tmp_path}/class/*/"]
    command += ["--stages", "3a", "--command", server, "--out", tmp_path / "grades", "--junit"]
    graded = start(Program, command)
    assert graded.wait(120) == 2
    rows = [line.split(None, 1) for line in graded.output.splitlines()[1:4]]
    words = {row[0].split("/")[-2]: row[1] for row in rows}
    assert words == {"right": "holds", "silent": "?", "wrong": "2 of 6 fail"}
    found = json.loads((tmp_path / "grades/grades.json").read_text(encoding="utf-8"))
    assert {folder.split("/")[-2] for folder in found} == set(words)
    page = (tmp_path / "grades/grades.html").read_text(encoding="utf-8")
    assert "Your server ended with status 3" in page
    assert "Again     " in page
    assert not re.search(r"(src|href)=|url\(", page)  # nothing from elsewhere
    assert len((tmp_path / "grades/grades.csv").read_text(encoding="utf-8").splitlines()) == 4
    reports = sorted(tmp_path.glob("grades/*.xml"))
    failures = [ElementTree.parse(each).find("testsuite").get("failures") for each in reports]
    assert failures == ["0", "1", "2"]


def test_ctrl_c_ends_the_grading_of_a_class(start, tmp_path):
    for name in ("one", "another"):
        (tmp_path / "class" / name).mkdir(parents=True)
    command = [sys.executable, ROOT / "tests/grading/grade.py", f"{tmp_path}/class/*"]
    command += ["--command", "sleep {port}", "--out", tmp_path / "grades", "--jobs", "1"]
    graded = start(Program, command)
    wait_until(lambda: len(graded.processes()) > 1, "a grader runs")
    graded.press_ctrl_c()
    assert graded.wait() == 130
    assert graded.processes() == []
