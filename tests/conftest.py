"""The fixtures, and how a reader's own server is graded (--server).

What a test starts with the fixtures is gone when the test ends.
"""

import contextlib
import re

import pytest
from library.programs import Patience, Unusable, guard, saw
from library.servers import ARTICLES_DELAY, GradedServer, Grading, OwnServer
from library.servers import user_with_few_processes


def pytest_addoption(parser):
    group = parser.getgroup("webserver3", "grade a server of your own")
    group.addoption(
        "--server",
        metavar="COMMAND",
        help="the command that starts it; {port} and {delay} are filled in",
    )
    group.addoption(
        "--server-port",
        type=int,
        metavar="N",
        help="where it listens if its command does not take {port} (8888)",
    )
    group.addoption(
        "--server-delay",
        type=float,
        metavar="SECONDS",
        help="how long it sleeps if its command does not take {delay} (the article's)",
    )
    group.addoption(
        "--patience",
        type=float,
        default=Patience.seconds,
        metavar="SECONDS",
        help="how long to wait for what has to come (%(default)s)",
    )


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
def serve(request, start):
    """serve(...) starts the server of the stage that the test's file is named after.

    delay is in seconds, LONG for one that the test does not see the end of; limits are
    as for Program, and processes how many it may have, as for user_with_few_processes().
    """
    stage = stage_of(request.node)
    grading = grading_of(request.config, stage)

    def serve(delay=None, limits=None, processes=None):
        how = {"limits": limits or {}}
        if processes is not None:
            few = user_with_few_processes(processes)
            how["wrapper"] = few["wrapper"]
            how["limits"] = {**few["limits"], **how["limits"]}
        if grading:
            return start(GradedServer, grading, delay=delay, **how)
        return start(OwnServer, stage, delay=delay, **how)

    return serve


def stage_of(item):
    """The stage as which a server is graded by a test, such as '3d'; None if by none.

    3h's own tests are for our 3h alone; its exercise is for anybody's.
    """
    found = re.fullmatch(r"test_(?:webserver(3[a-g])|wsgi_exercise)", item.module.__name__)
    return found and (found[1] or "3h")


def grading_of(config, stage):
    """How to start the server that is graded as a stage; None if none is graded."""
    command = config.getoption("--server")
    if command is None:
        return None
    delay = config.getoption("--server-delay")
    if delay is None and "{delay}" not in command:
        delay = ARTICLES_DELAY.get(stage, 0)
    return Grading(command, config.getoption("--server-port"), delay)


def pytest_configure(config):
    Patience.seconds = config.getoption("--patience")
    if config.getoption("--server") is not None:
        config.pluginmanager.register(Grader(config))
    elif config.getoption("--server-port") or config.getoption("--server-delay"):
        raise pytest.UsageError("--server-port and --server-delay need --server COMMAND")


def pytest_unconfigure():
    guard.dismiss()


class Grader:
    """What differs when a server is graded: which tests run, and what is printed."""

    def __init__(self, config):
        self.config = config
        self.unusable = None
        config.option.tbstyle = "no"
        config.option.reportchars = "N"
        config.option.no_header = True
        config.option.verbose = -1

    def pytest_collection_modifyitems(self, config, items):
        """Conventions of our own scripts are nobody else's."""
        others = [item for item in items if stage_of(item) is None]
        items[:] = [item for item in items if stage_of(item) is not None]
        config.hook.pytest_deselected(items=others)

    def pytest_runtestloop(self, session):
        """Start the server once, to say once what is wrong if that does not work."""
        if session.items:
            try:
                grading = grading_of(self.config, stage_of(session.items[0]))
                GradedServer(grading).kill()
            except Unusable as unusable:
                self.give_up(session, unusable)
                return True
        return None

    def give_up(self, session, unusable):
        session.testsfailed = max(session.testsfailed, 1)
        self.unusable = str(unusable)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        report.claim, report.hint = claim_and_hint(item.function)
        if report.failed:
            error = call.excinfo.value
            if isinstance(error, Unusable):
                self.give_up(item.session, error)
                item.session.shouldfail = "the server cannot be graded"
            report.remark = remark(error)
        return report

    def pytest_report_teststatus(self, report):
        """No letters: the claims are printed instead."""
        if report.when == "call" or report.failed:
            return report.outcome, "", ""
        return None

    def pytest_runtest_logreport(self, report):
        if report.failed and self.unusable is None:
            print_line(self.config, f"FAILS  {report.claim}")
            for line in [*report.remark.splitlines(), f"Hint      {report.hint}"]:
                print_line(self.config, f"       {line}")
        elif report.passed and report.when == "call":
            print_line(self.config, f"holds  {report.claim}")

    def pytest_terminal_summary(self, terminalreporter):
        if self.unusable:
            terminalreporter.write_line(self.unusable)


def print_line(config, line):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reporter.ensure_newline()
    reporter.write_line(line)


def claim_and_hint(test):
    """The two parts of a stage test's docstring, each on one line."""
    claim, _, hint = test.__doc__.partition("Hint: ")
    return " ".join(claim.split()), " ".join(hint.split())


def remark(error):
    """What was seen of the server and what was expected, without what is pytest's."""
    if isinstance(error, ConnectionRefusedError):
        return saw("the connection is refused: nobody listens any more", "it is accepted")
    if isinstance(error, OSError):
        return saw(f"the connection fails: {error.strerror or error}", "it does not")
    said, _, _ = str(error).partition("\nassert ")
    return "\n".join(line.strip() for line in said.splitlines())
