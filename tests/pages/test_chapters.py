"""The form of the pages: every block is checked, every link leads somewhere, and all chapters are built alike."""

import json
import pathlib
import re

import pytest
from harness.stages import ROOT
from pages.blocks import CHAPTERS, PAGES, blocks

each_page = pytest.mark.parametrize("page", PAGES)
each_chapter = pytest.mark.parametrize("page", CHAPTERS)


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


@each_page
def test_no_block_is_unchecked(page):
    elsewhere = {"mermaid"}
    if page in ("README.md", "docs/practise.md"):  # by the tests of the scripts and of the grader
        elsewhere |= {"sh", "python", "text", "yaml"}
    languages = {block.language for block in blocks(read(page))}
    assert languages <= {"console", "pycon", "diff", "python"} | elsewhere


@each_page
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
    links = re.findall(r"\]\((?!https:)([^)#]*)(?:#([^)]*))?\)", text)
    assert links
    for file, heading in links:
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.is_file(), file
        assert not heading or heading in anchors(target), heading


def anchors(page):
    """The headings of a page, as links name them; the steps of a step-by-step page."""
    if page.suffix == ".html":
        recording = re.search(r'id="recording"[^>]*>(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
        return [f"{page.stem}-{number}" for number in range(len(json.loads(recording[1])["frames"]))]
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


@each_page
def test_python_block_can_be_typed_into_any_prompt(page):
    """Python 3.13's prompt indents by itself, so that a second line of a body would be indented twice."""
    bodies = re.findall(r"^(?:>>> .*\n)((?:\.\.\. .+\n)+)", read(page), flags=re.MULTILINE)
    assert all(len(re.findall(r"^\.\.\.  +", body, flags=re.MULTILINE)) <= 1 for body in bodies), bodies


@each_page
def test_captions_stand_alone(page):
    captions = [line for line in read(page).splitlines() if "**terminal" in line.lower()]
    assert all(re.fullmatch(r"\*\*Terminal \d\*\*", line) for line in captions)


def test_table_of_stages_has_every_chapter_in_its_order():
    linked = re.findall(r"^\| \[(\w+)\]\((.*?)\) \|", read("README.md"), flags=re.MULTILINE)
    assert linked == [(page[5:7], page) for page in CHAPTERS]


def parts(page):
    """A dict from the headings of a chapter's parts to their text. '' is the heading of its start."""
    before, *rest = re.split(r"^## (.*)\n", read(page), flags=re.MULTILINE)
    return {"": before, **dict(zip(rest[::2], rest[1::2]))}


def exercises(page):
    return re.split(r"^\d\. ", parts(page)["Exercises"], flags=re.MULTILINE)[1:]


@each_chapter
def test_parts_are_in_order(page):
    # Before one has seen what an application is, 3h's code says nothing.
    own = {"docs/3a.md": ["The code", "Why"], "docs/3h.md": ["Why", "What changed"], "docs/3i.md": ["Why"]}
    cure = ["What looks like the cure"] * ("What looks like the cure" in parts(page))
    middle = [*own.get(page, ["What changed", "Why"]), *cure]
    assert list(parts(page)) == ["", "See it", *middle, "Recap", "Exercises"]


@each_chapter
def test_introduction_is_short(page):
    assert len(parts(page)[""].partition("[Contents]")[2].partition("\n")[2].split()) <= 40


@each_chapter
def test_reader_is_asked_for_a_prediction(page):
    assert "?*" in parts(page)["See it"]


@each_chapter
def test_question_is_answered_in_a_fold(page):
    text = "".join(text for heading, text in parts(page).items() if heading not in ("Recap", "Exercises"))
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    _, *after = re.split(r"(?<!\*)\*(?:[^*\n]|\n(?!\n))+\?\*(?!\*)", text)
    unfolded = [following[:70] for following in after if "<details>" not in re.split(r"^#", following, flags=re.M)[0]]
    assert unfolded == []


@each_page
def test_folds_are_closed_and_not_nested(page):
    tags = re.findall(r"<(/?)details>", read(page))
    assert tags == ["", "/"] * (len(tags) // 2)


@each_chapter
def test_chapter_has_a_diagram(page):
    assert "\n```mermaid\n" in read(page)


@each_chapter
def test_recap_has_four_to_seven_points(page):
    assert 4 <= len(re.findall(r"^- \[ \] ", parts(page)["Recap"], flags=re.MULTILINE)) <= 7


@each_chapter
def test_there_are_three_exercises_or_more(page):
    assert len(exercises(page)) >= 3


@each_chapter
def test_each_exercise_has_one_folded_answer(page):
    assert [exercise.count("<details>") for exercise in exercises(page)] == [1] * len(exercises(page))


@each_chapter
def test_last_exercise_is_graded(page):
    last = exercises(page)[-1]
    assert "graded" in last and "--server" in last


@pytest.mark.parametrize("page", [page for page in CHAPTERS if page != "docs/3i.md"])
def test_last_exercise_names_practise3_before_the_grader(page):
    last = exercises(page)[-1].rpartition("</details>")[0]
    assert 0 <= last.rfind("practise3.py") < last.rfind("--server")


@each_chapter
def test_chapter_ends_with_a_question_that_leads_on(page):
    end = parts(page)["Exercises"].rpartition("</details>")[2]
    after = [*CHAPTERS, "docs/next.md"][CHAPTERS.index(page) + 1].partition("/")[2]
    assert "?" in end and f"]({after})" in end


@each_chapter
def test_difference_is_shown_only_after_what_happens(page):
    old, new = (pathlib.Path(CHAPTERS[number]).stem for number in (CHAPTERS.index(page) - 1, CHAPTERS.index(page)))
    alone = new in ("3a", "3h", "3i", "4a", "4b", "4c", "4d")  # unlike all stages before
    heads = re.compile(r"^--- webserver(..)\.py\n\+\+\+ webserver(.[a-i])\.py$", re.MULTILINE)
    changed = list(parts(page).values())[2]
    assert heads.findall(read(page)) == heads.findall(changed) == ([] if alone else [(old, new)])
