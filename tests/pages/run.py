"""Follow a page as a reader does, and compare its blocks with what the terminals show."""

import importlib.util
import os
import pathlib
import shutil
import tempfile
import time

from harness import system
from harness.ports import free_port
from harness.stages import ROOT
from harness.waiting import Impossible, wait_until
from pages.adaptation import as_on_page, for_this_run
from pages.blocks import PROMPTS, Step, blocks, lines_of, steps
from pages.matching import PLACEHOLDER, match, repaired
from pages.sources import as_in_scripts, patched
from pages.terminals import IDLE, Terminals

# Commands that only look. They are typed again until they show what the page does, as they may come too early; and
# what follows on the page holds without them.
LOOKS = ("ps ", "ss ", "lsof ", "ulimit -a", ".venv/bin/python watch3.py")


def followed(page, port=0, go_on=False, shell="bash"):
    """Follow a page on a port, or a free one, in a shell, up to its first error unless go_on.

    Returns the Run and the lines that the page should have. Raises Impossible if all pages need a missing program.
    """
    needed = [shell, "curl", "ps", *["setpriv"] * (system.LINUX and os.getuid() == 0)]  # see shell()
    if missing := [name for name in needed if not available(name)]:
        raise Impossible(f"there is no {', '.join(missing)}")
    with tempfile.TemporaryDirectory() as folder:
        for script in ROOT.glob("*.py"):
            shutil.copy(script, folder)
        run = Run(page, port or free_port(), folder, shell)
        return run, run.follow(go_on)


class Run:
    """A page that is followed from top to bottom, on a port, in terminals of its own.

    folder holds the scripts. untrue lists the errors of the page, left_out the blocks that could not be run, and why.
    """

    def __init__(self, page, port, folder, shell="bash"):
        self.page = page
        self.port = port
        self.folder = folder
        self.terminals = Terminals(folder, shell)
        self.values = {}  # of the placeholders, see match()
        self.prompts = {}  # whether each terminal is at a prompt, as the page has it
        self.untrue = []
        self.left_out = []
        self.skipped = None  # the section whose rest is left out
        self.owed = {}  # the terminals of blocks that were left out, and whether these leave them at a prompt

    def follow(self, go_on):
        """Run all blocks, or up to the first error. Returns the lines that the page should have."""
        lines = (ROOT / self.page).read_text(encoding="utf-8").splitlines()
        changes = []
        try:
            for block in blocks("\n".join(lines)):
                changes.append((block, self.true_lines(block)))
                if self.untrue and not go_on:
                    return lines
            self.check_end(len(lines))
        finally:
            self.terminals.kill()
        for block, true in reversed(changes):
            lines[block.start : block.start + len(block.lines)] = true
        return lines

    def check_end(self, index):
        """Report terminals that show more than the page does."""
        self.wait_until_idle()
        for name, terminal in self.terminals.items():
            if (terminal.lines or terminal.ready != self.prompts[name]) and not self.left_out:
                self.report(index, f"at the end, {name} shows", [*terminal.lines, *["a prompt"] * terminal.ready])

    def report(self, index, what, seen, expected=None):
        """Record that a line of the page, or what follows it, is not true."""
        text = [f"{self.page}, line {index + 1}: {what}"]
        if expected is not None:
            text += ["The page has:", *(f"    {line}" for line in expected)]
        text += ["The run has:", *(f"    {line}" for line in seen)]
        self.untrue.append("\n".join(text))

    def true_lines(self, block):
        """Run or check a block. Returns the lines that it should have."""
        if block.language in PROMPTS:
            return self.run_block(block)
        if block.language in ("diff", "python"):
            if block.marks:
                self.save(block)
                return block.lines
            true = as_in_scripts(block, self.page)
            if true != block.lines:
                self.report(block.start, "not as in the scripts", true, block.lines)
            return true
        return block.lines

    def save(self, block):
        """Write the file that a reader makes of a block."""
        try:
            text = patched(block.lines) if block.language == "diff" else "\n".join([*block.lines, ""])
        except ValueError as error:
            self.report(block.start, "the change does not fit", str(error).splitlines())
        else:
            pathlib.Path(self.folder, block.marks[0]).write_text(text, encoding="utf-8")

    def run_block(self, block):
        """Run a console or pycon block, unless it has to be left out. Returns the lines that it should have."""
        name = f"terminal {block.terminal}" if block.language == "console" else "Python"
        todo = steps(block)
        if block.section != self.skipped:
            self.end_skipped_section()
            missing = self.missing(block, todo)
            if not missing:
                return lines_of(block, [self.run_step(block, name, step) for step in todo])
            self.left_out.append(f"{self.page}, line {block.start}: no {', '.join(missing)}")
            if all(step.typed and step.typed[0].startswith(LOOKS) for step in todo):
                return block.lines
            self.skipped = block.section
        self.owed[name] = todo[-1].prompt
        return block.lines

    def missing(self, block, todo):
        """What a block needs and this run lacks: programs and libraries, or something that was left out before."""
        missing = [mark for mark in block.marks if not available(mark)]
        missing += {"bash"}.intersection(block.marks) - {self.terminals.shell}
        if self.left_out:
            missing += [f"command in {name}" for name in self.owed]
            typed = PLACEHOLDER.findall("\n".join(line for step in todo for line in step.typed))
            missing += [f"value of {one}" for one in typed if one not in self.values]
        return missing

    def end_skipped_section(self):
        """Put the terminals into the state in which the section that was left out leaves them, as far as ^C can.

        What cannot be had stays in `owed`: a command that should run.
        """
        self.skipped, owed, self.owed = None, self.owed, {}
        if not owed:
            return
        for name, terminal in self.terminals.items():
            if owed.get(name) and not terminal.ready:
                terminal.type(["^C"])
                wait_until(lambda terminal=terminal: terminal.ready, "^C brings the prompt back")
        self.wait_until_idle()
        for name, prompt in owed.items():
            terminal = self.terminals.get(name)
            if terminal:
                terminal.take()
            if not prompt and (terminal is None or terminal.ready):
                self.owed[name] = prompt

    def run_step(self, block, name, step):
        """Run a step. Returns it as it should be."""
        terminal = self.terminals[name]
        any_order = "any-order" in block.marks or step.typed[:1] and step.typed[0].startswith("ps ")
        try:
            if step.typed:
                self.wait_until_idle()
                if terminal.lines:
                    self.report(block.start, f"before, {name} shows", as_on_page(terminal.lines, self.port))
                self.type(terminal, step)
            true, values = wait_until(lambda: self.poll(terminal, step, any_order), "the page is true")
        except AssertionError:
            true = False
        if true:
            self.values = values
        else:
            step = self.corrected(block, name, step)
        terminal.take()
        self.prompts[name] = step.prompt
        return step

    def type(self, terminal, step):
        """Type a step's lines, as this run needs them, into an empty terminal."""
        self.terminals.reap_orphans()
        typed = [PLACEHOLDER.sub(self.value, line) for line in step.typed]
        terminal.take()
        terminal.type([for_this_run(line, self.port, self.terminals.shells()) for line in typed])

    def value(self, placeholder):
        """The real value of a placeholder in a typed command."""
        if placeholder[0] not in self.values:
            raise SystemExit(f"{self.page}: {placeholder[0]} is typed, but no output has shown it")
        return self.values[placeholder[0]]

    def poll(self, terminal, step, any_order):
        """Check a step. Returns whether it is true, and the values of the placeholders; None if neither is certain yet.

        If a command that only looks shows something else, it is typed again.
        """
        ready = terminal.ready  # read before the lines: if it is, they are complete
        values = match(step.output, as_on_page(terminal.lines, self.port), self.values, any_order)
        shown = values is not None and ready == step.prompt
        if shown and (ready or self.idle() and (terminal.runs_a_command or not step.typed)):
            return True, values
        if ready and terminal.seconds_quiet() > 1 and self.idle():
            if not (step.typed and step.typed[0].startswith(LOOKS)):
                return False, values
            self.type(terminal, step)
        return None

    def corrected(self, block, name, step):
        """Report a step that is not true. Returns it with the output of this run."""
        terminal = self.terminals[name]
        while terminal.seconds_quiet() < 1:  # a person will read it, so all of it
            time.sleep(0.1)
        seen = as_on_page(terminal.lines, self.port)
        prompt = "the prompt is back" if terminal.ready else "the prompt is not back"
        self.report(block.start, f"in {name} ({prompt})", seen, step.output)
        output = []
        for line in seen:
            true, self.values = repaired(line, step.output, self.values, self.terminals.pids)
            output.append(true)
        return Step(step.typed, output, terminal.ready)

    def idle(self):
        """Whether nothing more happens before somebody types or a timer expires."""
        return all(one.state in IDLE for one in self.terminals.census())

    def wait_until_idle(self):
        wait_until(self.idle, "all programs in the terminals are idle")


def available(mark):
    """Whether this system has what a block's mark asks for."""
    if mark in ("any-order", "linux"):
        return mark == "any-order" or system.LINUX
    return shutil.which(mark) or importlib.util.find_spec(mark)
