"""What accept and recv report about one client costs nobody else anything.

The loopback never aborts a connection in the queue. A library that is loaded before the C library lets the call
fail once.
"""

import errno
import subprocess

import pytest
from harness import system
from harness.stages import ROOT
from marks import LINUX_ONLY, needs

pytestmark = [LINUX_ONLY, needs("cc")]


@pytest.fixture(scope="session")
def failing(tmp_path_factory):
    """failing(accept=ECONNABORTED) is an environment in which the first call fails like that."""
    library = tmp_path_factory.mktemp("failing") / "fail_once.so"
    source = ROOT / "tests/harness/fail_once.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)

    def failing(**calls):
        numbers = {f"FAIL_{call.upper()}": str(number) for call, number in calls.items()}
        return {"LD_PRELOAD": str(library), **numbers}

    return failing


@pytest.mark.parametrize("stage", ["3g", "4a", "4b", "4c", "4d", "4e", "3h", "3i"])
def test_client_that_leaves_the_queue_costs_nobody_anything(serve, failing, stage):
    server = serve(stage, env=failing(accept=errno.ECONNABORTED))
    server.ask().wait_for_answer()
    assert server.errors == ""  # neither the end of a worker nor a pause of a second


def test_4c_asks_again_when_another_process_was_faster(serve, failing):
    server = serve("4c", env=failing(accept=errno.EAGAIN))
    server.ask().wait_for_answer()
    assert server.errors == ""


def test_4c_keeps_a_client_of_whom_nothing_has_come_after_all(serve, failing):
    server = serve("4c", env=failing(recv=errno.EAGAIN))
    server.ask().wait_for_answer()


@pytest.mark.parametrize("stage", ["4a", "4e"])
def test_want_of_a_descriptor_costs_no_worker_its_life(serve, failing, stage):
    server = serve(stage, "--workers", "2", env=failing(accept=errno.EMFILE))
    workers = server.wait_until_workers(2)
    server.ask().wait_for_answer()
    assert "accept failed, trying again: [Errno 24]" in server.errors
    assert sorted(system.process(pid).pid for pid in workers) == sorted(server.workers())
