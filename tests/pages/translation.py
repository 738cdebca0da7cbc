"""The Chinese pages beside the English ones: which belong together, and what may differ.

A Chinese page has the English one's sections, in its order. Each heading ends with a
comment such as <!-- en: 1a99e199 -->, the mark of the English section that it translates.
"""

import hashlib
import os.path
import re
from collections import Counter
from typing import NamedTuple

from harness.stages import ROOT

MARK = re.compile(r" *<!-- en: (\w+) -->$")
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CAPTION = re.compile(r"\*\*(?:Terminal|终端) (\d)\*\*")
ITEM = re.compile(r" *(- |\d+\. |\||<details>)")  # of a list, a table, the exercises
LABELS = re.compile(r'"[^"]*"|: .*$| as .*$', re.MULTILINE)  # of a diagram
LINK = re.compile(r'(\]\(|href=")([^)"#]*)#?([^)"]*)')
CODE = re.compile(r"`[^`]+`|<code>.*?</code>")
NUMBER = re.compile(r"\b3[a-h]\b|\d+")


class Section(NamedTuple):
    """A section of a page: its heading, with the mark that it has, and what is below it."""

    level: int
    heading: str
    mark: str  # of the English section, '' if there is none
    parts: list  # paragraphs, items and rows; fenced blocks, with their captions

    @property
    def prose(self):
        """All but the blocks, in one line."""
        return " ".join(" ".join(part for part in self.parts if "```" not in part).split())

    @property
    def name(self):
        """A hash of its heading, prose and diagrams: another one after any change to them."""
        diagrams = [part for part in self.parts if "```mermaid" in part]
        text = " ".join([self.heading, self.prose, *diagrams])
        return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:8]


def twin(page):
    """The Chinese page that belongs to an English one; None where there is none yet."""
    path = "README.zh.md" if page == "README.md" else page.replace("docs/", "docs/zh/")
    return path if (ROOT / path).exists() else None


def sections(text):
    """The sections of a page, in its order."""
    found, block, caption, begins = [], False, "", True
    for line in text.splitlines():
        parts = found[-1].parts if found else []
        if block:
            parts[-1] += f"\n{line}"
            block = line != "```"
        elif line.startswith("```"):
            parts.append(caption + line)
            block, caption, begins = True, "", True
        elif re.match("#+ ", line):
            hashes, heading = line.split(" ", 1)
            mark = MARK.search(heading)
            found.append(
                Section(len(hashes), MARK.sub("", heading), mark[1] if mark else "", [])
            )
            begins = True
        elif CAPTION.fullmatch(line):
            caption = CAPTION.sub(r"**Terminal \1**\n", line)
        elif not (found and line.strip()) or re.match(r"\[?English\]?", line):
            begins = True
        elif begins or ITEM.match(line):
            parts.append(line)
            begins = False
        else:
            parts[-1] += f"\n{line}"
    return found


def compare(english, chinese):
    """What is amiss in the text of a Chinese page: two lists.

    The English sections that have changed since they were translated, or never were, with
    their marks; and, of all others, in what the Chinese ones are not the same.
    """
    originals = {one.name: one for one in sections(english)}
    translations = sections(chinese)
    found = [
        f"{ours.heading}: {difference}"
        for ours in translations
        if ours.mark in originals or not ours.mark
        for difference in differences(originals.get(ours.mark), ours)
    ]
    marks = [one.mark for one in translations if one.mark in originals]
    if marks != [name for name in originals if name in marks]:
        found.append("the sections are not in the English page's order")
    behind = [one for one in originals.values() if one.name not in marks]
    return [f"{one.heading} (en: {one.name})" for one in behind], found


def differences(english, chinese):
    """In what a Chinese section is not as the English one: a list of sentences."""
    if english is None:
        return ["it translates nothing"]
    found = []
    if english.level != chinese.level:
        found.append(f"it is of level {chinese.level}, not {english.level}")
    if [outline(part) for part in english.parts] != [outline(part) for part in chinese.parts]:
        found.append("its paragraphs and blocks are not the same")
    for kind, pattern in (("code", CODE), ("links", LINK), ("numbers", NUMBER)):
        ours, theirs = (Counter(parts(pattern, one.prose)) for one in (english, chinese))
        if ours != theirs:
            missing, more = list((ours - theirs).elements()), list((theirs - ours).elements())
            found.append(f"{kind}: without {missing}, with {more}")
    return found


def outline(part):
    """What does not differ in a translation: a block, of a diagram's labels only numbers."""
    if "```mermaid" in part:
        return LABELS.sub(lambda label: " ".join(NUMBER.findall(label[0])), part)
    return part if "```" in part else "prose"


def parts(pattern, prose):
    """What a pattern finds in prose; numbers, where they are not part of code or a link."""
    if pattern == NUMBER:
        prose = LINK.sub("", CODE.sub("", prose))
    return [found[0] for found in pattern.finditer(prose)]


def with_english_links(page, text):
    """The text of a page's twin, with links to the pages and headings of the English page."""

    def in_english(link):
        start, path, heading = link.groups()
        if path.startswith("https:"):
            return link[0]
        there = os.path.normpath(os.path.join(twin(page), "..", path)) if path else twin(page)
        english = there.replace(".zh.md", ".md").replace("docs/zh/", "docs/")
        path = os.path.relpath(english, os.path.dirname(page)) if path else ""
        if heading:
            heading = "#" + dict(zip(anchors(there), anchors(english))).get(heading, heading)
        return f"{start}{path}{heading}"

    return LINK.sub(in_english, text)


def anchors(page):
    """The names by which links know the headings of a page."""
    headings = [one.heading for one in sections((ROOT / page).read_text(encoding="utf-8"))]
    return [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]


def with_blocks_of(english, chinese):
    """The text of a Chinese page with the English one's blocks, but for diagrams."""
    ours = iter(BLOCK.findall(english))

    def taken_over(block):
        our = next(ours, block[0])
        return block[0] if our.startswith("```mermaid") else our

    return BLOCK.sub(taken_over, chinese)
