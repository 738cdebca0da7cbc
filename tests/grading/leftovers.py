"""Run what may hang, and leave nothing behind, however this process ends: for practise3.py. Standard library only."""

import os
import shutil
import signal
import subprocess
import tempfile
import time


def run(words, check, started):
    """Run a compiler. Returns its status and what it said. check() is called meanwhile: what it raises ends it."""
    with tempfile.TemporaryFile() as said:
        options = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": subprocess.STDOUT}
        compiler = subprocess.Popen(words, start_new_session=True, **options)
        started(compiler.pid)
        try:
            while compiler.poll() is None:
                check()
                time.sleep(0.05)
        finally:
            kill_group(compiler.pid)
            compiler.wait()
            started(0)
        said.seek(0)
        return compiler.returncode, said.read().decode(errors="replace")


def kill_group(leader):
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended (macOS: PermissionError for zombies)


def start_guard(folder):
    """Start a process that outlives this one, however it ends, and then removes the folder and what is started.

    Returns started(pid), by which it learns what is: the leader of one group at a time, or 0 for none.
    """
    ours, pipe = os.pipe()
    if os.fork() == 0:
        try:
            os.close(pipe)
            os.setsid()  # out of reach of Ctrl-C
            started = b"\n".join(iter(lambda: os.read(ours, 100), b"")).split()
            if started and int(started[-1]):
                kill_group(int(started[-1]))
                time.sleep(0.5)  # the grader's own guard ends the server
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os._exit(0)
    os.close(ours)
    return lambda pid: os.write(pipe, b"%d\n" % pid)
