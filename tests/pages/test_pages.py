"""That the README and the chapters in docs/ are true: all that they show is run.

Each page is followed by a process of its own, in terminals of its own, as by a reader.
"""

import pathlib
import re
import sys

import pytest
from harness.programs import Program
from harness.stages import ROOT
from marks import needs
from tutorial import follow

pytestmark = pytest.mark.first

CHAPTERS = follow.STAGES
FOLLOW = [sys.executable, ROOT / "tests/tutorial/follow.py", "--port", "0"]
# Those with sleeps in them: they start first, so that nothing waits for one at the end.
LONGEST = [f"docs/3{stage}.md" for stage in "bedgfc"]


@pytest.mark.parametrize("page", LONGEST + [page for page in follow.PAGES if page not in LONGEST])
def test_page_shows_what_comes_of_it(start, page):
    program = start(Program, [*FOLLOW, "--check", page])
    status = program.wait(100)
    remarks = program.output + program.errors
    assert status == 0, remarks
    if remarks:  # it holds, as far as it could be run here
        pytest.skip(", ".join(remarks.splitlines()))


TRUE = """
**terminal 1**
```console
$ python3 webserver3d.py
Serving HTTP on port 8888 ...
Parent PID: 10101
```
**terminal 2**
```console
$ curl localhost:8888
Hello, World!
```
**terminal 1**
```console any-order
Connections kept open: 1
Child 10102 of 10101: b'GET …
^C
$
```
**terminal 2**
```console
$
```
```console
$ cd .
$
```
```pycon
>>> import os
>>> os.getpid() > 1
True
```
```python
def grim_reaper(signum, frame):
    pid, status = os.wait()
    show(f"Child {pid} terminated with status {status}")
```
```diff
--- webserver3d.py
+++ webserver3d.py
```
```python name.py
print("saved")
```
```diff webserver3w.py
--- webserver3d.py
+++ webserver3w.py
@@ at the end
     try:
-        main()
+        import name
```
```console
$ python3 webserver3w.py
saved
$
```
"""
# What is replaced in the true page, by what, and the line of the block that is wrong then
LIES = [
    ("Hello, World!\n", "Hello!\n$\n", 10),  # and it goes on
    ("cd .\n$", "cd .", 26),  # and it ends
    ("True", "False", 29),
    ("os.wait()", "os.wait3()", 34),
    ("+++ webserver3d.py", "+++ webserver3d.py\n+import os", 39),
]


@needs("curl")
def test_page_that_is_not_true_is_repaired_where_it_is_not(start, tmp_path):
    page, untrue = tmp_path / "3f.md", TRUE
    for true, lie, _ in LIES:
        assert untrue.count(true) == 1
        untrue = untrue.replace(true, lie)
    page.write_text(untrue, encoding="utf-8")
    program = start(Program, [*FOLLOW, "--patience", "2", page])
    assert program.wait(100) == 1, program.errors
    assert page.read_text(encoding="utf-8") == TRUE
    told = re.findall(r"3f\.md, line (\d+)", program.output)
    assert told == [str(line) for _, _, line in LIES]


@needs("curl")
def test_change_that_does_not_fit_the_script_is_not_true(start, tmp_path):
    page = tmp_path / "3f.md"
    page.write_text(TRUE.replace("-        main()", "-        mine()"), encoding="utf-8")
    program = start(Program, [*FOLLOW, "--check", page])
    assert program.wait(100) == 1, program.errors
    assert "3f.md, line 46: it has to be there once" in program.output


@needs("curl")
def test_of_a_page_that_is_true_nothing_is_said(start, tmp_path):
    page = tmp_path / "3f.md"
    page.write_text(TRUE, encoding="utf-8")
    program = start(Program, [*FOLLOW, "--check", page])
    assert (program.wait(100), program.output + program.errors) == (0, "")


PS = "10154 10001 S+ python3"
SAME = [
    (PS, "7 1 S+ python3"),
    (PS, "1234567  1000001 SN+  python3"),
    (PS, "7 1 S<+ python3"),
    ("User-Agent: curl/7.88.1\\r", "User-Agent: curl/8.18.0-rc2\\r"),
    ("/dev/pts/1", "/dev/ttys004"),
    ("200 14 bytes 1 ms", "200 14 bytes 21017 ms"),
    ("4 of 1024 descriptors:", "4 of 1048576 descriptors:"),
    ("accept(3, …) = 4", "accept(3, {sa_family=AF_INET}, [16]) = 4"),
    ("10101 is not 10102\n10102 it is", "5 is not 6\n6 it is"),
    ("PID 10101, port 40000", "PID 45000, port 45000"),
    ("first\n…\nlast", "first\nlast"),
    ("first\n…\nlast", "first\nsecond\nthird\nlast"),
]
DIFFERENT = [
    (PS, "7 1 SN python3"),
    (PS, "7 1 ZN+ python3"),
    ("User-Agent: curl/7.88.1\\r", "User-Agent: wget/7.88.1\\r"),
    ("(0, 0)", "(4711, 0)"),
    ("(80, 25)", "(443, 25)"),
    ("Parent PID: 101", "Parent PID: 102"),
    ("Parent PID: 10101", "Parent PID: pts/1"),
    ("4 of 4 descriptors:", "4 of 5 descriptors:"),
    ("10101 is not 10102", "5 is not 5"),
    ("10101 is 10101", "5 is 6"),
    ("10101 is not 10102\n10102 it is", "5 is not 6\n5 it is"),
    ("pts/1 is not pts/2", "pts/3 is not pts/3"),
    ("one", "one\nanother"),
    ("one\nanother", "one"),
    ("one\nanother", "another\none"),
    ("first\n…\nlast", "first\nlast\nthe very last"),
]


@pytest.mark.parametrize(
    "said, seen, same", [(*pair, True) for pair in SAME] + [(*pair, False) for pair in DIFFERENT]
)
def test_page_holds_for_another_run_of_the_same(said, seen, same):
    assert (follow.match(said.split("\n"), seen.split("\n"), {}) is not None) == same


def test_lines_may_come_in_another_order_where_the_page_says_so():
    names = follow.match(["10101 a", "10102 b"], ["6 b", "5 a"], {}, any_order=True)
    assert names == {"10101": "5", "10102": "6"}
    assert follow.match(["10101 a", "10101 b"], ["6 b", "5 a"], {}, any_order=True) is None


@pytest.mark.parametrize("page", follow.PAGES)
def test_page_has_no_block_that_nothing_checks(page):
    elsewhere = {"mermaid"}
    if page in ("README.md", "docs/practise.md"):  # test_conventions.py and test_grading.py
        elsewhere |= {"sh", "python", "text", "yaml"}
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


def test_table_of_stages_has_every_chapter_in_its_order():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"^\| \[(\w+)\]\((.*?)\) \|", text, flags=re.MULTILINE)
    assert linked == [(page[5:7], page) for page in CHAPTERS]


@pytest.mark.parametrize("page", CHAPTERS)
def test_chapter_has_its_parts_in_order(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    parts = re.findall(r"^## (.*)", text, flags=re.MULTILINE)
    changes = {"docs/3a.md": ["The code"], "docs/3h.md": []}.get(page, ["What changed"])
    no_cure = [part for part in parts if part != "What looks like the cure"]
    assert no_cure == ["See it", *changes, "Why", "Recap", "Exercises"]
    assert parts in (no_cure, [*no_cure[:-2], "What looks like the cure", *no_cure[-2:]])
    before, see, *_, exercises = re.split(r"^## .*\n", text, flags=re.MULTILINE)
    words = before.partition("[Contents]")[2].partition("\n")[2].split()
    assert len(words) <= 40
    assert "?*" in see  # what do you expect?
    each = re.split(r"^\d\. ", exercises, flags=re.MULTILINE)[1:]
    assert len(each) >= 3 and all(exercise.count("<details>") == 1 for exercise in each)
    assert "graded" in each[-1] and "--server" in each[-1]


@pytest.mark.parametrize("page", CHAPTERS)
def test_chapter_draws_sums_up_and_leads_on(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    *_, recap, exercises = re.split(r"^## .*\n", text, flags=re.MULTILINE)
    assert "\n```mermaid\n" in text
    assert 4 <= len(re.findall(r"^- \[ \] ", recap, flags=re.MULTILINE)) <= 7
    last, _, question = exercises.rpartition("</details>")
    assert page == "docs/3h.md" or 0 <= last.rfind("practise3.py") < last.rfind("--server")
    after = [*CHAPTERS, "docs/next.md"][CHAPTERS.index(page) + 1].partition("/")[2]
    assert "?" in question and f"]({after})" in question


@pytest.mark.parametrize("page", CHAPTERS)
def test_chapter_shows_what_changed_only_after_what_happens(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    changed = re.split(r"^## .*\n", text, flags=re.MULTILINE)[2]
    heads = re.compile(r"^--- webserver(..)\.py\n\+\+\+ webserver(.[a-h])\.py$", re.MULTILINE)
    number = CHAPTERS.index(page)
    old, new = (pathlib.Path(CHAPTERS[n]).stem for n in (number - 1, number))
    old = {"4b": "3g"}.get(new, old)  # the server that it is like
    alone = new in ("3a", "3h", "4a")  # unlike all before them
    assert heads.findall(text) == heads.findall(changed) == ([] if alone else [(old, new)])


@pytest.mark.parametrize("page", follow.PAGES)
def test_terminal_is_named_in_a_caption_of_its_own(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = [line for line in text.splitlines() if "**terminal" in line.lower()]
    assert all(re.fullmatch(r"\*\*Terminal \d\*\*", line) for line in named)
