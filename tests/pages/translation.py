"""Keep the Chinese pages in step with the English ones.

A translation that says something else misleads, and nobody runs it. So a Chinese page has the same sections in the
same order, with the same blocks, code, links and numbers. Each heading ends with a comment such as
<!-- en: 1a99e199 -->, the name of the English section that it translates: the name changes with the section's text.
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
LABELS = re.compile(r'"[^"]*"|: .*$| as .*$|\bloop .*$', re.MULTILINE)  # of a diagram
LINK = re.compile(r'(\]\(|href=")([^)"#]*)#?([^)"]*)')
CODE = re.compile(r"`[^`]+`|<code>.*?</code>")
NUMBER = re.compile(r"\b3[a-i]\b|\d+")


class Section(NamedTuple):
    """A section of a page: its heading, the mark there, and its parts."""

    level: int
    heading: str
    mark: str  # '' if there is none
    parts: list  # paragraphs, items and rows; fenced blocks, with their captions

    @property
    def prose(self):
        """All but the blocks, in one line."""
        return " ".join(" ".join(part for part in self.parts if "```" not in part).split())

    @property
    def name(self):
        """A hash of its heading, prose and diagrams."""
        diagrams = [part for part in self.parts if "```mermaid" in part]
        text = " ".join([self.heading, self.prose, *diagrams])
        return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:8]


def twin(page):
    """The Chinese version of an English page; None if there is none yet."""
    path = "README.zh.md" if page == "README.md" else page.replace("docs/", "docs/zh/")
    return path if (ROOT / path).exists() else None


def sections(text):
    """The sections of a page, in order."""
    found, in_block, caption, begins = [], False, "", True
    for line in text.splitlines():
        parts = found[-1].parts if found else []
        if in_block:
            parts[-1] += f"\n{line}"
            in_block = line != "```"
        elif line.startswith("```"):
            parts.append(caption + line)
            in_block, caption, begins = True, "", True
        elif re.match("#+ ", line):
            hashes, heading = line.split(" ", 1)
            mark = MARK.search(heading)
            found.append(Section(len(hashes), MARK.sub("", heading), mark[1] if mark else "", []))
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
    """Compare the texts of an English page and its translation.

    Returns two lists: the English sections that have changed since they were translated, or never were, with the
    marks to give to their translations; and how the other Chinese sections differ.
    """
    originals = {one.name: one for one in sections(english)}
    translations = sections(chinese)
    found = [
        f"{one.heading}: {difference}"
        for one in translations
        if one.mark in originals or not one.mark
        for difference in differences(originals.get(one.mark), one)
    ]
    marks = [one.mark for one in translations if one.mark in originals]
    if marks != [name for name in originals if name in marks]:
        found.append("the sections are not in the English page's order")
    behind = [one for one in originals.values() if one.name not in marks]
    return [f"{one.heading} (en: {one.name})" for one in behind], found


def differences(english, chinese):
    """How a Chinese section differs from the English one: a list of sentences."""
    if english is None:
        return ["it translates nothing"]
    found = []
    if english.level != chinese.level:
        found.append(f"it is of level {chinese.level}, not {english.level}")
    if [outline(part) for part in english.parts] != [outline(part) for part in chinese.parts]:
        found.append("its paragraphs and blocks are not the same")
    for kind, pattern in (("code", CODE), ("links", LINK), ("numbers", NUMBER)):
        ours, theirs = (Counter(occurrences(pattern, one.prose)) for one in (english, chinese))
        if ours != theirs:
            missing, more = list((ours - theirs).elements()), list((theirs - ours).elements())
            found.append(f"{kind}: without {missing}, with {more}")
    return found


def outline(part):
    """What a translation keeps of a part: blocks, but only the numbers in a diagram's labels."""
    if "```mermaid" in part:
        return LABELS.sub(lambda label: " ".join(NUMBER.findall(label[0])), part)
    return part if "```" in part else "prose"


def occurrences(pattern, prose):
    """All that a pattern matches in prose; NUMBER not in code and links."""
    if pattern == NUMBER:
        prose = LINK.sub("", CODE.sub("", prose))
    return [found[0] for found in pattern.finditer(prose)]


def with_english_links(page, text):
    """The text of a page's translation, with its links turned to English pages and headings."""

    def in_english(link):
        start, path, heading = link.groups()
        if path.startswith("https:"):
            return link[0]
        path = path.replace(".html?lang=zh", ".html")  # of docs/steps/
        there = os.path.normpath(os.path.join(twin(page), "..", path)) if path else twin(page)
        english = there.replace(".zh.md", ".md").replace("docs/zh/", "docs/")
        path = os.path.relpath(english, os.path.dirname(page)) if path else ""
        if heading:
            heading = "#" + dict(zip(anchors(there), anchors(english))).get(heading, heading)
        return f"{start}{path}{heading}"

    return LINK.sub(in_english, text)


def anchors(page):
    """The headings of a page, as links name them."""
    headings = [one.heading for one in sections((ROOT / page).read_text(encoding="utf-8"))]
    return [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]


def with_blocks_of(english, chinese):
    """The text of a Chinese page with the English page's blocks, except diagrams."""
    ours = iter(BLOCK.findall(english))

    def replacement(block):
        our = next(ours, block[0])
        return block[0] if our.startswith("```mermaid") else our

    return BLOCK.sub(replacement, chinese)
