"""Step through a server: what the kernel holds after each of its statements.

Type    python3 step3.py webserver3d.py         to record a run and open the page, or
        python3 step3.py my-server.py --stage 3f
        to take your own server, in Python, through the run of a stage.
Expect  A page in your browser. The right arrow key goes on by a statement.
Note    Your server gets two arguments, the port and the seconds to sleep; or --port and
        --delay, if these occur in it.
Note    Linux only. Nothing is imitated: the server runs, and is held before each statement
        of its functions while the numbers on the page are read from the kernel.
"""

# docs/steps/ has all that this needs: recorder.py, which runs the server, a scenario for each
# stage, STAGE.json, and the page's template. The pages of our own stages are there, too.

import argparse
import ast
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import sys
import tempfile
import webbrowser

FOLDER = pathlib.Path(__file__).resolve().parent / "docs" / "steps"
sys.path.insert(1, str(FOLDER))
sys.dont_write_bytecode = True  # into docs/
from recorder import Recorder, Unsteppable


def free_port():
    """A free port. It is no ephemeral one (ip(7)), which a client could take before the server does."""
    while True:
        port = random.randrange(20000, 32768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def recorder_of(script, text, scenario):
    """What can play a scenario with a server, whose text that is."""
    port = free_port()
    delay = str(scenario.get("delay", 0))
    arguments = [str(port), delay]
    if "--port" in text:
        options = {"--port": str(port), "--delay": delay, **scenario.get("options", {})}
        arguments = [word for name in options if name in text for word in (name, options[name])]
    return Recorder(script, text.splitlines(), port, arguments)


def functions(text):
    """The functions of a script, as ast has them. Raises Unsteppable if it has none."""
    try:
        nodes = ast.walk(ast.parse(text))
    except SyntaxError as error:
        raise Unsteppable(f"It is not Python: {error.msg}, in line {error.lineno}.") from None
    except ValueError as error:
        raise Unsteppable(f"It is not Python: {error}.") from None
    found = [one for one in nodes if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))]
    if not found:
        raise Unsteppable("It has no function. Put its loop into one, such as serve_forever.")
    return found


def record(script, stage):
    """A run of a server through a stage's scenario, as the page has it.

    Raises Unsteppable, and OSError if there is no such file.
    """
    scenario = json.loads((FOLDER / f"{stage}.json").read_text(encoding="utf-8"))
    text = pathlib.Path(script).read_text(encoding="utf-8", errors="replace")
    found = functions(text)
    recorder = recorder_of(script, text, scenario)
    try:
        recorder.play(scenario, os.path.basename(script) == f"webserver{stage}.py")
    finally:
        recorder.close()
    frames = recorder.frames
    processes = [process for frame in frames for process in frame["processes"]]
    stacks = [task["stack"] for process in processes for task in process["tasks"]]
    shown = {name for stack in stacks for name, _ in stack}
    return {
        "stage": stage,
        "script": os.path.basename(script),
        "title": scenario["title"],
        "child": scenario.get("child"),
        "code": [[one.lineno, recorder.lines[one.lineno - 1 : one.end_lineno]] for one in found if one.name in shown],
        "frames": frames,
    }


def page(recording):
    """The page that shows a recording, complete in itself."""
    html = (FOLDER / "step.html").read_text(encoding="utf-8")
    for name in ("step.css", "step.js"):
        html = html.replace(f"<!-- {name} -->", (FOLDER / name).read_text(encoding="utf-8"))
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    frames = ",\n".join(encode(one) for one in recording["frames"])  # a line for each
    data = encode({**recording, "frames": []}).replace('"frames":[]', f'"frames":[\n{frames}\n]')
    return html.replace("<!-- recording -->", data.replace("<", "\\u003c"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("script", help="the server, in Python")
    parser.add_argument("--stage", help="take it through this stage's run (default: its own)")
    parser.add_argument("--out", metavar="FILE", help="write the page, and do not open it")
    options = parser.parse_args()
    stages = sorted(path.stem for path in FOLDER.glob("*.json"))
    stage = options.stage or re.sub(r".*webserver(\w+)\.py", r"\1", options.script)
    if stage not in stages:
        parser.error(f"argument --stage: choose from {', '.join(stages)}")
    if sys.platform != "linux":
        sys.exit("step3.py needs Linux. The pages in docs/steps/ are for every system.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        html = page(record(options.script, stage))
        file = pathlib.Path(options.out or tempfile.mkdtemp(prefix="step3-") + "/step.html")
        file.write_text(html, encoding="utf-8")
    except (OSError, Unsteppable) as error:
        sys.exit(f"Cannot step through {options.script}. {error}")
    if not options.out:
        print(f"Open {file.as_uri()}")
        webbrowser.open(file.as_uri())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
