"""practise3.py grades at every save, and leads from stage to stage."""

import os
import re
import shutil
import signal
import sys
import time

import pytest
from grading import results
from harness import stages, system
from harness.programs import Program
from harness.waiting import wait_until
from marks import LINUX_ONLY

pytestmark = pytest.mark.first
slow = pytest.mark.slow
MY_SERVER = "my-server.py"
WAITING = "Waiting for you to save"


@pytest.fixture
def practise(start, tmp_path):
    """practise(source, option, ...) starts practise3.py with a server of this text. Returns the program.

    Its type(text) types at its terminal.

    Its save(text) replaces the source, a second later by the file's time: an editor's save is never within one
    tick of the file system's clock.
    """

    def practise(source, *options, file=MY_SERVER, env=None, **program_options):
        path = tmp_path / file
        if source is not None:
            path.write_text(source, encoding="utf-8")
        command = [sys.executable, stages.ROOT / "practise3.py", path, *options]
        environment = {"TMPDIR": str(tmp_path / "tmp"), **(env or {})}
        (tmp_path / "tmp").mkdir(exist_ok=True)
        tmp_path.chmod(0o777)  # root grades a server as another user
        program = start(Program, command, cwd=tmp_path, env=environment, **program_options)

        def save(text):
            later = path.stat().st_mtime_ns + 10**9 if path.exists() else 10**18
            path.with_name("being-saved~").write_text(text, encoding="utf-8")
            os.utime(path.with_name("being-saved~"), ns=(later, later))
            path.with_name("being-saved~").replace(path)

        def type_(text):
            os.write(program._terminal, text.encode())

        program.save, program.type = save, type_
        program.path = path
        return program

    return practise


def script(stage):
    """A stage's script, with the port and the delay as arguments instead of options."""
    text = stages.script(stage)
    text = text.replace('parser.add_argument("--port"', 'parser.add_argument("port"')
    text = text.replace('parser.add_argument("--delay"', 'parser.add_argument("delay"')
    return text.replace("options = parser.parse_args()", "options, _ = parser.parse_known_args()")


def wait_for(program, text, after=0):
    """Wait until the program has printed a text, after its first `after` characters. Returns all output."""
    wait_until(lambda: text in program.output[after:] or not program.running, f"it prints {text}", 60)
    assert text in program.output[after:], program.output + program.errors
    return program.output


def test_task_and_first_failure(practise):
    program = practise(script("3a").replace("        client_connection.close()\n", ""))
    said = wait_for(program, WAITING)
    assert "Stage 3a: an iterative server" in said
    assert "python3 my-server.py PORT SECONDS" in said
    assert "Accept a client, receive and print its request" in said
    assert "3a ░░░░░░░░ 0 of 7\nA client gets the answer, and the connection ends.\n" in said
    for word in ("Seen ", "Expected ", "Hint ", "Said ", "Again "):
        assert re.search(f"^{word}", said, re.MULTILINE), said
    assert f"\nAgain     python3 {program.path} 8888 0\n" in said  # in one line, to be copied


@slow
def test_save_and_enter_lead_to_the_next_stage(practise):
    program = practise("", terminal=True, keyboard=True)
    said = wait_for(program, WAITING)
    program.save(script("3a"))
    said = wait_for(program, "All of 3a holds.\nPress Enter for 3b", after=len(said))
    assert "3a ████████ 7 of 7\n" in said
    assert "Stage 3b" not in said
    program.type("\n")
    wait_for(program, "Stage 3b: an iterative server sleeps", after=len(said))
    wait_for(program, "3b ░░░░░░░░ 0 of 5", after=len(said))
    wait_for(program, WAITING, after=len(said))
    assert program.path.with_name("my-server.py.stage").read_text(encoding="utf-8") == "3b\n"


@slow
def test_save_leads_to_the_next_stage_too(practise):
    program = practise(script("3a"))
    said = wait_for(program, "Press Enter for 3b")
    program.save(script("3b"))
    wait_for(program, "All of 3b holds.", after=len(said))


@slow
def test_last_stage(practise):
    program = practise(script("4e"), "--stage", "4e")
    said = wait_for(program, WAITING)
    assert "it is the last stage. Well done!" in said
    assert "Press Enter" not in said
    assert program.errors == ""


@slow
@pytest.mark.parametrize("moment", [WAITING, "Again "])  # while it waits, and while its grader ends
def test_ctrl_c_ends_it_quietly(practise, moment):
    program = practise(script("3a").replace("        client_connection.close()\n", ""))
    wait_for(program, moment)
    program.press_ctrl_c()
    assert program.wait() == 0
    assert program.errors == ""


@slow
def test_stage_is_remembered(practise):
    for options in (["--stage", "3d"], []):
        program = practise("raise SystemExit(3)", *options)
        assert "Stage 3d" in wait_for(program, WAITING)


@slow
def test_save_interrupts_a_grading(practise, tmp_path):
    program = practise(f"import time\nopen({str(tmp_path / 'here')!r}, 'w')\ntime.sleep(600)\n")
    wait_until((tmp_path / "here").exists, "the server runs")
    program.save("raise SystemExit('the second text')\n")
    said = wait_for(program, WAITING)
    assert "Saved: once more." in said
    assert "the second text" in said
    assert "does not listen" not in said
    wait_until(lambda: len(program.processes()) == 2, "the interrupted grading is gone: a guard stays")


# Files that a server, a compiler or an editor writes beside it
NOT_SAVED = """requests.txt server.log my-server my-server.o #my-server.py# 4913 my-server.py~ .my-server.py.swp
    my-server.py___jb_tmp___ sedAbC123 my-server.py.orig my-server.py.bak core nohup.out tags .hidden.py""".split()


@slow
def test_other_files_are_not_saved(practise):
    program = practise("raise SystemExit(3)")
    said = wait_for(program, WAITING)
    assert "and the sources in its folder and below." in " ".join(said.split())
    for name in NOT_SAVED:
        program.path.with_name(name).write_text("text", encoding="utf-8")
    assert_notices_only(program, said)


def assert_notices_only(program, said):
    """Assert that a save is noticed, and nothing before it. It is seen within 0.2 s; a grading takes longer."""
    program.save("raise SystemExit('the second text')\n")
    wait_for(program, "the second text", after=len(said))
    wait_for(program, WAITING, after=len(said))
    assert program.output.count("Saved") == 1, program.output


@slow
def test_source_below_is_saved(practise):
    program = practise("raise SystemExit(3)")
    said = wait_for(program, WAITING)
    program.path.with_name("below").mkdir()
    (program.path.parent / "below/part.py").write_text("text", encoding="utf-8")
    wait_for(program, "Saved.", after=len(said))


@slow
@pytest.mark.parametrize("written", ["requests.txt", "generated.py"])
def test_server_may_write_files(practise, tmp_path, written):
    # Each time as another user, if root grades
    source = f"import os\nopen('new', 'w')\nos.replace('new', {written!r})\nraise SystemExit('that was all')\n"
    command = f"sh -c 'cd {tmp_path} && {sys.executable} {MY_SERVER}'"
    program = practise(source, "--server", command)
    said = wait_for(program, WAITING)
    assert "that was all" in said
    assert said.count("Saved: once more") <= 2


@slow
def test_server_option_may_compile(practise, tmp_path):
    if not shutil.which("cc"):
        pytest.skip("there is no cc")
    server = 'sh -c "cd {0} && cc -o my-server server.c && exec ./my-server {{port}} {{delay}}"'
    server = server.format(tmp_path)
    program = practise("int main(void) { return 7; }\n", "--stage", "3c", "--server", server, file="server.c")
    said = wait_for(program, WAITING)
    assert "ended with status 7" in said
    assert "Saved" not in said


@slow
def test_server_option(practise):
    server = f"{sys.executable} {stages.script_path('3g')} --port {{port}} --delay {{delay}}"
    program = practise(None, "--stage", "3g", "--server", server)
    wait_for(program, "All of 3g holds")


@slow
@pytest.mark.parametrize("stage", ["3h", "3i"])
def test_server_of_applications(practise, stage):
    text = stages.script(stage).replace('parser.add_argument("--port"', 'parser.add_argument("port"')
    program = practise(text, "--stage", "3h")
    said = wait_for(program, "Press Enter for 4a")
    assert "python3 my-server.py exercise:app PORT" in " ".join(said.split())


@slow
def test_compiler_that_hangs_is_ended(practise, tmp_path):
    compiler = tmp_path / "bin/cc"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\n[ -e hung ] && exit 1; echo $$ >hung; exec sleep 600\n", encoding="utf-8")
    compiler.chmod(0o755)
    program = practise("one", file="server.c", env={"PATH": f"{compiler.parent}:{os.environ['PATH']}"})
    hung = tmp_path / "hung"
    pid = wait_until(lambda: hung.exists() and hung.read_text(encoding="ascii").strip(), "the compiler runs")
    program.save("two")
    assert "It does not compile" in wait_for(program, WAITING)
    wait_until(lambda: system.process(pid) is None, "the first compiler has ended")


@slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
def test_end_leaves_nothing(practise, tmp_path, number):
    program = practise("import time\ntime.sleep(600)\n")
    wait_until(lambda: len(program.processes()) > 4, "the server is started")
    program.send_signal(number)
    wait_until(lambda: program.processes() == [], "its processes have ended")
    wait_until(lambda: os.listdir(tmp_path / "tmp") == [], "its folders are gone")


def test_grading_goes_with_its_grader_in_any_case(tmp_path, monkeypatch):
    """Even if the grader hangs at an interruption."""
    stuck = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nopen('here', 'w')\ntime.sleep(600)\n"
    (tmp_path / "pytest.py").write_text(stuck, encoding="utf-8")
    monkeypatch.setattr(results, "ROOT", tmp_path)

    def check():
        if (tmp_path / "here").exists():
            raise InterruptedError

    began = time.monotonic()
    with pytest.raises(InterruptedError):
        list(results.grade("true", "3a", check=check))
    assert time.monotonic() - began < 10


@slow
def test_terminal_without_utf8(practise):
    program = practise("raise SystemExit(3)", env={"PYTHONIOENCODING": "latin-1"})
    assert "3a ........ 0 of 7" in wait_for(program, WAITING)


@slow
def test_closed_pipe_is_no_error(start, tmp_path):
    command = f"{sys.executable} {stages.ROOT / 'practise3.py'} my-server.py"
    for end in ("| true", ">&-"):
        program = start(Program, ["sh", "-c", f"timeout 3 {command} {end}"], cwd=tmp_path)
        program.wait()
        assert "Traceback" not in program.errors, program.errors


def test_stage_file_that_is_none(practise, tmp_path):
    for text in (b"9z", b"\xff"):
        (tmp_path / "my-server.py.stage").write_bytes(text)
        program = practise("")
        assert program.wait() == 1
        assert "names no stage" in program.errors and "Traceback" not in program.errors


@slow
def test_stage_that_cannot_be_written(practise, tmp_path):
    (tmp_path / "my-server.py.stage").mkdir()
    program = practise("raise SystemExit(3)", "--stage", "3b")
    assert "The stage is not remembered" in wait_for(program, WAITING)
    program = practise("raise SystemExit(3)")
    assert program.wait() == 1
    assert "cannot be read" in program.errors and "Traceback" not in program.errors


@slow
def test_folder_with_a_blank(start, tmp_path):
    folder = tmp_path / "my servers é"
    folder.mkdir()
    tmp_path.chmod(0o755)
    (folder / MY_SERVER).write_text(script("3a").replace("client_connection.close()", ""), encoding="utf-8")
    command = [sys.executable, stages.ROOT / "practise3.py", MY_SERVER]
    program = start(Program, command, cwd=folder, env={"PYTHONIOENCODING": "utf-8"})
    said = wait_for(program, WAITING)
    assert "\nAgain     python3 my-server.py 8888 0\n" in said


@slow
def test_own_modules_of_that_name_do_not_matter(practise, tmp_path):
    (tmp_path / "select.py").write_text("raise SystemExit('mine')", encoding="utf-8")
    program = practise(script("3a").replace("import socket\n", "import sys; sys.path.pop(0)\nimport socket\n"))
    assert "7 of 7" in wait_for(program, "Press Enter")


@slow
def test_tests_that_do_not_run(practise):
    program = practise("raise SystemExit(3)", env={"PYTEST_ADDOPTS": "--no-such-option"})
    said = wait_for(program, WAITING)
    assert "The tests do not run." in said and "holds" not in said


@LINUX_ONLY
@slow
def test_little_processor_time_while_it_waits(practise):
    program = practise("raise SystemExit(3)")
    wait_for(program, WAITING)
    before, began = system.processor_time(program.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - began > 2, "two seconds pass")
    assert system.processor_time(program.pid) - before < 0.5


# Sources, their files, and a text of the message that they get
NOT_STARTED = {
    "no file": (None, MY_SERVER, "There is no file"),
    "syntax": ("def\n", MY_SERVER, "SyntaxError"),
    "ends": ("print('because')\n", MY_SERVER, "because"),
    "endless": ("while True: print('again and again')\n", MY_SERVER, "prints without end"),
    "deaf": ("import time\ntime.sleep(600)\n", MY_SERVER, "does not listen"),
    "not executable": ("#!/bin/sh\n", "my-server", "cannot be executed"),
    "port": ("import socket\nsocket.create_server(('', 18888)).accept()\n", MY_SERVER, "from the first argument"),
    "name": ("", "{port}.py", "Rename"),
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


@slow
@pytest.mark.parametrize("start_of_file", ["import sys\n", "\ufeff#!/usr/bin/env python3\n"])
def test_executable_without_interpreter(practise, start_of_file, tmp_path):
    (tmp_path / "my-server").write_text(start_of_file, encoding="utf-8")
    (tmp_path / "my-server").chmod(0o755)
    program = practise(None, file="my-server")
    assert "does not say what runs it" in " ".join(wait_for(program, WAITING).split())


def test_solution_is_a_diff(practise):
    program = practise("", "--stage", "3g", "--solution")
    assert program.wait() == 0
    assert "+++ webserver3g.py" in program.output
    assert "os.WNOHANG" in program.output
    assert "Shows" not in program.output  # the docstring


@slow
def test_solution_of_4a_starts_from_3g(practise):
    program = practise("", "--stage", "4a", "--solution")
    assert program.wait() == 0
    assert "--- webserver3g.py" in program.output


def test_solution_of_the_first_stage_is_the_script(practise):
    program = practise("", "--stage", "3a", "--solution")
    assert program.wait() == 0
    assert "webserver3a.py" in program.output
