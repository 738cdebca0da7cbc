"""The pages, and what they ask a reader to do: blocks, and the steps of those that are typed."""

import re
from typing import NamedTuple

from harness.stages import ALL_STAGES

CHAPTERS = [f"docs/{stage}.md" for stage in ALL_STAGES]
PAGES = ["README.md", *CHAPTERS, "docs/next.md", "docs/practise.md", "docs/problems.md"]
PROMPTS = {"console": ("$", None), "pycon": (">>>", "...")}


class Block(NamedTuple):
    """A fenced block of a page.

    marks are the words after the language, start is the index of its first line on the page, terminal the number in
    the last caption (or None), section the number of its heading.
    """

    language: str
    marks: list
    start: int
    lines: list
    terminal: str
    section: int


class Step(NamedTuple):
    """The lines to type, if any, the output expected, and whether it ends at a prompt."""

    typed: list
    output: list
    prompt: bool


def blocks(text):
    """All fenced blocks of a page."""
    found, terminal, section, inside = [], None, 0, None
    for index, line in enumerate(text.splitlines()):
        if inside and line == "```":
            found.append(inside)
            inside = None
        elif inside:
            inside.lines.append(line)
        elif line.startswith("```"):
            language, *marks = line[3:].split() or [""]
            inside = Block(language, marks, index + 1, [], terminal, section)
        else:
            named = re.findall(r"\*\*(?:terminal|终端) (\d)\*\*", line, re.IGNORECASE)
            terminal = named[-1] if named else terminal
            section += line.startswith("#")
    return found


def steps(block):
    """The steps of a console or pycon block."""
    first, more = PROMPTS[block.language]
    found = []
    for line in block.lines:
        prompt, _, typed = line.partition(" ")
        if prompt == more:
            found[-1].typed.append(typed)
        elif prompt == first or line == "^C":
            if found and prompt == first:
                found[-1] = found[-1]._replace(prompt=True)
            if line != "$":
                typed = typed if prompt == first else "^C"
                found.append(Step([typed], [], block.language == "pycon"))
            elif not found:
                found.append(Step([], [], True))
        else:
            found = found or [Step([], [], False)]
            found[-1].output.append(line)
    return found


def lines_of(block, steps):
    """The lines of a block with these steps, the inverse of steps()."""
    first, more = PROMPTS[block.language]
    lines = []
    for step in steps:
        for prompt, typed in zip([first] + [more] * len(step.typed), step.typed):
            lines.append("^C" if typed == "^C" else f"{prompt} {typed}".rstrip())
        lines += step.output
    if block.language == "console" and steps[-1].prompt:
        lines.append(first)
    return lines
