"""What a connection costs: all designs side by side, loaded by ab(1)."""

import contextlib
import csv
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

from harness.servers import Server
from harness.stages import ALL_STAGES, ROOT, script_path
from harness.waiting import mismatch

CLIENTS = 6  # at a time: as many as the listen queue of 3a and 3c lets wait
LEAST, MOST = 100, 500  # requests in a turn; to warm up LEAST
SECONDS = 0.1  # of load, about, in a turn
ROUNDS = 40
FRESH = 10  # rounds after which all servers are restarted: 3c keeps a zombie for each client
DESIGNS = {  # name in the tables, how it serves
    "3a": ("`webserver3a.py`", "one client at a time"),
    "3c": ("`webserver3c.py --delay 0`", "a process for each"),
    "3g": ("`webserver3g.py`", "a process for each"),
    "3i": ("`webserver3i.py`", "a process for each, HTTP, WSGI"),
    "4a": ("`webserver4a.py`", "4 workers, each one client at a time"),
    "4b": ("`webserver4b.py`", "a thread for each"),
    "4c": ("`webserver4c.py`", "one thread for all"),
    "4d": ("`webserver4d.py`", "one thread for all"),
    "4e": ("`webserver4e.py`", "a worker for each processor"),
    "forking": ("`socketserver.ForkingTCPServer`", "a process for each"),
    "threading": ("`socketserver.ThreadingTCPServer`", "a thread for each"),
    "http": ("`http.server.ThreadingHTTPServer`", "a thread for each, HTTP"),
    "loop": ("the shortest `selectors` loop", "one thread for all"),
    "streams": ("bare `asyncio` streams", "one thread for all"),
    "fork": ("the shortest loop that forks", "a process for each"),
    "c": ("the shortest loop that forks, in C", "a process for each"),
}
PEERS = {  # of a stage: a design, and the ratio of requests to it that the stage must reach
    "4a": ("3g", 4),
    "4b": ("threading", 1),
    "4c": ("loop", 0.9),
    "4d": ("streams", 0.95),
}


def commands(folder):
    """The command that starts each of DESIGNS. The program in C goes into a folder; it is left out without cc."""
    others = [sys.executable, ROOT / "benchmarks/others.py"]
    found = {name: [*others, name, "{port}"] for name in DESIGNS}
    for stage in DESIGNS.keys() & ALL_STAGES:
        found[stage] = [sys.executable, script_path(stage), "--port", "{port}"]
    found["3c"] += ["--delay", "0"]
    found["c"] = [folder / "server3g", "{port}"]
    compiler = ["cc", "-O2", "-o", folder / "server3g", ROOT / "tests/grading/servers/server3g.c"]
    if not shutil.which("cc") or subprocess.run(compiler).returncode != 0:
        del found["c"]
    return found


def load(port, requests):
    """Let ab make requests. Returns requests per second, and the latencies p50 and p99 in milliseconds.

    A latency is from connect to the end of the connection. Raises AssertionError if a request fails,
    subprocess.TimeoutExpired after a minute.
    """
    with tempfile.NamedTemporaryFile("r") as percentiles:
        url = f"http://127.0.0.1:{port}/hello"
        counts = ["-n", str(requests), "-c", str(CLIENTS)]
        command = ["ab", "-q", *counts, "-e", percentiles.name, url]
        ab = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)
        said = dict(re.findall(r"^(.+?): +([\d.]+)", ab.stdout, re.MULTILINE))
        complete, failed = said.get("Complete requests"), said.get("Failed requests")
        assert (ab.returncode, complete, failed) == (0, str(requests), "0"), mismatch(
            f"{complete} requests complete, {failed} failed: {ab.stderr.strip()}",
            f"{requests}, and none",
        )
        rows = dict(csv.reader(percentiles))
    return float(said["Requests per second"]), float(rows["50"]), float(rows["99"])


def compare(commands, rounds, step):
    """Load all servers in turn, each round starting with another one.

    The turns are short, because a machine's other load changes from second to second. step() is called after each
    round. Returns a dict from name to a list of what load() returned.
    """
    results = {name: [] for name in commands}
    for begin in range(0, rounds, FRESH):
        with contextlib.ExitStack() as started:
            servers, requests = {}, {}
            for name, command in commands.items():
                servers[name] = Server(command, stdout=subprocess.DEVNULL)
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
    """The medians over the rounds, of the results and of their ratios to the reference's."""
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


def to_peers(results):
    """For each of PEERS, the median over the rounds of the ratio of its requests to its peer's."""
    return {
        stage: statistics.median(ours[0] / its[0] for ours, its in zip(results[stage], results[peer]))
        for stage, (peer, _) in PEERS.items()
    }
