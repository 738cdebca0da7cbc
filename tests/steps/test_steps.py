"""step3.py, and the pages in docs/steps/: a run recorded again is the same, and every number true."""

import importlib.util
import json
import os
import re
import signal
import socket
import sys

import pytest
from harness import system
from harness.programs import Program
from harness.stages import ROOT, script
from harness.waiting import wait_until
from marks import LINUX_ONLY

spec = importlib.util.spec_from_file_location("step3", ROOT / "step3.py")
step3 = importlib.util.module_from_spec(spec)
spec.loader.exec_module(step3)

FOLDER = ROOT / "docs" / "steps"
COMMAND = "python3 step3.py webserver{stage}.py --out docs/steps/{stage}.html"
STAGES = sorted(path.stem for path in FOLDER.glob("*.json"))
LIBRARIES = all(importlib.util.find_spec(name) for name in ("rich", "psutil"))
RECORDING = re.compile('<script type="application/json" id="recording">(.*?)</script>', re.DOTALL)
# Servers that cannot be stepped through, and what is said of them
LISTENS = """
def serve():
    listen_socket = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    listen_socket.setblocking(False)
    while True:
        try:
            listen_socket.accept()
        except BlockingIOError:
            continue
"""
HOPELESS = {
    "another language": ("#include <stdio.h>\nint main() {}", "It is not Python: "),
    "a syntax error": ("def serve(:", "It is not Python: invalid syntax, in line 1."),
    "no function": ("while True:\n    pass", "It has no function. "),
    "ends at once": ("def f(): pass\nprint('Goodbye')", "It ends at once. Goodbye"),
    "fails": ("def f(): pass\n1 / 0", "It ends at once. ZeroDivisionError: division by zero"),
    "never blocks": (f"import socket, sys\n{LISTENS}\nserve()", "It never waits: 400 statements"),
    "prints": ("def f(): pass\nwhile True: print(8 * 'Hello')", "It prints without end."),
}


def page_of(stage):
    """The recording in a stage's page."""
    return json.loads(RECORDING.search((FOLDER / f"{stage}.html").read_text(encoding="utf-8"))[1])


def without_numbers(recording):
    """The lines of a recording, with names for its PIDs and ports, which differ from run to run.

    Other numbers stay, such as those of lines or the port in a client's request: a PID may have the same.
    """
    names = {}
    for frame in recording["frames"]:
        for process in frame["processes"]:
            names[str(process["pid"])] = f"PID of {process['name']}"
        for one in frame["connections"]:
            names[str(one["port"])] = f"port of client {one['client']}"
    text = json.dumps(recording, indent=0, ensure_ascii=False)
    names[re.search(r"on port (\d+)", text)[1]] = "port"

    def named(line):
        return re.sub(r"(?<!localhost:)\b\d+\b", lambda number: names.get(number[0], number[0]), line)

    return [named(line) if line.startswith(('"pid"', '"port"', '"printed"')) else line for line in text.splitlines()]


def assert_same(stage):
    again = without_numbers(step3.record(str(ROOT / f"webserver{stage}.py"), stage))
    assert again == without_numbers(page_of(stage)), f"Record it again: {COMMAND.format(stage=stage)}"


@pytest.mark.slow
@LINUX_ONLY
@pytest.mark.parametrize("stage", ["3d", "3f"])
def test_run_recorded_again_is_the_page(stage):
    assert_same(stage)


@LINUX_ONLY
@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_run_is_the_same_ten_times_of_ten(stage):
    for _ in range(10):
        assert_same(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_page_shows_the_script_as_it_is(stage):
    lines = script(stage).splitlines()
    for first, shown in page_of(stage)["code"]:
        assert shown == lines[first - 1 : first - 1 + len(shown)], f"Record it again: {COMMAND.format(stage=stage)}"


@pytest.mark.parametrize("stage", STAGES)
def test_page_is_made_of_the_template_and_names_no_machine(stage):
    text = (FOLDER / f"{stage}.html").read_text(encoding="utf-8")
    assert text == step3.page(page_of(stage))
    for word in (str(ROOT), os.path.expanduser("~"), socket.gethostname(), "://"):
        assert len(word) < 4 or word not in RECORDING.search(text)[1]


def facts_of(frames):
    """What the last of some frames shows, by the names that the scenarios have for it."""
    processes, connections = frames[-1]["processes"], frames[-1]["connections"]
    tasks = [task for process in processes for task in process["tasks"]]
    return {
        "references": [one["references"] for one in connections],
        "zombies": sum(one["state"] == "zombie" for one in processes),
        "pending": processes[0]["pending"],
        "queued": frames[-1]["listening"] and frames[-1]["listening"]["queued"],
        "open": [one["client"] for one in connections if one["state"] != "gone"],
        "parent": processes[0]["state"],
        "requests": processes[0]["shared"].get("requests"),
        "numbers": [one["variables"]["number"] for one in tasks if "number" in one["variables"]],
        "states": {task["name"]: task["state"] for task in tasks},
        "printed": "".join(one["printed"] for one in frames),
    }


@pytest.mark.parametrize("stage", STAGES)
def test_sentences_hold(stage):
    frames = page_of(stage)["frames"]
    for number, frame in enumerate(frames):
        seen = facts_of(frames[: number + 1])
        for name, fact in frame.get("holds", {}).items():
            holds = fact in seen[name] if name == "printed" else fact == seen[name]
            if name == "states":
                holds = fact.items() <= seen[name].items()
            assert holds, f"#{stage}-{number}: {name} is {seen[name]}, not {fact}"


@pytest.mark.parametrize("stage", STAGES)
def test_questions_have_one_right_answer_each_and_both_languages(stage):
    frames = page_of(stage)["frames"]
    questions = [frame for frame in frames if "ask" in frame]
    assert 3 <= len(questions) <= 5
    for frame in questions:
        assert [right for right, *_ in frame["answers"]].count(True) == 1
    texts = [frame[name] for frame in frames for name in ("say", "ask") if name in frame]
    texts += [text for frame in questions for _, *pair in frame["answers"] for text in pair]
    for text in texts:
        assert len(text) == 2 and all(text)


@pytest.mark.slow
@LINUX_ONLY
@pytest.mark.skipif(not LIBRARIES, reason="there is no rich, or no psutil")
def test_numbers_are_those_of_ls_and_watch3_at_that_moment(start):
    script = ROOT / "webserver3d.py"
    scenario = json.loads((FOLDER / "3d.json").read_text(encoding="utf-8"))
    zombie = [entry.get("holds", {}).get("zombies") for entry in scenario["run"]].index(2)
    recorder = step3.recorder_of(str(script), script.read_text(encoding="utf-8"), scenario)
    try:
        recorder.play({"run": scenario["run"][: zombie + 1]}, own=True)
        frame = recorder.frames[-1]
        watch = [sys.executable, ROOT / "watch3.py", "--once", "--port", str(recorder.port)]
        program = start(Program, watch, env={"COLUMNS": "100"})
        assert program.wait() == 0, program.errors
        for process in frame["processes"]:
            if process["state"] == "lives":
                numbers = sorted(system.descriptors(process["pid"]))
                ours = [number for number in numbers if number >= 200]  # inside.py's
                assert numbers == [number for number, _ in process["descriptors"]] + ours
        for one in frame["connections"]:
            row = rf" {one['port']} +{one['own']} +{one['server']} +{one['references']}: parent's \d"
            assert re.search(row, program.output), program.output
        zombies = [one for one in frame["processes"] if one["state"] == "zombie"]
        assert f"{len(zombies)} ZOMBIES" in program.output
        for one in zombies:
            assert system.process(one["pid"]).state == system.ZOMBIE
    finally:
        recorder.close()


@pytest.mark.slow
@LINUX_ONLY
def test_own_server_is_shown_as_it_is_without_our_sentences(start, tmp_path):
    script = tmp_path / "my-server.py"
    script.write_text((ROOT / "webserver3g.py").read_text(encoding="utf-8"), encoding="utf-8")
    page = tmp_path / "page.html"
    command = [sys.executable, ROOT / "step3.py", script, "--stage", "3f", "--out", page]
    program = start(Program, command)
    assert program.wait() == 0, program.errors
    frames = json.loads(RECORDING.search(page.read_text(encoding="utf-8"))[1])["frames"]
    assert facts_of(frames)["zombies"] == 0  # unlike 3f's two
    assert not any("say" in frame or "ask" in frame for frame in frames)


@pytest.mark.slow
@LINUX_ONLY
@pytest.mark.parametrize("kind", HOPELESS)
def test_server_that_cannot_be_stepped_gets_a_sentence(kind, start, tmp_path):
    source, sentence = HOPELESS[kind]
    script = tmp_path / "server.py"
    script.write_text(source, encoding="utf-8")
    program = start(Program, [sys.executable, ROOT / "step3.py", script, "--stage", "3f"])
    assert program.wait() == 1
    assert program.errors.startswith(f"Cannot step through {script}. {sentence}")
    assert program.errors.count("\n") == 1
    assert program.processes() == []


# A signal, and the recorder's exit status then
ENDINGS = {"ctrl-c": (signal.SIGINT, 130), "kill -9": (signal.SIGKILL, -9)}


@LINUX_ONLY
@pytest.mark.parametrize("number, status", ENDINGS.values(), ids=list(ENDINGS))
def test_recorder_that_is_ended_leaves_no_process(start, tmp_path, number, status):
    script = tmp_path / "server.py"
    source = "import time\ndef f(): pass\nopen(__file__ + '.runs', 'w').close()\ntime.sleep(600)\n"
    script.write_text(source, encoding="utf-8")
    program = start(Program, [sys.executable, ROOT / "step3.py", script, "--stage", "3f"])
    wait_until((tmp_path / "server.py.runs").exists, "the server runs")
    program.send_signal(number)
    assert program.wait() == status
    assert program.errors == ""
    wait_until(lambda: program.processes() == [], "the server is gone, too")
