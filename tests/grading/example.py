"""The server that the README grades, and what it says of that."""

import re
import shlex

from library.servers import ROOT


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
