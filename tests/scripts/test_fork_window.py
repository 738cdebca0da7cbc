"""webserver3i.py between fork and the child's first line, where a child still has its parent's signal pipe.

The moment lasts microseconds. A hook at fork (os.register_at_fork) keeps the child in it while a file exists.
"""

import os
import signal
import sys

import pytest
from harness import system
from harness.observed import ObservedProgram
from harness.stages import script_path
from harness.waiting import wait_until

STAGE = "3i"
HOOK = """if True:
    import os, time
    FOLDER = os.path.dirname(__file__)

    def after_in_child():
        while os.path.exists(f"{FOLDER}/hold"):
            time.sleep(0.005)

    os.register_at_fork(after_in_child=after_in_child)
"""


@pytest.fixture
def held(serve, tmp_path):
    """A server whose first child is in that moment, that child, its client, and the file that keeps it there."""
    (tmp_path / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    hold = tmp_path / "hold"
    hold.touch()
    server = serve(STAGE, env={"PYTHONPATH": str(tmp_path)})
    client = server.ask()
    (child,) = server.wait_until_children(1)
    server.wait_until_blocked()
    return server, child, client, hold


def test_one_ctrl_c_counts_once(held):
    server, child, client, hold = held
    listen_socket = server.listen_socket()
    server.send_signal(signal.SIGINT)  # Ctrl-C, in the order that was fatal
    wait_until(lambda: listen_socket not in system.sockets(server.pid), "the parent accepts nobody any more")
    os.kill(child.pid, signal.SIGINT)
    hold.unlink()
    assert client.wait_for_end().endswith(b"Hello, World!\n")
    assert server.wait() == 0


def test_ending_a_child_does_not_end_the_server(held):
    server, child, client, hold = held
    os.kill(child.pid, signal.SIGTERM)
    hold.unlink()
    assert client.wait_for_end() == b""
    server.wait_until_children(0)
    server.ask().wait_for_answer()


def test_closed_standard_descriptors_are_opened(start):
    closed = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-']
    server = start(ObservedProgram, [*closed, sys.executable, script_path(STAGE), "--port", "0"])
    wait_until(lambda: len(system.descriptors(server.pid)) > 3 and server.blocked(), "it serves")
    opened = server.descriptors()
    assert all("/dev/null" in opened[number].split() for number in (0, 1, 2))  # lsof's has the kind before it
