"""That the README and the chapters in docs/ are true: all that they show is run."""

import re
import sys

import pytest
from library.programs import Program
from library.servers import ROOT, needs
from tutorial import follow

CHECK = [sys.executable, ROOT / "tests/tutorial/follow.py", "--check", "--port", "0"]
CHAPTERS = [page for page in follow.PAGES if page != "README.md"]


@pytest.fixture(scope="module")
def followed():
    """Every page, followed in a program of its own. They sleep most of the time."""
    started = {}
    try:
        for page in follow.PAGES:
            started[page] = Program([*CHECK, page])
        yield started
    finally:
        for program in started.values():
            program.kill()


@pytest.mark.parametrize("page", follow.PAGES)
def test_page_shows_what_comes_of_it(followed, page, record_property):
    status = followed[page].wait(100)
    remarks = followed[page].output + followed[page].errors
    assert status == 0, remarks
    for remark in remarks.splitlines():
        where, reason = re.fullmatch(r"Not run: (.*): (.*)", remark).groups()
        kind = f"section of {page}" if "line" in where else "page"
        record_property("left out", (kind, reason))  # conftest.py says it at the end


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


@pytest.mark.parametrize("page", [page for page in CHAPTERS if page != "docs/next.md"])
def test_chapter_has_its_parts_in_order_and_a_picture(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    parts = [part for part in re.findall(r"^## (.*)", text, flags=re.MULTILINE)]
    stage = re.search(r"3\w", page)[0]
    changes = [] if stage in ("3g", "3h") else [f"What changes in 3{chr(ord(stage[1]) + 1)}"]
    assert parts == ["See it", "Why", *changes, "Try"]
    assert "mermaid" in [block.language for block in follow.blocks(text)]


SERVED = """
**terminal 1**
```console
$ python3 webserver3d.py
Serving HTTP on port 8888 ...
Parent PID: 101
```
**terminal 2**
```console
$ curl localhost:8888
Hello, World!
```
**terminal 1**
```console any-order
Connections kept open: 1
Child 102 of 101: b'GET …
^C
$
```
**terminal 2**
```console
$
```
```pycon
>>> import os
>>> os.getpid() > 1
True
```
"""
EXCERPT = """
```python
def grim_reaper(signum, frame):
    pid, status = os.wait()
    show(f"Child {pid} terminated with status {status}")
```
```diff
--- webserver3d.py
+++ webserver3d.py
```
"""
# What is replaced in a true page, by what, and in which line that is noticed.
LIES = {
    "another output": (SERVED, "open: 1", "open: 2", 15),
    "an output too many": (SERVED, "open: 1", "open: 1\nConnections kept open: 2", 15),
    "an output too few": (SERVED, "Connections kept open: 1\n", "", 15),
    "another result": (SERVED, "True", "False", 25),
    "a command that does not end": (SERVED, "Hello, World!\n", "Hello, World!\n$\n", 10),
    "a command that does end": (SERVED, "curl localhost:8888\nHello, World!", "true", 10),
    "another excerpt": (EXCERPT, "os.wait()", "os.wait3()", 3),
    "another difference": (EXCERPT, "+++ webserver3d.py", "+++ webserver3e.py", 8),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What is said of each page that is not true, and of the true ones."""
    pages = {"SERVED": SERVED, "EXCERPT": EXCERPT}
    for name, (page, true, untrue, _) in LIES.items():
        assert page.count(true) == 1
        pages[name] = page.replace(true, untrue)
    started = {}
    try:
        for name, text in pages.items():
            page = tmp_path_factory.mktemp("page") / "3f.md"
            page.write_text(text, encoding="utf-8")
            started[name] = Program([*CHECK, "--patience", "5", page])
        for program in started.values():
            program.wait(100)
        yield {name: program.output + program.errors for name, program in started.items()}
    finally:
        for program in started.values():
            program.kill()


@needs("curl")
@pytest.mark.parametrize("lie", LIES)
def test_of_a_page_that_is_not_true_it_is_said_where(told, lie):
    assert told["SERVED"] == told["EXCERPT"] == ""
    assert f"3f.md, line {LIES[lie][3]}:" in told[lie]
