"""watch3.py on a terminal, and as a program: what it follows, what it costs the server, how it ends."""

import os
import re
import signal
import statistics
import sys
import time

import pytest
from harness import system
from harness.programs import Program
from harness.stages import ROOT
from harness.waiting import wait_until
from marks import needs
from needs_watch3 import NEEDS_WATCH3

pytestmark = NEEDS_WATCH3
WATCH = [sys.executable, ROOT / "watch3.py"]


@pytest.fixture
def live(start):
    """live(port, option, ...) starts watch3.py on a terminal of 80 columns and 24 rows."""

    def live(port, *options, **environment):
        env = {"TERM": "xterm", "COLUMNS": "80", "LINES": "24", **environment}
        command = [*WATCH, "--port", str(port), *options]
        return start(Program, command, env=env, terminal=True, keyboard=True)

    return live


# What xterm is sent (terminfo(5)): smcup and civis, rmcup and cnorm, home
TAKEN = ["\x1b[?1049h", "\x1b[?25l"]
GIVEN_BACK = ["\x1b[?1049l", "\x1b[?25h"]
HOME = "\x1b[H"


def pictures(program, text):
    """The complete pictures so far that show a text."""
    return [picture for picture in program.output.split(HOME)[:-1] if text in picture]


def press(program, key):
    """Type a key, such as Ctrl-C, on a program's terminal."""
    os.write(program._terminal, key)


def assert_terminal(program, state):
    """Assert that the screen and the cursor are TAKEN, or GIVEN_BACK."""
    for sent, contrary in zip(state, GIVEN_BACK if state is TAKEN else TAKEN):
        assert program.output.rfind(sent) > program.output.rfind(contrary)
    assert "Traceback" not in program.output


# The live picture


@pytest.mark.slow
def test_it_follows_a_server_and_the_next_one(serve, live):
    server = serve("3f")
    program = live(server.port, "--interval", "0.1")
    wait_until(lambda: f" {server.pid} python" in program.output, "the server shows")
    assert server.load("--max-clients", "20", "--timeout", "60").wait(60) == 0
    server.send_signal(signal.SIGKILL)
    server.wait()
    wait_until(lambda: pictures(program, "The server ended at "), "its end shows")
    again = serve("3f", port=server.port)
    first = wait_until(lambda: pictures(program, f" {again.pid} python"), "the next one shows")[0]
    assert re.search(r"connections +0 +children +0 +\n", first)  # without the curves of the one before
    assert "Traceback" not in program.output


@pytest.mark.slow
def test_time_of_the_end_stands_still(serve, live):
    server = serve("3a")
    program = live(server.port, "--interval", "0.1")
    wait_until(lambda: f" {server.pid} python" in program.output, "the server shows")
    server.kill()

    def ends():
        return pictures(program, "The server ended at ")

    wait_until(ends, "its end shows")
    program.send_signal(signal.SIGSTOP)
    second = int(time.time())
    wait_until(lambda: int(time.time()) > second, "a second passes")
    before = len(ends())
    program.send_signal(signal.SIGCONT)
    wait_until(lambda: len(ends()) >= before + 2, "it goes on")
    assert len({picture.partition("Before that")[0] for picture in ends()}) == 1


def press_ctrl_c(program):
    press(program, b"\x03")


def terminate(program):
    program.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("end", [press_ctrl_c, terminate])
def test_end_gives_the_terminal_back(serve, live, end):
    program = live(serve("3a").port)
    wait_until(lambda: "parent" in program.output, "the picture shows")
    assert_terminal(program, TAKEN)
    end(program)
    assert program.wait() == 0
    assert_terminal(program, GIVEN_BACK)


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it(serve, live):
    program = live(serve("3a").port)
    wait_until(lambda: "parent" in program.output, "the picture shows")
    press(program, b"\x1a")
    wait_until(lambda: system.process(program.pid).state == system.STOPPED, "it is stopped")
    assert_terminal(program, GIVEN_BACK)
    before = len(program.output)
    program.send_signal(signal.SIGCONT)
    wait_until(lambda: "parent" in program.output[before:], "the picture shows again")
    assert_terminal(program, TAKEN)
    press(program, b"\x1c")  # Ctrl-backslash
    assert program.wait() == 0
    assert_terminal(program, GIVEN_BACK)


@pytest.mark.slow
def test_rows_without_room_are_counted(serve, live):
    server = serve("3g")
    for _ in range(30):
        server.connect()
    server.wait_until_children(30)
    program = live(server.port, "--interval", "3600")  # a single picture
    wait_until(lambda: "descriptors  " in program.output, "its last line shows")
    for row, what in ((r"child \d+", "children"), (r"\d+'s 4", "connections")):
        shown = len(re.findall(row, program.output))
        left_out = int(re.search(rf"\+(\d+) more {what}", program.output)[1])
        assert shown > 0
        assert shown + left_out == 30


@pytest.mark.slow
@pytest.mark.parametrize("environment, coloured", [({}, True), ({"NO_COLOR": "1"}, False)])
def test_terminal_has_colours_unless_no_color_is_set(serve, live, environment, coloured):
    server = serve("3d")
    server.ask().wait_for_answer()
    server.wait_until_zombies(1)
    program = live(server.port, **environment)
    wait_until(lambda: "1 ZOMBIE" in program.output, "the zombie shows")
    red = re.search(r"\x1b\[[0-9;]*31m", program.output)
    assert bool(red) == coloured


# As a program


@pytest.mark.slow
def test_full_disk_is_one_line(serve, start):
    server = serve("3g")
    with open("/dev/full", "w", encoding="utf-8") as full:
        program = start(Program, [*WATCH, "--once", "--port", str(server.port)], stdout=full)
        assert program.wait() == 1
    assert program.errors.count("\n") == 1
    assert "No space left on device" in program.errors


@pytest.mark.parametrize("options", ["--port 0", "--port 65536", "--pid 0", "--port 8888 --pid 1", "--interval 0"])
def test_bad_option_is_a_usage_error_even_without_libraries(start, options):
    program = start(Program, [sys.executable, "-S", ROOT / "watch3.py", *options.split()])
    assert program.wait() == 2
    assert program.errors.startswith("usage: watch3.py")


def test_missing_library_is_one_line_that_says_what_to_install(start):
    program = start(Program, [sys.executable, "-S", ROOT / "watch3.py"])
    assert program.wait() == 1
    (line,) = program.errors.splitlines()
    assert "pip install 'rich>=12.4' 'psutil>=6'" in line


# What it costs

SECONDS = 10  # of measuring
# A server with 2,000 zombies, and 500 children with a connection each
CROWDED = """if True:
    import os, socket
    listen_socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
    for _ in range(2000):
        if os.fork() == 0:
            os._exit(0)
    clients = [socket.create_connection(listen_socket.getsockname()) for _ in range(500)]
    for _ in clients:
        connection, address = listen_socket.accept()
        if os.fork() == 0:
            for one in (listen_socket, *clients):
                one.close()
            connection.recv(1)
            os._exit(0)
        connection.close()
    print("port", listen_socket.getsockname()[1], flush=True)
    listen_socket.accept()
"""


@pytest.mark.slow
def test_a_crowded_server_takes_a_tenth_of_a_processor(start, live):
    server = start(Program, [sys.executable, "-c", CROWDED])
    listening = wait_until(lambda: re.search(r"port (\d+)", server.output), "it listens", allow=60)
    program = live(listening[1], "--interval", "0.1")
    wait_until(lambda: "2000 ZOMBIES" in program.output, "2,000 zombies show")
    began, used = time.monotonic(), system.processor_time(program.pid)
    pictures = program.output.count("2000 ZOMBIES")
    wait_until(lambda: time.monotonic() > began + SECONDS, "time passes")
    seconds = time.monotonic() - began
    assert (system.processor_time(program.pid) - used) / seconds < 0.15
    assert program.output.count("2000 ZOMBIES") > pictures  # it goes on


@pytest.mark.slow
@needs("ab")
def test_watching_costs_3g_a_tenth_of_its_requests(start, serve, live):
    server = serve("3g")
    program = live(server.port)
    wait_until(lambda: " python" in program.output, "the server shows")

    def rate():
        url = f"http://127.0.0.1:{server.port}/"
        ab = start(Program, ["ab", "-q", "-n", "1000", "-c", "16", url])
        assert ab.wait(60) == 0, ab.errors
        return float(re.search(r"Requests per second: +([\d.]+)", ab.output)[1])

    ratios = []
    for _ in range(15):
        program.send_signal(signal.SIGSTOP)
        alone = rate()
        program.send_signal(signal.SIGCONT)
        ratios.append(rate() / alone)
    assert statistics.median(ratios) > 0.9, ratios
