"""Practise: write the servers yourself, and have them graded at every save.

Type    .venv/bin/python practise3.py my-server.py
        and edit my-server.py in another window.
Expect  What the stage has to do, how much of that holds, and the first thing
        that does not, with a hint. When all holds, Enter leads to the next
        stage. Ctrl-C ends it.
Note    Your server gets two arguments: the port, and the seconds to sleep. To
        start it in another way, in any language, add
        --server 'COMMAND {port} {delay}'
Note    The stage is kept in a text file, such as my-server.py.stage. Delete it
        to start from 3a, or go to a stage with --stage 3d.
"""

# The stages' tests grade, in a process of their own, so that it can be interrupted when the file
# is saved again. tests/grading/results.py runs it and reads what it finds, tests/grading/saves.py
# watches the sources. This script chooses the stage and prints.

import argparse
import ast
import contextlib
import os
import pathlib
import re
import shlex
import shutil
import sys
import tempfile
import textwrap
import time

ROOT = pathlib.Path(__file__).resolve().parent
sys.path.insert(1, str(ROOT / "tests"))

from grading import results  # noqa: E402 (standard library only, as all of these)
from grading.leftovers import run, start_guard  # noqa: E402
from grading.saves import Saved, Sources  # noqa: E402
from harness.stages import difference  # noqa: E402

TESTS = results.stages()
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
BAR = 8  # characters
REMARK = re.compile(r"(Ended|Seen|Expected|Hint|Said|Again) |          ")  # in a column of 10


def command_of(file, folder, check, started):
    """The command that starts a server. It is compiled into the folder if its language needs that.

    Raises ValueError, with the compiler's or the system's message, if that fails.
    """
    if not file.is_file():
        raise ValueError(f"There is no file {file} yet. Write it: this waits for it.")
    if "{port}" in str(file.resolve()) or "{delay}" in str(file.resolve()):
        raise ValueError(f"Rename {file}: {{port}} and {{delay}} stand for what your server is given.")
    names = {"python": sys.executable, "file": file.resolve(), "program": folder / "server"}
    names = {name: shlex.quote(str(value)) for name, value in names.items()}
    command = names["file"]
    if file.suffix in COMPILE:
        words = shlex.split(COMPILE[file.suffix].format(**names))
        if shutil.which(words[0]) is None:
            raise ValueError(f"There is no {words[0]} that could compile {file}.")
        status, said = run(words, check, started)
        if status:
            raise ValueError(f"It does not compile.\n{said}")
        command = names["program"]
    elif file.suffix in START:
        command = START[file.suffix].format(**names)
    elif not os.access(file, os.X_OK):
        raise ValueError(f"{file} cannot be executed. Type chmod +x {file}, or use --server.")
    elif is_script_without_interpreter(file):
        raise ValueError(f"{file} does not say what runs it. Start it with a line such as #!/usr/bin/env python3.")
    return f"{command} {{port}} {{delay}}"


def is_script_without_interpreter(file):
    """Whether a file is text without #! at its very start (execve(2)). A byte order mark before that hides it."""
    with file.open("rb") as source:
        start = source.read(100)
    return not start.startswith(b"#!") and b"\0" not in start


def show_task(stage, command):
    """Print what a stage has to do: the docstring of its tests."""
    title, _, task = ast.get_docstring(ast.parse(TESTS[stage].read_text("utf-8"))).partition("\n")
    print(f"\n{fold(title)}")
    if task.strip():
        print(fold(" ".join(task.split())))
    command = results.command_for(stage, command).replace(shlex.quote(str(ROOT / "tests")), "tests")
    command = command.replace("{port}", "PORT").replace("{delay}", "SECONDS")
    print(fold(f"It is started as {command}{' (to sleep, from 3b on)' if 'SECONDS' in command else ''}."))


def fold(text):
    """Wrap a text to the terminal's width. Remarks keep their column beside a word such as Seen.

    Commands, which come last, are not wrapped, so that they can be copied.
    """
    width = max(shutil.get_terminal_size().columns - 1, 40)
    found, commands = [], False
    for line in text.splitlines():
        commands = commands or line.startswith("Again")
        below = " " * 10 if REMARK.match(line) else ""
        found += (
            [line]
            if commands
            else textwrap.wrap(line, width, subsequent_indent=below, break_on_hyphens=False, break_long_words=False)
        )
    return "\n".join(found)


def show_bar(stage, holds, count, end=""):
    """Print how many of the claims hold; on a terminal, over the same line again."""
    if end or sys.stdout.isatty():
        full = BAR * holds // count
        start = "\r" if sys.stdout.isatty() else ""
        bar = f"{'█' * full}{'░' * (BAR - full)}"
        try:
            bar.encode(sys.stdout.encoding)
        except UnicodeEncodeError:
            bar = f"{'#' * full}{'.' * (BAR - full)}"
        print(f"{start}{stage} {bar} {holds} of {count}", end=end, flush=True)


def show_grade(stage, command, file, check, started):
    """Grade a server as a stage, as far as the first claim that fails, and print the results.

    Returns whether all holds. check() is called meanwhile: what it raises ends the grading.
    """
    holds, count, not_tried = 0, 0, []
    grading = results.grade(command, stage, "-x", f"--patience={PATIENCE}", check=check, started=started)
    # Closed by garbage collection, it would lose a Ctrl-C that comes then: Python ignores exceptions there.
    with contextlib.closing(grading):
        for result in grading:
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
                print(fold(as_typed("\n".join(remark) or result["ungraded"].strip(), file)), flush=True)
                return False
    show_bar(stage, holds, count or 1, end="\n")
    print(fold("\n".join(not_tried)), end="\n" if not_tried else "")
    return True


def as_typed(text, file):
    """A text with the names of Python and of the server's file as the reader types them."""
    for long, short in ((sys.executable, "python3"), (str(file.resolve()), str(file))):
        text = text.replace(shlex.quote(long), shlex.quote(short)).replace(long, short)
    return text


def solution(stage):
    """What our script changes in the one of the stage before; for the first stage, its path."""
    if stage == STAGES[0]:
        return f"Read {ROOT / f'webserver{stage}.py'}: it is the whole of it."
    before = "3g" if stage == "4a" else STAGES[STAGES.index(stage) - 1]
    return "\n".join(difference(before, stage))


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=pathlib.Path, help="your server, or its folder")
    parser.add_argument("--server", metavar="COMMAND", help="starts it; {port} and {delay} are filled in")
    parser.add_argument("--stage", choices=STAGES, help="go to this stage")
    parser.add_argument("--solution", action="store_true", help="show what our script changes in this stage, and end")
    options = parser.parse_args()
    folder = options.file if os.path.isdir(options.file) else options.file.parent
    if not folder.is_dir():
        parser.error(f"there is no folder {folder}")
    if os.path.isdir(options.file) and not options.server:
        parser.error("name the file of your server, or give --server the command that starts it")
    return options


class Progress:
    """The stage at which a reader is, kept in a file."""

    def __init__(self, path, stage):
        self.file = path / "practise3.stage" if os.path.isdir(path) else path.with_name(f"{path.name}.stage")
        self.stage = stage or self.read()

    def read(self):
        try:
            stage = self.file.read_text("utf-8", errors="replace").strip()
        except FileNotFoundError:
            return STAGES[0]
        except OSError as error:
            sys.exit(f"{self.file} cannot be read: {error.strerror}.")
        if stage not in STAGES:
            sys.exit(f"{self.file} names no stage: {stage!r}. Delete it, or use --stage.")
        return stage

    def go_to(self, stage):
        self.stage = stage
        try:
            self.file.write_text(f"{stage}\n", "utf-8")
        except OSError as error:
            print(f"The stage is not remembered: {self.file} cannot be written: {error.strerror}.")


def main():
    options = parse_options()
    progress = Progress(options.file.resolve(), options.stage)
    if options.solution:
        print(solution(progress.stage))
        return
    progress.go_to(progress.stage)
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # if root grades, the server runs as another user
        tempfile.tempdir = name
        practise(options, progress, pathlib.Path(name), start_guard(name))


def practise(options, progress, folder, started):
    """Grade the server whenever it is saved, and go on from stage to stage."""
    file, sources, shown = options.file, Sources(options.file), None
    print(fold(str(sources)))
    while True:
        stage = progress.stage
        if shown != stage:
            start = START.get(file.suffix, "{file}").format(python="python3", file=shlex.quote(file.name))
            show_task(stage, options.server or f"{start} {{port}} {{delay}}")
            shown = stage
        done = False
        try:
            command = options.server or command_of(file, folder, sources.check, started)
            done = show_grade(stage, command, file, sources.check, started)
        except (ValueError, OSError) as error:
            print(fold(as_typed(str(error).strip(), file)))
        except Saved:
            print("\nSaved: once more.")
            continue
        following = following_stage(stage, options)
        if done:
            print(f"All of {stage} holds{'.' if following else ', and it is the last stage. Well done!'}")
        if done and following:
            progress.go_to(following)
            print(f"Press Enter for {following}, or save. Ctrl-C ends this.", flush=True)
            if sources.wait(sys.stdin):
                continue
        else:
            print("Waiting for you to save. Ctrl-C ends this.", flush=True)
            sources.wait()
        print(f"\n{time.strftime('%H:%M:%S')}  Saved.", flush=True)


def following_stage(stage, options):
    """The stage after this one; None after the last. Applications of 3h are Python's."""
    following = STAGES[STAGES.index(stage) + 1 :]
    if following and following[0] == "3h" and not options.server and options.file.suffix not in ("", ".py"):
        del following[0]
    return following[0] if following else None


if __name__ == "__main__":
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # it was closed: >&-
    sys.stdout.reconfigure(errors="replace")
    try:
        main()
    except KeyboardInterrupt:
        print()
    except BrokenPipeError:  # who reads this has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
