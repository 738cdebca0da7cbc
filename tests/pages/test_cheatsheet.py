"""The cheat sheet, which has nothing to run: its links, and the numbers of its errors on this system."""

import errno
import os
import re

import pytest
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
    # os.uname asks the kernel, whose numbers these are, also where it is made to look like another one.
    column = 1 if os.uname().sysname == "Linux" else 2
    for row in rows:
        assert getattr(errno, row[0]) == int(row[column]), row[0]
