"""What takes too long for the plain suite: what watch3.py costs, and what it slows down.

Run by .ci/run: .venv/bin/pytest tests/scripts/check_watch3.py
"""

import os
import re
import signal
import statistics
import sys
import time

from library.programs import Program, wait_until
from library.servers import ROOT, StageServer
from library.skips import LINUX_ONLY, needs

pytestmark = LINUX_ONLY
SECONDS = 10  # that it is looked at
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


def watch(start, port):
    """watch3.py on a terminal, as it is started by default, when it has seen a server."""
    command = [sys.executable, ROOT / "watch3.py", "--port", str(port)]
    live = start(Program, command, env={"TERM": "xterm"}, terminal=True, keyboard=True)
    wait_until(lambda: " python" in live.output, "the server is seen")
    return live


def processor_seconds(pid):
    """What a process has used of the processor, in seconds (proc_pid_stat(5))."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        user, kernel = file.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(kernel)) / os.sysconf("SC_CLK_TCK")


def test_2000_zombies_and_500_connections_take_less_than_15_percent_of_a_processor(start):
    server = start(Program, [sys.executable, "-c", CROWDED])
    found = wait_until(lambda: re.search(r"port (\d+)", server.output), "it listens", allow=60)
    live = watch(start, found[1])
    wait_until(lambda: "2000 ZOMBIES" in live.output, "2,000 zombies are seen")
    began, used = time.monotonic(), processor_seconds(live.pid)
    looks = live.output.count("2000 ZOMBIES")
    wait_until(lambda: time.monotonic() > began + SECONDS, "time passes")
    seconds = time.monotonic() - began
    assert (processor_seconds(live.pid) - used) / seconds < 0.15
    assert (live.output.count("2000 ZOMBIES") - looks) / seconds > 1


@needs("ab")
def test_3g_answers_nine_tenths_of_the_requests_beside_it(start):
    server = start(StageServer, "3g")
    live = watch(start, server.port)
    ratios = []
    for _ in range(15):
        rates = []
        for number in (signal.SIGSTOP, signal.SIGCONT):
            live.send_signal(number)
            url = f"http://127.0.0.1:{server.port}/"
            ab = start(Program, ["ab", "-q", "-n", "1000", "-c", "16", url])
            assert ab.wait(60) == 0, ab.errors
            rates.append(float(re.search(r"Requests per second: +([\d.]+)", ab.output)[1]))
        ratios.append(rates[1] / rates[0])
    assert statistics.median(ratios) > 0.9, ratios
