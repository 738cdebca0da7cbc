"""That the README and the chapters in docs/ are true: all that they show is run."""

import re

import pytest
from library.servers import ROOT, needs
from tutorial import follow
from tutorial.pages import LIES, TRUE

CHAPTERS = [page for page in follow.PAGES if page != "README.md"]


@pytest.mark.parametrize("page", follow.PAGES)
def test_page_shows_what_comes_of_it(pages, page):
    status = pages[page].wait(100)
    remarks = pages[page].output + pages[page].errors
    assert status == 0, remarks
    if remarks:  # it holds, as far as it could be run here
        pytest.skip(", ".join(remarks.splitlines()))


@pytest.mark.parametrize(
    "said, seen, same",
    [
        ("154 1 S+ python3", "7 1 S+ python3", True),
        ("154 1 S+ python3", "7 1 SN+ python3", True),
        ("154 1 S+ python3", "7 1 S<+ python3", True),
        ("154 1 S+ python3", "7 1 SN python3", False),
        ("154 1 S+ python3", "7 1 ZN+ python3", False),
        ("User-Agent: curl/7.88.1\\r", "User-Agent: curl/8.18.0-rc2\\r", True),
        ("User-Agent: curl/7.88.1\\r", "User-Agent: wget/7.88.1\\r", False),
    ],
)
def test_line_holds_on_another_system(said, seen, same):
    assert (follow.match_line(said, seen, {}) is not None) == same


@pytest.mark.parametrize("page", follow.PAGES)
def test_page_has_no_block_that_nothing_checks(page):
    elsewhere = {"mermaid"}
    if page == "README.md":  # test_conventions.py and test_grading.py
        elsewhere |= {"sh", "python", "text"}
    checked = {"console", "pycon", "diff", "python"}
    text = (ROOT / page).read_text(encoding="utf-8")
    languages = {block.language for block in follow.blocks(text)}
    assert languages <= checked | elsewhere


@pytest.mark.parametrize("page", follow.PAGES)
def test_links_of_the_page_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\((?!https:)([^)#]*)(?:#([^)]*))?\)", text)
    assert links
    for file, heading in links:
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.is_file(), file
        assert not heading or heading in headings(target), heading


def headings(page):
    """The headings of a page, as links name them."""
    lines = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in lines]


def test_contents_list_every_chapter_in_its_order():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\d\. \[[^]]*\]\((.*?)\)", text, flags=re.MULTILINE) == CHAPTERS


@pytest.mark.parametrize("page", CHAPTERS[:-1])
def test_chapter_has_its_parts_in_order(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    stage = re.search(r"3\w", page)[0]
    changes = [] if stage in ("3g", "3h") else [f"What changes in 3{chr(ord(stage[1]) + 1)}"]
    parts = re.findall(r"^## (.*)", text, flags=re.MULTILINE)
    assert parts == ["See it", "Why", *changes, "Recap", "Exercises"]
    see, _, why = text.partition("\n## Why\n")
    assert "?*" in see  # what do you expect?
    assert why.startswith("\n```mermaid\n")  # the drawing comes before the words
    exercises = text.partition("\n## Exercises\n")[2]
    assert len(re.findall(r"^\d\. ", exercises, flags=re.MULTILINE)) >= 3
    assert exercises.count("<details>") == len(re.findall(r"^\d\. ", exercises, re.MULTILINE))
    *_, last = re.split(r"^\d\. ", exercises, flags=re.MULTILINE)
    assert "graded" in last and "--server" in last


@pytest.mark.parametrize("page", follow.PAGES)
def test_terminal_is_named_in_a_caption_of_its_own(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = [line for line in text.splitlines() if "**terminal" in line.lower()]
    assert all(re.fullmatch(r"\*\*Terminal \d\*\*", line) for line in named)


@needs("curl")
@pytest.mark.parametrize("lie", LIES)
def test_of_a_page_that_is_not_true_it_is_said_where(pages, lie):
    _, _, _, line = LIES[lie]
    assert pages[lie].wait(100) == 1
    assert f"3f.md, line {line}:" in pages[lie].output


@needs("curl")
@pytest.mark.parametrize("true", TRUE)
def test_nothing_is_said_of_a_page_that_is_true(pages, true):
    assert pages[true].wait(100) == 0
    assert pages[true].output + pages[true].errors == ""
