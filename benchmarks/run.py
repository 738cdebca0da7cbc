"""Measure what each design costs, and write tables (Markdown) and charts (SVG) of it.

Type    python3 benchmarks/run.py               and wait for about six minutes:
        benchmarks/my-results/report.md is what came out.
Try     --quick     to see in a minute that everything works. Its figures mean
        little.
        --publish   to measure for docs/costs.md and benchmarks/results. The
        figures of docs/zh/costs.md are then to be copied by hand.
Expect  The progress, then the claims that have to hold on every machine, and
        whether they do. The exit status is 0 if all of them hold, else 1.
Note    It needs ab and the Python packages matplotlib and tqdm. nginx, gunicorn
        and uvicorn are measured, too, where they are installed. It loads this
        machine only. A quiet machine gives steadier figures.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(1, str(ROOT / "tests"))  # for harness
try:
    import charts
    import computing
    import cost
    import idle
    import latency
    import leaks
    import report
    import tqdm
    from harness import programs, system
except ModuleNotFoundError as error:
    sys.exit(f"There is no {error.name}: pip install matplotlib tqdm")

BAR = "{desc:19} {bar} {percentage:3.0f} %  {elapsed}, {remaining} to go"
FULL = (cost.ROUNDS, latency.ROUNDS, leaks.CONNECTIONS, max(idle.COUNTS), computing.ROUNDS)


def machine():
    """The processors, the system and Python, in a few words."""
    processor = platform.processor() or platform.machine()
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line for line in file if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    elif sys.platform == "darwin":
        processor = system.run("sysctl", "-n", "machdep.cpu.brand_string").strip()
    release = ".".join(platform.release().split(".")[:2])
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} processors ({processor}), {platform.system()} {release}, {python}"


def measure(quick):
    """Measure everything. Returns the contents of results.json. quick: with very few rounds and clients."""
    rounds, waits, clients, silent, computed = (2, 1, 300, 250, 2) if quick else FULL
    stages = len(leaks.STAGES) * clients // leaks.EVERY
    silent = max(idle.counts("4c", silent))
    load = os.getloadavg()[0]  # before there is ours
    leaks.raise_limits(max(clients, silent))
    measured = waits * (2 * len(latency.SLOW) + latency.QUEUE + 1)
    with tempfile.TemporaryDirectory() as folder:
        designs = cost.commands(pathlib.Path(folder))
        turns = part("cost per connection", rounds, cost.compare, designs, rounds)
        return {
            "machine": machine(),
            "date": datetime.date.today().isoformat(),
            "load": round(load, 1),
            "quick": quick,
            "cost": cost.summary(turns),
            "peers": cost.to_peers(turns),
            "versions": cost.versions(),
            "computing": part("handlers compute", computed, computing.compare, pathlib.Path(folder), computed),
            "idle": part("idle clients", idle.steps(silent), idle.all_stages, silent),
            "leaks": part("what leaks", stages, leaks.all_stages, clients),
            "latency": part("latency", measured, latency.all_stages, waits),
        }


def part(name, steps, function, *arguments):
    """Call a function that takes a while, and show its progress. Returns its result."""
    with tqdm.tqdm(desc=name, total=steps, bar_format=BAR) as bar:
        return function(*arguments, bar.update)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="measure very little")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write to benchmarks/results/ and docs/costs.md instead",
    )
    parser.add_argument(
        "--rewrite",
        action="store_true",
        help="write everything again from the existing results.json, without measuring",
    )
    options = parser.parse_args()
    if options.quick and (options.publish or options.rewrite):
        parser.error("--quick goes with neither --publish nor --rewrite")
    return options


def main():
    options = parse_options()
    folder = ROOT / "benchmarks" / ("results" if options.publish else "my-results")
    folder.mkdir(exist_ok=True)
    figures = folder / "results.json"
    if not options.rewrite:
        if shutil.which("ab") is None:
            sys.exit("There is no ab. On Debian it is in the package apache2-utils.")
        text = json.dumps(measure(options.quick), indent=1)
        text = re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), text)
        figures.write_text(text + "\n", encoding="utf-8")
    elif not figures.exists():
        sys.exit(f"There is no {figures.relative_to(ROOT)} yet.")
    results = json.loads(figures.read_text(encoding="utf-8"))
    (folder / "report.md").write_text(report.report(results), encoding="utf-8")
    charts.draw(results, folder)
    if options.publish:
        report.publish(results)
    claims = report.claims(results)
    for sentence, holds in claims:
        print("holds " if holds else "FAILS ", sentence)
    print(f"\nThe report is {folder.relative_to(ROOT) / 'report.md'}")
    sys.exit(0 if all(holds for _, holds in claims) else 1)


if __name__ == "__main__":
    try:
        with programs.guarded():
            main()
    except KeyboardInterrupt:
        sys.exit(1)
    except (AssertionError, subprocess.TimeoutExpired, programs.Unusable) as error:
        sys.exit(f"It could not be measured:\n{error}")
