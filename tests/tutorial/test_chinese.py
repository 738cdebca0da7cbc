"""That the Chinese pages say and show what the English ones do."""

import re

import pytest
from library.servers import ROOT
from tutorial import chinese, follow

TRANSLATED = [page for page in follow.PAGES if chinese.twin(page)]
ENGLISH = """# Title
English | [简体中文](zh)

Take `recv` and 3 [sockets](https://example.org/a).

```console
$ ls
```

## Why

```mermaid
sequenceDiagram
    participant C as curl
    C->>S: connect
```

Two sentences. And 7.
"""


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", TRANSLATED)
def test_chinese_page_has_the_same_sections_and_in_them_the_same(page):
    english = chinese.sections(read(page))
    ours = chinese.sections(read(chinese.twin(page)))
    assert len(english) == len(ours)
    told = [
        f"{chinese.twin(page)}, {mine.heading}: {difference}"
        for theirs, mine in zip(english, ours)
        for difference in chinese.differences(theirs, mine)
    ]
    assert told == []


@pytest.mark.parametrize("page", TRANSLATED)
def test_pages_lead_to_each_other(page):
    name = page.rpartition("/")[2]
    there, back = ("README.zh.md", "README.md") if "/" not in page else (f"zh/{name}", f"../{name}")
    assert f"\nEnglish | [简体中文]({there})\n" in read(page)
    assert f"\n[English]({back}) | 简体中文\n" in read(chinese.twin(page))


@pytest.mark.parametrize("page", TRANSLATED)
def test_links_of_the_chinese_page_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", read(chinese.twin(page)), flags=re.DOTALL)
    for file in re.findall(r"\]\((?!https?:|#)([^)#]*)", text):
        assert ((ROOT / chinese.twin(page)).parent / file).exists(), file


def translation(text):
    """A text as a translation of itself: with the marks of its sections."""
    for one in chinese.sections(text):
        hashes = "#" * one.level
        text = text.replace(f"{hashes} {one.heading}\n", f"{hashes} {one.heading} <!-- en: {one.name} -->\n")
    return text


# What is changed in the English page or in the translation of it, and what is told
DRIFTS = {
    "a number": ("chinese", "And 7", "And 8", "numbers"),
    "an output line": ("chinese", "$ ls\n", "$ ls\nfile\n", "blocks"),
    "a lost code span": ("chinese", "`recv`", "recv", "code"),
    "another link": ("chinese", "example.org/a", "example.org/b", "outside links"),
    "an arrow of a diagram": ("chinese", "C->>S", "S->>C", "blocks"),
    "another level": ("chinese", "## Why", "### Why", "level"),
    "a reworded English sentence": ("english", "Two sentences", "Three sentences", "translates"),
    "a changed English output": ("english", "$ ls\n", "$ ls -l\n", "blocks"),
    "an English diagram": ("english", "connect", "connects", "translates"),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_told(drift):
    where, old, new, told = DRIFTS[drift]
    texts = {"english": ENGLISH, "chinese": translation(ENGLISH)}
    assert not told_of(**texts)
    assert texts[where].count(old) == 1
    texts[where] = texts[where].replace(old, new)
    assert any(told in difference for difference in told_of(**texts))


def told_of(**texts):
    english, ours = (chinese.sections(texts[one]) for one in ("english", "chinese"))
    return [each for pair in zip(english, ours) for each in chinese.differences(*pair)]


def test_labels_of_a_diagram_may_differ_and_blocks_are_taken_over():
    text = translation(ENGLISH)
    assert not told_of(english=ENGLISH, chinese=text.replace("S: connect", "S: 连接"))
    changed = ENGLISH.replace("$ ls\n", "$ ls\nfile\n")
    assert not told_of(english=changed, chinese=chinese.with_blocks_of(changed, text))
