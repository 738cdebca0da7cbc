"""When a test is left out: the marks, apart from the library, which imports no pytest.

The pages are followed by a program that uses the library, too, and pytest takes longer to
load than that program needs for all else.
"""

import shutil

import pytest
from library import system

LINUX_ONLY = pytest.mark.skipif(not system.LINUX, reason="this is not Linux")


def needs_queue(length):
    """Marks a test that is left out where listen queues may not be so long (listen(2))."""
    most = system.longest_queue()
    return pytest.mark.skipif(most < length, reason=f"listen queues have {most} places at most")


def needs(program):
    """Marks a test that is left out where the system has no such program."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"there is no {program}")
