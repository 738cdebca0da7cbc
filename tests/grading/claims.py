"""The claims as functions, which tests of the grader call with a server of theirs."""

import importlib
import itertools
import re
import shlex
import sys

from grading.graded import GradedServer, Grading
from grading.verdicts import claim_of
from harness.stages import ROOT

FAILS = (AssertionError, OSError)  # Unusable is no verdict


def claims_of(stage):
    """The test functions of a stage, by their claims."""
    module = vars(importlib.import_module(f"test_webserver{stage}"))
    return {claim_of(test).text: test for name, test in module.items() if name.startswith("test_")}


def marks(test, name):
    return [mark for mark in getattr(test, "pytestmark", []) if mark.name == name]


def server_of(script, takes_delay, started):
    """The `serve` of a claim. What it starts ends with the ExitStack `started`.

    A script with a typo breaks no claim: GradedServer raises Unusable if it doesn't listen.
    """
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(script))} --port {{port}}"
    if re.search("webserver3[hi]", str(script)):
        command = f"env PYTHONPATH={shlex.quote(str(ROOT / 'tests/grading'))} {command} exercise:app"
    grading = Grading(command + " --delay {delay}" * takes_delay, port=None, delay=None)

    def serve(**options):
        server = GradedServer(grading, **options)
        started.callback(server.kill)
        return server

    return serve


def parameters(test):
    """The arguments by which a test is parametrized, a dict for each combination."""
    columns = []
    for mark in marks(test, "parametrize"):
        names, rows = mark.args
        names = [name.strip() for name in names.split(",")]
        columns.append([dict(zip(names, row if len(names) > 1 else [row])) for row in rows])
    for row in itertools.product(*columns):
        yield {name: value for part in row for name, value in part.items()}
