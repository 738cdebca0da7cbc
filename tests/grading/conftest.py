"""What the tests of the grader share: start it, and write servers for it."""

import contextlib
import inspect
import os
import pathlib
import sys
import tempfile
import textwrap

import pytest
from grading.claims import parameters, server_of
from grading.grader import GRADING
from harness.programs import Program
from harness.stages import ROOT
from harness.waiting import Patience


@pytest.fixture
def grade(start, monkeypatch):
    """grade(stage, option, ...) starts to grade a server, from the repository's top."""
    monkeypatch.chdir(ROOT)

    def grade(stage, *options):
        tests = f"tests/test_webserver{stage}.py"
        return start(Program, [sys.executable, "-m", "pytest", tests, *options])

    return grade


@pytest.fixture
def write(tmp_path):
    """write(path, text) writes a source, without its indentation here; in tmp_path, or where the path is absolute."""

    def write(path, text):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


@pytest.fixture
def readable():
    """A folder that everybody can read, unlike tmp_path: started by root, the server is another user.

    The capability to read all files doesn't help everywhere: Java asks access(2), which ignores it.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder)


@pytest.fixture
def call(request, monkeypatch):
    """call(test, script) calls a stage's test with a script as its server; with --delay, if takes_delay."""
    monkeypatch.setattr(Patience, "seconds", GRADING)

    def call(test, script, takes_delay=True):
        for chosen in parameters(test):
            with contextlib.ExitStack() as started:
                others = set(inspect.signature(test).parameters) - {"serve", *chosen}
                fixtures = {name: request.getfixturevalue(name) for name in others}
                test(serve=server_of(script, takes_delay, started), **chosen, **fixtures)

    return call
