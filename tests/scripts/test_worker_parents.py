"""The parents of 4a and 4e keep their workers, and leave none behind.

A signal at a bad moment is luck: between fork and the line after it lie microseconds. Here a hook at fork
stretches that moment until the test has sent its signals.
"""

import os
import pathlib
import re
import resource
import signal
import sys
import tempfile

import pytest
from harness import system
from harness.clients import Connection
from harness.observed import ObservedProgram
from harness.servers import Server
from harness.stages import script_path
from harness.users import user_with_few_processes
from harness.waiting import wait_until
from marks import LINUX_ONLY

# 4e's parent has 4a's text (test_only_the_lesson_changes.py), so that one of them in the ordinary run is enough.
parents = pytest.mark.parametrize("stage", ["4a", pytest.param("4e", marks=pytest.mark.slow)])
SIGNALS = [signal.SIGTERM, *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGINT, signal.SIGHUP))]

# Python runs sitecustomize.py at its start, and waits there while a file named `waiting` exists. After a fork the
# parent says so and stays there while `hold` exists; the child ends at once while `stillborn` does
# (os.register_at_fork).
HOOK = """if True:
    import os, time
    FOLDER = os.path.dirname(__file__)

    def after_in_parent():
        os.write(1, b"forked\\n")
        while os.path.exists(f"{FOLDER}/hold"):
            time.sleep(0.005)

    def after_in_child():
        if os.path.exists(f"{FOLDER}/stillborn"):
            os._exit(1)

    while os.path.exists(f"{FOLDER}/waiting"):
        time.sleep(0.005)
    os.register_at_fork(after_in_parent=after_in_parent, after_in_child=after_in_child)
"""


@pytest.fixture
def hook():
    """The folder of the hook, for PYTHONPATH. Another user's server can read it, unlike what lies in tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        (folder / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
        yield folder


def serve_hooked(serve, stage, hook, **options):
    return serve(stage, "--workers", "4", env={"PYTHONPATH": str(hook)}, **options)


def assert_nothing_left(server, status=0):
    assert server.wait() == status
    wait_until(lambda: server.processes() == [], "its workers end")
    assert system.listening(server.port) is None


@parents
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_signal_during_the_first_fork_ends_all(serve, hook, stage, number):
    (hook / "hold").touch()
    server = serve_hooked(serve, stage, hook)
    wait_until(lambda: "forked" in server.output, "the parent is between fork and the next line")
    server.send_signal(number)
    (hook / "hold").unlink()
    assert_nothing_left(server)
    assert server.errors == ""


@parents
def test_signal_during_a_replacement_ends_all(serve, hook, stage):
    server = serve_hooked(serve, stage, hook)
    worker = server.wait_until_workers(4)[0]
    (hook / "hold").touch()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: server.output.count("forked") == 5, "a fifth worker is being made")
    server.send_signal(signal.SIGTERM)
    (hook / "hold").unlink()
    assert_nothing_left(server)


@parents
def test_two_signals_at_once_end_all(serve, stage):
    server = serve(stage, "--workers", "4")
    server.wait_until_workers(4)
    server.stop()  # so that both are pending when it resumes
    server.send_signal(signal.SIGINT)
    server.send_signal(signal.SIGTERM)
    server.resume()
    assert_nothing_left(server)
    assert server.errors == ""


@parents
def test_hangup_that_nohup_ignores_ends_nothing(start, stage):
    nohup = ["sh", "-c", 'trap "" HUP; exec "$0" "$@"']
    server = start(Server, [*nohup, sys.executable, script_path(stage), "--port", "{port}", "--workers", "4"])
    server.wait_until_workers(4)
    server.send_signal(signal.SIGHUP)
    server.send_signal(signal.SIGALRM)  # after it: a second's work is done early
    server.ask().wait_for_answer()
    assert len(server.wait_until_workers(4)) == 4 and server.running


@parents
def test_closed_standard_output_leaves_no_worker(start, stage):
    read, write = os.pipe()
    command = [sys.executable, script_path(stage), "--port", "{port}", "--workers", "4"]
    server = start(Server, command, stdout=write)
    os.close(write)
    worker = server.wait_until_workers(4)[0]
    os.close(read)
    os.kill(worker, signal.SIGKILL)  # the parent's line about it can't be printed
    assert_nothing_left(server, status=1)


@parents
def test_four_killed_at_once_are_replaced_at_once(serve, hook, stage):
    server = serve_hooked(serve, stage, hook)
    workers = server.wait_until_workers(4)
    before = len(server.output)
    server.stop()  # so that it finds all four dead
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    dead = "all four are dead"
    wait_until(lambda: [child.state for child in system.children(server.pid)] == 4 * [system.ZOMBIE], dead)
    server.resume()
    wait_until(lambda: server.output[before:].count("forked") == 4, "four more are made")
    lines = server.output[before:].splitlines()
    assert ["terminated" in line for line in lines] == 4 * [True] + 4 * [False]


@pytest.mark.slow
@parents
def test_workers_that_end_at_once_are_no_storm_of_forks(serve, hook, stage):
    server = serve_hooked(serve, stage, hook)
    worker = server.wait_until_workers(4)[0]
    began = system.processor_time(server.pid)
    (hook / "stillborn").touch()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: server.output.count("terminated") == 3, "two more have ended at once")
    (hook / "stillborn").unlink()
    server.wait_until_workers(4)
    assert server.output.count("forked") <= 8  # once a second, not as fast as it can
    assert system.processor_time(server.pid) - began < 0.5  # seconds


@pytest.mark.slow
@LINUX_ONLY
@parents
def test_fork_that_failed_is_tried_again(serve, stage):
    server = serve(stage, "--workers", "4", processes=10_000)
    worker = server.wait_until_workers(4)[0]
    with server.soft_limit(resource.RLIMIT_NPROC, 0):
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: server.errors.endswith("\n"), "it says that fork fails")
        assert server.ask().wait_for_end().endswith(b"\r\n\r\nHello, World!\n")
    server.wait_until_workers(4)
    for line in server.errors.splitlines():
        assert line.startswith("fork failed, 3 workers: [Errno 11]")


@LINUX_ONLY
@parents
def test_first_fork_that_fails_is_tried_again(start, hook, stage):
    (hook / "waiting").touch()
    command = [sys.executable, script_path(stage), "--port", "0", "--workers", "4"]
    options = user_with_few_processes(10_000)
    program = start(ObservedProgram, command, env={"PYTHONPATH": str(hook)}, **options)
    with program.soft_limit(resource.RLIMIT_NPROC, 0):
        (hook / "waiting").unlink()
        wait_until(lambda: "fork failed, 0 workers" in program.errors, "it says that fork fails")
        assert program.running
    wait_until(lambda: len(system.children(program.pid)) == 4, "the workers are made after all")
    assert "forked" in program.output  # the hook was there
    client = Connection(int(re.match(r"Serving HTTP on port (\d+)", program.output)[1]))
    client.ask()
    client.wait_for_answer()
    client.close()
