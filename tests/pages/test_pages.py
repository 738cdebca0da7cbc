"""The pages are true: whatever a reader types, the output is the one they show.

Each page is followed in terminals of its own, on a port of its own.
"""

import os
import re
import sys

import pytest
from harness import system
from harness.programs import Program
from harness.stages import ROOT
from marks import LINUX_ONLY, needs
from pages import run
from pages.blocks import PAGES, PROMPTS, blocks
from pages.run import followed

pytestmark = pytest.mark.first

FOLLOW = [sys.executable, ROOT / "tests/pages/follow.py", "--port", "0"]
SLOWEST = [f"docs/3{stage}.md" for stage in "bedgfc"]  # they start first, or all would wait for one at the end


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", SLOWEST + [page for page in PAGES if page not in SLOWEST])
def test_page_matches_a_real_run(page):
    run, _ = followed(page)
    assert not run.untrue, "\n".join(run.untrue)
    if run.left_out:  # true as far as it could be run
        pytest.skip(", ".join(run.left_out))


NEEDED = sorted(
    {
        (page, mark)
        for page in PAGES
        for block in blocks(read(page))
        if block.language in PROMPTS
        for mark in block.marks
    }
)


# Nothing is followed without bash; CI follows the pages in zsh, too.
@pytest.mark.slow
@pytest.mark.parametrize("page, mark", [pair for pair in NEEDED if pair[1] not in ("any-order", "bash")])
def test_rest_of_the_page_is_true_without_a_program(page, mark, monkeypatch):
    available = run.available
    monkeypatch.setattr(run, "available", lambda name: name != mark and available(name))
    seen, _ = followed(page)
    assert seen.left_out
    assert not seen.untrue, "\n".join(seen.untrue)


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
# What replaces what in the true page, and the line of the block that is wrong then
LIES = [
    ("Hello, World!\n", "Hello!\n$\n", 10),  # and it goes on
    ("cd .\n$", "cd .", 26),  # and it ends
    ("True", "False", 29),
    ("os.wait()", "os.wait3()", 34),
    ("+++ webserver3d.py", "+++ webserver3d.py\n+import os", 39),
]


@pytest.fixture
def page(tmp_path):
    """page(text) writes a page of the stage 3f, which has the text."""

    def page(text):
        path = tmp_path / "3f.md"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return page


@needs("curl")
def test_rewrite_repairs_what_is_wrong_and_nothing_else(start, page):
    untrue = TRUE
    for true, lie, _ in LIES:
        assert untrue.count(true) == 1
        untrue = untrue.replace(true, lie)
    path = page(untrue)
    program = start(Program, [*FOLLOW, "--patience", "2", path])
    assert program.wait(100) == 1, program.errors
    assert read(path) == TRUE
    reported = re.findall(r"3f\.md, line (\d+)", program.output)
    assert reported == [str(line) for _, _, line in LIES]


def test_nothing_is_reported_for_a_correct_page(page):
    assert followed(page(TRUE))[0].untrue == []


@LINUX_ONLY  # elsewhere orphans are init's
def test_no_process_is_left(page):
    before = {child.pid for child in system.children(os.getpid())}
    run, _ = followed(page("**Terminal 1**\n```console\n$ sleep 600 &\n[1] 10101\n$\n```\n"))
    assert run.untrue == []
    assert {child.pid for child in system.children(os.getpid())} == before


def test_change_that_does_not_fit_the_script_is_reported(page):
    untrue = followed(page(TRUE.replace("-        main()", "-        mine()")))[0].untrue
    assert "3f.md, line 46: the change does not fit\n" in untrue[0]


@needs("curl")
def test_pages_are_utf8_in_any_locale(start, page):
    ascii = ["env", "LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0"]
    path = page("**Terminal 1**\n```console\n$ printf '\\303\\251\\n'\né\n$\n```\n")
    program = start(Program, [*ascii, *FOLLOW, "--check", path])
    assert (program.wait(100), program.output + program.errors) == (0, "")


LEFT_OUT = """
# One: the command goes on
**Terminal 1**
```console
$ cat
```
# Two: its end is left out
```console no-such-program
$ no-such-program
$
```
```console
^C
$
```
# Three: is true because of a ^C
```console
$ echo 1
1
$
```
# Four: the command is left out
```console no-such-program
$ no-such-program
PID 10101
```
# Five: it can't go on
```console
^C
$
```
# Six: nothing has shown the PID
```console
$ kill 10101
$
```
# Seven: is not true
```console
$ echo 7
$
```
"""


def test_what_depends_on_a_missing_program_is_left_out_and_the_rest_is_run(page):
    run, _ = followed(page(LEFT_OUT))
    lines = [re.search(r"line (\d+): (.*)", remark).groups() for remark in [*run.left_out, *run.untrue]]
    assert lines == [
        ("8", "no no-such-program"),
        ("23", "no no-such-program"),
        ("28", "no command in terminal 1"),
        ("33", "no value of 10101"),
        ("39", "in terminal 1 (the prompt is back)"),
    ]
