"""When watch3.py can be tested: with its packages, and on Linux. No test has seen what it shows elsewhere."""

import importlib.util

import pytest
from marks import LINUX_ONLY

MISSING = [name for name in ("rich", "psutil") if importlib.util.find_spec(name) is None]
NEEDS_WATCH3 = [pytest.mark.skipif(MISSING != [], reason=f"there is no {' and no '.join(MISSING)}"), LINUX_ONLY]
