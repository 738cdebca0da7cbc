"""What tests share because it takes longer to start than they take: servers of applications, and rich."""

import os
import runpy
import signal
import sys
import tempfile

import pytest
from harness.stages import ROOT
from harness.waiting import Patience, wait_until

sys.path.append(str(ROOT / "benchmarks"))  # for test_benchmarks.py

from application_server import ApplicationServer


@pytest.fixture(scope="session")
def wsgi():
    """The WSGI server with applications.py."""
    server = ApplicationServer()
    descriptors = server.descriptors()
    try:
        yield server
        server.wait_until_children(0)
        wait_until(lambda: server.descriptors() == descriptors, "no descriptor is left")
        assert "collected" not in server.errors  # by the validator: an iterable was not closed
    finally:
        server.kill()


@pytest.fixture
def reported(wsgi):
    """reported(text) waits until wsgi has written a text to standard error since the test began."""
    wsgi.wait_until_children(0)
    before = len(wsgi.errors)
    return lambda text: wait_until(lambda: text in wsgi.errors[before:], f"it reports {text}")


@pytest.fixture(scope="session")
def impatient():
    """The same with a timeout of half a second."""
    server = ApplicationServer("--timeout", "0.5")
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def watch3():
    """watch3(option, ...) runs watch3.py with 80 columns and returns what it prints, in an encoding.

    It runs in a fork of this process, which has rich already: importing it takes longer than all the rest.
    """
    pytest.importorskip("rich.live")

    def watch3(*options, status=0, encoding="utf-8"):
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            pid = os.fork()
            if pid == 0:
                become_watch3(options, output.fileno(), encoding)
            _, ended = os.waitpid(pid, 0)
            output.seek(0)
            printed = output.read()
        assert os.waitstatus_to_exitcode(ended) == status, printed
        return printed

    return watch3


def become_watch3(options, output, encoding):
    """In a forked child: run watch3.py as a program, with both outputs to a descriptor. Never returns."""
    status = 1
    try:
        os.setpgid(0, 0)
        signal.alarm(Patience.seconds)
        for number in (1, 2):
            os.dup2(output, number)
        sys.stdout, sys.stderr = (open(number, "w", encoding=encoding, closefd=False) for number in (1, 2))
        os.environ["COLUMNS"] = "80"
        os.environ.pop("FORCE_COLOR", None)
        sys.argv = ["watch3.py", *map(str, options)]
        runpy.run_path(str(ROOT / "watch3.py"), run_name="__main__")
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.stdout.flush()
        os._exit(status)


@pytest.fixture
def once(watch3):
    """once(port) is the picture of the server on a port."""
    return lambda port, **status: watch3("--once", "--port", port, **status)
