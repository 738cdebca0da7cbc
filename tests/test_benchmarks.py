"""That what is said of the benchmark's results is what it measured, and that it can run."""

import json
import re
import sys

import pytest
from servers import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import cost  # noqa: E402 (where it lies was said just now)
import inside  # noqa: E402
import report  # noqa: E402

FOLDER = ROOT / "benchmarks/results"
RESULTS = json.loads((FOLDER / "results.json").read_text())


def test_readme_and_report_say_what_was_measured():
    assert report.section(RESULTS) in (ROOT / "README.md").read_text()
    assert report.report(RESULTS) == (FOLDER / "report.md").read_text()


def test_chart_of_the_cost_shows_what_was_measured():
    chart = (FOLDER / "cost.svg").read_text()
    for found in cost.summary(RESULTS["cost"]).values():
        assert f">{found['rate']['median']:,.0f} (" in chart


def test_all_that_has_to_hold_held():
    assert not RESULTS["quick"]
    claims = report.claims(RESULTS)
    assert [sentence for sentence, holds in claims if not holds] == []


def test_its_packages_are_a_dependency_group():
    project = (ROOT / "pyproject.toml").read_text()
    group = re.search(r"^benchmarks = \[(.*)\]", project, re.MULTILINE)
    packages = re.findall(r', "(\w+)"', group[1])
    assert f"install --quiet {' '.join(packages)} " in report.COMMAND


@pytest.mark.parametrize("design", ["fork", "forking", "http", "streams", "threading"])
def test_other_design_gives_the_same_answer(start, design):
    server = start(cost.Contestant, [*cost.OTHERS, design, "{port}"])
    answer = server.ask().wait_for_end()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(None, 1)[1].startswith(b"200 OK\r\n")
    assert b"Connection: close" in head
    assert body == b"Hello, World!\n"


def test_variants_of_3g_can_be_made_and_serve(start, tmp_path):
    commands = inside.variants(tmp_path)
    assert len(commands) == len(inside.VARIANTS) + 2
    for command in commands.values():
        answer = start(cost.Contestant, command).ask().wait_for_end()
        assert answer.endswith(b"\r\n\r\nHello, World!\n")
