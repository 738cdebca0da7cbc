"""That what is said of the benchmark's results is what it measured, and that it can run."""

import copy
import json
import re
import sys

import pytest
from harness.servers import Server
from harness.stages import ROOT
from marks import LINUX_ONLY, needs

sys.path.append(str(ROOT / "benchmarks"))
import computing  # noqa: E402 (where it lies was said just now)
import cost  # noqa: E402
import idle  # noqa: E402
import latency  # noqa: E402
import leaks  # noqa: E402
import report  # noqa: E402

FOLDER = ROOT / "benchmarks/results"
RESULTS = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))


def test_page_and_report_say_what_was_measured():
    assert report.page(RESULTS) == (ROOT / "docs/costs.md").read_text(encoding="utf-8")
    assert report.report(RESULTS) == (FOLDER / "report.md").read_text(encoding="utf-8")


def test_charts_are_of_what_was_measured():
    for name in report.CHARTS:
        for suffix in ("", "-dark"):
            text = (FOLDER / f"{name}{suffix}.svg").read_text(encoding="utf-8")
            assert report.digest(RESULTS) in text


def test_all_that_has_to_hold_held():
    assert not RESULTS["quick"]
    claims = report.claims(RESULTS)
    assert [sentence for sentence, holds in claims if not holds] == []


def test_what_does_not_hold_is_told():
    spoiled = copy.deepcopy(RESULTS)
    spoiled["leaks"]["3g"]["zombies"][-1] = 100
    spoiled["latency"]["3b"]["6"] = 1.0
    spoiled["cost"]["threading"] = spoiled["cost"]["forking"]
    spoiled["peers"]["4c"] = 0.89
    spoiled["computing"]["4e"]["rate"]["ratio"] = 0.99
    told = [sentence for sentence, holds in report.claims(spoiled) if not holds]
    assert [sentence[:6] for sentence in told] == ["3g has", "In 3b ", "A thre", "4c ans", "4e ans"]


def test_its_packages_are_a_dependency_group():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    group = re.search(r"^benchmarks = \[(.*)\]", project, re.MULTILINE)
    packages = re.findall(r', "(\w+)"', group[1])
    assert f"install --quiet {' '.join(packages)} " in report.PAGE


@pytest.mark.slow
def test_other_designs_give_the_stages_answer(start):
    others = [sys.executable, ROOT / "benchmarks/others.py"]
    designs = ["fork", "forking", "http", "loop", "streams", "threading"]
    servers = [start(Server, [*others, design, "{port}"]) for design in designs]
    for server in servers:
        answer = server.ask().wait_for_end()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split(None, 1)[1].startswith(b"200 OK\r\n")
        assert b"Connection: close" in head
        assert body == b"Hello, World!\n"


@needs("cc")
def test_loop_in_c_gives_the_same_answer(start, tmp_path):
    commands = cost.commands(tmp_path)
    ours = start(Server, commands["3g"]).ask().wait_for_end()
    assert start(Server, commands["c"]).ask().wait_for_end() == ours


@pytest.mark.slow
def test_leaks_are_seen():
    steps = []
    looks = leaks.leaks("3d", 100, lambda: steps.append(1))
    assert looks["connections"] == looks["zombies"] == [0, 100]
    assert looks["descriptors"][1] - looks["descriptors"][0] == 100
    assert steps == [1]


def test_wait_behind_slow_clients_is_seen():
    waits = latency.behind_3b(lambda: None, [0, 3])
    assert list(waits) == [0, 3]
    assert all(waits[slow] >= slow * latency.DELAY for slow in waits)


@LINUX_ONLY
def test_idle_clients_are_counted():
    steps = []
    found = idle.of_stage("4b", 100, lambda: steps.append(1))
    assert found["clients"] == [0, 100]
    assert found["threads"] == [1, 101]
    assert found["processes"] == [1, 1]
    assert 0 < found["memory"][0] < found["memory"][1]
    assert None not in found["newcomer"]
    assert len(steps) == 2


def test_handlers_of_the_copies_compute(tmp_path):
    for stage, (_, copy, *_) in computing.commands(tmp_path).items():
        original = (ROOT / f"webserver{stage}.py").read_text(encoding="utf-8").splitlines()
        lines = copy.read_text(encoding="utf-8").splitlines()
        added = [line.strip() for line in lines if line not in original]
        assert added == ["sum(range(200_000))"]
        assert len(lines) == len(original) + 1
