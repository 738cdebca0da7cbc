"""The fixtures, and what a run of all the tests needs of the system. What a test starts is gone when it ends.

Tests that need a missing program are skipped; pytest lists them at the end.
"""

import contextlib
import functools
import resource
import sys

import pytest
from harness.programs import guarded
from harness.servers import StageServer
from harness.waiting import Impossible

pytest_plugins = ["grading.grader"]
AT_ONCE = 4  # tests mostly wait, but each worker collects all of them
DESCRIPTORS = 1024


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run several tests of the whole suite at once, if pytest-xdist is installed."""
    worker = hasattr(config, "workerinput")  # itself started by pytest-xdist
    whole = config.args_source == config.ArgsSource.TESTPATHS
    # Its workers decode their import path as ASCII or UTF-8, whatever the locale.
    readable = str(config.rootpath).isascii() or sys.getfilesystemencoding() == "utf-8"
    if whole and readable and not worker and config.getoption("numprocesses", 0) is None:
        config.option.numprocesses = AT_ONCE
        config.option.maxschedchunk = 1


def pytest_sessionstart():
    """Raise the soft descriptor limit, which servers inherit: some tests open hundreds of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS:
        if hard < DESCRIPTORS:
            raise pytest.UsageError(f"The tests need {DESCRIPTORS} descriptors (ulimit -n), not {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))


def pytest_addoption(parser):
    group = parser.getgroup("webserver3 on this system")
    text = "fail if a test is skipped that is not marked may_be_skipped"
    group.addoption("--nothing-left-out", action="store_true", help=text)


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    left_out = [report for report in reporter.stats.get("skipped", []) if "may_be_skipped" not in report.keywords]
    if session.config.getoption("--nothing-left-out") and left_out:
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items):
    """Run the slowest files first so the last worker isn't left waiting."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup():
    """Skip a test whose fixture finds that this system can't run it."""
    with skip_if_impossible():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """The same for the test itself."""
    with skip_if_impossible():
        return (yield)


@contextlib.contextmanager
def skip_if_impossible():
    try:
        yield
    except Impossible as impossible:
        pytest.skip(str(impossible))


@pytest.fixture(scope="session", autouse=True)
def guard():
    """A watchdog process kills leftovers, even if pytest itself is killed."""
    with guarded():
        yield


@pytest.fixture
def start():
    """start(Program, ...) or start(StageServer, ...) starts one that ends with the test."""
    with contextlib.ExitStack() as started:

        def start(kind, *arguments, **options):
            program = kind(*arguments, **options)
            started.callback(program.kill)
            return program

        yield start


@pytest.fixture
def serve(start, server, request):
    """serve(stage, option, ...) starts the server of a stage, with further options.

    `stage` defaults to the one in the test file's name, or to the server being graded. delay is in seconds, LONG
    outlasts every test. Other keyword arguments go to Server and Program.
    """

    def serve(stage=None, *options, delay=0, **program_options):
        kind = functools.partial(StageServer, stage, *options) if stage else server
        return start(kind, delay=delay, **program_options)

    return serve
