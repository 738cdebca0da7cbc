"""Grade the servers of a class: many submissions, several stages, one table.

Type    .venv/bin/python tests/grading/grade.py 'submissions/*/' \\
            --command 'python3 {folder}/webserver{stage}.py {port} {delay}'
Expect  A table, submissions by stages, and the folder grades/ with grades.html
        (each claim with its remarks), grades.csv and grades.json. The status is
        0 if all claims hold, 1 if some fail, 2 if something was not graded.
Note    A stage takes 5 to 15 seconds if the command takes {delay}, or else it
        takes minutes. With --first-failure it ends at a claim that fails.
Note    It runs strangers' code. Started by root, the servers run as users whom
        nobody else is. They cannot change other people's files, nor read what
        is not for everybody. But if only root can read what the command names
        (such as Python, or a submission), they can read all files. They can use
        the network, and see the environment variables of this command. Where
        that matters, grade in a virtual machine.
"""

import argparse
import concurrent.futures
import csv
import glob
import html
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
STAGES = ["3a", "3b", "3c", "3d", "3e", "3f", "3g", "4a", "4b", "4c", "4d", "4e"]
HOLDS, FAILS = "holds  ", "FAILS  "
STYLE = """body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; max-width: 70em }
table { border-collapse: collapse } td, th { border: 1px solid #888; padding: .3em .6em;
vertical-align: top; text-align: left } pre { white-space: pre-wrap; font-size: 13px }
.fails, .ungraded { font-weight: bold; color: #b00020 }"""


def grade(folder, stage, options):
    """Grade a folder's server as a stage.

    Returns a dict: the claims that hold; those that fail, each with its remark; and
    'ungraded', why nothing is known, or ''. seconds is how long it took.
    """
    began = time.monotonic()
    values = {"{folder}": shlex.quote(folder.rstrip("/")), "{stage}": stage}
    server = options.command
    for name, value in values.items():
        server = server.replace(name, value)
    tests = ROOT / "tests" / f"test_webserver{stage}.py"
    command = [sys.executable, "-m", "pytest", tests, "--server", server]
    command += ["-x"] if options.first_failure else []
    if options.junit:
        name = folder.strip("/").replace("/", "-")
        command.append(f"--junitxml={options.out.resolve() / f'{name}-{stage}.xml'}")
    graded = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        encoding="utf-8", errors="backslashreplace",
    )  # fmt: skip
    try:
        said, _ = graded.communicate(timeout=options.time_limit)
        ungraded = ""
    except subprocess.TimeoutExpired:
        graded.send_signal(signal.SIGINT)  # so that it ends what it has started
        said, _ = graded.communicate()
        ungraded = f"It took longer than {options.time_limit:g} seconds."
    holds, fails = claims(said)
    if not ungraded and (not holds and not fails or graded.returncode > 1):
        ungraded = said.strip() or "Nothing was said."
    elif not ungraded and graded.returncode == 1 and not fails:
        ungraded = said.strip()
    return {
        "holds": holds,
        "fails": fails,
        "ungraded": ungraded,
        "seconds": round(time.monotonic() - began, 1),
    }


def claims(said):
    """The claims that hold, and a dict from those that fail to what was remarked."""
    holds, fails, last = [], {}, None
    for line in said.splitlines():
        if line.startswith(HOLDS):
            holds.append(line[len(HOLDS) :])
            last = None
        elif line.startswith(FAILS):
            last = line[len(FAILS) :]
            fails[last] = []
        elif last and line.startswith(" " * len(FAILS)):
            fails[last].append(line[len(FAILS) :])
        else:
            last = None
    return holds, {claim: "\n".join(remark) for claim, remark in fails.items()}


def word(result):
    """A result in a cell of a table."""
    if result["ungraded"]:
        return "?"
    count = len(result["fails"])
    return f"{count} of {count + len(result['holds'])} fail" if count else "holds"


def table(results, stages):
    """The results as text: a row for each submission."""
    rows = [["submission", *stages]]
    rows += [[folder, *(word(found[stage]) for stage in stages)] for folder, found in results]
    widths = [max(len(row[index]) for row in rows) for index in range(len(stages) + 1)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def page(results, stages):
    """The results as one page of HTML, with nothing from elsewhere."""
    rows = []
    for folder, found in results:
        cells = "".join(cell(found[stage]) for stage in stages)
        rows.append(f"<tr><th>{html.escape(folder)}</th>{cells}</tr>")
    heads = "".join(f"<th>{stage}</th>" for stage in ["submission", *stages])
    return f"""<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Grades</title><style>{STYLE}</style>
<h1>Grades</h1>
<table><tr>{heads}</tr>
{chr(10).join(rows)}
</table></html>
"""


def cell(result):
    parts = [f"<p>{html.escape(claim)}</p>" for claim in result["holds"]]
    for claim, remark in result["fails"].items():
        parts.append(f'<p class="fails">{html.escape(claim)}</p><pre>{html.escape(remark)}</pre>')
    if result["ungraded"]:
        parts.append(f"<pre>{html.escape(result['ungraded'])}</pre>")
    kind = "ungraded" if result["ungraded"] else "fails" if result["fails"] else "holds"
    summary = f'<summary class="{kind}">{html.escape(word(result))}</summary>'
    return f"<td><details>{summary}{''.join(parts)}</details></td>"


def write(results, stages, out):
    """Write grades.html, grades.csv and grades.json into a folder."""
    (out / "grades.html").write_text(page(results, stages), encoding="utf-8")
    text = json.dumps(dict(results), indent=1, ensure_ascii=False)
    (out / "grades.json").write_text(text + "\n", encoding="utf-8")
    with open(out / "grades.csv", "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["submission", *stages])
        for folder, found in results:
            rows.writerow([folder, *(word(found[stage]) for stage in stages)])


def stages_of(text):
    """The stages that '3a,3c-3e' stands for. Raises ValueError if there are no such."""
    found = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        begin, end = STAGES.index(first), STAGES.index(last or first)
        found += STAGES[begin : end + 1]
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
        "--jobs", type=int, default=2 * os.cpu_count(),  # a grader mostly waits
        help="at a time (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--time-limit", type=float, default=600, metavar="SECONDS",
        help="for a stage of a submission (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--first-failure", action="store_true", help="stop a stage there")
    parser.add_argument("--out", type=pathlib.Path, default="grades", help="(default: grades/)")
    parser.add_argument("--junit", action="store_true", help="a JUnit file for each, too")
    options = parser.parse_args()
    matches = [match for folder in options.folders for match in sorted(glob.glob(folder))]
    options.folders = [match for match in matches if os.path.isdir(match)]
    if not options.folders:
        parser.error("no such folder")
    return options


def main():
    options = parse_options()
    options.out.mkdir(exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        jobs = {
            pool.submit(grade, os.path.abspath(folder), stage, options): (folder, stage)
            for folder in options.folders
            for stage in options.stages
        }
        try:
            for done, job in enumerate(concurrent.futures.as_completed(jobs), start=1):
                folder, stage = jobs[job]
                result = word(job.result())
                print(f"{done} of {len(jobs)}: {folder} as {stage}: {result}", file=sys.stderr)
        except KeyboardInterrupt:  # it has reached the graders, too
            pool.shutdown(cancel_futures=True)
            sys.exit(130)
    found = {place: job.result() for job, place in jobs.items()}
    results = [
        (folder, {stage: found[folder, stage] for stage in options.stages})
        for folder in options.folders
    ]
    write(results, options.stages, options.out)
    print(table(results, options.stages))
    print(f"\n{options.out / 'grades.html'} has every claim and remark.")
    each = [result for _, found in results for result in found.values()]
    ungraded = any(result["ungraded"] for result in each)
    sys.exit(2 if ungraded else any(result["fails"] for result in each))


if __name__ == "__main__":
    main()
