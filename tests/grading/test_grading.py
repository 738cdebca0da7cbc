"""The grader's verdicts and messages.

Most of it takes seconds, and is marked slow: .venv/bin/pytest -m slow tests/grading
"""

import re
import shlex
import socket
import sys

import pytest
from harness.ports import free_port
from harness.programs import Program
from harness.stages import ROOT, script
from marks import LINUX_ONLY

pytestmark = pytest.mark.first
slow = pytest.mark.slow


@slow
def test_page_shows_what_is_printed(start, write):
    page = (ROOT / "docs/practise.md").read_text(encoding="utf-8").partition("## Grade one server")[2]
    first = write("first.py", re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    typed, printed = re.findall(r"```text\n(.*?)```", page, re.DOTALL)[:2]
    pytest, tests, option, server = shlex.split(typed)
    assert (pytest, option) == (".venv/bin/pytest", "--server")
    server = server.replace("first.py", str(first))
    graded = start(Program, [sys.executable, "-m", "pytest", tests, option, server, "--patience=2"], cwd=ROOT)
    assert graded.wait(60) == 1
    said = graded.output.replace(f"{first.parent}/", "")
    assert re.sub(r"in [\d.]+s", "in 0.51s", said.strip()) == printed.strip()


# Commands, and the one message that they get
UNGRADABLE = {
    "no-such-program {port}": r"There is no program 'no-such-program' that I could start\.",
    "sh -c 'echo because >&2; exit 3'": r"Your server ended with status 3 before .*because",
    "sleep 600": r"Your server runs, but does not listen on port \d+\.",
    "yes": r"The server prints without end\.",
    "sh -c 'not closed": r"The command .* cannot be split: No closing quotation\.",
    f"{sys.executable} -c 'import os\nwhile True: os.fork()'": (
        # which of these is chance: the last of its processes may have met the limit, and each prints that
        "(Your server (runs, but does|ended with status 1 before.*BlockingIOError)|The server prints without end)"
    ),
}


@slow
@pytest.mark.parametrize("command", UNGRADABLE)
def test_ungradable_server(grade, command):
    options = ["--patience=2"] if "runs, but" in UNGRADABLE[command] else []
    graded = grade("3d", "--server", command, "--server-port", str(free_port()), *options)
    assert graded.wait(60) == 1
    pattern = rf"\s*{UNGRADABLE[command]}[^\n]*\n+no tests ran in [^\n]*\n"
    assert re.fullmatch(pattern, graded.output, re.DOTALL), graded.output
    assert graded.errors == ""


@slow
def test_taken_port(grade):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        graded = grade("3a", "--server", "sleep 600", "--server-port", str(port))
        assert graded.wait(60) == 1
    assert f"Port {port} is taken" in graded.output


@slow
def test_output_held_back(grade):
    command = f"sh -c '{sys.executable} webserver3a.py --port {{port}} | tail -n 50'"
    graded = grade("3a", "--server", command, "--patience=3")
    assert graded.wait(60) == 1
    assert graded.output.count("held back in a buffer") == 1


@slow
def test_server_that_starts_only_once(grade, readable):
    readable.chmod(0o777)
    server = f"{sys.executable} webserver3a.py --port {{port}}"
    graded = grade("3a", "--server", f"sh -c 'mkdir {readable}/once && exec {server}'")
    assert graded.wait(60) == 1
    assert graded.output.strip().startswith("Your server ended with status 1 before")


@LINUX_ONLY
@slow
def test_daemon(grade, write):
    daemon = "def main():\n    os.fork() and os._exit(0)\n    os.setsid()\n"
    server = write("server.py", replaced("3g", "def main():\n", daemon))
    graded = grade("3g", "--server", f"{sys.executable} {server} --port {{port}}")
    assert graded.wait(60) == 1
    assert graded.output.strip().startswith("Your server went into the background.")


PRINTS = 'show(f"Child {os.getpid()} of {os.getppid()}: {request!r}")'
PEEKS = "            client_connection.recv(1, socket.MSG_PEEK)\n            pid = os.fork()\n"
RED = "show('\\33[1;31mred\\33[0m'); client_connection.close()"
# Stages with one fault (old text, new text), the claims graded (-k), and texts of their remarks
REMARKS = {
    "an indented status line": (
        "3a",
        ('b"HTTP/1.1 200 OK', 'b"  HTTP/1.1 200 OK'),
        "client_gets",
        ["the answer starts with b'  HTTP/1.1 200 OK", "The first byte of the answer is the H"],
    ),
    "the path that failed": (
        "3a",
        ("if request:", "if b'/hello' in request:"),
        "any_path",
        ["/ gets b''", "curl localhost:8888/\n"],
    ),
    "another path that failed": (
        "3a",
        ("show(repr(request))", "pass"),
        "client_gets or request_is_printed",
        ["FAILS  Also asked: the server prints the request.", "curl localhost:8888/some/path"],
    ),
    "no signal of the grader's own": (
        "3g",
        (PRINTS, "pass"),
        "request_is_printed",
        ["the server prints GET /some/path"],
    ),
    "a parent that reads": (
        "3g",
        ("            pid = os.fork()\n", PEEKS),
        "silent_client",
        ["Does your parent read the request?"],
    ),
    "colours": (
        "3a",
        ("show(repr(request))", RED),
        "request_is_printed or client_gets",
        ["Said      Serving HTTP on port", "\n                 red\n"],
    ),
}


@slow
@pytest.mark.parametrize("stage, fault, claims, remarks", REMARKS.values(), ids=list(REMARKS))
def test_remark(grade, write, stage, fault, claims, remarks):
    # As a server that prints its KeyboardInterrupt, which the report leaves out: the grader caused it
    text = replaced(stage, *fault).replace("except KeyboardInterrupt", "except EOFError")
    command = f"{sys.executable} {write('server.py', text)} --port {{port}}"
    graded = grade(stage, "--server", command, "-k", claims, "--patience=1")
    assert graded.wait(60) == 1
    for remark in remarks:
        assert remark in graded.output, graded.output
    assert not re.search("status -2|KeyboardInterrupt|\33", graded.output)


@slow
def test_claims_about_behaviour_only(grade, write):
    command = f"{sys.executable} {write('server.py', replaced('3g', PRINTS, 'pass'))} --port {{port}}"
    graded = grade("3g", "--server", command, "--claims=behaviour")
    assert graded.wait(60) == 0, graded.output
    assert "prints" not in graded.output


def test_claim_without_docstring(start, write):
    tests = write("tests/test_webserver3a.py", "def test_without(serve): pass\n")
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-p", "grading.grader"]
    graded = start(Program, [*command, tests, "--server", "true"])
    assert graded.wait(60) == 4
    assert "test_without has no docstring" in graded.errors
    assert "INTERNALERROR" not in graded.output + graded.errors


def test_other_tests_grade_nothing(start):
    command = [sys.executable, "-m", "pytest", "tests/scripts/test_client3.py", "--server", "true"]
    graded = start(Program, command, cwd=ROOT)
    assert graded.wait(60) == 4
    assert "The other tests are for our own scripts." in graded.errors


def replaced(stage, old, new):
    """A stage's script with one text replaced."""
    text = script(stage)
    assert text.count(old) == 1
    return text.replace(old, new)


@slow
def test_delay_that_is_not_known_is_said_once(grade):
    graded = grade("4c", "--server", f"{sys.executable} webserver4c.py --port {{port}}", "--claims=behaviour")
    assert graded.wait(120) == 0, graded.output
    assert graded.output.count("how long your server sleeps is not known") == 1
    assert graded.output.count("Not tried: for the same reason.") == 1


@slow
def test_number_of_workers_is_said(grade):
    server = f"{sys.executable} webserver4a.py --port {{port}} --delay {{delay}} --workers 8"
    graded = grade("4a", "--server", server, "--patience=2", "-k", "killed")
    assert graded.wait(120) == 1
    assert "Seen      8 processes besides the parent have the listening socket" in graded.output


@slow
@pytest.mark.parametrize("stage", ["4a", "4b", "4c", "4d", "4e"])
def test_numbers_are_only_also_asked(grade, write, stage):
    text = re.sub(r'\bshow\(f"(Worker|Request).*', "pass", script(stage))
    command = f"{sys.executable} {write('server.py', text)} --port {{port}} --delay {{delay}}"
    graded = grade(stage, "--server", command, "--claims=behaviour")
    assert graded.wait(120) == 0, graded.output


@LINUX_ONLY
@slow
def test_server_that_has_just_died_fails(grade, write):
    """Even where its descriptors are looked at while it ends: then they belong to root."""
    text = replaced("4c", "would not wait\n        return\n", "would not wait\n        raise\n")
    command = f"{sys.executable} {write('server.py', text)} --port {{port}} --delay {{delay}}"
    for _ in range(3):
        graded = grade("4c", "--server", command, "-k", "descriptor", "--patience=2")
        assert graded.wait(120) == 1, graded.output
        assert "Not tried" not in graded.output
