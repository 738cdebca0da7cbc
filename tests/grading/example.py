"""The server that docs/practise.md grades, and what the page says of it."""

import re
import shlex

from harness.stages import ROOT


def example():
    """The page's server, its tests, its command, and what is printed of that."""
    page = (ROOT / "docs/practise.md").read_text(encoding="utf-8")
    section = page.partition("## Grade one server")[2]
    source = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    typed, printed = re.findall(r"```text\n(.*?)```", section, re.DOTALL)[:2]
    pytest, tests, option, server = shlex.split(typed)
    assert (pytest, option) == (".venv/bin/pytest", "--server")
    assert server.startswith("python3 first.py ")
    return source, tests, server, printed
