"""Grade a reader's own server: pytest's options for it, and what is printed.

The claims are the tests of a stage, and pytest runs them; this plugin only changes which
server they meet and what is said of it. Two reports come from it: lines for a reader, and
with --results a file of JSON for programs, so that none of them has to parse the lines.
conftest.py loads it. Without --server it only sets the patience.

The file of --results has one JSON object a line:
    {"claims": ["A client gets ...", ...]}                         first: what is graded
    {"claim": "A client gets ...", "outcome": "holds", "remark": []}     then each result,
    {"ungraded": "There is no program ..."}                        or why there is none
outcome is "holds", "fails" or "not tried"; remark is a list of lines.
"""

import collections
import errno
import functools
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess

import pytest
from harness import system
from harness.ports import free_port
from harness.programs import guarded
from harness.servers import Server, StageServer, fill
from harness.stages import DEFAULT_DELAY
from harness.users import NOTHING, READS_ALL, TRACES_ALL, as_user
from harness.waiting import Patience, Unusable, mismatch, wait_until

GRADING = 5  # seconds that a claim about a graded server waits for what has to come
MUCH_OUTPUT = 100_000  # characters; nobody prints so many before listening
STARTING = 5  # seconds that it may take to start at least, as Java's does
GOES_ON = "Seen      (the server ends|the connection is refused)"
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
        help=f"how long to wait for what has to come ({Patience.seconds}; {GRADING} with --server)",
    )
    group.addoption(
        "--claims",
        choices=["all", "behaviour"],
        default="all",
        help="behaviour leaves out what the server has to print (all)",
    )
    group.addoption("--results", metavar="FILE", help="write the results there as lines of JSON")


@pytest.fixture
def server(request):
    """What starts the server of the stage that the test's file is named after."""
    stage = stage_of(request.node)
    grading = grading_of(request.config, stage)
    if grading:
        return functools.partial(GradedServer, grading)
    return functools.partial(StageServer, stage)


def stage_of(item):
    """The stage as which a test grades a server, such as '3d'; None if it grades none.

    The tests of webserver3h.py are for that script alone; 3h's exercise grades any server.
    """
    if item.path.name == "test_wsgi_exercise.py":
        return "3h"
    stage = re.fullmatch(r"test_webserver(\d[a-z])\.py", item.path.name)
    return stage[1] if stage and item.path.parent.name == "tests" else None


def grading_of(config, stage):
    """How to start the server that is graded as a stage; None if none is graded."""
    command = config.getoption("--server")
    if command is None:
        return None
    delay = config.getoption("--server-delay")
    if delay is None and "{delay}" not in command:
        delay = DEFAULT_DELAY.get(stage, 0)
    return Grading(command, config.getoption("--server-port"), delay)


def pytest_configure(config):
    config.addinivalue_line("markers", "depends_on(test): not tried if that test has failed")
    grading = config.getoption("--server") is not None
    Patience.seconds = config.getoption("--patience") or (GRADING if grading else Patience.seconds)
    if grading:
        config.pluginmanager.register(Grader(config))
    elif config.getoption("--server-port") or config.getoption("--server-delay"):
        raise pytest.UsageError("--server-port and --server-delay need --server COMMAND")


def plain(text):
    """A text without what commands a terminal: colours, and other control characters.

    The sequences that start with an escape are those of ECMA-48.
    """
    text = re.sub(r"\r+\n", "\n", text)
    text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-~])", "", text)
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)


class Grader:
    """What differs when a server is graded: which tests run, and what is printed."""

    def __init__(self, config):
        self.config = config
        self.unusable = None
        self.failed = {}  # the tests that did not hold, by name: their claims
        results = config.getoption("--results")
        self.results = open(results, "w", encoding="utf-8") if results else None
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
        for item in items:
            if not (item.function.__doc__ or "").strip():
                raise pytest.UsageError(
                    f"{item.nodeid} has no docstring. Write one: its first sentence is the claim"
                    ' that grading prints, and "Hint: ..." helps where it does not hold.'
                )
        # In the order of the file, whatever plugin has shuffled them: some depend on others.
        items.sort(key=lambda item: item.location[:2])
        if config.getoption("--claims") == "behaviour":
            printed = [item for item in items if item.function.__doc__.startswith(ALSO_ASKED)]
            items[:] = [item for item in items if item not in printed]
            config.hook.pytest_deselected(items=printed)
        self.record(claims=[claim_hint_and_again(item.function)[0] for item in items])

    def record(self, **result):
        """Write a line of results, at once: somebody may be reading it."""
        if self.results:
            self.results.write(json.dumps(result) + "\n")
            self.results.flush()

    def pytest_runtest_setup(self, item):
        """A claim that depends on one that fails would only wait in vain."""
        for mark in item.iter_markers("depends_on"):
            if mark.args[0] in self.failed:
                pytest.skip(f"this fails above: {self.failed[mark.args[0]]}")

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
        self.unusable = plain(str(unusable))
        self.record(ungraded=self.unusable)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        report.claim, hint, again = claim_hint_and_again(item.function)
        report.remark = []
        if report.when == "call" or not report.passed:
            item.user_properties.append(("claim", report.claim))
        if not report.passed:
            self.failed[item.originalname] = report.claim
        if report.skipped:
            report.remark = [f"Not tried: {call.excinfo.value.msg}"]
        elif report.failed:
            self.explain(item, report, call.excinfo.value, hint, again)
        return report

    def explain(self, item, report, error, hint, again):
        """Put into a report what was seen of the server, and what helps."""
        server = GradedServer.last
        if isinstance(error, Unusable):
            self.give_up(item.session, error)
            item.session.shouldfail = "the server cannot be graded"
        report.remark = remark(error)
        if not any(line.startswith("Hint ") for line in report.remark):
            report.remark.append(f"Hint      {better_hint(report.remark, server) or hint}")
        self.expected.update(line for line in report.remark if line.startswith("Expected"))
        if server and not server.running and not server.ended_by_us:
            status = server.popen.poll()
            report.remark.insert(0, f"Ended     the server has ended, with status {status}.")
        if server:
            report.remark += server.last_words(again)
        report.remark = [plain(line) for line in report.remark]
        item.user_properties.append(("remark", "\n".join(report.remark)))

    def pytest_report_teststatus(self, report):
        """No letters: the claims are printed instead."""
        if report.when == "call" or not report.passed:
            return report.outcome, "", ""
        return None

    def pytest_runtest_logreport(self, report):
        if report.passed and report.when != "call" or self.unusable:
            return
        outcome = {"passed": "holds", "failed": "fails", "skipped": "not tried"}[report.outcome]
        self.record(claim=report.claim, outcome=outcome, remark=report.remark)
        first = {"holds": "holds", "fails": "FAILS", "not tried": "-"}[outcome]
        for line in [f"{first:5}  {report.claim}", *(f"       {line}" for line in report.remark)]:
            print_line(self.config, line)

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

    The last is what a client has to type to show the same; '' for curl and the last path.
    """
    text, _, again = test.__doc__.partition("Again: ")
    claim, _, hint = text.partition("Hint: ")
    return [" ".join(part.split()) for part in (claim, hint, again)]


def remark(error):
    """What was seen of the server and what was expected, in lines, without what is pytest's."""
    if isinstance(error, ConnectionRefusedError):
        said = mismatch("the connection is refused: nobody listens any more", "it is accepted")
    elif isinstance(error, OSError):
        said = mismatch(f"the connection fails: {error.strerror or error}", "it does not")
    else:
        said, _, _ = str(error).partition("\nassert ")
    return [line.strip() for line in said.splitlines()]


# What helps better than a claim's own hint: where the remark, and then what the server printed,
# has this in it
HINTS = [
    ("the connection is ended by the server", "", "Close the connection after the answer. After"
     " fork there are two copies, and it ends when both are closed: close the parent's, too."),
    ("children that have ended stay", "", "A child ends when it has answered, and nobody waits for"
     " it here: no wait, no handler of SIGCHLD, no SIG_IGN for it."),
    (GOES_ON, os.strerror(errno.EINTR), "A signal has interrupted a system call (EINTR). Call it"
     " again then, or install the handler with SA_RESTART."),
    (GOES_ON, os.strerror(errno.ECHILD), "No child is left, and wait fails with ECHILD. The handler"
     " has to take that as its end."),
    (GOES_ON, "", "The server has ended, and should go on. What it printed last may say why."),
]  # fmt: skip


def better_hint(lines, server):
    """A hint that what was seen asks for, whichever claim it broke; None without any."""
    for seen, said, hint in HINTS:
        if re.search(seen, "\n".join(lines)) and said in (server.output if server else ""):
            return hint
    return None


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

    @functools.cached_property
    def capabilities(self):
        """What the server's own user needs besides, if root grades: nothing, or to read all.

        That user has to be able to read the files that the command names, the interpreter
        among them. None where root cannot start a program as another user and look at its
        descriptors, as in most containers (capabilities(7)): it is started as root then.
        """
        if os.getuid() != 0 or not system.LINUX:
            return NOTHING  # no other user is taken
        if not system.capable(TRACES_ALL):
            return None
        words = [part for word in self.words() for part in (word, *word.split())]
        files = [shutil.which(word) or word for word in words]
        files = [file for file in files if os.path.exists(file)]
        test = ["sh", "-c", 'for file; do [ -r "$file" ] || exit 1; done', "sh", *files]
        if starts(NOTHING, test):
            return NOTHING
        return READS_ALL if starts(READS_ALL, ["true"]) else None


def starts(capabilities, command):
    """Whether root can run a command as another user with these capabilities, and it succeeds."""
    if shutil.which("setpriv") is None:
        return False
    wrapper = as_user(20000 + free_port(), capabilities)
    return subprocess.run([*wrapper, *command], stderr=subprocess.DEVNULL).returncode == 0


DAEMON = (
    "If it goes into the background, as a daemon does, keep it in the foreground: leave out the"
    " call of daemon() or of fork before the loop, or use its option for that, often -f or -d."
)


class GradedServer(Server):
    """A reader's own server, of which nothing is known but the command that starts it.

    Raises Unusable, with a sentence for its author, if it cannot be graded.
    """

    last = None  # the one that was started last, if it came to listen

    def __init__(self, grading, delay=None, limits=None, processes=None, port=None):
        GradedServer.last = None
        command = grading.words()
        if shutil.which(command[0]) is None:
            raise Unusable(f"There is no program {command[0]!r} that I could start.")
        port = port or grading.port or free_port()
        if system.listening(port):
            raise Unusable(
                f"Port {port} is taken: another program listens on it. End that one,"
                " or write {port} where your command says the port."
            )
        if grading.delay is not None:
            delay = grading.delay
        delay = math.ceil(delay or 0)  # sleep(3) takes whole seconds
        if grading.capabilities is None and processes:
            pytest.skip("the limit on processes does not hold for root. Grade as another user")
        self.asked = "/hello"  # the path that was asked for last
        self.ended_by_us = False
        self.command = grading.command
        by_hand = str(min(delay, 60))  # nobody waits for longer
        self.by_hand = fill(grading.command, {"{port}": "8888", "{delay}": by_hand})
        super().__init__(
            [fill(word, {"{delay}": str(delay)}) for word in command],
            delay=delay,
            port=port,
            processes=None if grading.capabilities is None else processes or 1000,
            capabilities=grading.capabilities,
            limits=limits,
            terminal=True,
        )
        GradedServer.last = self

    @property
    def output(self):
        """What it has printed so far, without colours: they would hide numbers in letters."""
        return plain(super().output)

    def ask(self, path="/hello"):
        self.asked = path
        return super().ask(path)

    def ask_when_idle(self, path="/hello"):
        self.asked = path
        return super().ask_when_idle(path)

    def send_signal(self, number):
        """As Program.send_signal(). An end by a signal of ours is no news to its author."""
        if number in (signal.SIGINT, signal.SIGKILL) and not self.ended_by_us:
            self.ended_by_us, self.before_its_end = True, self.output
        super().send_signal(number)

    def load(self, *options):
        """client3.py, started. A client waits as long as two claims do."""
        return super().load(*options, f"--timeout={2 * Patience.seconds:g}")

    def last_words(self, again):
        """The last that it printed, and how to see the same by hand, in lines."""
        said = self.before_its_end if self.ended_by_us else self.output
        said = said.splitlines()[-5:] or ["nothing"]
        port = 8888 if "{port}" in self.command else self.port
        again = again or f"curl {shlex.quote(f'localhost:8888{self.asked}')}"
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
                if self.popen.wait() == 0:
                    said += f"\n{DAEMON}"
                raise Unusable(
                    f"Your server ended with status {self.popen.wait()} before it listened"
                    f" on port {self.port}. It said:\n{said or 'nothing'}"
                )
            found = system.listening(self.port)
            if found and not super(GradedServer, self).running:
                raise Unusable(f"Your server went into the background. {DAEMON}")
            return found and self._listener(found[0])

        try:
            self.pid = wait_until(listens, "the server listens", max(0, STARTING - Patience.seconds))
        except AssertionError:
            if len(self.output) > MUCH_OUTPUT:
                raise Unusable("The server prints without end.") from None
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
