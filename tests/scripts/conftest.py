"""What tests share because it takes longer to start than they take: servers of applications, and rich."""

import runpy
import sys

import pytest
from harness.stages import ROOT
from harness.waiting import wait_until

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
def watch3(monkeypatch, capsys):
    """watch3(option, ...) runs watch3.py with 80 columns and returns what it prints.

    It runs in this process: to import rich in another takes longer than all the rest.
    """
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def watch3(*options, status=0):
        monkeypatch.setattr(sys, "argv", ["watch3.py", *map(str, options)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / "watch3.py"), run_name="__main__")
        assert end.value.code == status
        output, errors = capsys.readouterr()
        assert errors == ""
        return output

    return watch3


@pytest.fixture
def once(watch3):
    """once(port) is the picture of the server on a port."""
    return lambda port, **status: watch3("--once", "--port", port, **status)
