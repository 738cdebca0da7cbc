"""The Chinese pages say and show what the English ones do, in tidy Chinese."""

import re

import pytest
from harness.stages import ROOT
from pages.blocks import PAGES
from pages.translation import compare, sections, twin, with_blocks_of, with_english_links

TRANSLATED = [page for page in [*PAGES, "docs/costs.md", "docs/cheatsheet.md"] if twin(page)]
ENGLISH = """# Title
English | [简体中文](zh)

Take `recv` of 3b and 3 [sockets](https://example.org/a).

**Terminal 1**

```console
$ ls
```

## Why

```mermaid
sequenceDiagram
    participant C as curl
    C->>S: 2 bytes
```

Two sentences. And 7.

Wait.

- One.
- Another.

```console
$ ls
```
"""


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.may_be_skipped  # a translation may be behind
@pytest.mark.parametrize("page", TRANSLATED)
def test_sections_correspond(page):
    behind, differences = compare(read(page), with_english_links(page, read(twin(page))))
    assert differences == []
    if behind:
        pytest.skip(f"{twin(page)} is behind {page}: {', '.join(behind)}")


@pytest.mark.parametrize("page", TRANSLATED)
def test_pages_link_to_each_other(page):
    name = page.rpartition("/")[2]
    there, back = ("README.zh.md", "README.md") if "/" not in page else (f"zh/{name}", f"../{name}")
    assert f"\nEnglish | [简体中文]({there})\n" in read(page)
    assert f"\n[English]({back}) | 简体中文\n" in read(twin(page))


# What no Chinese book would print. For bold see CommonMark 0.31, 6.2.
UNTIDY = {
    "half-width punctuation": r"""[一-鿿][,.:;!?()"']|[,.:;!?()"'][一-鿿]""",
    "no space": r"[一-鿿]([\da-zA-Z`]|<code)|([\da-zA-Z`]|code>)[一-鿿]",
    "a space too many": r"[，。：；？！、（）] (?!\|)|(?<!\|) [，。：；？！、（）]",
    "bold that is not shown": r"^([^*]*\*\*[^*]+\*\*)*[^*]*\*\*[^*]+[，。：；？！）]\*\*\w",
    "a line that is broken": r"[^：]\n *[^ `]",
}


@pytest.mark.parametrize("page", TRANSLATED)
def test_chinese_is_tidy(page):
    parts = [part for one in sections(read(twin(page))) for part in one.parts]
    no_text = r'\]\([^)]*\)|href="[^"]*"|<picture>.*'
    prose = [re.sub(no_text, "", part) for part in parts if "```" not in part]
    found = [f"{what}: {part}" for what, pattern in UNTIDY.items() for part in prose if re.search(pattern, part)]
    assert found == []


@pytest.mark.parametrize(
    "text, what",
    [
        ("服务器,客户端", "half-width punctuation"),
        ("一个socket", "no space"),
        ("用`fork`创建", "no space"),
        ("结束。 然后", "a space too many"),
        ("**一**，**结束。**然后", "bold that is not shown"),
        ("两个\n客户端", "a line that is broken"),
    ],
)
def test_untidy_chinese_is_reported(text, what):
    assert re.search(UNTIDY[what], text)


def translation(text):
    """A text as a translation of itself, with marks."""
    for one in sections(text):
        hashes = "#" * one.level
        heading = f"{hashes} {one.heading}"
        text = text.replace(f"{heading}\n", f"{heading} <!-- en: {one.name} -->\n")
    return text


# What changes in the English page or in its translation, and the report; "behind" names the section to translate.
DRIFTS = {
    "a number": ("chinese", "And 7", "And 8", "numbers"),
    "another stage": ("chinese", "of 3b", "of 3c", "numbers"),
    "an output line": ("chinese", "$ ls\n", "$ ls\nfile\n", "blocks"),
    "another terminal": ("chinese", "Terminal 1", "Terminal 2", "blocks"),
    "a lost caption": ("chinese", "**Terminal 1**\n\n", "", "blocks"),
    "a lost code span": ("chinese", "`recv`", "recv", "code"),
    "another link": ("chinese", "example.org/a", "example.org/b", "links"),
    "an arrow of a diagram": ("chinese", "C->>S", "S->>C", "blocks"),
    "a number in a diagram": ("chinese", "2 bytes", "3 bytes", "blocks"),
    "a lost paragraph": ("chinese", "Wait.\n", "", "paragraphs"),
    "a lost item": ("chinese", "- Another.\n", "", "paragraphs"),
    "another level": ("chinese", "## Why", "### Why", "level"),
    "a section of its own": ("chinese", "## Why", "## How\n\n## Why", "translates nothing"),
    "a lost mark": ("chinese", " <!-- en: ", " <!-- ", "translates nothing"),
    "a changed English output": ("english", "$ ls\n", "$ ls -l\n", "blocks"),
    "a reworded English sentence": ("english", "Two sentences", "Three sentences", "behind: Why"),
    "an English diagram": ("english", "bytes", "lines", "behind: Why"),
    "an English number": ("english", "And 7", "And 8", "behind: Why"),
    "a new English section": ("english", "## Why", "## How\n\n## Why", "behind: How"),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_reported(drift):
    where, old, new, report = DRIFTS[drift]
    texts = {"english": ENGLISH, "chinese": translation(ENGLISH)}
    assert compare(**texts) == ([], [])
    assert old in texts[where]
    texts[where] = texts[where].replace(old, new, 1)
    behind, differences = compare(**texts)
    if report.startswith("behind"):
        headings = [one.partition(" (en: ")[0] for one in behind]
        assert ([f"behind: {heading}" for heading in headings], differences) == ([report], [])
    else:
        assert any(report in each for each in differences)


def test_sections_in_another_order_are_reported():
    title, why = translation(ENGLISH).split("## Why")
    _, differences = compare(ENGLISH, f"## Why{why}\n{title}")
    assert differences == ["the sections are not in the English page's order"]


def test_diagram_labels_may_differ():
    text = translation(ENGLISH)
    assert compare(ENGLISH, text.replace("2 bytes", "2 个字节")) == ([], [])


def test_blocks_are_copied():
    before, _, after = ENGLISH.rpartition("$ ls\n")  # the first one stays as it is
    changed = f"{before}$ pwd\n{after}"
    text = translation(ENGLISH)
    assert compare(changed, text) != ([], [])
    assert compare(changed, with_blocks_of(changed, text)) == ([], [])
