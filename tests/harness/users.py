"""Users with few processes: how to make fork fail, even if root runs the tests."""

import contextlib
import fcntl
import functools
import itertools
import os
import resource
import shutil
import subprocess
import sys

from harness import system
from harness.ports import free_port
from harness.waiting import Impossible

# Capability sets in setpriv(1)'s notation, and a capability's number
NOTHING, READS_ALL, WRITES_ALL = "-all", "-all,+dac_read_search", "-all,+dac_override"
MANY_PROCESSES = 1000  # the limit of a server whose claim is not about the limit
TRACES_ALL = 19  # CAP_SYS_PTRACE: inspect processes of other users (proc_pid_fd(5))


def user_with_few_processes(count, capabilities=READS_ALL):
    """Limit a Server to `count` processes. Returns its options `wrapper` and `limits`.

    RLIMIT_NPROC counts all processes of the user and doesn't apply to root (getrlimit(2)). So root starts the
    server as an otherwise unused user, with at most one capability: to read all files, because the interpreter
    may be where only root can read. Raises Impossible where root can't do that, as in some containers and on macOS.
    """
    if os.getuid() != 0:
        # The user's other processes come and go. Only 0 is certain: not one more.
        most = count + system.tasks_of_user(os.getuid()) if count > 1 else 0
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]  # 1333 on a Mac with 8 GB
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        return {"wrapper": [], "limits": {resource.RLIMIT_NPROC: most}}
    if not system.LINUX:
        raise Impossible("the limit on processes does not hold for root")
    if why_no_other_user(capabilities):  # a container may lack that capability; most servers need none
        capabilities = NOTHING
    if why_no_other_user(capabilities):
        raise Impossible(why_no_other_user(capabilities))
    wrapper = as_user(unused_user(), capabilities)
    return {"wrapper": wrapper, "limits": {resource.RLIMIT_NPROC: count}}


@contextlib.contextmanager
def many_processes_lock():
    """Hold a lock while hundreds of processes are started. Wait for it while another run of the tests has it.

    An ordinary user's limit on processes counts those of all runs, and grade.py grades several servers at once.
    Root's servers have a user each.
    """
    global _locked
    if os.getuid() != 0:
        fcntl.flock(lock_file(), fcntl.LOCK_EX)  # returns at once if this process has it
    _locked += 1
    try:
        yield
    finally:
        _locked -= 1
        if not _locked:
            fcntl.flock(lock_file(), fcntl.LOCK_UN)


_locked = 0  # how often this process has the lock


@functools.cache
def lock_file():
    """The open file that is locked (flock(2)): this one, so that none is left behind."""
    return open(__file__, encoding="utf-8")


def unused_user():
    """The number of a user that runs nothing, a new one each time.

    No two servers share one: leftovers of the first would count against the second's limit.
    """
    users = (20000 + free_port() for _ in itertools.count())
    return next(user for user in users if system.tasks_of_user(user) == 0)


def as_user(user, capabilities):
    """The start of a command that is to run as a user, given by number (setpriv(1))."""
    command = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"]
    if capabilities != NOTHING:
        command += ["--inh-caps", capabilities, "--ambient-caps", capabilities]
    return command


@functools.cache
def why_no_other_user(capabilities):
    """Why root can't run Python as another user with these capabilities; '' if it can."""
    if shutil.which("setpriv") is None:
        return "there is no setpriv"
    command = [*as_user(unused_user(), capabilities), sys.executable, "-c", ""]
    tried = subprocess.run(command, stderr=subprocess.PIPE, encoding="utf-8")
    return f"root cannot be another user here: {tried.stderr.strip()}" if tried.returncode else ""


def capable(number):
    """Whether this process has a capability (capabilities(7)), given by number (Linux)."""
    return bool(int(system.status("self", "CapEff"), 16) >> number & 1)
