"""Grade the servers of a class: many submissions, several stages, one table.

Type    .venv/bin/python tests/grading/grade.py 'submissions/*/' \\
            --command 'python3 {folder}/webserver{stage}.py {port} {delay}'
Expect  A table, submissions by stages, and below it what each one lacks. The status
        is 0 if all claims hold, 1 if some fail, 2 if something was not graded.
        --junit FOLDER writes a JUnit file for each, which other systems read.
Note    A stage takes 2 to 25 seconds if the command takes {delay}, or else it
        takes minutes. With --first-failure it ends at a claim that fails.
Note    It runs strangers' code. Started by root, the servers run as users whom
        nobody else is. They cannot change other people's files, nor read what
        is not for everybody. But if only root can read what the command names
        (such as Python, or a submission), they can read all files. Where root
        has not the capabilities for that, as in some containers, they run as
        root. They can use the network, and see the environment variables of this
        command. Where that matters, grade in a virtual machine.
"""

# Pytest grades, a process for each submission and stage. What it finds it writes into a file
# (--results, see grader.py), which is all that is read here. Each is in a session of its own,
# so that a Ctrl-C meets this process alone: it ends them, and waits until they have ended
# what they started.

import argparse
import asyncio
import contextlib
import glob
import json
import os
import pathlib
import shlex
import signal
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = {path.stem[-2:]: path for path in sorted(ROOT.glob("tests/test_webserver[0-9][a-z].py"))}
STAGES = list(TESTS)


class Grade(NamedTuple):
    """What came of a server graded as a stage.

    holds: claims; fails and not_tried: from a claim to its remark, a list of lines;
    ungraded: why it could not be graded, '' if it could.
    """

    holds: list
    fails: dict
    not_tried: dict
    ungraded: str

    def __str__(self):
        """A few words, for a table."""
        if self.ungraded:
            return "missing" if self.ungraded.startswith("There is no ") else "does not start"
        count = len(self.fails)
        claims = count + len(self.holds) + len(self.not_tried)
        return f"{count} of {claims} fail" if count else "holds"

    def lines(self):
        """What does not hold, and why, in lines."""
        if self.ungraded:
            return self.ungraded.splitlines()
        return [
            line
            for claim, remark in [*self.fails.items(), *self.not_tried.items()]
            for line in (claim, *(f"    {line}" for line in remark))
        ]


async def grade(server, stage, *options, time_limit=None):
    """Grade a server, the command that starts it, as a stage. options are pytest's.

    Raises asyncio.CancelledError if it is cancelled, when all that it started has ended.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        results = pathlib.Path(folder, "results")
        grader = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pytest", TESTS[stage], "--server", server,
            "--results", results, *options,
            cwd=ROOT, start_new_session=True, stdin=asyncio.subprocess.DEVNULL,
            stdout=said, stderr=said,
        )  # fmt: skip
        try:
            await asyncio.wait_for(grader.wait(), time_limit)
        except asyncio.TimeoutError:
            await end(grader)
            return read(results)._replace(ungraded=f"It took longer than {time_limit:g} seconds.")
        except asyncio.CancelledError:
            await end(grader)
            raise
        found = read(results)
        if found.ungraded or grader.returncode == bool(found.fails):
            return found
        said.seek(0)
        return found._replace(ungraded=said.read().decode(errors="backslashreplace").strip())


async def end(grader):
    """Interrupt a grader, and wait until it has ended what it started, even if cancelled again."""
    with contextlib.suppress(ProcessLookupError):
        grader.send_signal(signal.SIGINT)
    while grader.returncode is None:
        with contextlib.suppress(asyncio.CancelledError):
            await grader.wait()


def read(results):
    """The Grade that a file of results says (see grader.py)."""
    holds, fails, not_tried, ungraded = [], {}, {}, ""
    for line in results.read_text("utf-8").splitlines() if results.exists() else []:
        result = json.loads(line)
        if "ungraded" in result:
            ungraded = result["ungraded"]
        elif result.get("outcome") == "holds":
            holds.append(result["claim"])
        elif "outcome" in result:
            where = fails if result["outcome"] == "fails" else not_tried
            where[result["claim"]] = result["remark"]
    return Grade(holds, fails, not_tried, ungraded)


async def grade_all(options):
    """Grade each folder as each stage. Returns a dict from (folder, stage) to Grade."""
    places = asyncio.Semaphore(options.jobs)
    found = {}

    async def grade_one(folder, stage):
        server = options.command.replace("{stage}", stage)
        server = server.replace("{folder}", shlex.quote(os.path.abspath(folder)))
        more = ["-x"] if options.first_failure else []
        more += [f"--claims={options.claims}"]
        if options.junit:
            name = "-".join([*pathlib.Path(folder).parts, stage]).lstrip("/-")
            more.append(f"--junitxml={options.junit.resolve() / name}.xml")
        async with places:
            one = await grade(server, stage, *more, time_limit=options.time_limit)
        if one.ungraded:
            one = one._replace(ungraded=missing(server, folder) or one.ungraded)
        found[folder, stage] = one
        done = f"{len(found)} of {len(options.folders) * len(options.stages)}"
        print(f"{done}: {folder} as {stage}: {one}", file=sys.stderr)

    jobs = [
        asyncio.ensure_future(grade_one(folder, stage))
        for folder in options.folders
        for stage in options.stages
    ]
    try:
        await asyncio.gather(*jobs)
    finally:
        for job in jobs:
            job.cancel()  # without effect if all is well
        await asyncio.gather(*jobs, return_exceptions=True)
    return found


def missing(server, folder):
    """What a command names in a submission's folder that is not there, in a sentence; or ''."""
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", help="where the submissions are; * is filled in")
    parser.add_argument("--stages", type=stages_of, default=STAGES, help="such as 3a,3c-3e")
    parser.add_argument(
        "--command", required=True, help="starts a server; {folder} {stage} {port} {delay}"
    )
    parser.add_argument(
        "--claims", choices=["all", "behaviour"], default="all",
        help="behaviour leaves out what a server has to print",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=2 * os.cpu_count(),  # a grader mostly waits
        help="at a time (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--time-limit", type=float, default=600, metavar="SECONDS",
        help="for a stage of a submission (default: %(default)s)",
    )  # fmt: skip
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
    found = asyncio.run(grade_all(options))
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
