"""Run a stage, and say on standard error where its time goes.

Type    python3 benchmarks/watched.py clocks webserver3g.py     or
        python3 benchmarks/watched.py usage webserver3g.py      and the stage's options.
Expect  With clocks, a line for each child when it is forked, when it ends and when it is
        reaped: what, PID, and at what times, in nanoseconds of one clock. With usage,
        when it gets SIGUSR1, a line for the server and one for the children that it has
        reaped: seconds of processor time, page faults (getrusage(2)).
"""

import os
import resource
import signal
import sys
import time

fork, waitpid, end = os.fork, os.waitpid, os._exit
times = []  # in a child: when fork was called, and when it returned


def say(*words):
    os.write(2, (" ".join(map(str, words)) + "\n").encode())


def clocked_fork():
    called = time.perf_counter_ns()
    pid = fork()
    returned = time.perf_counter_ns()
    if pid == 0:
        times[:] = called, returned
    else:
        say("forked", pid, called, returned)
    return pid


def clocked_exit(status):
    say("ended", os.getpid(), *times, time.perf_counter_ns())
    end(status)


def clocked_waitpid(pid, options):
    called = time.perf_counter_ns()
    pid, status = waitpid(pid, options)
    if pid:
        say("reaped", pid, called, time.perf_counter_ns())
    return pid, status


def say_usage(signum, frame):
    for who in ("SELF", "CHILDREN"):
        usage = resource.getrusage(getattr(resource, f"RUSAGE_{who}"))
        say(who, usage.ru_utime + usage.ru_stime, usage.ru_minflt)


def main():
    _, what, *sys.argv = sys.argv
    if what == "clocks":
        os.fork, os.waitpid, os._exit = clocked_fork, clocked_waitpid, clocked_exit
    else:
        signal.signal(signal.SIGUSR1, say_usage)
    with open(sys.argv[0], encoding="utf-8") as file:
        code = compile(file.read(), sys.argv[0], "exec")
    exec(code, {"__name__": "__main__"})


if __name__ == "__main__":
    main()
