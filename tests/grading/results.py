"""Grade a server in a process of its own, and read what is found as it comes.

grade.py and practise3.py share this: pytest has to be interruptible, and what it starts has to go with it.
Standard library only. The file of --results has one JSON object a line, so that nobody parses pytest's output:

    {"claims": ["A client gets ...", ...]}                               first: what is graded
    {"claim": "A client gets ...", "outcome": "holds", "remark": []}     then each result,
    {"ungraded": "There is no program ..."}                              or why there is none

outcome is "holds", "fails" or "not tried"; remark is a list of lines.
"""

import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def grade(server, stage, *options, check):
    """Grade a server, the command that starts it, as a stage. Yields the results, as dicts.

    options are pytest's. check() is called 20 times a second: what it raises ends the grading.
    When the generator is closed or fails, all that it has started has ended.
    """
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile() as said:
        file = pathlib.Path(name, "results")
        file.touch()
        command = [sys.executable, "-m", "pytest", f"tests/test_webserver{stage}.py", "--server", server]
        grader = subprocess.Popen(
            [*command, "--results", file, *options],
            cwd=ROOT,
            start_new_session=True,  # a Ctrl-C meets only us: we interrupt the grader
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        failed = False
        try:
            for line in lines_of(file, grader, check):
                result = json.loads(line)
                failed |= "ungraded" in result or result.get("outcome") == "fails"
                yield result
        finally:
            if grader.poll() is None:
                grader.send_signal(signal.SIGINT)
                grader.wait()
        if grader.returncode != failed:
            said.seek(0)
            yield {"ungraded": f"The tests do not run.\n{said.read().decode(errors='replace').strip()}"}


def lines_of(file, process, check):
    """The lines of a file, each when it is complete, until the process that writes it has ended."""
    with open(file, encoding="utf-8") as results:
        rest, running = "", True
        while running:
            running = process.poll() is None  # before reading: the last lines are not missed
            *lines, rest = (rest + results.read()).split("\n")
            yield from lines
            check()
            time.sleep(0.05 if running else 0)
