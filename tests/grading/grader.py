"""Grade a reader's own server: pytest's options for that, and the report.

The claims are a stage's tests, and pytest runs them; this plugin only swaps the server under test and the
report: lines for a reader, and with --results a file for programs (see results.py). conftest.py loads it.
Without --server it only sets the patience.
"""

import collections
import functools
import json
import os
import pathlib
import re
import tempfile

import pytest
from grading.graded import GradedServer, Grading
from grading.verdicts import claim_of, explain, plain
from harness.programs import guarded
from harness.servers import StageServer
from harness.stages import DEFAULT_DELAY
from harness.waiting import Patience, Unusable

GRADING = 5  # seconds that a claim waits for a graded server
ABOVE = "this fails above: "
ALSO_ASKED = "Also asked: "  # starts the claims about what a server prints


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
        metavar="SECONDS",
        help=f"how long a claim waits for what it expects ({Patience.seconds}; {GRADING} with --server)",
    )
    group.addoption(
        "--claims",
        choices=["all", "behaviour"],
        default="all",
        help="behaviour leaves out what the server has to print (all)",
    )
    group.addoption("--results", metavar="FILE", help="write the results there as lines of JSON")


def pytest_configure(config):
    config.addinivalue_line("markers", "depends_on(test): not tried if that test has failed")
    grading = config.getoption("--server") is not None
    Patience.seconds = config.getoption("--patience") or (GRADING if grading else Patience.seconds)
    if grading:
        config.pluginmanager.register(Grader(config))
    elif config.getoption("--server-port") or config.getoption("--server-delay"):
        raise pytest.UsageError("--server-port and --server-delay need --server COMMAND")


@pytest.fixture
def server(request):
    """What starts the server under test: a reader's own, or the script of the test's stage."""
    stage = stage_of(request.node)
    if request.config.getoption("--server") is None:
        return functools.partial(StageServer, stage)
    return functools.partial(GradedServer, grading_of(request.config, stage))


@pytest.fixture
def shared_folder():
    """A folder in which the server may leave files, even as another user than ours."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield pathlib.Path(name)


def stage_of(item):
    """The stage that a test grades, such as '3d'; None if it grades none: it lies in a folder of tests/."""
    stage = re.search(r"/tests/test_webserver(\d[a-z])\.py$", item.path.as_posix())
    return stage and stage[1]


def grading_of(config, stage):
    """How to start the server that is graded as a stage."""
    command, delay = config.getoption("--server"), config.getoption("--server-delay")
    if delay is None and "{delay}" not in command:
        delay = DEFAULT_DELAY.get(stage, 0)
    return Grading(command, config.getoption("--server-port"), delay, stage)


class Grader:
    """What differs when a server is graded: which tests run, and what is printed."""

    def __init__(self, config):
        self.config = config
        self.unusable = None  # why the server can't be graded
        self.reasons = set()  # why claims were not tried
        self.failed = {}  # from the names of tests that failed to their claims
        self.unmet = collections.Counter()  # how often each expectation failed
        results = config.getoption("--results")
        self.results = open(results, "w", encoding="utf-8") if results else None
        config.option.tbstyle = "no"
        config.option.reportchars = "N"
        config.option.no_header = True
        config.option.verbose = -1

    def pytest_collection_modifyitems(self, config, items):
        """Keep the claims, in the order of their file: some depend on others, and a plugin may have shuffled them."""
        claims = sorted(filter(stage_of, items), key=lambda item: item.location[:2])
        if items and not claims:
            raise pytest.UsageError(
                "--server grades with tests/test_webserver3a.py to 4e. The other tests are for our own scripts."
            )
        for item in claims:
            if not (item.function.__doc__ or "").strip():
                raise pytest.UsageError(
                    f"{item.nodeid} has no docstring. Write one: its first sentence is the claim"
                    ' that grading prints, and "Hint: ..." helps where it does not hold.'
                )
        if config.getoption("--claims") == "behaviour":
            claims = [item for item in claims if not item.function.__doc__.startswith(ALSO_ASKED)]
        config.hook.pytest_deselected(items=[item for item in items if item not in claims])
        items[:] = claims
        self.record(claims=[claim_of(item.function).text for item in claims])

    def record(self, **result):
        """Write a line of results, at once: somebody may be reading it."""
        if self.results:
            self.results.write(json.dumps(result) + "\n")
            self.results.flush()

    def pytest_runtestloop(self, session):
        """Start the server once, to say once what is wrong if that does not work."""
        # For JUnit's report a test has to fail: there it is the first.
        if session.items and not self.config.option.xmlpath:
            try:
                with guarded():
                    GradedServer(grading_of(self.config, stage_of(session.items[0]))).kill()
            except Unusable as unusable:
                self.give_up(session, unusable)
                return True
        return None

    def give_up(self, session, unusable):
        """The server can't be graded: that is the only result."""
        session.testsfailed = max(session.testsfailed, 1)
        self.unusable = plain(str(unusable))
        self.record(ungraded=self.unusable)

    def pytest_runtest_setup(self, item):
        """A claim that depends on one that fails would only wait in vain."""
        for mark in item.iter_markers("depends_on"):
            if mark.args[0] in self.failed:
                pytest.skip(f"{ABOVE}{self.failed[mark.args[0]]}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        claim = claim_of(item.function)
        report.claim, report.remark = claim.text, []
        if report.when == "call" or not report.passed:
            item.user_properties.append(("claim", claim.text))
        if not report.passed:
            self.failed[item.originalname] = claim.text
        if report.skipped:
            report.remark = [f"Not tried: {self.once(call.excinfo.value.msg)}"]
        elif report.failed:
            report.remark = explain(call.excinfo.value, claim, GradedServer.last)
            item.user_properties.append(("remark", "\n".join(report.remark)))
            if isinstance(call.excinfo.value, Unusable):
                self.give_up(item.session, call.excinfo.value)
                item.session.shouldfail = "the server cannot be graded"
        return report

    def once(self, reason):
        """A reason; if it was given before, that it is the same. Not one that names a claim: there are several."""
        if reason in self.reasons:
            return "for the same reason."
        if not reason.startswith(ABOVE):
            self.reasons.add(reason)
        return reason

    def pytest_report_teststatus(self, report):
        """No letters: the claims are printed instead."""
        if report.when == "call" or not report.passed:
            return report.outcome, "", ""
        return None

    def pytest_runtest_logreport(self, report):
        if report.passed and report.when != "call" or self.unusable:
            return
        self.unmet.update(line for line in report.remark if line.startswith("Expected"))
        word, outcome = {
            "passed": ("holds", "holds"),
            "failed": ("FAILS", "fails"),
            "skipped": ("-", "not tried"),
        }[report.outcome]
        self.record(claim=report.claim, outcome=outcome, remark=report.remark)
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        terminal.ensure_newline()
        terminal.write_line(f"{word:5}  {report.claim}")
        for line in report.remark:
            terminal.write_line(f"       {line}")

    def pytest_terminal_summary(self, terminalreporter):
        if self.unusable:
            terminalreporter.write_line(self.unusable)
        for line, count in self.unmet.items():
            if count > 2:
                what = line.partition(" ")[2].strip()
                terminalreporter.write_line(f"Probably one fault: {count} claims fail because this is not so: {what}")
