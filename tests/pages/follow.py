"""Run all that the README and docs/ show, and compare it with what they say.

Type    python3 tests/pages/follow.py             to rewrite what is no longer true,
        python3 tests/pages/follow.py --check     to list it and change nothing,
        ... --check --port 0 docs/3d.md       for one page, on a free port.

A reader types what a page shows, so a page is its own test. Rules for writers:
- A console block is typed into the terminal that the caption above it names, such as
  "**Terminal 2**". "$ " is the prompt, "^C" is Ctrl-C. A block that ends with "$" shows
  that the prompt is back; any other, that the command goes on. A block without a prompt
  shows more output of the command before.
- A pycon block is typed into a Python prompt, one for the whole page.
- Placeholders: a number of five digits stands for any number, and a terminal such as
  pts/1 for any terminal: for the same one wherever the page repeats it, for different
  ones where the page has different ones. Write PIDs below 32768 and ephemeral ports
  above: a PID and a port may be equal by chance.
- "…" stands for any text within a line, and alone on a line for any lines.
- Everything else has to be as shown, except column widths and what NORMALIZED in
  matching.py lists.
- Words after the language restrict a block. any-order: its lines may come in any order.
  linux, bash: it runs only there. Others name programs and libraries that it needs, as in
  "console linux strace". Where one is missing, a block that only looks, with ps, ss,
  lsof or watch3.py, is left out. If it does more, so is the rest of its section, and
  each terminal that has a prompt at the end of the section gets it by Ctrl-C.
- A diff block is the difference of two stages, without help texts, options and main. A
  python block is an excerpt of the page's stage: whole functions and constants.
- Files that the reader makes: "python visits.py" is saved under that name, and so is the
  copy of a script that "diff webserver4w.py" changes; its first line names the script.

A correct step keeps its lines: a rewrite changes only what was wrong.
On other ports than 8888 many pages are followed at once, and nobody needs time to look:
a delay of 15 or 20 seconds becomes one of 3.
"""

import argparse
import pathlib
import sys

# Python starts with this folder in its path; `harness` and `pages` are in tests/.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.programs import guarded
from harness.stages import ROOT
from harness.waiting import Impossible, Patience
from pages import translation
from pages.adaptation import ARTICLES_PORT
from pages.blocks import PAGES
from pages.run import followed
from pages.terminals import SHELLS


def main():
    options = parse_options()
    Patience.seconds = options.patience
    status = 0
    for page in options.pages:
        run, lines = followed(page, options.port, go_on=not options.check, shell=options.shell)
        for remark in [*run.untrue, *(f"Not run: {why}" for why in run.left_out)]:
            print(remark)
        if run.untrue and not options.check:
            rewrite(page, "\n".join([*lines, ""]))
        status = status or bool(run.untrue)
    return status


def rewrite(page, text):
    """Write a page, and the blocks of its Chinese twin, if it has one."""
    twin = translation.twin(page)
    if twin:
        old = (ROOT / twin).read_text(encoding="utf-8")
        (ROOT / twin).write_text(translation.with_blocks_of(text, old), encoding="utf-8")
    (ROOT / page).write_text(text, encoding="utf-8")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", default=PAGES, help="(default: all)")
    parser.add_argument("--check", action="store_true", help="leave the pages as they are")
    parser.add_argument("--port", type=int, default=ARTICLES_PORT, help="0: a free one (%(default)s)")
    parser.add_argument("--shell", choices=SHELLS, default="bash", help="the terminals' (%(default)s)")
    seconds = "how long to wait for expected output (%(default)s)"
    parser.add_argument("--patience", type=float, default=Patience.seconds, metavar="SECONDS", help=seconds)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        with guarded():
            sys.exit(main())
    except Impossible as impossible:
        print(f"Not run: {impossible}")
