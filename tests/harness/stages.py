"""The stages, their scripts' text, and how two scripts differ: the only list of them."""

import ast
import difflib
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
STAGES = ["3a", "3b", "3c", "3d", "3e", "3f", "3g", "4a", "4b", "4c", "4d", "4e"]
ALL_STAGES = sorted([*STAGES, "3h"])  # with 3h, which shares less with the others: it speaks HTTP
# Seconds that a server sleeps after an answer; only of the stages that have --delay
DEFAULT_DELAY = {"3b": 60, "3c": 60, "3d": 0, "3e": 3, "3f": 0, "3g": 0}  # as in the article
DEFAULT_DELAY.update({stage: 0 for stage in STAGES if stage >= "4a"})
LONG = 600  # a delay in seconds that outlasts every test


def script_path(stage):
    """Where a stage's script is."""
    return ROOT / f"webserver{stage}.py"


def script(stage):
    """The whole text of a stage's script."""
    return script_path(stage).read_text(encoding="utf-8")


def pieces(stage):
    """A dict of the functions, the constants and the last block of a script, by their names."""
    lines = script(stage).splitlines()
    segments = {}
    for node in ast.parse("\n".join(lines)).body:
        segment = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            segments[node.name] = segment
        elif isinstance(node, ast.Assign):
            segments[node.targets[0].id] = segment
        elif isinstance(node, ast.If):
            segments["__main__"] = segment
    return segments


OPTIONS = ("def parse_options():", "def main():")


def difference(old, new, left_out=()):
    """How two scripts differ below their docstrings: lines as `diff -U1 -p` prints them.

    Each hunk has a line of context and names its function. Hunks inside the functions in `left_out` (given by
    their `def` lines) are dropped.
    """
    texts = [script(stage).splitlines() for stage in (old, new)]
    changes, shown = [], False
    for line in difflib.unified_diff(*texts, n=1, lineterm=""):
        if line.startswith(("---", "+++")):
            continue
        if line.startswith("@@"):
            first = int(line.split()[1].split(",")[0][1:])
            shown = first > texts[0].index('"""')
            heads = [text for text in texts[0][: first - 1] if text.startswith(("def ", "async def "))]
            line += f" {heads[-1]}" if heads else ""
            shown = shown and not (heads and heads[-1] in left_out)
        if shown:
            changes.append(line)
    return [f"--- webserver{old}.py", f"+++ webserver{new}.py", *changes]
