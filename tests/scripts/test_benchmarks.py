"""The published figures match results.json, and the benchmark runs."""

import copy
import json
import re

import computing
import cost
import idle
import latency
import leaks
import pytest
import report
from harness.servers import Server
from harness.stages import ALL_STAGES, ROOT, script
from harness.waiting import wait_until
from marks import LINUX_ONLY, needs

FOLDER = ROOT / "benchmarks/results"
RESULTS = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))


# What is published


def test_page_matches_the_results():
    assert report.page(RESULTS) == (ROOT / "docs/costs.md").read_text(encoding="utf-8")


def test_report_matches_the_results():
    assert report.report(RESULTS) == (FOLDER / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("suffix", ["", "-dark"])
@pytest.mark.parametrize("name", report.CHARTS)
def test_chart_matches_the_results(name, suffix):
    assert report.digest(RESULTS) in (FOLDER / f"{name}{suffix}.svg").read_text(encoding="utf-8")


def test_results_are_not_quick_ones():
    assert not RESULTS["quick"]


def test_all_claims_hold():
    assert [sentence for sentence, holds in report.claims(RESULTS) if not holds] == []


def test_failing_claims_are_reported():
    spoiled = copy.deepcopy(RESULTS)
    spoiled["leaks"]["3g"]["zombies"][-1] = 100
    spoiled["latency"]["3b"]["6"] = 1.0
    spoiled["cost"]["4b"] = spoiled["cost"]["3g"]
    spoiled["peers"]["4d"] = 0.99
    spoiled["computing"]["4e"]["rate"]["ratio"] = 0.99
    failing = [sentence for sentence, holds in report.claims(spoiled) if not holds]
    assert [sentence[:6] for sentence in failing] == ["3g has", "In 3b ", "A thre", "4d ans", "4e ans"]


def test_load_of_the_machine_is_reported():
    for load, reported in ((0.4, False), (16.5, True)):
        assert ("busy" in report.page({**RESULTS, "machine": "2 processors (X)", "load": load})) == reported


def test_missing_servers_are_reported():
    without = copy.deepcopy(RESULTS)
    without["versions"] = dict.fromkeys(without["versions"])
    without["peers"] = {}
    without["cost"] = {name: found for name, found in without["cost"].items() if name in ALL_STAGES}
    assert "Left out, as not installed: nginx, gunicorn, uvicorn." in report.report(without)
    assert len(report.claims(without)) == len(report.claims(RESULTS)) - 4  # nginx has none


def test_its_packages_are_a_dependency_group():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    group = re.search(r"^benchmarks = \[(.*)\]", project, re.MULTILINE)
    packages = re.findall(r', "(\w+)"', group[1])
    assert f"install --quiet {' '.join(packages)} " in report.PAGE


# The servers


@pytest.mark.slow
def test_other_servers_do_the_stages_work(start, tmp_path):
    """All that are installed: they give the answer, close the connection and log the request."""
    commands = cost.commands(tmp_path)
    names = ["3h", "3i", *cost.PEERS.values(), "nginxes"]
    servers = {name: start(Server, commands[name], cwd=cost.FOLDER) for name in names if name in commands}
    for name, server in servers.items():
        head, _, body = server.ask().wait_for_end().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n"), name
        assert b"connection: close" in head.lower(), name
        assert b"content-type: text/plain; charset=utf-8" in head.lower(), name
        assert body == b"Hello, World!\n", name
        wait_until(lambda server=server: "GET /hello" in server.output, f"{name} logs the request")


@needs("cc")
def test_server_in_c_gives_the_stages_answer(start, tmp_path):
    commands = cost.commands(tmp_path)
    ours = start(Server, commands["3g"]).ask().wait_for_end()
    assert start(Server, commands["c"]).ask().wait_for_end() == ours


def test_copies_compute(tmp_path):
    for stage, (_, copied, *_) in computing.commands(tmp_path).items():
        original = script(stage).splitlines()
        lines = copied.read_text(encoding="utf-8").splitlines()
        assert [line.strip() for line in lines if line not in original] == ["sum(range(200_000))"]
        assert len(lines) == len(original) + 1


# What is measured


@pytest.mark.slow
def test_leaks_are_counted():
    steps = []
    found = leaks.leaks("3d", 100, lambda: steps.append(1))
    assert found["connections"] == found["zombies"] == [0, 100]
    assert found["descriptors"][1] - found["descriptors"][0] == 100
    assert len(steps) == 1


def test_wait_behind_slow_clients_is_timed():
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
