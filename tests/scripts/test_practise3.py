"""practise3.py: one command that looks again whenever the reader saves."""

import os
import re
import shutil
import sys

import pytest
from harness.programs import Program
from harness.stages import ROOT
from harness.waiting import wait_until

pytestmark = pytest.mark.first

MY_SERVER = "my-server.py"


@pytest.fixture
def practise(start, tmp_path):
    """practise(source, option, ...) starts the loop with a server of this text.

    Returns the program. Its save(text) writes another text, and is later than the first: an
    editor's save is never within one tick of the file system's clock.
    """

    def practise(source, *options, file=MY_SERVER):
        path = tmp_path / file
        if source is not None:
            path.write_text(source, encoding="utf-8")
        command = [sys.executable, ROOT / "practise3.py", path, *options]
        program = start(Program, command, cwd=tmp_path, env={"PYTHONIOENCODING": "utf-8"})

        def save(text):
            later = path.stat().st_mtime_ns + 10**9 if path.exists() else 10**18
            path.with_name("being-saved~").write_text(text, encoding="utf-8")
            os.utime(path.with_name("being-saved~"), ns=(later, later))
            path.with_name("being-saved~").replace(path)

        program.save = save
        program.path = path
        return program

    return practise


def script(stage):
    """Our own script, with the port and the delay as arguments instead of options."""
    text = (ROOT / f"webserver{stage}.py").read_text(encoding="utf-8")
    text = text.replace('parser.add_argument("--port"', 'parser.add_argument("port"')
    return text.replace('parser.add_argument("--delay"', 'parser.add_argument("seconds"').replace(
        "    options = parser.parse_args()", "    options, _ = parser.parse_known_args()"
    )


def wait_for(program, text, after=0):
    """Wait until the loop has printed a text, after so many characters."""
    wait_until(lambda: text in program.output[after:] or not program.running, f"it prints {text}")
    assert text in program.output[after:], program.output + program.errors


def test_loop_shows_the_first_failure_looks_again_and_leads_on(practise):
    right = script("3a")
    program = practise(right.replace("        client_connection.close()\n", ""))
    wait_for(program, "Waiting for you to save")
    said = program.output
    assert "Stage 3a: an iterative server" in said
    assert "python3 my-server.py PORT SECONDS" in said
    assert "3a ░░░░░░░░ 0 of 7\nA client gets the answer, and the connection ends.\n" in said
    for word in ("Seen ", "Expected ", "Hint ", "Said ", "Again "):
        assert re.search(f"^{word}", said, re.MULTILINE), said
    assert f"\nAgain     python3 {program.path} 8888 0\n" in said  # in one line, to be copied
    program.save(right)
    wait_for(program, "All of 3a holds.", after=len(said))
    wait_for(program, "3b ░░░░░░░░ 0 of 5", after=len(said))
    assert "3a ████████ 7 of 7" in program.output
    assert "Stage 3b: an iterative server sleeps" in program.output
    wait_for(program, "Waiting for you to save", after=len(said))
    program.press_ctrl_c()
    assert program.wait() == 0
    assert program.errors == ""
    assert program.path.with_name("my-server.py.stage").read_text(encoding="utf-8") == "3b\n"


def test_stage_is_remembered_and_gone_to(practise):
    program = practise("raise SystemExit(3)", "--stage", "3d")
    wait_for(program, "Waiting for you to save")
    assert "Stage 3d" in program.output
    again = practise("raise SystemExit(3)")
    wait_for(again, "Waiting for you to save")
    assert "Stage 3d" in again.output


@pytest.mark.slow
def test_save_in_the_midst_of_a_grading_starts_over(practise):
    program = practise("import time\ntime.sleep(600)\n")
    wait_until(lambda: len(program.processes()) > 2, "the server is started")
    program.save("raise SystemExit('the second text')\n")
    wait_for(program, "Waiting for you to save")
    assert "Saved: once more." in program.output
    assert "the second text" in program.output
    assert "does not listen" not in program.output
    wait_until(lambda: len(program.processes()) == 1, "what was graded is gone")


@pytest.mark.slow
def test_log_that_the_server_writes_is_no_save(practise):
    logs = "open(__file__ + '.log', 'a').write('started')\nraise SystemExit(3)\n"
    program = practise(logs)
    program.path.parent.chmod(0o777)
    wait_for(program, "Waiting for you to save")
    assert "once more" not in program.output


@pytest.mark.slow
def test_server_is_started_as_its_command_says(practise):
    server = f"{sys.executable} {ROOT}/webserver3g.py --port {{port}} --delay {{delay}}"
    program = practise(None, "--stage", "3g", "--server", server)
    wait_for(program, "All of 3g holds")


NOT_STARTED = {
    "no file": (None, MY_SERVER, "There is no file"),
    "syntax": ("def\n", MY_SERVER, "SyntaxError"),
    "ends": ("print('because')\n", MY_SERVER, "because"),
    "endless": ("while True: print('again and again')\n", MY_SERVER, "prints without end"),
    "deaf": ("import time\ntime.sleep(600)\n", MY_SERVER, "does not listen"),
    "not executable": ("#!/bin/sh\n", "my-server", "cannot be executed"),
    "compiler": ("int main(void) { retrun 1; }\n", "server.c", "does not compile"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", NOT_STARTED)
def test_server_that_cannot_be_graded_is_told_why(practise, kind):
    source, file, reason = NOT_STARTED[kind]
    if file.endswith(".c") and not shutil.which("cc"):
        pytest.skip("there is no cc")
    program = practise(source, file=file)
    wait_for(program, "Waiting for you to save")
    assert reason in " ".join(program.output.split())
    assert "Traceback" not in program.errors


def test_solution_is_shown_on_request_only(practise):
    program = practise("", "--stage", "3g", "--solution")
    assert program.wait() == 0
    assert "+++ webserver3g.py" in program.output
    assert "os.WNOHANG" in program.output
    first = practise("", "--solution", "--stage", "3a")
    assert first.wait() == 0
    assert "webserver3a.py" in first.output
