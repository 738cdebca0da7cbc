"""What a handler that computes does: one processor of 4d against all of them of 4e.

The servers are copies of the stages, made by replacing text, whose handle_request computes
for some milliseconds before it answers. Without that the difference would not be seen: ab
takes a processor of its own.
"""

import sys

import cost
from harness.stages import ROOT

STAGES = ["4d", "4e"]
ROUNDS = 15
ASKS = "        if request:\n"
COMPUTES = ASKS + "            sum(range(200_000))\n"  # about 2 to 5 ms


def commands(folder):
    """How to start each of STAGES. The copies are written into a folder.

    Raises AssertionError if a stage does not have the line that is replaced.
    """
    found = {}
    for stage in STAGES:
        text = (ROOT / f"webserver{stage}.py").read_text(encoding="utf-8")
        assert text.count(ASKS) == 1, f"webserver{stage}.py asks for its request elsewhere"
        copy = folder / f"computes{stage}.py"
        copy.write_text(text.replace(ASKS, COMPUTES), encoding="utf-8")
        found[stage] = [sys.executable, copy, "--port", "{port}"]
    return found


def compare(folder, rounds, step):
    """The summary of cost.py for the copies, with ratios to 4d."""
    return cost.summary(cost.compare(commands(folder), rounds, step), "4d")
