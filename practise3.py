"""Practise: write the servers yourself. This looks again whenever you save.

Type    .venv/bin/python practise3.py my-server.py
        and edit my-server.py in another window.
Expect  What the stage has to do, how much of that holds, and the first thing
        that does not, with a hint. When all holds, the next stage. Ctrl-C
        ends it.
Note    Your server is started with two arguments: the port, and how many
        seconds to sleep. To start it in another way, in any language, add
        --server 'COMMAND {port} {delay}'
Note    The stage is kept in a text file, such as my-server.py.stage. Delete it
        to start from 3a, or go to a stage with --stage 3d.
"""

# The tests of the stages do the grading, in a process of their own: only so can it be ended
# in the midst, when the reader saves again. They say what they find by --results (see
# tests/grading/grader.py). This script chooses the stage, watches the folder and prints.

import argparse
import ast
import difflib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

ROOT = pathlib.Path(__file__).resolve().parent
TESTS = {path.stem[-2:]: path for path in sorted(ROOT.glob("tests/test_webserver[0-9][a-z].py"))}
STAGES = list(TESTS)
# How a source is started, and what makes a program of it first, by its ending. All else is
# run as it is. {python} is the Python that runs this.
START = {
    ".py": "{python} {file}", ".js": "node {file}", ".pl": "perl {file}", ".rb": "ruby {file}",
    ".php": "php {file}", ".lua": "lua {file}", ".tcl": "tclsh {file}", ".java": "java {file}",
}  # fmt: skip
COMPILE = {
    ".c": "cc -o {program} {file}",
    ".go": "go build -o {program} {file}",
    ".rs": "rustc -o {program} {file}",
}
PATIENCE = 2  # seconds; a claim about a server that one is just writing waits no longer
# Not saved by the reader, but written by an editor, a compiler, this script or the server
PASSING = ("~", ".swp", ".tmp", ".stage", ".log", ".pyc", ".o", ".class")
BAR = 8  # characters
REMARK = re.compile(r"(Ended|Seen|Expected|Hint|Said|Again) |          ")  # in a column of 10


class Saved(Exception):
    """A file of the folder has changed while the server was graded."""


def mtimes(folder):
    """When each file of a folder was changed last, in nanoseconds, by its name."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_file() and not entry.name.endswith(PASSING) and entry.name[0] != ".":
                    found[entry.name] = entry.stat().st_mtime_ns
            except FileNotFoundError:
                pass  # an editor has replaced it meanwhile
    return found


def command_of(file, folder):
    """The command that starts a server, compiled into a folder if it has to be.

    Raises ValueError, with what the compiler or the system says, if that fails.
    """
    if not file.is_file():
        raise ValueError(f"There is no file {file} yet. Write it: this waits for it.")
    names = {"python": sys.executable, "file": file.resolve(), "program": folder / "server"}
    names = {name: shlex.quote(str(value)) for name, value in names.items()}
    command = names["file"]
    if file.suffix in COMPILE:
        words = shlex.split(COMPILE[file.suffix].format(**names))
        if shutil.which(words[0]) is None:
            raise ValueError(f"There is no {words[0]} that could compile {file}.")
        compiler = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if compiler.returncode:
            raise ValueError(f"It does not compile.\n{compiler.stdout.decode(errors='replace')}")
        command = names["program"]
    elif file.suffix in START:
        command = START[file.suffix].format(**names)
    elif not os.access(file, os.X_OK):
        raise ValueError(f"{file} cannot be executed. Type chmod +x {file}, or use --server.")
    return f"{command} {{port}} {{delay}}"


def grade(stage, command, saved, folder):
    """Run a stage's tests against a server, as far as the first that fails.

    Yields the results, as dicts (see tests/grading/grader.py). Raises Saved, and ends the
    tests, as soon as saved() is true.
    """
    results = folder / "results"
    results.write_text("")
    tests = [sys.executable, "-m", "pytest", "-x", f"--patience={PATIENCE}", TESTS[stage]]
    with open(folder / "said", "w+", encoding="utf-8", errors="replace") as said:
        grader = subprocess.Popen(
            [*tests, "--server", command, "--results", results],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            with open(results, encoding="utf-8") as lines:
                ended = failed = False
                rest = ""
                while not ended:
                    ended = grader.poll() is not None
                    *complete, rest = (rest + lines.read()).split("\n")
                    for line in complete:
                        result = json.loads(line)
                        failed |= "ungraded" in result or result.get("outcome") == "fails"
                        yield result
                    if saved():
                        raise Saved
                    time.sleep(0 if ended else 0.05)
            if grader.returncode and not failed:
                said.seek(0)
                yield {"ungraded": f"The tests do not run.\n{said.read()}"}
        finally:
            if grader.poll() is None:
                grader.send_signal(signal.SIGINT)  # it ends what it has started
                grader.wait()


def show_task(stage, command):
    """Print what a stage has to do: what its tests are headed by."""
    title, _, task = ast.get_docstring(ast.parse(TESTS[stage].read_text("utf-8"))).partition("\n")
    print(f"\n{fold(title)}")
    if task.strip():
        print(fold(" ".join(task.split())))
    command = command.replace("{port}", "PORT").replace("{delay}", "SECONDS")
    print(fold(f"It is started as {command} (to sleep, from 3b on)."))


def fold(text):
    """A text in lines that fit the terminal; what follows a word such as Seen stays beside it.

    A command stays in one line, or it could not be copied.
    """
    width = max(shutil.get_terminal_size().columns - 1, 40)
    found = []
    for line in text.splitlines():
        below = " " * 10 if REMARK.match(line) else ""
        if line.startswith("Again"):
            found.append(line)
            continue
        found += textwrap.wrap(line, width, subsequent_indent=below, break_on_hyphens=False)
    return "\n".join(found)


def show_bar(stage, holds, count, end=""):
    """Print how many of the claims hold; over the same line again on a terminal."""
    if end or sys.stdout.isatty():
        full = BAR * holds // count
        start = "\r" if sys.stdout.isatty() else ""
        bar = f"{start}{stage} {'█' * full}{'░' * (BAR - full)} {holds} of {count}"
        print(bar, end=end, flush=True)


def look(stage, command, file, saved, folder):
    """Grade a server as a stage, and print what comes of it. Returns whether all holds."""
    holds, count, not_tried = 0, 0, []
    for result in grade(stage, command, saved, folder):
        if "claims" in result:
            count = len(result["claims"])
            show_bar(stage, holds, count)
        elif result.get("outcome") == "holds":
            holds += 1
            show_bar(stage, holds, count)
        elif result.get("outcome") == "not tried":
            count -= 1
            not_tried += [result["claim"], *result["remark"]]
        else:
            show_bar(stage, holds, count or 1, end="\n")
            remark = [result["claim"], *result["remark"]] if "claim" in result else []
            text = "\n".join(remark) or result["ungraded"].strip()
            text = text.replace(sys.executable, "python3").replace(str(file.resolve()), str(file))
            print(fold(text), flush=True)
            return False
    show_bar(stage, holds, count or 1, end="\n")
    print(fold("\n".join(not_tried)), end="\n" if not_tried else "")
    return True


def solution(stage):
    """What changes in our scripts from the stage before; for the first, where to read it."""
    script = f"webserver{stage}.py"
    if stage == STAGES[0]:
        return f"Read {ROOT / script}: it is the whole of it."
    before = f"webserver{STAGES[STAGES.index(stage) - 1]}.py"
    texts = [(ROOT / name).read_text("utf-8").splitlines() for name in (before, script)]
    return "\n".join(difflib.unified_diff(*texts, before, script, n=1, lineterm=""))


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=pathlib.Path, help="your server, or its folder")
    parser.add_argument(
        "--server", metavar="COMMAND", help="starts it; {port} and {delay} are filled in"
    )
    parser.add_argument("--stage", choices=STAGES, help="go to this stage")
    parser.add_argument(
        "--solution", action="store_true", help="show what our script does in this stage, and end"
    )
    options = parser.parse_args()
    folder = options.file if options.file.is_dir() else options.file.parent
    if not folder.is_dir():
        parser.error(f"there is no folder {folder}")
    if options.file.is_dir() and not options.server:
        parser.error("name the file of your server, or say by --server how it is started")
    return options, folder


def main():
    options, watched = parse_options()
    kept = options.file.resolve()
    kept = kept.with_name(f"{kept.name}.stage")
    stage = options.stage or (kept.read_text("utf-8").strip() if kept.exists() else STAGES[0])
    if stage not in STAGES:
        sys.exit(f"{kept} names no stage: {stage!r}. Delete it, or use --stage.")
    if options.solution:
        print(solution(stage))
        return
    kept.write_text(f"{stage}\n", "utf-8")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # graded by root, a server runs as another user
        practise(stage, options, watched, kept, pathlib.Path(name))


def practise(stage, options, watched, kept, folder):
    """Grade the server at each change of its folder, and go on from stage to stage."""
    shown = None
    while True:
        before = mtimes(watched)

        def saved():
            return mtimes(watched) != before

        if shown != stage:
            start = START.get(options.file.suffix, "{file}")
            start = start.format(python="python3", file=options.file.name)
            show_task(stage, options.server or f"{start} {{port}} {{delay}}")
            shown = stage
        try:
            command = options.server or command_of(options.file, folder)
            done = look(stage, command, options.file, saved, folder)
            if done and stage != STAGES[-1]:
                print(f"All of {stage} holds.")
                stage = STAGES[STAGES.index(stage) + 1]
                kept.write_text(f"{stage}\n", "utf-8")
                continue
            if done:
                print(f"All of {stage} holds, and it is the last stage. Well done!")
        except ValueError as error:
            print(fold(str(error).strip()))
        except Saved:
            print("\nSaved: once more.")
            continue
        print("Waiting for you to save. Ctrl-C ends this.", flush=True)
        while not saved():
            time.sleep(0.2)
        print(f"\n{time.strftime('%H:%M:%S')}  Saved.", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
