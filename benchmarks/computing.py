"""Handlers that compute: one processor of 4d against all of them of 4e.

The stages' own handlers hardly compute, so ab, which takes a processor of its own, would hide the difference. The
servers are copies of the stages whose handle_request computes for some milliseconds before it answers.
"""

import sys

import cost
from harness.stages import script

STAGES = ["4d", "4e"]
ROUNDS = 15
ASKS = "        if request:\n"
COMPUTES = ASKS + "            sum(range(200_000))\n"  # about 2 to 5 ms


def commands(folder):
    """Write a copy of each of STAGES into a folder. Returns a dict from stage to the command that starts it.

    Raises AssertionError if a stage lacks the line to replace.
    """
    found = {}
    for stage in STAGES:
        text = script(stage)
        assert text.count(ASKS) == 1, f"the line to replace is not in webserver{stage}.py"
        copy = folder / f"computes{stage}.py"
        copy.write_text(text.replace(ASKS, COMPUTES), encoding="utf-8")
        found[stage] = [sys.executable, copy, "--port", "{port}"]
    return found


def compare(folder, rounds, step):
    """Measure the copies as cost.py does, with ratios to 4d. step() is called after each round."""
    return cost.summary(cost.compare(commands(folder), rounds, step), "4d")
