"""The cheat sheet, which has nothing to run: its links, and the numbers of its errors on this system."""

import errno
import re

import pytest
from harness import system
from harness.stages import ROOT
from pages.translation import twin

PAGE = "docs/cheatsheet.md"
BOTH = [PAGE, twin(PAGE)]


@pytest.mark.parametrize("page", BOTH)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#]*)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if not ((ROOT / page).parent / link).is_file()] == []


@pytest.mark.parametrize("page", BOTH)
def test_errors_have_their_numbers(page):
    rows = re.findall(r"\| (E[A-Z]+) \| (\d+)(?:, |、)(\d+) \|", (ROOT / page).read_text(encoding="utf-8"))
    assert len(rows) == 10
    for name, linux, macos in rows:
        assert getattr(errno, name) == int(linux if system.LINUX else macos), name
