"""The fixtures: what a test starts with them is gone when it ends."""

import contextlib
import re

import harness
import pytest


@pytest.fixture
def start():
    """start(Program, ...) or start(Server, ...) starts one for the length of a test."""
    with contextlib.ExitStack() as started:

        def start(kind, *arguments, **options):
            program = kind(*arguments, **options)
            started.callback(program.kill)
            return program

        yield start


@pytest.fixture
def serve(request, start):
    """serve(...) starts the server of the stage that the test's file is named after."""
    stage = re.fullmatch(r"test_webserver(3.)", request.module.__name__)[1]
    return lambda **options: start(harness.Server, stage, **options)


def pytest_unconfigure():
    harness.guard.dismiss()
