"""What a connection costs: all designs side by side, under the load of ab(1)."""

import contextlib
import csv
import shutil
import statistics
import subprocess
import sys
import tempfile

from library import system
from library.programs import Program, saw, wait_until
from library.servers import ROOT, Server, fill, free_port

CLIENTS = 6  # at a time: as many as the listen queue of 3a and 3c lets wait
LEAST, MOST = 100, 500  # requests in a turn; to warm up LEAST
SECONDS = 0.1  # of load, about, in a turn
ROUNDS = 60
FRESH = 10  # rounds after which all servers are started anew: 3c has its zombies then
OTHERS = [sys.executable, ROOT / "benchmarks/others.py"]
DESIGNS = {  # name in the tables, how it serves
    "3a": ("`webserver3a.py`", "one client at a time"),
    "3c": ("`webserver3c.py --delay 0`", "a process for each"),
    "3g": ("`webserver3g.py`", "a process for each"),
    "3h": ("`webserver3h.py`", "a process for each, HTTP, WSGI"),
    "forking": ("`socketserver.ForkingTCPServer`", "a process for each"),
    "threading": ("`socketserver.ThreadingTCPServer`", "a thread for each"),
    "http": ("`http.server.ThreadingHTTPServer`", "a thread for each, HTTP"),
    "streams": ("`asyncio` streams", "one thread for all"),
    "fork": ("the shortest loop that forks", "a process for each"),
    "c": ("the same loop in C", "a process for each"),
}


class Contestant(Server):
    """A server that is started on a free port, {port} in its command, to be measured.

    Its standard output goes to /dev/null. Raises AssertionError if it does not listen.
    """

    def __init__(self, command):
        self.port = free_port()
        command = [fill(str(word), {"{port}": str(self.port)}) for word in command]
        super().__init__(command, stdout=subprocess.DEVNULL)

    def wait_until_listening(self):
        """Wait until there is a listening socket on its port."""

        def listens():
            self.assert_running()
            return system.listening(self.port)

        wait_until(listens, "the server listens")


def stage(name, *options, script=None):
    """The command that starts a stage, or another script that takes its options."""
    script = script or ROOT / f"webserver{name}.py"
    return [sys.executable, script, "--port", "{port}", *options]


def commands(folder):
    """How to start each of DESIGNS; C only where a compiler is. folder is for its output."""
    found = {name: stage(name) for name in ("3a", "3g", "3h")}
    found["3c"] = stage("3c", "--delay", "0")
    if compiled(folder / "fork"):
        found["c"] = [folder / "fork", "{port}"]
    return {
        name: found.get(name) or [*OTHERS, name, "{port}"]
        for name in DESIGNS
        if name != "c" or "c" in found
    }


def compiled(program):
    """Compile fork.c to a program. Returns whether there is a compiler that can."""
    compiler = shutil.which("cc")
    if not compiler:
        return False
    source = ROOT / "benchmarks/fork.c"
    return subprocess.run([compiler, "-O2", "-o", program, source]).returncode == 0


def load(port, requests):
    """Have ab make requests. Returns those per second, and p50 and p99 in milliseconds.

    A latency is that of a whole connection, from connect to its end. Raises
    AssertionError if a request fails.
    """
    with tempfile.NamedTemporaryFile("r") as percentiles:
        url = f"http://127.0.0.1:{port}/hello"
        counts = ["-n", str(requests), "-c", str(CLIENTS)]
        ab = Program(["ab", "-q", *counts, "-e", percentiles.name, url])
        try:
            status = ab.wait(60)
            said = dict(
                line.split(":", 1) for line in ab.output.splitlines() if ":" in line
            )
            complete = int(said.get("Complete requests", 0))
            failed = int(said.get("Failed requests", 0))
            assert (status, complete, failed) == (0, requests, 0), saw(
                f"{complete} requests complete, {failed} failed: {ab.errors.strip()}",
                f"{requests}, and none",
            )
            rate = float(said["Requests per second"].split()[0])
        finally:
            ab.kill()
        rows = dict(list(csv.reader(percentiles))[1:])
    return rate, float(rows["50"]), float(rows["99"])


def compare(commands, rounds, step):
    """Load all the servers in turn, in each round another first.

    The turns are short, because what else a machine does changes from one second to the
    next. step() is called after each round. Returns a dict from name to the results of
    its turns, which are those of load().
    """
    results = {name: [] for name in commands}
    for begin in range(0, rounds, FRESH):
        with contextlib.ExitStack() as started:
            servers, requests = {}, {}
            for name, command in commands.items():
                servers[name] = Contestant(command)
                started.callback(servers[name].kill)
                rate, _, _ = load(servers[name].port, LEAST)
                requests[name] = min(max(LEAST, round(rate * SECONDS)), MOST)
            for number in range(begin, min(begin + FRESH, rounds)):
                first = number % len(servers)
                for name in [*servers, *servers][first : first + len(servers)]:
                    results[name].append(load(servers[name].port, requests[name]))
                step()
    return results


def summary(results, reference="3g"):
    """The medians over the rounds, and those of the ratios to the reference's."""
    found = {}
    for name, turns in results.items():
        pairs = list(zip(turns, results[reference]))
        found[name] = {
            what: {
                "median": statistics.median(ours[index] for ours in turns),
                "ratio": statistics.median(ours[index] / its[index] for ours, its in pairs),
            }
            for index, what in enumerate(("rate", "p50", "p99"))
        }
    return found
