"""practise3.py grades at every save, and leads from stage to stage."""

import os
import re
import shutil
import sys

import pytest
from harness import stages
from harness.programs import Program
from harness.waiting import wait_until

pytestmark = pytest.mark.first
slow = pytest.mark.slow
MY_SERVER = "my-server.py"
WAITING = "Waiting for you to save"


@pytest.fixture
def practise(start, tmp_path):
    """practise(source, option, ...) starts practise3.py with a server of this text. Returns the program.

    Its save(text) replaces the source, a second later by the file's time: an editor's save is never within one
    tick of the file system's clock.
    """

    def practise(source, *options, file=MY_SERVER):
        path = tmp_path / file
        if source is not None:
            path.write_text(source, encoding="utf-8")
        command = [sys.executable, stages.ROOT / "practise3.py", path, *options]
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
    """A stage's script, with the port and the delay as arguments instead of options."""
    text = stages.script(stage)
    text = text.replace('parser.add_argument("--port"', 'parser.add_argument("port"')
    text = text.replace('parser.add_argument("--delay"', 'parser.add_argument("seconds"')
    return text.replace("options = parser.parse_args()", "options, _ = parser.parse_known_args()")


def wait_for(program, text, after=0):
    """Wait until the program has printed a text, after its first `after` characters. Returns all output."""
    wait_until(
        lambda: text in program.output[after:] or not program.running, f"it prints {text}", 40
    )  # a stage is graded meanwhile
    assert text in program.output[after:], program.output + program.errors
    return program.output


def test_task_and_first_failure(practise):
    program = practise(script("3a").replace("        client_connection.close()\n", ""))
    said = wait_for(program, WAITING)
    assert "Stage 3a: an iterative server" in said
    assert "python3 my-server.py PORT SECONDS" in said
    assert "3a ░░░░░░░░ 0 of 7\nA client gets the answer, and the connection ends.\n" in said
    for word in ("Seen ", "Expected ", "Hint ", "Said ", "Again "):
        assert re.search(f"^{word}", said, re.MULTILINE), said
    assert f"\nAgain     python3 {program.path} 8888 0\n" in said  # in one line, to be copied


def test_save_leads_to_the_next_stage(practise):
    program = practise("")
    said = wait_for(program, WAITING)
    program.save(script("3a"))
    wait_for(program, "3a ████████ 7 of 7\nAll of 3a holds.", after=len(said))
    wait_for(program, "Stage 3b: an iterative server sleeps", after=len(said))
    wait_for(program, "3b ░░░░░░░░ 0 of 5", after=len(said))
    wait_for(program, WAITING, after=len(said))
    assert program.path.with_name("my-server.py.stage").read_text(encoding="utf-8") == "3b\n"


def test_ctrl_c_ends_it_quietly(practise):
    program = practise("raise SystemExit(3)")
    wait_for(program, WAITING)
    program.press_ctrl_c()
    assert program.wait() == 0
    assert program.errors == ""


def test_stage_is_remembered(practise):
    for options in (["--stage", "3d"], []):
        program = practise("raise SystemExit(3)", *options)
        assert "Stage 3d" in wait_for(program, WAITING)


@slow
def test_save_interrupts_a_grading(practise):
    program = practise("import time\ntime.sleep(600)\n")
    wait_until(lambda: len(program.processes()) > 2, "the server is started")
    program.save("raise SystemExit('the second text')\n")
    said = wait_for(program, WAITING)
    assert "Saved: once more." in said
    assert "the second text" in said
    assert "does not listen" not in said
    wait_until(lambda: len(program.processes()) == 1, "the interrupted grading is gone")


@slow
def test_servers_log_is_no_save(practise):
    program = practise("open(__file__ + '.log', 'a').write('started')\nraise SystemExit(3)\n")
    program.path.parent.chmod(0o777)
    assert "once more" not in wait_for(program, WAITING)


@slow
def test_server_option(practise):
    server = f"{sys.executable} {stages.script_path('3g')} --port {{port}} --delay {{delay}}"
    program = practise(None, "--stage", "3g", "--server", server)
    wait_for(program, "All of 3g holds")


# Sources, their files, and a text of the message that they get
NOT_STARTED = {
    "no file": (None, MY_SERVER, "There is no file"),
    "syntax": ("def\n", MY_SERVER, "SyntaxError"),
    "ends": ("print('because')\n", MY_SERVER, "because"),
    "endless": ("while True: print('again and again')\n", MY_SERVER, "prints without end"),
    "deaf": ("import time\ntime.sleep(600)\n", MY_SERVER, "does not listen"),
    "not executable": ("#!/bin/sh\n", "my-server", "cannot be executed"),
    "compiler": ("int main(void) { retrun 1; }\n", "server.c", "does not compile"),
}


@slow
@pytest.mark.parametrize("source, file, reason", NOT_STARTED.values(), ids=list(NOT_STARTED))
def test_reason_why_a_server_is_not_graded(practise, source, file, reason):
    if file.endswith(".c") and not shutil.which("cc"):
        pytest.skip("there is no cc")
    program = practise(source, file=file)
    assert reason in " ".join(wait_for(program, WAITING).split())
    assert "Traceback" not in program.errors


def test_solution_is_a_diff(practise):
    program = practise("", "--stage", "3g", "--solution")
    assert program.wait() == 0
    assert "+++ webserver3g.py" in program.output
    assert "os.WNOHANG" in program.output


def test_solution_of_the_first_stage_is_the_script(practise):
    program = practise("", "--stage", "3a", "--solution")
    assert program.wait() == 0
    assert "webserver3a.py" in program.output
