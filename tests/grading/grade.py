"""Grade the servers of a class: many submissions, several stages, one table.

Type    .venv/bin/python tests/grading/grade.py 'submissions/*/' \\
            --command 'python3 {folder}/webserver{stage}.py {port} {delay}'
Expect  A table, submissions by stages, and below it what each one lacks. The status
        is 0 if all claims hold, 1 if some fail, 2 if something was not graded.
        --junit FOLDER writes a JUnit file for each, which other systems read.
Note    A stage takes 2 to 25 seconds if the command takes {delay}, or else it
        takes minutes. With --first-failure it ends at a claim that fails.
Note    It runs strangers' code. Started by root, each server runs as its own
        unprivileged user, who cannot change other people's files and reads only
        what everybody may read. If only root can read what the command names
        (such as Python, or a submission), the servers can read all files. Where
        root lacks the capabilities for that, as in some containers, they run as
        root. They can use the network, and see the environment variables of this
        command. Where that matters, grade in a virtual machine.
"""

import argparse
import concurrent.futures
import glob
import os
import pathlib
import shlex
import sys
import threading
import time

from results import grade, stages

STAGES = list(stages())


class Grade:
    """What grading a server as a stage has found.

    holds, fails and not_tried map claims to remarks, lists of lines; ungraded says why it
    could not be graded, '' if it could.
    """

    def __init__(self, results):
        self.holds, self.fails, self.not_tried = (
            {result["claim"]: result["remark"] for result in results if result.get("outcome") == outcome}
            for outcome in ("holds", "fails", "not tried")
        )
        self.ungraded = next((result["ungraded"] for result in results if "ungraded" in result), "")

    def __str__(self):
        """A few words, for a table."""
        if self.ungraded:
            return "missing" if self.ungraded.startswith("There is no ") else "does not start"
        claims = len(self.fails) + len(self.holds) + len(self.not_tried)
        return f"{len(self.fails)} of {claims} fail" if self.fails else "holds"

    def lines(self):
        """What does not hold, and why, in lines."""
        if self.ungraded:
            return self.ungraded.splitlines()
        return [
            line
            for claim, remark in [*self.fails.items(), *self.not_tried.items()]
            for line in (claim, *(f"    {line}" for line in remark))
        ]


def grade_one(folder, stage, options, ended):
    """Grade a submission as a stage. Returns its Grade. ended is an Event: set, it ends this."""
    server = options.command.replace("{stage}", stage)
    server = server.replace("{folder}", shlex.quote(os.path.abspath(folder)))
    more = ["-x"] if options.first_failure else []
    if options.junit:
        name = "-".join([*pathlib.Path(folder).parts, stage]).lstrip("/-")
        more.append(f"--junitxml={options.junit.resolve() / name}.xml")
    began = time.monotonic()

    def check():
        if ended.is_set():
            raise InterruptedError
        if time.monotonic() - began > options.time_limit:
            raise TimeoutError

    results = []
    try:
        for result in grade(server, stage, f"--claims={options.claims}", *more, check=check):
            results.append(result)
    except TimeoutError:
        results.append({"ungraded": f"It took longer than {options.time_limit:g} seconds."})
    graded = Grade(results)
    if graded.ungraded:
        graded.ungraded = missing(server, folder) or graded.ungraded
    return graded


def grade_all(options):
    """Grade each folder as each stage. Returns a dict from (folder, stage) to Grade."""
    found, ended = {}, threading.Event()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        jobs = {
            pool.submit(grade_one, folder, stage, options, ended): (folder, stage)
            for folder in options.folders
            for stage in options.stages
        }
        try:
            for job in concurrent.futures.as_completed(jobs):
                folder, stage = jobs[job]
                found[folder, stage] = job.result()
                done = f"{len(found)} of {len(jobs)}"
                print(f"{done}: {folder} as {stage}: {found[folder, stage]}", file=sys.stderr)
        finally:
            ended.set()
            pool.shutdown(cancel_futures=True)
    return found


def missing(server, folder):
    """What a command names in a submission's folder that is not there, in a sentence; or ''."""
    if "{port}" in folder or "{delay}" in folder:
        return f"Rename {folder}: {{port}} and {{delay}} stand for what a server is given."
    inside = os.path.join(os.path.abspath(folder), "")
    files = [word for word in shlex.split(server) if word.startswith(inside)]
    gone = [file for file in files if not os.path.exists(file)]
    return f"There is no {gone[0]}." if gone else ""


def table(found, folders, stages):
    """The grades as text: a row for each submission."""
    rows = [["submission", *stages]]
    rows += [[folder, *(str(found[folder, stage]) for stage in stages)] for folder in folders]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def stages_of(text):
    """The stages that '3a,3c-3e' stands for. Raises ValueError if there are no such."""
    found = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += STAGES[STAGES.index(first) : STAGES.index(last or first) + 1]
    if not found:
        raise ValueError(text)
    return found


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="where the submissions are; * is filled in")
    parser.add_argument("--stages", type=stages_of, default=STAGES, help="such as 3a,3c-3e")
    parser.add_argument(
        "--command",
        required=True,
        help="starts a server; {folder} {stage} {port} {delay}, and in 3h {application}, else before {port}",
    )
    parser.add_argument(
        "--claims",
        choices=["all", "behaviour"],
        default="all",
        help="behaviour leaves out what a server has to print",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=2 * os.cpu_count(),  # a grader mostly waits
        help="at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--time-limit",
        type=float,
        default=600,
        metavar="SECONDS",
        help="for a stage of a submission (default: %(default)s)",
    )
    parser.add_argument("--first-failure", action="store_true", help="stop a stage there")
    parser.add_argument("--junit", type=pathlib.Path, metavar="FOLDER", help="write JUnit files")
    options = parser.parse_args()
    matches = [match for folder in options.folders for match in sorted(glob.glob(folder))]
    options.folders = [match for match in matches if os.path.isdir(match)]
    if not options.folders:
        parser.error("no such folder")
    return options


def main():
    options = parse_options()
    if options.junit:
        options.junit.mkdir(parents=True, exist_ok=True)
    found = grade_all(options)
    print(table(found, options.folders, options.stages))
    for (folder, stage), one in sorted(found.items()):
        if one.lines():
            print(f"\n{folder} as {stage}:")
            print("\n".join(f"    {line}" for line in one.lines()))
    ungraded = any(one.ungraded for one in found.values())
    sys.exit(2 if ungraded else any(one.fails for one in found.values()))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
