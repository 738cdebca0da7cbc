"""*Again* shows the fault: what is typed as it says tells a mutant from the right script.

It takes minutes: .venv/bin/pytest -n 8 -m slow tests/grading/test_again.py
"""

import contextlib
import itertools
import os
import re
import shlex
import sys
import time
from collections import Counter

import pytest
from grading.claims import FAILS, claims_of
from grading.graded import GradedServer
from grading.mutants import MUTANTS
from grading.verdicts import claim_of
from harness import system
from harness.ports import free_port
from harness.programs import Program
from harness.stages import DEFAULT_DELAY, ROOT, script_path
from harness.users import READS_ALL, as_user, unused_user
from harness.waiting import Unusable, wait_until
from marks import needs

QUIET = 6  # seconds after which nothing more is expected of what was typed: longer than what it sleeps
PROMPT = "$"  # what a terminal shows when its command has ended
MORE = r", (?:and )?(?:then )?in one more[^:]*: "  # the text between the commands of two terminals


def first_of_each_claim():
    """A mutant for each claim that one breaks."""
    found = {}
    for mutant in MUTANTS:
        if mutant.claim:
            found.setdefault((mutant.stage, mutant.claim), mutant)
    return list(found.values())


# Typed as another user where the tests run as root, who has no limit on processes.
NOT_BY_ROOT = "500 connections kill it in fork, when its user may have 400 processes."


@pytest.mark.slow
@needs("pgrep")
@needs("curl")
@pytest.mark.parametrize("mutant", first_of_each_claim(), ids=str)
def test_again_shows_the_fault(mutant, call, tmp_path):
    user = as_user(unused_user(), READS_ALL) if mutant.claim == NOT_BY_ROOT and os.getuid() == 0 else []
    script = {name: tmp_path / name / script_path(mutant.stage).name for name in ("wrong", "right")}
    for name, text in (("wrong", mutant.text()), ("right", script_path(mutant.stage).read_text(encoding="utf-8"))):
        script[name].parent.mkdir()  # watch3.py cuts off long paths: these have one length
        script[name].write_text(text, encoding="utf-8")
    test = claims_of(mutant.stage)[mutant.claim]
    with pytest.raises(FAILS):
        call(test, script["wrong"], mutant.stage in DEFAULT_DELAY)
    commands = GradedServer.last.typed(claim_of(test).again)
    wrong = typed(tmp_path, user, *commands)
    commands = [command.replace(str(script["wrong"]), str(script["right"])) for command in commands]
    right = [typed(tmp_path, user, *commands) for again in range(2)]
    assert differences(wrong, right), "\n".join([*commands, *wrong])


def differences(wrong, right):
    """The lines that the wrong server shows more often, or less often, than any run of the right one."""
    counts = [Counter(lines) for lines in right]
    return [
        line
        for line in {*wrong, *itertools.chain(*right)}
        if not min(count[line] for count in counts) <= wrong.count(line) <= max(count[line] for count in counts)
    ]


def typed(folder, user, server, client):
    """Type the server's command in one terminal and the client's in others. Returns what is seen then, in lines.

    `user` is what runs a command as another user, such as setpriv and its options, or nothing.
    """
    port, terminals = free_port(), []
    with contextlib.ExitStack() as started:

        def terminal(command):
            command = re.sub(
                r"(?<!/)\.venv/bin/python", shlex.quote(sys.executable), command.replace("8888", str(port))
            )
            command = re.sub(r"(client3|watch3)\.py", rf"\g<0> --port {port}", command)
            file = folder / f"typed-{port}-{len(terminals)}"
            # The shell stays, or its end would be that of its server's children.
            file.write_text(f"cd {shlex.quote(str(ROOT))}\n{command}\necho '{PROMPT}'\nread\n", encoding="utf-8")
            terminals.append(Program([*user, "bash", file], terminal=True, keyboard=True))
            started.callback(terminals[-1].kill)

        terminal(server)
        wait_until(lambda: system.listening(port), "it listens", 20, lambda: terminals[0].output)
        clients = re.split(MORE, client)
        for number, command in enumerate(clients, 1):
            terminal(command)
            wait_until_quiet(terminals, 1 if number < len(clients) else QUIET)
        return [f"{number} {line}" for number, each in enumerate(terminals) for line in sorted(comparable(each.output))]


def wait_until_quiet(terminals, seconds):
    """Wait until nothing has been printed for some time, or the client's command has ended; 30 seconds at the most."""
    last = [None, 0]

    def quiet():
        now = [each.output for each in terminals]
        if now != last[0]:
            last[:] = now, time.monotonic()
        ended = PROMPT in terminals[-1].output.splitlines()
        return time.monotonic() - last[1] > (min(1, seconds) if ended else seconds)

    with contextlib.suppress(Unusable, AssertionError):  # a mutant may print without end
        wait_until(quiet, "nothing more is printed", 25)


def comparable(output):
    """Lines without what differs from run to run: ports, PIDs, times, temporary names, client3.py's progress.

    Real time is in seconds, and there are no numbers of lines. A number of bytes stays: it may be all that shows
    the fault.
    """
    for line in output.splitlines():
        if not re.match(r"user|sys|port \d+ of|\d+ answered$", line):
            line = re.sub(r"(\d+)m(\d+\.\d+)s", lambda found: f"{found[1]}m{round(float(found[2]))}s", line)
            line = re.sub(r", line \d+|\btmp\w{8}$", "N", line)
            yield re.sub(r"(?<!\d)\d{3,}(?!\d| bytes)|/\S*/", "N", line)
