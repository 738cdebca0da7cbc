"""Run a script in a fork of this process, which has imported what the script needs.

A new interpreter would take ten times as long as a usage error, or a picture, itself.
"""

import contextlib
import functools
import os
import signal
import sys
import tempfile
import traceback
import types
from typing import NamedTuple

from harness.programs import clean_environment
from harness.waiting import Patience


class Ended(NamedTuple):
    """How a script ended: its exit status, -N if signal N ended it, and what it wrote."""

    status: int
    output: str
    errors: str


def run_forked(script, *options, cwd=".", encoding="utf-8", before=lambda: None):
    """Run a script as `python3 SCRIPT OPTIONS` would, in 80 columns, after before(). Returns how it Ended."""
    with contextlib.ExitStack() as files:
        output, errors = (files.enter_context(tempfile.TemporaryFile("w+", encoding=encoding)) for _ in range(2))
        code = compiled(script)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                become(code, [str(word) for word in (script, *options)], cwd, (output, errors), before)
                status = 0
            except SystemExit as end:  # as the interpreter does (sys.exit)
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
                if isinstance(end.code, str):
                    print(end.code, file=sys.stderr)
            except BaseException:
                traceback.print_exc()
            finally:
                for file in (sys.stdout, sys.stderr):
                    with contextlib.suppress(AttributeError, OSError):
                        file.flush()
                os._exit(status)
        _, ended = os.waitpid(pid, 0)
        output.seek(0)
        errors.seek(0)
        return Ended(os.waitstatus_to_exitcode(ended), output.read(), errors.read())


@functools.cache
def compiled(script):
    with open(script, "rb") as file:
        return compile(file.read(), script, "exec")


def become(code, argv, cwd, files, before):
    """In a forked child: run a script's code as the main module, with its outputs to two files."""
    os.setpgid(0, 0)
    signal.alarm(Patience.seconds)
    for number, file in enumerate(files, 1):
        os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (open(number, "w", encoding=files[0].encoding, closefd=False) for number in (1, 2))
    environment = clean_environment()
    os.environ.clear()
    os.environ.update(environment, COLUMNS="80")
    os.chdir(cwd)
    sys.dont_write_bytecode = True
    sys.argv = argv
    sys.modules["__main__"] = types.ModuleType("__main__")
    before()
    exec(code, vars(sys.modules["__main__"]))
