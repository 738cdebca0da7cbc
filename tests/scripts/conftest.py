"""What tests share because it takes longer to start than they take: servers of applications, and rich."""

import sys

import pytest
from harness.stages import ROOT
from harness.waiting import wait_until

sys.path.append(str(ROOT / "benchmarks"))  # for test_benchmarks.py

from application_server import ApplicationServer
from forked import run_forked


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
    wsgi.wait_until_reaped()
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
    """watch3(option, ...) runs watch3.py with 80 columns and returns what it prints, in an encoding."""
    for module in ("psutil", "rich.live", "rich.table", "rich.tree"):  # so that not each fork has to import them
        pytest.importorskip(module)

    def watch3(*options, status=0, encoding="utf-8"):
        ended = run_forked(ROOT / "watch3.py", *options, encoding=encoding)
        assert ended.status == status, ended
        return ended.output + ended.errors

    return watch3


@pytest.fixture
def once(watch3):
    """once(port) is the picture of the server on a port."""
    return lambda port, **status: watch3("--once", "--port", port, **status)
