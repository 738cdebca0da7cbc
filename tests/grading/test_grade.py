"""grade.py: a class is graded in one table, and an interruption leaves nothing behind."""

import sys
from xml.etree import ElementTree

import pytest
from harness import system
from harness.programs import Program
from harness.stages import ROOT, script
from harness.waiting import wait_until

pytestmark = pytest.mark.first
GRADE = [sys.executable, ROOT / "tests/grading/grade.py"]


@pytest.fixture
def graded(start, tmp_path, write):
    """grade.py after it has graded a class of four as 3a."""
    write("class/right/webserver3a.py", script("3a"))
    write("class/wrong/webserver3a.py", script("3g"))
    write("class/silent/webserver3a.py", "raise SystemExit(3)")
    (tmp_path / "class/empty").mkdir()
    server = f"{sys.executable} {{folder}}/webserver{{stage}}.py --port {{port}}"
    options = ["--stages", "3a", "--command", server, "--junit", tmp_path / "junit"]
    graded = start(Program, [*GRADE, f"{tmp_path}/class/*/", *options])
    assert graded.wait(120) == 2
    return graded


@pytest.mark.slow
def test_class_in_one_table(graded, tmp_path):
    rows = [line.split(None, 1) for line in graded.output.splitlines()[1:5]]
    words = {row[0].split("/")[-2]: row[1] for row in rows}
    assert words == {"empty": "missing", "right": "holds", "silent": "does not start", "wrong": "1 of 7 fail"}
    assert "Your server ended with status 3" in graded.output
    assert "Not tried: this fails above: A client that connects" in graded.output
    reports = {each.stem.split("-")[-2]: ElementTree.parse(each) for each in tmp_path.glob("junit/*")}
    failures = {name: report.find("testsuite").get("failures") for name, report in reports.items()}
    assert failures == {"empty": "1", "right": "0", "silent": "1", "wrong": "1"}


@pytest.fixture
def hanging(start, tmp_path):
    """grading(option, ...) starts to grade two servers that never listen."""
    for name in ("one", "another"):
        (tmp_path / "class" / name).mkdir(parents=True)

    def hanging(*options):
        command = [*GRADE, f"{tmp_path}/class/*", "--stages", "3a", "--command", "sleep 1234{port}", *options]
        return start(Program, command)

    return hanging


def test_ctrl_c(hanging):
    graded = hanging()

    def servers():
        return sum(b"sleep" in system.command_line(process.pid) for process in graded.processes())

    wait_until(lambda: len(system.children(graded.pid)) > 1, "two graders have been started")
    if system.LINUX:  # elsewhere servers are in other groups, out of sight
        wait_until(lambda: servers() > 1, "servers have been started")
    graded.press_ctrl_c()
    assert graded.wait() == 130
    wait_until(lambda: graded.processes() == [], "nothing that it started is left")


@pytest.mark.slow
def test_time_limit(hanging):
    graded = hanging("--time-limit", "0.5")
    assert graded.wait() == 2
    assert graded.output.count("It took longer than 0.5 seconds.") == 2
