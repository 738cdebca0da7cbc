"""That a reader's own server is graded as the README says."""

import re
import shlex
import sys

from library.programs import Program
from library.servers import ROOT


def test_readmes_server_is_graded_as_the_readme_says(start, monkeypatch):
    monkeypatch.chdir(ROOT)
    tests, server, printed = readmes_example()
    graded = start(Program, [sys.executable, "-m", "pytest", tests, "--server", server])
    assert graded.wait(60) == 1
    assert graded.output.partition("\n\n")[0] == printed.strip()


def readmes_example():
    """The README's tests, the command of its server, and what is printed of that.

    The server's file need not be there: Python takes its text as well.
    """
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Grade a server of your own")[2]
    source = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    typed, printed = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    pytest, tests, option, server = shlex.split(typed)
    assert (pytest, option) == (".venv/bin/pytest", "--server")
    assert server.startswith("python3 my-server.py ")
    return tests, server.replace("my-server.py", f"-c {shlex.quote(source)}"), printed
