"""Skip marks.

Kept out of `harness`, which does not import pytest: follow.py uses it, too, and pytest is slow to import.
"""

import shutil

import pytest
from harness import system

LINUX_ONLY = pytest.mark.skipif(not system.LINUX, reason="this is not Linux")


def needs_queue(length):
    """Skip a test where listen queues may not be that long (listen(2))."""
    longest = system.longest_queue()
    return pytest.mark.skipif(longest < length, reason=f"listen queues have {longest} places at most")


def needs(program):
    """Skip a test where a program is missing."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"there is no {program}")
