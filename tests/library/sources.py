"""The text of the scripts, and what differs between two of them."""

import ast
import difflib

from library.servers import ROOT


def script(stage):
    """The whole text of a stage's script."""
    return (ROOT / f"webserver{stage}.py").read_text(encoding="utf-8")


def pieces(stage):
    """The functions, the constants and the last block of a script, by their names."""
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
    """What changes from one script to another, below their help texts.

    A list of lines as of `diff -U1 -p`: a line of context around each change, and the
    function that it is in. Changes in the functions left_out, their first lines, are not.
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
