"""What is left out where the system lacks a program, said in a line for each reason.

A plugin of pytest, loaded by conftest.py.
"""

import collections

import pytest


def pytest_addoption(parser):
    group = parser.getgroup("webserver3 on this system")
    group.addoption(
        "--nothing-left-out",
        action="store_true",
        help="fail if something is left out, because the system lacks a program",
    )


def left_out(reports):
    """What was left out: a dict from the reason to how many there are of each kind."""
    found = collections.defaultdict(collections.Counter)
    for report in reports:
        if report.skipped:
            found[report.longrepr[2].replace("Skipped: ", "")]["test"] += 1
        for name, value in report.user_properties if report.when == "call" else ():
            if name == "left out":
                kind, reason = value
                found[reason][kind] += 1
    return found


def pytest_sessionfinish(session):
    """--nothing-left-out makes what is left out a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    reports = [report for found in reporter.stats.values() for report in found]
    reports = [report for report in reports if isinstance(report, pytest.TestReport)]
    reporter.left_out = left_out(reports)
    if reporter.left_out and session.config.getoption("--nothing-left-out"):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    for reason, counts in sorted(terminalreporter.left_out.items()):
        what = ", ".join(counted(kind, count) for kind, count in counts.items())
        terminalreporter.write_line(f"Left out, because {reason}: {what}.")


def counted(kind, count):
    """How many of a kind, in words: of a 'section of a page' 2 are '2 sections of a page'."""
    first, space, rest = kind.partition(" ")
    return f"{count} {first}{'s' * (count > 1)}{space}{rest}"
