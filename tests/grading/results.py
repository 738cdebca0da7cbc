"""Grade a server in a process of its own, and read what is found as it comes.

grade.py and practise3.py share this: pytest has to be interruptible, and what it starts has to go with it.
Standard library only. --results names a pipe, and each line in it is a JSON object, so that nobody parses pytest's
output:

    {"claims": ["A client gets ...", ...]}                               first: what is graded
    {"claim": "A client gets ...", "outcome": "holds", "remark": []}     then each result,
    {"ungraded": "There is no program ..."}                              or why there is none

outcome is "holds", "fails" or "not tried"; remark is a list of lines.
"""

import contextlib
import json
import os
import pathlib
import select
import shlex
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENDING = 0.5  # seconds that an interrupted grader gets, before it is killed


def stages():
    """The stages that can be graded: a dict from their names to the files of their claims."""
    files = sorted(ROOT.glob("tests/test_webserver[34][a-h].py"))
    return {file.stem[-2:]: file for file in files}


def command_for(stage, server):
    """The command that starts a server as a stage. For 3h, it names the application that is to be served.

    That comes before the port, or in the place of {application}. Applications sleep for themselves.
    """
    if stage != "3h":
        return server
    if "{application}" not in server:
        server = server.replace("{port}", "{application} {port}", 1).replace(" {delay}", "")
    folder = shlex.quote(str(ROOT / "tests/grading"))
    return f"env PYTHONPATH={folder} {server.replace('{application}', 'exercise:app')}"


def grade(server, stage, *options, check, started=lambda pid: None):
    """Grade a server, the command that starts it, as a stage. Yields the results, as dicts.

    options are pytest's. check() is called 20 times a second: what it raises ends the grading. started() gets the PID
    of the grader, the leader of its group, and 0 when that has ended. When the generator is closed or fails, all that
    it has started has ended.
    """
    results, pipe = os.pipe()
    with contextlib.ExitStack() as opened:
        opened.callback(os.close, results)
        folder = opened.enter_context(tempfile.TemporaryDirectory())  # where claims make theirs
        os.chmod(folder, 0o1777)  # and the server its own: it may be another user
        said = opened.enter_context(tempfile.TemporaryFile())
        command = [sys.executable, "-m", "pytest", f"tests/test_webserver{stage}.py"]
        command += ["--server", command_for(stage, server), f"--results=/dev/fd/{pipe}", *options]
        try:
            grader = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "TMPDIR": folder},
                pass_fds=[pipe],
                start_new_session=True,  # a Ctrl-C meets only us: we interrupt the grader
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        finally:
            os.close(pipe)
        opened.callback(started, 0)
        opened.callback(end, grader, results)
        started(grader.pid)
        failed = False
        for line in lines_of(results, check):
            result = json.loads(line)
            failed |= "ungraded" in result or result.get("outcome") == "fails"
            yield result
        if grader.wait() != failed:
            said.seek(0)
            yield {"ungraded": f"The tests do not run.\n{said.read().decode(errors='replace').strip()}"}


def lines_of(pipe, check):
    """The lines that come through a pipe, each when it is complete, until all that write to it have ended."""
    rest = b""
    while True:
        check()
        if select.select([pipe], [], [], 0.05)[0]:
            data = os.read(pipe, 65536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from lines


def end(grader, results):
    """End a grader, and wait until what it has started has ended, too.

    It is interrupted, but an interruption can come where Python holds a lock, and then it hangs: so it is killed
    after that. Its watchdog kills the server, and has the other end of the pipe `results` until then.
    """
    if grader.poll() is None:
        grader.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            grader.wait(ENDING)
        grader.kill()
        grader.wait()
    while select.select([results], [], [], 5)[0] and os.read(results, 65536):
        pass
