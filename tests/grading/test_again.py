"""*Again* shows the fault: what is typed as it says tells a mutant from the right script.

It takes minutes: .venv/bin/pytest -n 8 -m slow tests/grading/test_again.py
"""

import contextlib
import os
import re
import shlex
import sys
import time

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
    script = tmp_path / script_path(mutant.stage).name
    script.write_text(mutant.text(), encoding="utf-8")
    test = claims_of(mutant.stage)[mutant.claim]
    with pytest.raises(FAILS):
        call(test, script, mutant.stage in DEFAULT_DELAY)
    server, client = GradedServer.last.typed(claim_of(test).again)
    wrong = typed(tmp_path, user, server, client)
    right = str(script_path(mutant.stage))
    right = typed(tmp_path, user, server.replace(str(script), right), client.replace(str(script), right))
    assert wrong != right, "\n".join([server, client, *wrong])


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
            file.write_text(f"cd {shlex.quote(str(ROOT))}\n{command}\n", encoding="utf-8")
            terminals.append(Program([*user, "bash", file], terminal=True, keyboard=True))
            started.callback(terminals[-1].kill)

        terminal(server)
        wait_until(lambda: system.listening(port), "it listens", 20, lambda: terminals[0].output)
        clients = re.split(MORE, client)
        for number, command in enumerate(clients, 1):
            terminal(command)
            wait_until_quiet(terminals, 1 if number < len(clients) else QUIET)
        lines = [f"{number} has ended" for number, each in enumerate(terminals) if not each.running]
        for number, each in enumerate(terminals):
            lines += sorted(f"{number} {line}" for line in comparable(each.output))
        return lines


def wait_until_quiet(terminals, seconds):
    """Wait until nothing has been printed for some time, or the client's command has ended; 30 seconds at the most."""
    last = [None, 0]

    def quiet():
        now = [each.output for each in terminals]
        if now != last[0]:
            last[:] = now, time.monotonic()
        ended = not terminals[-1].running
        return time.monotonic() - last[1] > (min(1, seconds) if ended else seconds)

    with contextlib.suppress(Unusable, AssertionError):  # a mutant may print without end
        wait_until(quiet, "nothing more is printed", 25)


def comparable(output):
    """Lines without what differs from run to run: ports, PIDs, processor time, the hour. Real time in seconds.

    A number of bytes stays: it may be all that shows the fault.
    """
    for line in output.splitlines():
        if not re.match(r"user|sys|port \d+ of", line):
            line = re.sub(r"(\d+)m(\d+\.\d+)s", lambda found: f"{found[1]}m{round(float(found[2]))}s", line)
            yield re.sub(r"(?<!\d)\d{3,}(?!\d| bytes)|/\S*/", "N", line)
