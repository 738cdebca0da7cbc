"""How a reader's own server is graded: pytest's options for it, and what is printed.

A plugin of pytest, loaded by conftest.py. Without --server it only sets the patience.
"""

import collections
import errno
import functools
import math
import os
import re
import shlex
import shutil
import subprocess

import pytest
from library import system
from library.programs import Patience, Unusable, guarded, mismatch, wait_until
from library.servers import ARTICLES_DELAY, NOTHING, READS_ALL, StageServer, Server, fill
from library.servers import free_port, user_with_few_processes


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
def server(request):
    """What starts the server of the stage that the test's file is named after."""
    stage = stage_of(request.node)
    grading = grading_of(request.config, stage)
    if grading:
        return functools.partial(GradedServer, grading)
    return functools.partial(StageServer, stage)


def stage_of(item):
    """The stage as which a server is graded by a test, such as '3d'; None if by none.

    3h's own tests are for our 3h alone; its exercise is for anybody's.
    """
    found = re.fullmatch(r"test_(?:webserver(3[a-g]|4[a-e])|wsgi_exercise)", item.module.__name__)
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
        Patience.hopeless = Patience.seconds / 4
        config.pluginmanager.register(Grader(config))
    elif config.getoption("--server-port") or config.getoption("--server-delay"):
        raise pytest.UsageError("--server-port and --server-delay need --server COMMAND")


CURL = "curl localhost:8888/hello"


class Grader:
    """What differs when a server is graded: which tests run, and what is printed."""

    def __init__(self, config):
        self.config = config
        self.unusable = None
        self.expected = collections.Counter()  # how often each was, and did not come
        config.option.tbstyle = "no"
        config.option.reportchars = "N"
        config.option.no_header = True
        config.option.verbose = -1

    def pytest_collection_modifyitems(self, config, items):
        """Conventions of our own scripts are nobody else's."""
        others = [item for item in items if stage_of(item) is None]
        items[:] = [item for item in items if stage_of(item) is not None]
        config.hook.pytest_deselected(items=others)
        if others and not items:
            raise pytest.UsageError(
                "--server grades with tests/test_webserver3a.py to 4e, or with"
                " tests/scripts/test_wsgi_exercise.py. The other tests are for our own scripts."
            )

    def pytest_runtestloop(self, session):
        """Start the server once, to say once what is wrong if that does not work."""
        # For JUnit's report a test has to fail: there it is the first.
        if session.items and not self.config.option.xmlpath:
            try:
                grading = grading_of(self.config, stage_of(session.items[0]))
                with guarded():
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
        report.claim, hint, again = claim_hint_and_again(item.function)
        if report.when == "call" or report.failed:
            item.user_properties.append(("claim", report.claim))
        if report.failed:
            error = call.excinfo.value
            if isinstance(error, Unusable):
                self.give_up(item.session, error)
                item.session.shouldfail = "the server cannot be graded"
            report.remark = [*remark(error), f"Hint      {hint}"]
            self.expected.update(line for line in report.remark if line.startswith("Expected"))
            if GradedServer.last and not GradedServer.last.running:
                status = GradedServer.last.popen.poll()
                report.remark.insert(0, f"Ended     the server has ended, with status {status}.")
            item.user_properties.append(("remark", "\n".join(report.remark)))
            if GradedServer.last:
                report.remark += GradedServer.last.last_words(again)
        return report

    def pytest_report_teststatus(self, report):
        """No letters: the claims are printed instead."""
        if report.when == "call" or report.failed:
            return report.outcome, "", ""
        return None

    def pytest_runtest_logreport(self, report):
        if report.failed and self.unusable is None:
            print_line(self.config, f"FAILS  {report.claim}")
            for line in report.remark:
                print_line(self.config, f"       {line}")
        elif report.passed and report.when == "call":
            print_line(self.config, f"holds  {report.claim}")

    def pytest_terminal_summary(self, terminalreporter):
        if self.unusable:
            terminalreporter.write_line(self.unusable)
        for line, count in self.expected.items():
            if count > 2:
                what = " ".join(line.split()[1:])
                terminalreporter.write_line(
                    f"Probably one fault: {count} claims fail because this is not so: {what}"
                )


def print_line(config, line):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reporter.ensure_newline()
    reporter.write_line(line)


def claim_hint_and_again(test):
    """The parts of a stage test's docstring, each on one line.

    The last is what a client has to type to show the same; curl, if it is left out.
    """
    text, _, again = test.__doc__.partition("Again: ")
    claim, _, hint = text.partition("Hint: ")
    return [" ".join(part.split()) for part in (claim, hint, again or CURL)]


def remark(error):
    """What was seen of the server and what was expected, in lines, without what is pytest's."""
    if isinstance(error, ConnectionRefusedError):
        said = mismatch("the connection is refused: nobody listens any more", "it is accepted")
    elif isinstance(error, OSError):
        said = mismatch(f"the connection fails: {error.strerror or error}", "it does not")
    else:
        said, _, _ = str(error).partition("\nassert ")
    return [line.strip() for line in said.splitlines()]


class Grading:
    """How to start the server that is graded, as the command line says it.

    port is None where it is left open, delay where the stage's test chooses.
    Raises Unusable if the command cannot be split into words.
    """

    def __init__(self, command, port, delay):
        self.command = command
        self.port = None if self.takes("{port}") else port or 8888
        self.delay = delay
        self.words()

    def takes(self, name):
        return name in self.command

    def words(self):
        """The command's words, as a shell would split it."""
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise Unusable(f"The command {self.command!r} cannot be split: {error}.")
        if not words:
            raise Unusable("The command of --server is empty.")
        if words[0] == "cd" or {"&&", "||", ";", "|", ">"} & set(words):
            raise Unusable(
                "No shell runs the command. Where it needs one, as for cd and &&, write"
                f" sh -c {shlex.quote(self.command)}"
            )
        return words

    def capabilities(self):
        """The capability without which the command cannot be started, if there is one.

        Its user has to be able to read the files that it names, the interpreter among them.
        """
        words = [part for word in self.words() for part in (word, *word.split())]
        files = [shutil.which(word) or word for word in words]
        test = ["sh", "-c", 'for file; do [ -r "$file" ] || exit 1; done', "sh"]
        test += [file for file in files if os.path.exists(file)]
        readable = subprocess.run([*user_with_few_processes(1000, NOTHING)["wrapper"], *test])
        return NOTHING if readable.returncode == 0 else READS_ALL


class GradedServer(Server):
    """A reader's own server, of which nothing is known but the command that starts it.

    Raises Unusable, with a sentence for its author, if it cannot be graded.
    """

    last = None  # the one that was started last, if it came to listen

    def __init__(self, grading, delay=None, limits=None, processes=None):
        GradedServer.last = None
        command = grading.words()
        if shutil.which(command[0]) is None:
            raise Unusable(f"There is no program {command[0]!r} that I could start.")
        port = grading.port or free_port()
        if system.listening(port):
            raise Unusable(
                f"Port {port} is taken: another program listens on it. End that one,"
                " or write {port} where your command says the port."
            )
        if grading.delay is not None:
            delay = grading.delay
        delay = math.ceil(delay or 0)  # sleep(3) takes whole seconds
        self.command = grading.command
        self.by_hand = fill(grading.command, {"{port}": "8888", "{delay}": str(delay)})
        super().__init__(
            [fill(word, {"{delay}": str(delay)}) for word in command],
            delay=delay,
            port=port,
            processes=processes or 1000,
            capabilities=grading.capabilities(),
            limits=limits,
            terminal=True,
        )
        GradedServer.last = self

    def last_words(self, again):
        """The last that it printed, and how to see the same by hand, in lines."""
        said = self.output.splitlines()[-5:] or ["nothing"]
        port = 8888 if "{port}" in self.command else self.port
        again = again.replace("8888", str(port))
        return [
            *(f"{'Said' if n == 0 else '':10}{line}" for n, line in enumerate(said)),
            f"Again     {self.by_hand}",
            f"          and in another terminal: {again}",
        ]

    def wait_until_listening(self):
        """Wait until one of its processes listens on the port, without connecting to it.

        A connection would be served, and cost a server that sleeps a delay.
        """

        def listens():
            if self.popen.poll() is not None and not self.processes():
                said = self.output.strip()
                if os.strerror(errno.EADDRINUSE) in said:
                    said += "\nDoes it set SO_REUSEADDR before it calls bind?"
                raise Unusable(
                    f"Your server ended with status {self.popen.wait()} before it listened"
                    f" on port {self.port}. It said:\n{said or 'nothing'}"
                )
            found = system.listening(self.port)
            return found and self._listener(found[0])

        try:
            self.pid = wait_until(listens, "the server listens")
        except AssertionError:
            raise Unusable(
                f"Your server runs, but does not listen on port {self.port}. Write {{port}}"
                " where your command says the port, or pass --server-port."
            ) from None
        if not system.reachable(self.port):
            raise Unusable(
                f"Your server listens on port {self.port}, but not on 127.0.0.1, where its"
                " clients come. Bind it to 127.0.0.1, or to all addresses."
            )

    def _listener(self, listen_socket):
        """The PID of the process that has the socket, and of the parent if several do."""
        if not listen_socket:
            return self.popen.pid
        holders = {
            process.pid: process.parent
            for process in self.processes()
            if listen_socket in system.descriptors(process.pid).values()
        }
        return next((pid for pid in holders if holders[pid] not in holders), None)

    @property
    def running(self):
        """Whether the process that listened has not ended."""
        if self.pid == self.popen.pid:
            return super().running
        return any(p.pid == self.pid for p in self.processes())

    def wait(self, allow=0):
        """As Program.wait(). Where its command started it by a shell: the shell's status."""
        wait_until(lambda: not self.running, "the server ends", allow)
        wait_until(lambda: self.popen.poll() is not None, "its command ends")
        return self.popen.returncode
