"""Packages that a few slow tests need, and no reader's environment should have to."""

import subprocess
import sys


def installed(folder, *names):
    """Install packages into a new virtual environment. Returns the folder for PYTHONPATH.

    Raises CalledProcessError if that fails, as without a network.
    """
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", *names], check=True)
    (found,) = folder.glob("lib/python*/site-packages")
    return found
