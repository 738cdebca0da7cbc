"""Servers that the tests of the WSGI server share: starting one takes longer than most of these tests."""

import pytest
from application_server import ApplicationServer
from harness.waiting import wait_until


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
