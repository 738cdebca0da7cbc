"""Run all that the README and docs/ show, and compare it with what they say.

Type    python3 tests/tutorial/follow.py             to rewrite what is not true any more,
        python3 tests/tutorial/follow.py --check     to be told what that is,
        ... --check --port 0 docs/3d.md       of one page, and on any free port.

How a page is read:
- A console block is typed into the terminal that the caption above it names, as in
  "**Terminal 2**". "$ " is the prompt, "^C" is Ctrl-C. A block that ends with "$" shows
  that the prompt is back; one that ends otherwise, that the command goes on. A block
  without a prompt shows what else has come from the command before.
- A pycon block is typed into a Python prompt, one for the whole page.
- "…" stands for whatever comes: in a line for text, alone in a line for lines.
- A block marked any-order may show its lines in any. One marked linux, or with a
  command or library that this system does not have, is not run, nor is the rest of its
  section; if it only looks, with ps or watch3.py, the rest is run.
  Of a page that needs curl or ps, nothing is run where that is missing.
- What differs between runs is matched as such: process IDs and terminals (but the same
  one wherever the page has the same one), ports that the kernel chose, milliseconds,
  versions of curl, priorities in ps, the descriptors of accept, paths, line numbers in
  Python's own library, the time of day and the limit on descriptors in watch3.py.
- A diff block is the difference of two stages, without help texts, options and main. A
  python block is an excerpt of the page's stage: whole functions and constants.
- On another port than 8888, where many pages are followed at once, a delay of 15 seconds,
  which gives a reader the time to look, is one of 3.
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
from library import system
from library.programs import Patience, guarded, wait_until
from library.servers import ROOT, free_port
from library.sources import OPTIONS, difference, pieces
from tutorial import chinese
from tutorial.terminals import python, shell

PAGES = ["README.md", *(f"docs/3{stage}.md" for stage in "abcdefgh"), "docs/next.md"]
ARTICLES_PORT = 8888
LOOK, SHORT = "--delay 15", "--delay 3"  # time to look, and what a run makes of it
# What one types again: init(1) may take a moment to reap an orphan, or a call to begin.
POLLED = ("ps ", ".venv/bin/python watch3.py")
AT_REST = system.BLOCKED + system.ZOMBIE + "T"
OPTIONAL = ("prlimit", "ss", "strace")  # what not every system has
NEEDED = ("curl", "ps")  # what a page cannot do without
PROMPTS = {"console": ("$", ">"), "pycon": (">>>", "...")}

VARIES = re.compile(
    r"""
    (?P<any>…)
  | (?: (?<=PID:\ ) | (?<=Child\ ) | (?<=process\ ) | (?<=pid=) | (?<=returned\ ) )
    (?P<pid>[1-9]\d*)                       # as the servers and strace print it
  | (?<=\ of\ ) (?P<parent>\d+) (?=:\ b')  # and whose child it is
  | (?P<row>\b\d+)(?=\ +(?:\d+\ +)?[DIRSTZ][+<lLNs]*\ )  # PID and PPID in a row of ps
  | (?<=\d\ )(?P<state>[DIRSTZ][+<lLNs]*)(?=\ )  # the column STAT of ps(1)
  | (?<=^\() (?P<waited>\d+) (?=,\ \d+\)$)  # what os.wait() returns
  | (?:^|(?<=\ ))(?P<holder>\d+)(?='s\ \d)  # in the pictures of watch3.py, and so on
  | (?:(?<=^parent\ )|(?<=^curl\ )|(?<=^python3\ )|(?<=\ child\ )|(?<=waited\ for:\ ))(?P<watched>\d+)
  | (?<=\ client\ )(?P<client>\d+)
  | (?<=\d\ )(?P<ephemeral>\d+)(?=\ [A-Z]+[\dA-Z_]*\ (?:[A-Z]+[\dA-Z_]*)\ \d:)
  | (?<=,\ at\ )(?P<clock>\d\d:\d\d:\d\d)$
  | (?<=\ of\ )(?P<limit>\d+)(?=\ descriptors)
  | (?P<tty>pts/\d+|ttys\d+)
  | (?: (?<='127\.0\.0\.1',\ ) | (?<=127\.0\.0\.1:) ) (?!8888\b)(?P<port>\d+)
  | (?<=curl/)(?P<curl>[\d.]+)
  | (?<=^accept\()(?P<listening>\d+)  # libffi, which ctypes needs, may keep one open
  | (?<=^accept\(\d,\ NULL,\ NULL\)\ =\ )(?P<accepted>\d+)
  | (?P<time>\d+)(?=\ ms$)
  | (?<=\[Errno\ )(?P<errno>\d+)
  | (?<=File\ ")…/(?P<file>[^"]+",\ line\ \d+)
    """,
    re.VERBOSE,
)
FORMS = {
    "any": ".*",
    "clock": r"\d\d:\d\d:\d\d",
    "curl": r"[\w.-]+",
    "tty": r"pts/\d+|ttys\d+",
}  # others: numbers
SAME = dict.fromkeys(["pid", "parent", "row", "waited", "holder", "watched"], "pid")
SAME.update(tty="tty", client="port", ephemeral="port")
PID_IN_COMMAND = re.compile(r"(kill (?:-\w+ )?|--pid )(\d+)")
# The numbers of errors that the pages show are Linux's.
ERRORS = {4: errno.EINTR, 10: errno.ECHILD, 11: errno.EAGAIN, 24: errno.EMFILE}


# What a page says


class Block(NamedTuple):
    """A fenced block of a page. start is the index of its first line on the page."""

    language: str
    marks: list
    start: int
    lines: list
    terminal: str  # the number of the one that was named last, or None
    section: int


class Step(NamedTuple):
    """What is typed at once, if anything, and what is shown after that.

    ends: whether the prompt is back then.
    """

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


# Whether that is what is seen


def match(said, seen, names, any_order=False):
    """The names, with those that are new in what was said, if all was seen; else None.

    names has what each process ID and terminal of the page is in this run.
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
    found = pattern.fullmatch(squeezed(seen))
    if not found:
        return None
    names = dict(names)
    for (kind, value), real in zip(varying, found.groups()):
        if kind == "errno" and ERRORS.get(int(value), int(value)) != int(real):
            return None
        if kind in SAME:
            name = SAME[kind], value
            others = [real for other, real in names.items() if other != name]
            if names.setdefault(name, real) != real or real in others:
                return None
    return names


@functools.lru_cache(maxsize=None)
def pattern_of(said):
    """A line's regular expression, and the kinds and values of what varies in it."""
    said = squeezed(said)
    pattern, varying, end = "", [], 0
    for found in VARIES.finditer(said):
        kind = found.lastgroup
        varying.append((kind, found[kind]))
        pattern += re.escape(said[end : found.start()])
        if kind == "file":
            form = place(found[kind])
        elif kind == "state":
            form = state(found[kind])
        else:
            form = FORMS.get(kind, r"\d+")
        pattern += f"({form})"
        end = found.end()
    return re.compile(pattern + re.escape(said[end:])), varying


def place(said):
    """A regular expression for a file and a line: any line, if the file is not ours."""
    file = said.partition('"')[0]
    if (ROOT / file).exists():
        return f".*/{re.escape(said)}"
    return rf'.*/{re.escape(file)}", line \d+'


def state(said):
    """A regular expression for what ps says of a process: also at another nice(2)."""
    return f"{said[0]}[<N]?{re.escape(said[1:])}"


def squeezed(line):
    """A line whose columns are as wide as they have to be."""
    return " ".join(line.split())


class Run:
    """A page that is followed from top to bottom, on a port, in terminals of its own.

    Its folder has the scripts. Where the page is not true, untrue says so; where it could
    not be followed, left_out.
    """

    def __init__(self, page, port, folder):
        self.page = page
        self.port = port
        self.folder = folder
        self.names = {}
        self.terminals = {}
        self.untrue = []
        self.left_out = []
        self.whole_page = None  # why nothing of it is run
        self.section = None  # the one whose rest is not run

    def follow(self, go_on):
        """Run all its blocks, or all up to the first that is not true.

        Returns the lines that it should have.
        """
        lines = (ROOT / self.page).read_text(encoding="utf-8").splitlines()
        changes = []
        found = blocks("\n".join(lines))
        self.whole_page = reason_to_leave_out_all(found)
        if self.whole_page:
            self.left_out.append(f"{self.page}: {self.whole_page}")
        try:
            for block in found:
                changes.append((block, self.true_lines(block)))
                if self.untrue and not go_on:
                    return lines
            wait_until(self.at_rest, "all that runs waits for something")
            for name, terminal in self.terminals.items():
                if terminal.lines and not self.left_out:
                    self.say(len(lines), f"at the end, {name} shows", terminal.lines)
        finally:
            for terminal in self.terminals.values():
                terminal.kill()
        for block, true in reversed(changes):
            lines[block.start : block.start + len(block.lines)] = true
        return lines

    def say(self, index, what, seen, said=None):
        """Note that a line of the page, or what follows, is not true."""
        text = [f"{self.page}, line {index + 1}: {what}"]
        if said is not None:
            text += ["It says:", *(f"    {line}" for line in said)]
        if len(seen) > 30:
            seen = [*seen[:5], f"({len(seen) - 10} more lines)", *seen[-5:]]
        text += ["Seen:", *(f"    {line}" for line in seen)]
        self.untrue.append("\n".join(text))

    def true_lines(self, block):
        """What a block should say."""
        if block.language in PROMPTS:
            return self.run_block(block)
        stage = re.search(r"\b(3\w)\.md$", self.page)
        if block.language == "diff":
            files = " ".join(block.lines[:2])
            true = difference(*re.findall(r"webserver(3\w)\.py", files), left_out=OPTIONS)
        elif block.language == "python" and stage:
            true = excerpt(block.lines, stage[1])
        else:
            return block.lines
        if true != block.lines:
            self.say(block.start, "not as in the files", true, block.lines)
        return true

    def run_block(self, block):
        """Run a console or pycon block. Returns what it should say."""
        if self.whole_page or block.section == self.section:
            return block.lines
        reason = reason_to_leave_out(block)
        if reason:
            self.left_out.append(f"{self.page}, line {block.start}: {reason}")
            if not only_looks(block):
                self.section = block.section
            return block.lines
        if block.language == "console":
            name, program = f"terminal {block.terminal}", shell
        else:
            name, program = "Python's prompt", python
        if name not in self.terminals:
            self.terminals[name] = program(self.folder)
        done = [self.run_step(block, name, step) for step in steps(block)]
        return lines_of(block, done)

    def run_step(self, block, name, step):
        """Run a step. Returns what it should be."""
        terminal = self.terminals[name]
        typed = [self.with_names(line) for line in step.typed]
        try:
            if typed:
                wait_until(self.at_rest, "all that runs waits for something")
                if terminal.lines:
                    self.say(block.start, f"before, {name} shows", self.visible(terminal))
                    terminal.take()
                self.type(terminal, typed)
            any_order = "any-order" in block.marks or typed and typed[0].startswith("ps ")
            true, names = wait_until(
                lambda: self.look(terminal, typed, step, any_order), "the page is true"
            )
        except AssertionError:
            true, names = False, None
        if true and "…" in " ".join(step.said):
            seen = [renamed(line, names) for line in step.said]
        elif true:
            seen = self.visible(terminal)
        else:
            seen = self.settled(terminal)
            prompt = "the prompt is back" if terminal.ready else "the prompt is not back"
            self.say(block.start, f"in {name} ({prompt})", seen, step.said)
            names = names or self.names_in(step.said, seen)
        self.names = names
        terminal.take()
        return Step(typed, seen, terminal.ready)

    def type(self, terminal, typed):
        """Type a command, or the lines of a statement, or Ctrl-C."""
        if typed == ["^C"]:
            terminal.press_ctrl_c()
        else:
            terminal.type([self.with_own_port(line) for line in typed])

    def look(self, terminal, typed, step, any_order):
        """Whether a terminal shows what a step says, and the names; None: not yet."""
        ready = terminal.ready  # before what it shows: that is all of it, then
        names = match(step.said, self.visible(terminal), self.names, any_order)
        if names is not None and ready == step.ends:
            if step.ends or self.at_rest() and (terminal.runs_a_command or not typed):
                return True, names
        if ready and terminal.quiet > 1 and self.at_rest():
            if not typed or not typed[0].startswith(POLLED):
                return False, names
            terminal.take()
            self.type(terminal, typed)
        return None

    def at_rest(self):
        """Whether nothing more comes before somebody types, or some time has passed."""
        processes = system.processes()
        family = {terminal.pid for terminal in self.terminals.values()}
        while True:
            children = {p.pid for p in processes if p.parent in family}
            if children <= family:
                break
            family |= children
        return all(p.state in AT_REST for p in processes if p.pid in family)

    def visible(self, terminal):
        """What a terminal shows, as the page says it."""
        lines = []
        for line in terminal.lines:
            if not re.fullmatch(r"[ ~^]+", line):  # below the code, in some tracebacks
                line = re.sub(r'File "[^"]*/', 'File "…/', line)
                line = line.replace(f" --port {self.port}", "").replace(SHORT, LOOK)
                line = line.replace(" <defunct>", "")  # not all versions of ps have it
                line = line.replace("socket.timeout:", "TimeoutError:")  # in Python 3.9
                lines.append(re.sub(rf"\b{self.port}\b", str(ARTICLES_PORT), line))
        return lines

    def settled(self, terminal):
        """What it shows when nothing has come for a second: for a person to read."""
        while terminal.quiet < 1:
            time.sleep(0.1)
        return self.visible(terminal)

    def names_in(self, said, seen):
        """The names, with those in the lines that are as the page says."""
        names = self.names
        for line in said:
            found = (match_line(line, other, names) for other in seen)
            names = next((more for more in found if more is not None), names)
        return names

    def with_names(self, typed):
        """A command with the process IDs and terminals of this run."""

        def real(found):
            pid = self.names.get(("pid", found[2]))
            if pid is None:
                raise SystemExit(f"{self.page}: {typed}: of which process is {found[2]}?")
            return found[1] + pid

        return renamed(PID_IN_COMMAND.sub(real, typed), self.names)

    def with_own_port(self, typed):
        """A command with the port of this run, and a limit that leaves room for others."""

        def limit(found):
            enough = os.getuid() and system.tasks_of_user(os.getuid()) + 200
            return f"ulimit -u {max(int(found[1]), enough)}"

        typed = re.sub(r"ulimit -u (\d+)", limit, typed)
        typed = typed.replace(".venv/bin/python ", "python3 ")
        if self.port == ARTICLES_PORT:
            return typed
        scripts = r"(python3? (?:webserver3\w|client3|watch3)\.py)"
        typed = re.sub(scripts, rf"\1 --port {self.port}", typed)
        typed = typed.replace(LOOK, SHORT)
        return re.sub(rf"\b{ARTICLES_PORT}\b", str(self.port), typed)


def renamed(line, names):
    """A line of the page with the process IDs and terminals of this run."""

    def real(found):
        return names.get((SAME.get(found.lastgroup), found[found.lastgroup]), found[0])

    return VARIES.sub(real, line)


def only_looks(block):
    """Whether a block shows processes and does nothing to them."""
    typed = [line for step in steps(block) for line in step.typed]
    return block.language == "console" and all(line.startswith(POLLED) for line in typed)


def reason_to_leave_out(block):
    """Why a block cannot be run on this system; None if it can."""
    if "linux" in block.marks and not system.LINUX:
        return "this is not Linux"
    if block.language != "console":
        return None
    watches = any("watch3.py" in line for line in block.lines)
    for name in ("rich", "psutil") if watches else ():
        if importlib.util.find_spec(name) is None:
            return f"there is no {name}"
    return missing(OPTIONAL, [block])


def reason_to_leave_out_all(blocks):
    """Why nothing of a page can be run on this system; None if something can."""
    typing = [block for block in blocks if block.language == "console"]
    if typing and system.LINUX and os.getuid() == 0 and shutil.which("setpriv") is None:
        return "there is no setpriv"  # terminals.shell() needs it
    return missing(NEEDED, typing)


def missing(programs, blocks):
    """Which of the programs the blocks need and the system does not have, in words."""
    for line in (line for b in blocks for step in steps(b) for line in step.typed):
        for program in re.findall(r"(?:^|[|;] *)(\w+)", line):
            if program in programs and shutil.which(program) is None:
                return f"there is no {program}"
    return None


def excerpt(lines, stage):
    """The functions and constants that the lines define, as they are in a stage."""
    names = re.findall(r"^(?:def )?(\w+)(?:\(| = )", "\n".join(lines), re.MULTILINE)
    return "\n\n\n".join(pieces(stage)[name] for name in names).splitlines()


def rewrite_twin(page, text):
    """Give the Chinese page, if there is one, the blocks of the English one."""
    twin = chinese.twin(page)
    if twin:
        old = (ROOT / twin).read_text(encoding="utf-8")
        (ROOT / twin).write_text(chinese.with_blocks_of(text, old), encoding="utf-8")


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="*", default=PAGES, help="(default: all)")
    parser.add_argument("--check", action="store_true", help="leave the pages alone")
    parser.add_argument(
        "--port", type=int, default=ARTICLES_PORT, help="0: any free one (%(default)s)"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=Patience.seconds,
        metavar="SECONDS",
        help="how long to wait for what has to come (%(default)s)",
    )
    return parser.parse_args()


def main():
    options = parse_options()
    Patience.seconds = options.patience
    status = 0
    for page in options.pages:
        with tempfile.TemporaryDirectory() as folder:
            for script in ROOT.glob("*.py"):
                shutil.copy(script, folder)
            run = Run(page, options.port or free_port(), folder)
            lines = run.follow(go_on=not options.check)
        for remark in [*run.untrue, *(f"Not run: {why}" for why in run.left_out)]:
            print(remark)
        if run.untrue:
            status = 1
            if not options.check:
                text = "\n".join(lines) + "\n"
                (ROOT / page).write_text(text, encoding="utf-8")
                rewrite_twin(page, text)
    return status


if __name__ == "__main__":
    with guarded():
        sys.exit(main())
