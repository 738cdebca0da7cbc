"""Where the time goes in webserver3g.py, and what was tried to make it less."""

import contextlib
import re
import signal
import statistics
import subprocess
import sys

import cost
from library.clients import Connection
from leaks import wait_until_settled
from library.programs import wait_until
from library.servers import ROOT
from library.sources import pieces, script

CONNECTIONS = 300  # one at a time
REQUESTS = 2000  # cost.CLIENTS at a time
ROUNDS = 40
TRIES = 15  # of what a page fault costs
WATCHED = [sys.executable, ROOT / "benchmarks/watched.py"]

# What a fault costs on which a page has to be copied: a child writes to pages that it
# shares with its parent, and then, for comparison, once more.
FAULT = """
import mmap, os, resource, time
PAGES = 2000
memory = mmap.mmap(-1, PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANON)
if hasattr(mmap, "MADV_NOHUGEPAGE"):
    memory.madvise(mmap.MADV_NOHUGEPAGE)

def write():
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    began = time.perf_counter()
    for page in range(PAGES):
        memory[page * mmap.PAGESIZE] = 1
    seconds = time.perf_counter() - began
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults

write()
if os.fork() == 0:
    (copying, faults), (writing, none) = write(), write()
    print((copying - writing) / faults, flush=True)
    os._exit(0)
os.wait()
"""

LOOP = "    serve_forever(listen_socket, options.delay)\n\n\nif"
OPTIONS = """def parse_options():
    class Options:
        host, port, delay = "127.0.0.1", int(sys.argv[2]), 0

    return Options"""
IMPORT_GC = ("import errno\n", "import errno\nimport gc\n")
NO_ARGPARSE = [
    ("import argparse\n", ""),
    (pieces("3g")["parse_options"], OPTIONS),
]
NO_HANDLER = [("SIGCHLD, grim_reaper)", "SIGCHLD, signal.SIG_IGN)")]
UNCHANGED = ["nothing changed", "nothing changed, again", "nothing changed, once more"]
BOTH = "without `argparse` and without a handler"
# What was tried, what a reader would lose by it, and what it changes in the text of 3g.
VARIANTS = [
    *((name, "nothing: this is how far chance goes", []) for name in UNCHANGED),
    ("without `argparse`", "`--help`, and errors that say what is wrong", NO_ARGPARSE),
    ("`SIGCHLD` ignored, no handler", "the lesson, and how a child ended", NO_HANDLER),
    (BOTH, "both of these", NO_ARGPARSE + NO_HANDLER),
    (
        "the request is not shown",
        "what the client sent",
        [('show(f"Child {os.getpid()} of {os.getppid()}: {request!r}")', "pass")],
    ),
    (
        "the child closes nothing before it ends",
        "who has which descriptor",
        [
            ("            listen_socket.close()  # the child's copy\n", ""),
            ("client_connection.close()\n            os._exit", "os._exit"),
        ],
    ),
    (
        "`gc.freeze()` before the loop",
        "two lines that are not the lesson",
        [IMPORT_GC, (LOOP, "    gc.collect()\n    gc.freeze()\n" + LOOP)],
    ),
    (
        "`gc.disable()` before the loop",
        "one line that is not the lesson",
        [IMPORT_GC, (LOOP, "    gc.disable()\n" + LOOP)],
    ),
]
ISOLATED = ("run by `python3 -I -S`, without `site`", "a command that is easy to type")


def changed(text, changes):
    """A text with changes, each from what to what.

    Raises ValueError if it does not have the first exactly once.
    """
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"there is not one {old!r} in webserver3g.py")
        text = text.replace(old, new)
    return text


def variants(folder):
    """How to start 3g and each variant of it, by name. folder is for their scripts."""
    python, *rest = cost.stage("3g")
    commands = {"3g": [python, *rest], ISOLATED[0]: [python, "-I", "-S", *rest]}
    for number, (name, _, changes) in enumerate(VARIANTS):
        copy = folder / f"variant{number}.py"
        copy.write_text(changed(script("3g"), changes), encoding="utf-8")
        commands[name] = cost.stage("3g", script=copy)
    return commands


@contextlib.contextmanager
def watched(what, stage):
    """A stage, run by watched.py."""
    server = cost.Contestant([*WATCHED, what, *cost.stage(stage)[1:]])
    try:
        yield server
    finally:
        server.kill()


def watch(step):
    """All that is not compared: a dict."""
    found = {"steps": steps(CONNECTIONS)}
    step()
    found["usage"] = {stage: usage(stage, REQUESTS) for stage in ("3a", "3g")}
    step()
    found["fault"] = fault()
    step()
    return found


def steps(connections):
    """How long the steps of one connection take, medians in microseconds.

    One connection at a time, with nothing else going on: a dict.
    """
    with watched("clocks", "3g") as server:
        for _ in range(connections):
            client = Connection(server.port)
            client.ask()
            client.wait_for_end()
            client.close()
            wait_until_settled(server)
        lines = [line.split() for line in server.errors.splitlines()]
    events = {what: {} for what in ("forked", "ended", "reaped")}
    for what, pid, *times in lines:
        events[what][pid] = [int(nanoseconds) / 1000 for nanoseconds in times]
    found = {"fork": [], "begin": [], "serve": [], "end": [], "reap": []}
    for pid, (asked, reaped) in events["reaped"].items():
        called, returned = events["forked"][pid]
        _, began, ended = events["ended"][pid]
        found["fork"].append(returned - called)
        found["begin"].append(began - called)
        found["serve"].append(ended - began)
        found["end"].append(asked - ended)
        found["reap"].append(reaped - asked)
    return {step: statistics.median(values) for step, values in found.items()}


def usage(stage, requests):
    """Microseconds of processor time, and page faults, for each connection to a stage.

    A dict with these for the parent and for the child, which is zeros in 3a.
    """
    with watched("usage", stage) as server:

        def used(times):
            server.send_signal(signal.SIGUSR1)
            wait_until(
                lambda: server.errors.count("CHILDREN") == times, "it says its usage"
            )
            rows = re.findall(r"^(?:SELF|CHILDREN) (\S+) (\d+)$", server.errors, re.M)
            return [(float(seconds), int(faults)) for seconds, faults in rows[-2:]]

        cost.load(server.port, cost.LEAST)
        wait_until_settled(server)
        before = used(1)
        cost.load(server.port, requests)
        wait_until_settled(server)
        after = used(2)
    found = {}
    for who, old, new in zip(("parent", "child"), before, after):
        found[who] = {
            "cpu": 1e6 * (new[0] - old[0]) / requests,
            "faults": (new[1] - old[1]) / requests,
        }
    return found


def fault():
    """Microseconds that a page fault costs on which a page has to be copied."""
    command = [sys.executable, "-c", FAULT]
    found = []
    for _ in range(TRIES):
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        found.append(1e6 * float(done.stdout))
    return statistics.median(found)
