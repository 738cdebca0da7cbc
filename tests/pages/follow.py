"""Run all that the README and docs/ show, and compare it with what they say.

Type    python3 tests/tutorial/follow.py             to rewrite what is no longer true,
        python3 tests/tutorial/follow.py --check     to list it and change nothing,
        ... --check --port 0 docs/3d.md       for one page, on a free port.

A reader types what a page shows, so a page is its own test. A writer has to know:
- A console block is typed into the terminal that the caption above it names, as in
  "**Terminal 2**". "$ " is the prompt, "^C" is Ctrl-C. A block that ends with "$" shows
  that the prompt is back; any other, that the command goes on. A block without a prompt
  shows what else has come from the command before.
- A pycon block is typed into a Python prompt, one for the whole page.
- A number of five digits stands for any number, and a terminal such as pts/1 for any
  terminal: the same one wherever the page repeats it, and different ones where the page
  has different ones. Write process IDs below 32768 and ephemeral ports above: a process
  ID and a port may happen to be equal.
- "…" stands for any text within a line, and alone on a line for any lines.
- All else has to be as shown, but for what ALIKE lists, and for the width of columns.
- Words after the language restrict a block. any-order: its lines may come in any order.
  linux: only there. Others name the programs and libraries that it needs, as in
  "console linux strace". Where one is missing, the block is not run, nor is the rest of
  its section. (The rest is run if the block only looks, with ps or watch3.py.)
- A diff block is the difference of two stages, without help texts, options and main. A
  python block is an excerpt of the page's stage: whole functions and constants.
- Files that the reader makes: "python visits.py" is saved under that name, and so is what
  "diff webserver4w.py" makes of a copy of the script that its first line names.

Where a step is true, its lines stay as they are: a repair changes what was wrong.
On another port than 8888, where many pages are followed at once, a delay of 15 seconds,
which gives a reader the time to look, becomes one of 3.
"""

import argparse
import errno
import functools
import importlib.util
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time
from typing import NamedTuple

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1]))  # tests/
from harness import system
from harness.ports import free_port
from harness.programs import guarded
from harness.stages import OPTIONS, ROOT, difference, pieces
from harness.waiting import Patience, wait_until
from tutorial import chinese
from tutorial.terminals import python, shell

STAGES = [f"docs/{stage}.md" for stage in "3a 3b 3c 3d 3e 3f 3g 3h 4a 4b 4c 4d 4e".split()]
PAGES = ["README.md", *STAGES, "docs/next.md", "docs/practise.md", "docs/problems.md"]
ARTICLES_PORT = 8888
FIRST_PORT = 32768  # of the names in the pages: below are process IDs
LONG_DELAY, SHORT_DELAY = "--delay 15", "--delay 3"
# Typed again until it shows what the page does: it may come before what it looks for.
POLLED = ("ps ", ".venv/bin/python watch3.py")
AT_REST = system.BLOCKED + system.ZOMBIE + "T"
PROMPTS = {"console": ("$", None), "pycon": (">>>", "...")}
# What the terminals inherit; all else, such as COLUMNS and NO_COLOR, is its owner's taste.
INHERITED = {"PATH", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD"}

NAME = re.compile(r"\b\d{5}\b|\bpts/\d+|\bttys\d+")
# What may differ between a page and a run, and what both become before they are compared
ALIKE = [
    (r"\s+", " "),  # columns
    (r"curl/[\w.-]+", "curl/VERSION"),
    (r"\d+ ms$", "MILLISECONDS"),
    (r", at \d\d:\d\d:\d\d$", ", at CLOCK"),
    (r" of \d{3,} descriptors", " of LIMIT descriptors"),
    (r"(?<=\d [DIRSTZ])[<N]", ""),  # nice(2), in the column STAT of ps(1)
    # Descriptors in strace: libffi, which ctypes needs, may keep one open.
    (r"^accept\(\d+", "accept(DESCRIPTOR"),
    (r"(?<=NULL\) = )\d+$", "DESCRIPTOR"),
]
# Errors as Linux numbers them and glibc words them, as the pages show them
ERRORS = {
    errno.EINTR: "[Errno 4] Interrupted system call",
    errno.ECHILD: "[Errno 10] No child processes",
    errno.EAGAIN: "[Errno 11] Resource temporarily unavailable",
    errno.EMFILE: "[Errno 24] Too many open files",
}

# What a page says


class Block(NamedTuple):
    """A fenced block of a page.

    marks are the words after the language, start is the index of its first line on the
    page, terminal the number in the last caption (or None), section its heading's number.
    """

    language: str
    marks: list
    start: int
    lines: list
    terminal: str
    section: int


class Step(NamedTuple):
    """What is typed, if anything, what is shown after it, and whether it ends in a prompt."""

    typed: list
    said: list
    ends: bool


def blocks(text):
    """All the fenced blocks of a page."""
    found, terminal, section, inside = [], None, 0, None
    for index, line in enumerate(text.splitlines()):
        if inside and line == "```":
            found.append(inside)
            inside = None
        elif inside:
            inside.lines.append(line)
        elif line.startswith("```"):
            language, *marks = line[3:].split() or [""]
            inside = Block(language, marks, index + 1, [], terminal, section)
        else:
            named = re.findall(r"\*\*(?:terminal|终端) (\d)\*\*", line, re.IGNORECASE)
            terminal = named[-1] if named else terminal
            section += line.startswith("#")
    return found


def steps(block):
    """The steps of a console or pycon block."""
    first, more = PROMPTS[block.language]
    found = []
    for line in block.lines:
        prompt, _, typed = line.partition(" ")
        if prompt == more:
            found[-1].typed.append(typed)
        elif prompt == first or line == "^C":
            if found and prompt == first:
                found[-1] = found[-1]._replace(ends=True)
            if line != "$":
                typed = typed if prompt == first else "^C"
                found.append(Step([typed], [], block.language == "pycon"))
            elif not found:
                found.append(Step([], [], True))
        else:
            found = found or [Step([], [], False)]
            found[-1].said.append(line)
    return found


def lines_of(block, steps):
    """The block's lines, made of its steps: what steps() takes apart."""
    first, more = PROMPTS[block.language]
    lines = []
    for step in steps:
        for prompt, typed in zip([first] + [more] * len(step.typed), step.typed):
            lines.append("^C" if typed == "^C" else f"{prompt} {typed}".rstrip())
        lines += step.said
    if block.language == "console" and steps[-1].ends:
        lines.append(first)
    return lines


# Whether a run shows the same


def match(said, seen, names, any_order=False):
    """Compare lines of a page with those of a run.

    names is a dict of the page's process IDs, ports and terminals and those of this run.
    Returns it with the names that are new, or None if the lines differ.
    """
    if not said:
        return None if seen else names
    if said[0] == "…":
        rests = (match(said[1:], seen[n:], names) for n in range(len(seen) + 1))
        return next((rest for rest in rests if rest is not None), None)
    for n in range(len(seen) if any_order else min(len(seen), 1)):
        more = match_line(said[0], seen[n], names)
        if more is not None:
            rest = match(said[1:], seen[:n] + seen[n + 1 :], more, any_order)
            if rest is not None:
                return rest
    return None


def match_line(said, seen, names):
    """As match(), for one line."""
    pattern, varying = pattern_of(said)
    found = pattern.fullmatch(alike(seen))
    if not found:
        return None
    names = dict(names)
    for name, real in zip(varying, found.groups()):
        others = [names[other] for other in names if other != name and kind(other) == kind(name)]
        if names.setdefault(name, real) != real or real in others:
            return None
    return names


@functools.lru_cache(maxsize=None)
def pattern_of(said):
    """The regular expression for a line of a page, and the names in it."""
    said = alike(said)
    names = NAME.findall(said)
    literals = [".*".join(map(re.escape, text.split("…"))) for text in NAME.split(said)]
    forms = [r"(pts/\d+|ttys\d+)" if kind(name) == "terminal" else r"(\d+)" for name in names]
    return re.compile("".join(map("".join, zip(literals, [*forms, ""])))), names


def kind(name):
    """Of what a page's name is one: names of different kinds may stand for the same."""
    if not name.isdigit():
        return "terminal"
    return "PID" if int(name) < FIRST_PORT else "port"


def alike(line):
    """A line without what may differ between a page and a run."""
    for pattern, same in ALIKE:
        line = re.sub(pattern, same, line.strip())
    return line


class Run:
    """A page that is followed from top to bottom, on a port, in terminals of its own.

    folder has the scripts. untrue lists what the page says wrongly, left_out what could
    not be run, and why.
    """

    def __init__(self, page, port, folder):
        self.page = page
        self.port = port
        self.folder = folder
        self.names = {}  # as for match()
        self.terminals = {}
        self.ends = {}  # whether a terminal's last step ended in a prompt
        self.family = set()  # the PIDs of all that has run in them
        self.untrue = []
        self.left_out = []
        self.section = None  # the one whose rest is not run

    def follow(self, go_on):
        """Run all its blocks, or up to the first that is not true.

        Returns the lines that the page should have.
        """
        lines = (ROOT / self.page).read_text(encoding="utf-8").splitlines()
        changes = []
        try:
            for block in blocks("\n".join(lines)):
                changes.append((block, self.true_lines(block)))
                if self.untrue and not go_on:
                    return lines
            wait_until(self.at_rest, "all that runs waits for something")
            for name, terminal in self.terminals.items():
                if (terminal.lines or terminal.ready != self.ends[name]) and not self.left_out:
                    shown = [*terminal.lines, *["a prompt"] * terminal.ready]
                    self.say(len(lines), f"at the end, {name} shows", shown)
        finally:
            for terminal in self.terminals.values():
                terminal.kill()
        for block, true in reversed(changes):
            lines[block.start : block.start + len(block.lines)] = true
        return lines

    def say(self, index, what, seen, said=None):
        """Note that a line of the page, or what follows it, is not true."""
        text = [f"{self.page}, line {index + 1}: {what}"]
        if said is not None:
            text += ["It says:", *(f"    {line}" for line in said)]
        text += ["Seen:", *(f"    {line}" for line in seen)]
        self.untrue.append("\n".join(text))

    def true_lines(self, block):
        """What a block should say."""
        if block.language in PROMPTS:
            return self.run_block(block)
        stage = re.search(r"\b([34]\w)\.md$", self.page)
        if block.language in ("python", "diff") and block.marks:
            return self.save(block)
        if block.language == "diff":
            files = " ".join(block.lines[:2])
            true = difference(*re.findall(r"webserver([34]\w)\.py", files), left_out=OPTIONS)
        elif block.language == "python" and stage:
            true = excerpt(block.lines, stage[1])
        else:
            return block.lines
        if true != block.lines:
            self.say(block.start, "not as in the files", true, block.lines)
        return true

    def save(self, block):
        """Write the file that a reader makes of a block. Returns the block's lines."""
        text = "\n".join([*block.lines, ""])
        if block.language == "diff":
            text = (ROOT / block.lines[0].split()[1]).read_text(encoding="utf-8")
            for hunk in re.split(r"^@@.*\n", "\n".join(block.lines), flags=re.MULTILINE)[1:]:
                old, new = (
                    "\n".join(line[1:] for line in hunk.splitlines() if line[:1] in kept)
                    for kept in (" -", " +")
                )
                times = text.count(old)
                if times != 1:
                    self.say(block.start, "it has to be there once", [f"{times} times"], [old])
                text = text.replace(old, new)
        pathlib.Path(self.folder, block.marks[0]).write_text(text, encoding="utf-8")
        return block.lines

    def run_block(self, block):
        """Run a console or pycon block. Returns what it should say."""
        if block.section == self.section:
            return block.lines
        missing = [mark for mark in block.marks if not available(mark)]
        if missing:
            self.left_out.append(f"{self.page}, line {block.start}: no {', '.join(missing)}")
            typed = [line for step in steps(block) for line in step.typed]
            if block.language == "pycon" or not all(line.startswith(POLLED) for line in typed):
                self.section = block.section
            return block.lines
        programs = {"console": (f"terminal {block.terminal}", shell), "pycon": ("Python", python)}
        name, program = programs[block.language]
        if name not in self.terminals:
            self.terminals[name] = program(self.folder)
        return lines_of(block, [self.run_step(block, name, step) for step in steps(block)])

    def run_step(self, block, name, step):
        """Run a step. Returns what it should be: itself, if it is true."""
        terminal = self.terminals[name]
        typed = [NAME.sub(self.real_name, line) for line in step.typed]
        try:
            if typed:
                wait_until(self.at_rest, "all that runs waits for something")
                if terminal.lines:
                    self.say(block.start, f"before, {name} shows", self.visible(terminal))
                    terminal.take()
                terminal.type([self.for_this_run(line) for line in typed])
            any_order = "any-order" in block.marks or typed and typed[0].startswith("ps ")
            true, names = wait_until(
                lambda: self.outcome(terminal, typed, step, any_order), "the page is true"
            )
        except AssertionError:
            true = False
        if true:
            self.names = names
        else:
            while terminal.quiet < 1:  # all of it: a person will read it
                time.sleep(0.1)
            prompt = "the prompt is back" if terminal.ready else "the prompt is not back"
            seen = self.visible(terminal)
            self.say(block.start, f"in {name} ({prompt})", seen, step.said)
            seen = [self.repaired(line, step.said) for line in seen]
            step = Step(step.typed, seen, terminal.ready)
        terminal.take()
        self.ends[name] = step.ends
        return step

    def outcome(self, terminal, typed, step, any_order):
        """Whether a terminal shows what a step says, and the names; None: not yet."""
        ready = terminal.ready  # asked before the lines: if it is, they are complete
        names = match(step.said, self.visible(terminal), self.names, any_order)
        if names is not None and ready == step.ends:
            if step.ends or self.at_rest() and (terminal.runs_a_command or not typed):
                return True, names
        if ready and terminal.quiet > 1 and self.at_rest():
            if not typed or not typed[0].startswith(POLLED):
                return False, names
            terminal.take()
            terminal.type([self.for_this_run(line) for line in typed])
        return None

    def at_rest(self):
        """Whether nothing more comes before somebody types, or some time has passed."""
        shells = [terminal.pid for terminal in self.terminals.values()]
        family = [system.process(pid) for pid in shells]
        family += [one for pid in shells for one in system.descendants(pid)]
        pids = {one.pid for one in family if one}
        for one in system.children(os.getpid()):  # orphans, which guarded() gives to us
            if one.state == system.ZOMBIE and one.pid in self.family - pids:
                os.waitpid(one.pid, 0)
        self.family |= pids
        return all(one.state in AT_REST for one in family if one)

    def visible(self, terminal):
        """What a terminal shows, in the page's words."""
        lines = []
        for line in terminal.lines:
            if not re.fullmatch(r"[ ~^]+", line):  # below the code, in some tracebacks
                line = re.sub(r'File "[^"]*/', 'File "…/', line)
                line = line.replace(f" --port {self.port}", "").replace(SHORT_DELAY, LONG_DELAY)
                line = line.replace(" <defunct>", "")  # not all versions of ps have it
                line = line.replace("socket.timeout:", "TimeoutError:")  # in Python 3.9
                for number, words in ERRORS.items():
                    line = line.replace(f"[Errno {number}] {os.strerror(number)}", words)
                lines.append(re.sub(rf"\b{self.port}\b", str(ARTICLES_PORT), line))
        return lines

    def repaired(self, line, said):
        """A line for the page: the one that it has, if that is true, else with its names.

        A process that the page does not name yet gets a name.
        """
        for old in said:
            names = match_line(old, line, self.names)
            if names is not None and old != "…":
                self.names = names
                return old

        def name_of(found):
            real = found[0]
            if real not in self.names.values():
                if not (real.isdigit() and int(real) in self.family):
                    return real
                free = (str(n) for n in range(10001, FIRST_PORT) if str(n) not in self.names)
                unused = kind(real) == "PID" and len(real) == 5 and real not in self.names
                self.names[real if unused else next(free)] = real
            return next(name for name in self.names if self.names[name] == real)

        return re.sub(r"pts/\d+|ttys\d+|\b\d+\b", name_of, line)

    def real_name(self, found):
        """For what a name stands that is typed."""
        if found[0] not in self.names:
            raise SystemExit(f"{self.page}: nothing has shown {found[0]} before it is typed")
        return self.names[found[0]]

    def for_this_run(self, typed):
        """A command as it is typed: with the port of this run, and so on."""

        def limit(found):  # leaves room for what else the user runs
            enough = os.getuid() and system.tasks_of_user(os.getuid()) + 200
            return f"ulimit -u {max(int(found[1]), enough)}"

        def session(found):  # another container may have a terminal of that name
            ours = [t.pid for t in self.terminals.values() if t.tty == found[1]]
            return f"-s {ours[0]}" if system.LINUX and ours else found[0]

        typed = re.sub(r"ulimit -u (\d+)", limit, typed)
        typed = re.sub(r"-t (pts/\d+)", session, typed)
        typed = typed.replace(".venv/bin/python ", "python3 ")
        if self.port == ARTICLES_PORT:
            return typed
        scripts = r"(python3? (?:webserver[34]\w|client3|watch3)\.py)"
        typed = re.sub(scripts, rf"\1 --port {self.port}", typed)
        typed = typed.replace(LONG_DELAY, SHORT_DELAY)
        return re.sub(rf"\b{ARTICLES_PORT}\b", str(self.port), typed)


def available(mark):
    """Whether this system has what a block's mark asks for."""
    if mark in ("any-order", "linux"):
        return mark == "any-order" or system.LINUX
    return shutil.which(mark) or importlib.util.find_spec(mark)


def excerpt(lines, stage):
    """The functions and constants that the lines define, as they are in a stage."""
    names = re.findall(r"^(?:(?:async )?def )?(\w+)(?:\(| = )", "\n".join(lines), re.MULTILINE)
    return "\n\n\n".join(pieces(stage)[name] for name in names).splitlines()


def rewrite(page, text):
    """Write a page, and the blocks of its Chinese twin, if it has one."""
    twin = chinese.twin(page)
    if twin:
        old = (ROOT / twin).read_text(encoding="utf-8")
        (ROOT / twin).write_text(chinese.with_blocks_of(text, old), encoding="utf-8")
    (ROOT / page).write_text(text, encoding="utf-8")


def parse_options():
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_it_is)
    parser.add_argument("pages", nargs="*", default=PAGES, help="(default: all)")
    parser.add_argument("--check", action="store_true", help="leave the pages alone")
    parser.add_argument("--port", type=int, default=ARTICLES_PORT, help="0: any (%(default)s)")
    parser.add_argument("--patience", type=float, default=Patience.seconds, metavar="SECONDS",
                        help="how long to wait for what has to come (%(default)s)")
    return parser.parse_args()


def main():
    options = parse_options()
    Patience.seconds = options.patience
    needed = ["curl", "ps", *["setpriv"] * (system.LINUX and os.getuid() == 0)]  # see shell()
    if missing := [name for name in needed if not available(name)]:
        print(f"Not run: no {', '.join(missing)}")
        return 0
    for name in set(os.environ) - INHERITED:
        del os.environ[name]
    status = False
    for page in options.pages:
        with tempfile.TemporaryDirectory() as folder:
            for script in ROOT.glob("*.py"):
                shutil.copy(script, folder)
            run = Run(page, options.port or free_port(), folder)
            lines = run.follow(go_on=not options.check)
        for remark in [*run.untrue, *(f"Not run: {why}" for why in run.left_out)]:
            print(remark)
        if run.untrue and not options.check:
            rewrite(page, "\n".join([*lines, ""]))
        status = status or bool(run.untrue)
    return status


if __name__ == "__main__":
    with guarded():
        sys.exit(main())
