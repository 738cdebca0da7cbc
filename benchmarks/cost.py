"""What a connection costs: the stages and the servers that people use side by side, loaded by ab(1)."""

import contextlib
import csv
import importlib.metadata
import os
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
LEAST, MOST = 100, 500  # requests in a turn; to warm up twice LEAST
SECONDS = 0.1  # of load, about, in a turn
ROUNDS = 40
FRESH = 10  # rounds after which all servers are restarted: 3c keeps a zombie for each client
DESIGNS = {  # name in the tables, how it serves
    "3a": ("`webserver3a.py`", "one client at a time"),
    "3c": ("`webserver3c.py --delay 0`", "a process for each"),
    "3g": ("`webserver3g.py`", "a process for each"),
    "c": ("3g's loop in C", "a process for each"),
    "3h": ("`webserver3h.py`", "a process for each, HTTP, WSGI"),
    "3i": ("`webserver3i.py`", "a process for each, HTTP, WSGI"),
    "4a": ("`webserver4a.py`", "4 workers, each one client at a time"),
    "sync": ("gunicorn, sync", "4 workers, each one client at a time, HTTP, WSGI"),
    "4b": ("`webserver4b.py`", "a thread for each"),
    "gthread": ("gunicorn, gthread", "a thread for each, from a pool, HTTP, WSGI"),
    "4c": ("`webserver4c.py`", "one thread for all"),
    "nginx": ("nginx", "one thread for all, HTTP"),
    "4d": ("`webserver4d.py`", "one thread for all"),
    "uvicorn": ("uvicorn", "one thread for all, HTTP, ASGI"),
    "4e": ("`webserver4e.py`", "a worker for each processor"),
    "nginxes": ("nginx, several workers", "a worker for each processor, HTTP"),
    "uvicorns": ("uvicorn, several workers", "a worker for each processor, HTTP, ASGI"),
}
PEERS = {"4a": "sync", "4b": "gthread", "4c": "nginx", "4d": "uvicorn", "4e": "uvicorns"}  # of the same design
FOLDER = ROOT / "benchmarks"  # has the application and the settings of the others


def commands(folder):
    """The command that starts each of DESIGNS, in the folder FOLDER; those are left out that are not installed.

    The program in C and nginx's settings go into `folder`.
    """
    found = {stage: [sys.executable, script_path(stage), "--port", "{port}"] for stage in DESIGNS.keys() & ALL_STAGES}
    found["3c"] += ["--delay", "0"]
    found["3h"] += ["application:wsgi"]
    compiler = ["cc", "-O2", "-o", folder / "server3g", ROOT / "tests/grading/servers/server3g.c"]
    if shutil.which("cc") and subprocess.run(compiler).returncode == 0:
        found["c"] = [folder / "server3g", "{port}"]
    installed, one, all_of_them = versions(), "1", str(os.cpu_count() or 1)
    if installed["gunicorn"]:
        gunicorn = [sys.executable, "-m", "gunicorn", "-c", "python:application", "-b", "127.0.0.1:{port}"]
        found["sync"] = [*gunicorn, "-k", "sync", "-w", "4", "application:wsgi"]
        found["gthread"] = [*gunicorn, "-k", "gthread", "-w", one, "--threads", str(CLIENTS), "application:wsgi"]
    for name, workers in (("uvicorn", one), ("uvicorns", all_of_them)):
        if installed["uvicorn"]:  # with nothing that may be installed besides
            uvicorn = [sys.executable, "-m", "uvicorn", "--port", "{port}", "--loop", "asyncio", "--http", "h11"]
            found[name] = [*uvicorn, "--workers", workers, "--backlog", "1024", "application:asgi"]
    for name, workers in (("nginx", one), ("nginxes", all_of_them)):
        if installed["nginx"]:
            settings = (FOLDER / "nginx.conf").read_text(encoding="utf-8")
            settings = settings.replace("{folder}", str(folder)).replace("{workers}", workers)
            begin = 'printf %s "$2" >"$1" && exec "$0" -c "$1"'
            found[name] = ["sh", "-c", begin, nginx(), folder / f"{name}.conf", settings]
    return {name: found[name] for name in DESIGNS if name in found}


def nginx():
    """Where nginx is, or None. Debian has it in a folder that is not in every user's PATH."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def versions():
    """The installed versions of the servers that people use, None for one that is missing."""
    found = {"nginx": None, "gunicorn": None, "uvicorn": None}
    if nginx():
        printed = subprocess.run([nginx(), "-v"], stderr=subprocess.PIPE, encoding="utf-8").stderr
        found["nginx"] = printed.strip().rpartition("/")[2]
    for name in ("gunicorn", "uvicorn"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
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
                servers[name] = Server(command, stdout=subprocess.DEVNULL, cwd=FOLDER)
                started.callback(servers[name].kill)
                load(servers[name].port, LEAST)  # some listen before they are ready
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
    """For each installed one of PEERS, the median over the rounds of its stage's requests by its own."""
    return {
        stage: statistics.median(ours[0] / its[0] for ours, its in zip(results[stage], results[peer]))
        for stage, peer in PEERS.items()
        if peer in results
    }
