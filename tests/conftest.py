"""The fixtures. What a test starts with them is gone when the test ends.

Where the system lacks a program, what needs it is skipped, and pytest says so at the end.
"""

import contextlib

import pytest
from library.programs import guarded

pytest_plugins = ["grading.grader", "tutorial.pages"]


def pytest_addoption(parser):
    group = parser.getgroup("webserver3 on this system")
    text = "fail if a test is skipped, because the system lacks a program"
    group.addoption("--nothing-left-out", action="store_true", help=text)


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--nothing-left-out") and "skipped" in reporter.stats:
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session", autouse=True)
def guard():
    """A process sees to it that nothing is left, however the tests end."""
    with guarded():
        yield


@pytest.fixture
def start():
    """start(Program, ...) or start(OwnServer, ...) starts one for the length of a test."""
    with contextlib.ExitStack() as started:

        def start(kind, *arguments, **options):
            program = kind(*arguments, **options)
            started.callback(program.kill)
            return program

        yield start


@pytest.fixture
def serve(start, server):
    """serve(...) starts the server of the stage that the test's file is named after.

    delay is in seconds, LONG for one that the test does not see the end of; limits are
    as for Program, and processes how many it may have, as for user_with_few_processes().
    """
    def serve(delay=None, limits=None, processes=None):
        return start(server, delay=delay, limits=limits, processes=processes)

    return serve
