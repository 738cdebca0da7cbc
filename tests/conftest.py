"""The fixtures. What a test starts with them is gone when the test ends.

Where the system lacks a program, what needs it is skipped, and pytest says so at the end.
"""

import contextlib
import functools
import resource

import pytest
from library.programs import guarded
from library.servers import StageServer

pytest_plugins = ["grading.grader"]
AT_ONCE = 6  # tests mostly wait
DESCRIPTORS = 1024


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """The whole suite runs several tests at once, if pytest-xdist is installed."""
    worker = hasattr(config, "workerinput")  # itself started by pytest-xdist
    whole = config.args_source == config.ArgsSource.TESTPATHS
    if whole and not worker and config.getoption("numprocesses", 0) is None:
        config.option.numprocesses = AT_ONCE
        config.option.maxschedchunk = 1


def pytest_sessionstart():
    """The tests, and the servers that inherit the limit, have hundreds of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS:
        if hard < DESCRIPTORS:
            raise pytest.UsageError(f"The tests need {DESCRIPTORS} descriptors (ulimit -n), not {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))


def pytest_addoption(parser):
    group = parser.getgroup("webserver3 on this system")
    text = "fail if a test is skipped, because the system lacks a program"
    group.addoption("--nothing-left-out", action="store_true", help=text)


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    lacking = [why for why in skipped if " is behind " not in why]  # a translation may be
    if session.config.getoption("--nothing-left-out") and lacking:
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items):
    """What waits longest comes first, or all would wait for it at the end."""
    first = ["test_tutorial.py", "test_practise3.py", "test_grading.py", "test_webserver3d.py"]
    items.sort(key=lambda item: item.path.name not in first)


@pytest.fixture(scope="session", autouse=True)
def guard():
    """A process sees to it that nothing is left, however the tests end."""
    with guarded():
        yield


@pytest.fixture
def start():
    """start(Program, ...) or start(StageServer, ...) starts one for the length of a test."""
    with contextlib.ExitStack() as started:

        def start(kind, *arguments, **options):
            program = kind(*arguments, **options)
            started.callback(program.kill)
            return program

        yield start


@pytest.fixture
def serve(start, server, request):
    """serve(stage, option, ...) starts the server of a stage, with further options.

    Without a stage it is the one that the test's file is named after, or the reader's own
    that is graded. delay is in seconds, LONG for one that the test does not see the end of;
    all else is as for Server and Program.
    """
    def serve(stage=None, *options, delay=0, **program_options):
        kind = functools.partial(StageServer, stage, *options) if stage else server
        return start(kind, delay=delay, **program_options)

    return serve
