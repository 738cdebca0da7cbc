"""Practise: write the servers yourself, and have them graded at every save.

Type    .venv/bin/python practise3.py my-server.py
        and edit my-server.py in another window.
Expect  What the stage has to do, how much of that holds, and the first thing
        that does not, with a hint. When all holds, the next stage. Ctrl-C
        ends it.
Note    Your server gets two arguments: the port, and the seconds to sleep. To
        start it in another way, in any language, add
        --server 'COMMAND {port} {delay}'
Note    The stage is kept in a text file, such as my-server.py.stage. Delete it
        to start from 3a, or go to a stage with --stage 3d.
"""

# The stages' tests grade, in a process of their own, so that it can be interrupted when the file
# is saved again. tests/grading/results.py runs it and reads what it finds. This script chooses the
# stage, watches the folder and prints.

import argparse
import ast
import difflib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time

ROOT = pathlib.Path(__file__).resolve().parent
# All but 3h, whose server is given an application, too
TESTS = {path.stem[-2:]: path for path in sorted(ROOT.glob("tests/test_webserver[34][a-g].py"))}
STAGES = list(TESTS)
# How a source is started, or compiled first, by its suffix. Other files are run as they are.
START = {
    ".py": "{python} {file}",
    ".js": "node {file}",
    ".pl": "perl {file}",
    ".rb": "ruby {file}",
    ".php": "php {file}",
    ".lua": "lua {file}",
    ".tcl": "tclsh {file}",
    ".java": "java {file}",
}
COMPILE = {
    ".c": "cc -o {program} {file}",
    ".go": "go build -o {program} {file}",
    ".rs": "rustc -o {program} {file}",
}
PATIENCE = 2  # seconds that a claim waits; short, because half-written servers fail often
# Suffixes of files that editors, compilers, this script or the server write
PASSING = ("~", ".swp", ".tmp", ".stage", ".log", ".pyc", ".o", ".class")
BAR = 8  # characters
REMARK = re.compile(r"(Ended|Seen|Expected|Hint|Said|Again) |          ")  # in a column of 10


class Saved(Exception):
    """A file of the folder has changed while the server was graded."""


def mtimes(folder):
    """The times of the last changes of a folder's files, in nanoseconds, by name."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_file() and not entry.name.endswith(PASSING) and entry.name[0] != ".":
                    found[entry.name] = entry.stat().st_mtime_ns
            except FileNotFoundError:
                pass  # an editor has replaced it
    return found


def command_of(file, folder):
    """The command that starts a server. It is compiled into the folder if its language needs that.

    Raises ValueError, with the compiler's or the system's message, if that fails.
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
        compiler = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if compiler.returncode:
            raise ValueError(f"It does not compile.\n{compiler.stdout.decode(errors='replace')}")
        command = names["program"]
    elif file.suffix in START:
        command = START[file.suffix].format(**names)
    elif not os.access(file, os.X_OK):
        raise ValueError(f"{file} cannot be executed. Type chmod +x {file}, or use --server.")
    return f"{command} {{port}} {{delay}}"


def show_task(stage, command):
    """Print what a stage has to do: the docstring of its tests."""
    title, _, task = ast.get_docstring(ast.parse(TESTS[stage].read_text("utf-8"))).partition("\n")
    print(f"\n{fold(title)}")
    if task.strip():
        print(fold(" ".join(task.split())))
    command = command.replace("{port}", "PORT").replace("{delay}", "SECONDS")
    print(fold(f"It is started as {command} (to sleep, from 3b on)."))


def fold(text):
    """Wrap a text to the terminal's width. Remarks keep their column beside a word such as Seen.

    Commands are not wrapped, so that they can be copied.
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
    """Print how many of the claims hold; on a terminal, over the same line again."""
    if end or sys.stdout.isatty():
        full = BAR * holds // count
        start = "\r" if sys.stdout.isatty() else ""
        bar = f"{start}{stage} {'█' * full}{'░' * (BAR - full)} {holds} of {count}"
        print(bar, end=end, flush=True)


def show_grade(stage, command, file, check):
    """Grade a server as a stage, as far as the first claim that fails, and print the results.

    Returns whether all holds. check() is called meanwhile: what it raises ends the grading.
    """
    from grading.results import grade  # standard library only

    holds, count, not_tried = 0, 0, []
    for result in grade(command, stage, "-x", f"--patience={PATIENCE}", check=check):
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
    """What our script changes in the one of the stage before; for the first stage, its path."""
    script = f"webserver{stage}.py"
    if stage == STAGES[0]:
        return f"Read {ROOT / script}: it is the whole of it."
    before = f"webserver{STAGES[STAGES.index(stage) - 1]}.py"
    texts = [(ROOT / name).read_text("utf-8").splitlines() for name in (before, script)]
    return "\n".join(difflib.unified_diff(*texts, before, script, n=1, lineterm=""))


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=pathlib.Path, help="your server, or its folder")
    parser.add_argument("--server", metavar="COMMAND", help="starts it; {port} and {delay} are filled in")
    parser.add_argument("--stage", choices=STAGES, help="go to this stage")
    parser.add_argument("--solution", action="store_true", help="show what our script changes in this stage, and end")
    options = parser.parse_args()
    folder = options.file if options.file.is_dir() else options.file.parent
    if not folder.is_dir():
        parser.error(f"there is no folder {folder}")
    if options.file.is_dir() and not options.server:
        parser.error("name the file of your server, or give --server the command that starts it")
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
    sys.path.insert(1, str(ROOT / "tests"))  # where the grader is
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # if root grades, the server runs as another user
        practise(stage, options, watched, kept, pathlib.Path(name))


def practise(stage, options, watched, kept, folder):
    """Grade the server whenever its folder changes, and go on from stage to stage."""
    shown = None
    while True:
        before = mtimes(watched)

        def check(before=before):
            if mtimes(watched) != before:
                raise Saved

        if shown != stage:
            start = START.get(options.file.suffix, "{file}")
            start = start.format(python="python3", file=options.file.name)
            show_task(stage, options.server or f"{start} {{port}} {{delay}}")
            shown = stage
        try:
            command = options.server or command_of(options.file, folder)
            done = show_grade(stage, command, options.file, check)
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
        while mtimes(watched) == before:
            time.sleep(0.2)
        print(f"\n{time.strftime('%H:%M:%S')}  Saved.", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
