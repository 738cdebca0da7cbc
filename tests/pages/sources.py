"""What pages show of our scripts: differences, excerpts, and changes that the reader makes in a copy."""

import re

from harness.stages import OPTIONS, ROOT, difference, pieces


def as_in_scripts(block, page):
    """The lines that a diff or python block should have."""
    stage = re.search(r"\b([34]\w)\.md$", page)
    if block.language == "diff":
        old, new = re.findall(r"webserver([34]\w)\.py", " ".join(block.lines[:2]))
        return difference(old, new, left_out=OPTIONS)
    if block.language == "python" and stage:
        return excerpt(block.lines, stage[1])
    return block.lines


def excerpt(lines, stage):
    """The functions and constants that the lines define, as they are in a stage."""
    names = re.findall(r"^(?:(?:async )?def )?(\w+)(?:\(| = )", "\n".join(lines), re.MULTILINE)
    return "\n\n\n".join(pieces(stage)[name] for name in names).splitlines()


def patched(lines):
    """The text of the script named in the first line of a diff, with its changes made.

    Raises ValueError if a text to replace is not in the script exactly once.
    """
    text = (ROOT / lines[0].split()[1]).read_text(encoding="utf-8")
    for hunk in re.split(r"^@@.*\n", "\n".join(lines), flags=re.MULTILINE)[1:]:
        old, new = ("\n".join(line[1:] for line in hunk.splitlines() if line[:1] in kept) for kept in (" -", " +"))
        if text.count(old) != 1:
            raise ValueError(f"{text.count(old)} times in {lines[0].split()[1]}, not once:\n{old}")
        text = text.replace(old, new)
    return text
