"""Record zombies.svg, the README's moving picture, from a real run: it shows only what happens.

Type    .venv/bin/python docs/pictures/zombies.py
Expect  After some 20 seconds zombies.svg is new: 20 clients of webserver3f.py, then 20 of
        webserver3g.py, in three terminals; one shows watch3.py.
Note    It needs rich, psutil and tmux, whose screens it captures ten times a second. Port
        8888 must be free.
"""

import os
import pathlib
import subprocess
import sys
import time
from html import escape

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME as THEME
from rich.text import Text

ROOT = pathlib.Path(__file__).resolve().parents[2]
PICTURE = pathlib.Path(__file__).with_suffix(".svg")
COLUMNS = 76  # the fewest that fit the table of watch3.py: the letters are larger on a phone
TERMINALS = {"server": 6, "clients": 4, "watch": 17}  # and their rows
CAPTIONS = {
    "3f": "3f calls wait once for each signal: zombies stay",
    "3g": "3g waits until no ended child is left: none stays",
}
BETWEEN = "3f has ended, and its zombies with it"
CONSOLE = Console(no_color=False)
CELL, ROW, MARGIN, GAP = 8.4, 18, 12, 30  # pixels
WIDTH = 520  # of the picture on a page: with more it gets taller and hides the commands below
CSS = f"""
text {{ font: 14px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
        white-space: pre; fill: {THEME.foreground_color.hex} }}
.caption {{ font: bold 16px system-ui, sans-serif; fill: #d0d7de }}
.name {{ fill: #8b949e }}
.later {{ visibility: hidden }}
"""


def tmux(*arguments):
    """Run a command of tmux(1), on a server of our own. Returns its output."""
    command = ["tmux", "-L", "webserver3", "-f", os.devnull, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


class Recording:
    """Frames: what all terminals showed, and when."""

    def __init__(self):
        self.frames = []  # pairs of a time in seconds and the lines, caption first
        self.caption = ""
        self.started = time.monotonic()

    def capture(self):
        """Add a frame."""
        lines = [self.caption]
        for name, rows in TERMINALS.items():
            shown = tmux("capture-pane", "-e", "-p", "-t", name).split("\n")
            lines += (shown + [""] * rows)[:rows]
        self.frames.append((time.monotonic() - self.started, lines))

    def run(self, seconds):
        """Record for some seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.capture()
            time.sleep(0.1)

    def run_until(self, name, text):
        """Record until a terminal shows a text. Raises TimeoutError after 30 seconds without it."""
        end = time.monotonic() + 30
        while text not in (shown := tmux("capture-pane", "-p", "-t", name)):
            if time.monotonic() > end:
                raise TimeoutError(f"{text!r} is not shown:\n{shown}")
            self.capture()
            time.sleep(0.1)

    def type(self, name, command):
        """Type a command, and leave the viewer time to read it before Enter."""
        tmux("send-keys", "-t", name, command)
        self.run(0.8)
        tmux("send-keys", "-t", name, "Enter")


def record():
    """Run both servers with their clients. Returns the Recording."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = {"PATH": path, "PS1": "$ ", "TERM": "screen-256color", "LC_ALL": "C.UTF-8"}
    shell = ["env", *(f"{name}={value}" for name, value in environment.items())]
    shell += ["bash", "--norc", "--noprofile"]
    for name, rows in TERMINALS.items():
        size = ["-x", str(COLUMNS), "-y", str(rows)]
        tmux("new-session", "-d", "-s", name, *size, "-c", str(ROOT), *shell)
        tmux("set-option", "-t", name, "status", "off")
        tmux("resize-window", "-t", name, *size)
    recording = Recording()
    tmux("send-keys", "-t", "watch", "python3 watch3.py --interval 0.2", "Enter")
    recording.run_until("watch", "Nobody listens")
    recording = Recording()
    recording.caption = CAPTIONS["3f"]
    for stage, caption in CAPTIONS.items():
        recording.type("server", f"python3 webserver{stage}.py --delay 2")
        recording.run_until("watch", "in accept")
        recording.caption = caption  # not earlier: watch3.py still shows the last stage's zombies
        recording.type("clients", "python3 client3.py --max-clients 20")
        recording.run_until("clients", "20 of 20")
        recording.run_until("watch", "in sleep")
        recording.run_until("watch", "ZOMBIES" if stage == "3f" else "children         0")
        recording.run(3.5)
        if stage == "3f":
            recording.still = len(recording.frames) - 1
            tmux("send-keys", "-t", "server", "C-c")
            recording.run_until("watch", "ended at")
            recording.caption = BETWEEN
            for name in ("server", "clients"):
                tmux("send-keys", "-t", name, "clear", "Enter")
    return recording


def drawn(line, x, y):
    """A line of a terminal, with its colours, as text elements of SVG."""
    line = Text.from_ansi(line, end="")
    line.rstrip()
    parts = []
    for text, style, _ in line.render(CONSOLE):
        looks = "font-weight:bold;" if style and style.bold else ""
        if style and style.color:
            looks += f"fill:{style.color.get_truecolor(THEME).hex}"
        looks = looks and f' style="{looks}"'
        length = len(text) * CELL
        if text.strip():
            at = f'x="{x:.1f}" y="{y}" textLength="{length:.1f}"'
            parts.append(f"<text {at}{looks}>{escape(text)}</text>")
        x += length
    return "".join(parts)


def svg(recording):
    """The recording as a drawing, animated by CSS alone.

    Without animation, because the reader prefers that or the viewer can't do it, it shows 3f's zombies that stayed.
    """
    windows, rows, height = layout()
    lines, styles = animated(recording, rows)
    moving = "\n".join(styles)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" viewBox="0 0 {COLUMNS * CELL + 26:.0f} {height}">
<title>Twenty clients of 3f leave zombies, twenty of 3g leave none</title>
<style>{CSS}@media (prefers-reduced-motion: no-preference) {{
{moving}
}}</style>
<rect width="100%" height="100%" rx="8" fill="#161b22"/>
{chr(10).join(windows + lines)}
</svg>
"""


def layout():
    """The terminals' frames as SVG, the y coordinate of each row, caption first, and the height of it all."""
    top = 62  # of the first terminal, below the caption
    windows, ys = [], [24]
    for number, (name, rows) in enumerate(TERMINALS.items(), start=1):
        height = rows * ROW + 16
        label = f"Terminal {number}" + (": watch3.py" if name == "watch" else "")
        windows.append(
            f'<rect x="1" y="{top}" width="{COLUMNS * CELL + 2 * MARGIN:.0f}" height="{height}"'
            f' rx="6" fill="{THEME.background_color.hex}" stroke="#57606a"/>'
        )
        windows.append(f'<text class="name" x="{MARGIN}" y="{top - 8}">{label}</text>')
        ys += [top + 8 + ROW * (n + 0.75) for n in range(rows)]
        top += height + GAP
    return windows, ys, top - 20


def animated(recording, ys):
    """All lines that a row has ever shown, as groups of SVG, and the CSS that shows each in its time."""
    seconds = recording.frames[-1][0]
    still = recording.frames[recording.still][0]
    groups, styles = [], []
    for row, y in enumerate(ys):
        for start, end, line in spells([(when, lines[row]) for when, lines in recording.frames]):
            caption = f'<text class="caption" x="{MARGIN}" y="{y}">{escape(line)}</text>'
            content = drawn(line, MARGIN, y) if row else caption
            if not content or not line:
                continue
            name = f"s{len(groups)}"
            later = "" if start <= still < end else " later"
            groups.append(f'<g class="{name}{later}">{content}</g>')
            first, last = (f"{100 * when / seconds:.2f}%" for when in (start, end))
            steps = f"0%{{visibility:{'hidden' if start else 'visible'}}}"
            steps += f"{first}{{visibility:visible}}" if start else ""
            steps += f"{last}{{visibility:hidden}}" if end < seconds else ""
            styles.append(f".{name}{{animation:{name} {seconds:.1f}s step-end infinite}}")
            styles.append(f"@keyframes {name}{{{steps}}}")
    return groups, styles


def spells(moments):
    """Merge equal neighbours: pairs of a time and a line become (start, end, line)."""
    start, line = 0, moments[0][1]
    for when, other in [*moments[1:], (moments[-1][0], None)]:
        if other != line:
            yield start, when, line
            start, line = when, other


def main():
    try:
        recording = record()
    finally:
        tmux("kill-server")
    PICTURE.write_text(svg(recording), encoding="utf-8")


if __name__ == "__main__":
    main()
