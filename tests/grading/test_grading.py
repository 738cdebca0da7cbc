"""That a reader's own server is graded as the README says."""

import re
import shlex
import sys

from library.programs import Program
from library.servers import ROOT


def test_readmes_server_is_graded_as_the_readme_says(start, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    source, tests, server, printed = readmes_example()
    (tmp_path / "my-server.py").write_text(source, encoding="utf-8")
    server = server.replace("my-server.py", str(tmp_path / "my-server.py"))
    graded = start(Program, [sys.executable, "-m", "pytest", tests, "--server", server])
    assert graded.wait(60) == 1
    said = graded.output.replace(f"{tmp_path}/", "")
    assert said.partition("\n\n")[0] == printed.strip()


def readmes_example():
    """The README's server, its tests, its command, and what is printed of that."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Grade a server of your own")[2]
    source = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    typed, printed, _ = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    pytest, tests, option, server = shlex.split(typed)
    assert (pytest, option) == (".venv/bin/pytest", "--server")
    assert server.startswith("python3 my-server.py ")
    return source, tests, server, printed
