"""The Chinese pages beside the English ones: which belong together, and what may differ.

A Chinese page has the English one's sections, in its order. Each heading ends with a
comment such as <!-- en: 1a99e199 -->, the mark of the English section that it translates.
"""

import hashlib
import re
from typing import NamedTuple

from library.servers import ROOT

MARK = re.compile(r" <!-- en: (\w+) -->$")
LABELS = re.compile(r'"[^"]*"|: .*$| as .*$', re.MULTILINE)


class Section(NamedTuple):
    """A section of a page: its heading, with the mark that it has, its prose, its blocks."""

    level: int
    heading: str
    mark: str  # of the English section, '' if there is none
    prose: str
    blocks: list  # the fenced blocks, their first lines and captions with them

    @property
    def name(self):
        """What says that the section is as it was: of its heading, prose and diagrams."""
        diagrams = [block for block in self.blocks if "```mermaid" in block]
        text = "\n".join([self.heading, self.prose, *diagrams])
        return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:8]


def twin(page):
    """The Chinese page that belongs to an English one; None where there is none yet."""
    path = "README.zh.md" if page == "README.md" else page.replace("docs/", "docs/zh/")
    return path if (ROOT / path).exists() else None


def sections(text):
    """The sections of a page, in its order."""
    found, inside, caption = [], None, ""
    for line in text.splitlines():
        if inside is not None:
            inside.append(line)
            if line == "```":
                found[-1].blocks.append("\n".join(inside))
                inside = None
        elif line.startswith("```"):
            inside, caption = [caption, line] if caption else [line], ""
        elif re.match("#+ ", line):
            hashes, heading = line.split(" ", 1)
            mark = MARK.search(heading)
            heading = MARK.sub("", heading)
            found.append(Section(len(hashes), heading, mark[1] if mark else "", "", []))
        elif re.fullmatch(r"\*\*(Terminal|终端) (\d)\*\*", line):
            caption = line.replace("终端", "Terminal")
        elif found and line.strip() and not re.match(r"\[?English\]?", line):
            found[-1] = found[-1]._replace(prose=f"{found[-1].prose}{line}\n")
    return found


def differences(english, chinese):
    """In what a Chinese section is not as the English one: a list of sentences."""
    found = []
    if english.level != chinese.level:
        found.append(f"it is of level {chinese.level}, not {english.level}")
    if english.name != chinese.mark:
        found.append(f"it translates {chinese.mark or 'nothing'}, which is now {english.name}")
    blocks = [[without_labels(block) for block in one.blocks] for one in (english, chinese)]
    if blocks[0] != blocks[1]:
        found.append("its blocks are not the same")
    for kind, pattern in (
        ("code", r"`[^`]+`|<code>.*?</code>"),
        ("outside links", r"\((https?:[^)]*)\)"),
        ("numbers", r"\d+"),
    ):
        ours, theirs = (sorted(parts(pattern, one.prose)) for one in (english, chinese))
        if ours != theirs:
            missing = [each for each in ours if ours.count(each) > theirs.count(each)]
            more = [each for each in theirs if theirs.count(each) > ours.count(each)]
            found.append(f"{kind}: without {missing}, with {more}")
    return found


def without_labels(block):
    """A block to be compared: of a diagram, all but its labels."""
    if "```mermaid" not in block:
        return block
    return LABELS.sub("…", re.sub("<br>", "", block))


def parts(pattern, prose):
    """What a pattern finds in prose; numbers, where they are not part of code or a link."""
    if pattern == r"\d+":
        prose = re.sub(r"`[^`]+`|<code>.*?</code>|\]\([^)]*\)|\b3[a-h]\b", "", prose)
    return [" ".join(each.split()) for each in re.findall(pattern, prose)]


def with_blocks_of(english, chinese):
    """The text of a Chinese page with the English one's blocks, but for diagrams."""
    ours = [block for one in sections(english) for block in one.blocks]
    theirs = [block for one in sections(chinese) for block in one.blocks]
    for our, their in zip(ours, theirs):
        if "```mermaid" not in our:
            old = their.partition("```")[1] + their.partition("```")[2]
            chinese = chinese.replace(old, our.partition("```")[1] + our.partition("```")[2], 1)
    return chinese
