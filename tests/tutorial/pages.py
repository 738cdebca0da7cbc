"""What is started before the first test, and looked at last: it sleeps most of the time.

The pages that test_tutorial.py has followed, ours and some that are not true, and the
server that docs/practise.md grades. A plugin of pytest, loaded by conftest.py.
"""

import contextlib
import sys

import pytest
from grading.example import example
from library.programs import Program
from library.servers import ROOT
from tutorial import follow

CHECK = [sys.executable, ROOT / "tests/tutorial/follow.py", "--check", "--port", "0"]

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
TRUE = {"SERVED": SERVED, "EXCERPT": EXCERPT}
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


def needs_pages(item):
    return "pages" in item.fixturenames


def needs_graded(item):
    return "graded" in item.fixturenames


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: needs_pages(item) or needs_graded(item))


@pytest.fixture(scope="session", autouse=True)
def started_pages(request, guard, tmp_path_factory):
    """The programs by the names of their pages, if a test that runs needs them."""
    with contextlib.ExitStack() as started:
        programs = {}
        if any(map(needs_pages, request.session.items)):
            commands = {page: [*CHECK, page] for page in follow.PAGES}
            for name, text in [*TRUE.items(), *untrue_pages()]:
                page = tmp_path_factory.mktemp("page") / "3f.md"
                page.write_text(text, encoding="utf-8")
                patience = [] if name in TRUE else ["--patience", "5"]
                commands[name] = [*CHECK, *patience, page]
            for name, command in commands.items():
                programs[name] = Program(command)
                started.callback(programs[name].kill)
        yield programs


@pytest.fixture
def pages(started_pages):
    """The programs that follow the pages, by the names of the pages."""
    return started_pages


@pytest.fixture(scope="session", autouse=True)
def started_grading(request, guard, tmp_path_factory):
    """The program that grades docs/practise.md's server, if a test needs it, and its folder."""
    if not any(map(needs_graded, request.session.items)):
        yield None
        return
    folder = tmp_path_factory.mktemp("server")
    source, tests, server, _ = example()
    (folder / "my-server.py").write_text(source, encoding="utf-8")
    server = server.replace("my-server.py", str(folder / "my-server.py"))
    program = Program([sys.executable, "-m", "pytest", tests, "--server", server], cwd=ROOT)
    yield program, folder
    program.kill()


@pytest.fixture
def graded(started_grading):
    """The program that grades docs/practise.md's server, and the folder that this is in."""
    return started_grading


def untrue_pages():
    """The name and the text of each page that is not true."""
    for name, (page, true, untrue, _) in LIES.items():
        assert page.count(true) == 1
        yield name, page.replace(true, untrue)
