"""What the results say: the report, the README's section, and what has to hold."""

import hashlib
import json
import textwrap

import cost
import inside
import latency
import leaks
from library.servers import ROOT

WIDTH = 120  # characters of a line
HEADING = "## What it costs\n"
COMMAND = (
    ".venv/bin/pip install --quiet matplotlib tqdm && .venv/bin/python benchmarks/run.py"
)


def number(value):
    """A number with as many digits as it is worth."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head, rows):
    """A Markdown table. Columns of numbers are aligned to the right."""
    first = [str(cell) for cell in rows[0]]
    rules = ["---:" if cell[0].isdigit() and cell[-1].isdigit() else "---" for cell in first]
    lines = [head, rules, *rows]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in lines)


def wrapped(text, bullet=""):
    """A paragraph, or with a bullet an item of a list, in lines of WIDTH."""
    return textwrap.fill(
        " ".join(text.split()),
        WIDTH,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )


# The tables


def cost_table(results):
    found = cost.summary(results["cost"])
    rows = []
    for name in found:
        title, how = cost.DESIGNS[name]
        figures = []
        for what in ("rate", "p50", "p99"):
            each = found[name][what]
            figures += [number(each["median"]), f"{each['ratio']:.2f}"]
        rows.append([title, how, *figures])
    head = ["server", "how it serves", "requests/s", "ratio to 3g"]
    head += ["p50, ms", "ratio", "p99, ms", "ratio"]
    return table(head, rows)


def leaks_table(results):
    rows = []
    for stage, looks in results["leaks"].items():
        for look in (looks[0], looks[len(looks) // 2], looks[-1]):
            rows.append([stage, *(f"{value:,}" for value in look.values())])
    head = ["stage", "connections", "descriptors", "zombies", "memory, KiB"]
    return table(head, rows)


def latency_table(results):
    found = results["latency"]
    rows = []
    for slow in found["3g"]:
        waits = [found[stage].get(slow) for stage in found]
        rows.append([slow, *("" if wait is None else number(wait) for wait in waits)])
    return table(["slow clients", *(f"{stage}, ms" for stage in found)], rows)


def steps_table(results):
    step = results["inside"]["steps"]
    rows = [
        ["`fork`, until it has returned in the parent", number(step["fork"])],
        ["`fork`, until it has returned in the child", number(step["begin"])],
        ["the child receives, shows, answers, closes", number(step["serve"])],
        ["from the child's last line to the parent's handler", number(step["end"])],
        ["`waitpid`", number(step["reap"])],
    ]
    return table(["step", "µs"], rows)


def variants_table(results):
    found = cost.summary(results["variants"])
    lost = dict([*(variant[:2] for variant in inside.VARIANTS), inside.ISOLATED])
    rows = [[name, f"{found[name]['rate']['ratio']:.2f}", lost[name]] for name in lost]
    return table(["3g, but", "requests/s, ratio to 3g", "what that takes away"], rows)


# The sentences


def conclusions(results):
    """Three sentences: on the cost, the leaks and the latency."""
    rate = ratios(results["cost"])
    median = cost.summary(results["cost"])["3g"]["rate"]["median"]
    c = ""
    if "c" in rate:
        c = f"the same loop in C, which forks as often, does {rate['c']:.2f} times as much, "
    first, last = ends(results)
    grown = last["3g"]["memory"] - first["3g"]["memory"]
    wait = results["latency"]
    full, most = str(latency.QUEUE), str(latency.SLOW[-1])
    return [
        f"""A process of Python's for each connection is what costs: 3g answers
        {number(median)} requests a second, {1 / rate["fork"]:.2f} of what the shortest loop
        in Python that forks does and {1 / rate["forking"]:.2f} times what
        `ForkingTCPServer` does; {c}a thread for each connection {rate["threading"]:.2f}
        times, one thread for all, with asyncio, {rate["streams"]:.2f} times (and 3a, as fast
        as `ab` can ask, {rate["3a"]:.2f} times, until one client is slow).""",
        f"""What is not given back adds up: after {last["3g"]["connections"]:,} connections
        3c has {last["3c"]["zombies"]:,} zombies, 3d has {last["3d"]["zombies"]:,} and
        {last["3d"]["descriptors"] - first["3d"]["descriptors"]:,} descriptors more than at
        first, and 3f has {last["3f"]["zombies"]:,} zombies, if clients come in bursts of
        {leaks.EVERY}; 3g, with the same bursts, has {last["3g"]["zombies"]}, and its memory
        has grown by {grown:,} KiB.""",
        f"""Slow clients harm those behind them, not those beside them: after {full} that
        take {1000 * latency.DELAY:g} ms each, the next one has waited
        {number(wait["3b"][full])} ms for an answer of 3b; while 3c and 3g serve {full} that
        never end, it waits {wait["3c"][full]:.1f} and {wait["3g"][full]:.1f} ms, and while
        they serve {most}, {wait["3c"][most]:.1f} and {wait["3g"][most]:.1f} ms.""",
    ]


def ratios(compared):
    """The requests a second of each that was compared, as a ratio to 3g's."""
    return {name: each["rate"]["ratio"] for name, each in cost.summary(compared).items()}


def ends(results):
    """How each stage's parent looked at first, and at last."""
    return [
        {stage: looks[index] for stage, looks in results["leaks"].items()}
        for index in (0, -1)
    ]


def inside_text(results):
    """Where the time goes."""
    inner = results["inside"]
    used, step = inner["usage"]["3g"], inner["steps"]
    cpu = {who: used[who]["cpu"] for who in used}
    faults = {who: used[who]["faults"] for who in used}
    most = 100 * sum(faults.values()) * inner["fault"] / sum(cpu.values())
    return f"""Under load a connection costs 3g {number(sum(cpu.values()))} µs of processor
    time, {number(cpu["parent"])} of them in the parent and {number(cpu["child"])} in the
    child. It costs 3a, which does not fork, {number(inner["usage"]["3a"]["parent"]["cpu"])}
    µs; what is more is the price of a process, of Python's size. `fork` copies the tables
    that say where the memory is, not the memory (fork(2), "NOTES"). From then on parent and
    child share each page until one of them writes to it: that is a page fault, and the
    kernel copies the page (copy-on-write), unless the other one has done with it. A part of
    the program's files that the child comes to use is a fault, too, but nothing is copied.
    Each connection has {number(faults["parent"])} faults in the parent and
    {number(faults["child"])} in the child. One that copies a page takes
    {number(inner["fault"])} µs here; all of them are at most {most:.0f} % of the processor
    time, then. When the child ends, its memory is given back, the parent is woken, and
    Python calls the handler, in {number(step["end"])} µs. Reaping is cheap: `waitpid` takes
    {number(step["reap"])} µs."""


def variants_text(results):
    """What was tried, and what that gave."""
    ratio = ratios(results["variants"])
    chance = [ratio[name] for name in inside.UNCHANGED]
    return f"""What was tried to make that less: copies of 3g with one thing changed each,
    under the same load in the same way. Copies with nothing changed give
    {min(chance):.2f} to {max(chance):.2f} times the requests a second, so not much can be
    said of what is near that. {inside.BOTH.capitalize()} it is {ratio[inside.BOTH]:.2f}
    times, and the shortest loop, which has neither, does
    {ratios(results["cost"])["fork"]:.2f} times as much: a process with more memory in use
    has larger tables to copy and more to give back, and each signal interrupts the parent.
    But all of these take something from the reader, so 3g is as it is."""


# What has to hold


def claims(results):
    """What has to hold on every machine: a list of pairs, a sentence and whether it does.

    Quick results have too few figures for those that are about speed.
    """
    first, last = ends(results)
    zombies = {stage: last[stage]["zombies"] for stage in last}
    opened = {
        stage: last[stage]["descriptors"] - first[stage]["descriptors"] for stage in last
    }
    count = last["3g"]["connections"]
    wait, delay = results["latency"], 1000 * latency.DELAY
    found = [
        ("3c has a zombie for each connection.", zombies["3c"] == count),
        ("3d has a zombie for each connection.", zombies["3d"] == count),
        ("3d has a descriptor more for each connection.", opened["3d"] == count),
        ("3f has zombies after bursts, but fewer.", 0 < zombies["3f"] < count),
        (
            "3g has none after bursts, but for the gap that docs/3h.md tells of.",
            zombies["3g"] <= count / 100,
        ),
        (
            "3c, 3f and 3g have no descriptor more.",
            opened["3c"] == opened["3f"] == opened["3g"] == 0,
        ),
        (
            "In 3b the next client waits a delay for each slow one.",
            all(wait["3b"][slow] > 0.99 * delay * int(slow) for slow in wait["3b"]),
        ),
    ]
    if results["quick"]:
        return found
    rate = ratios(results["cost"])
    c = rate.pop("c", None)
    found += [
        (
            "In 3c and 3g it waits no delay, however many there are.",
            max(*wait["3c"].values(), *wait["3g"].values()) < delay,
        ),
        (
            "3g does 0.9 of the shortest loop that forks, or more, but for chance.",
            1 / rate["fork"] > 0.85,
        ),
        ("3g does 1.2 or more of ForkingTCPServer.", 1 / rate["forking"] >= 1.2),
        ("A thread for each connection is cheaper than a process.", rate["threading"] > 1),
        (
            "One thread for all is cheaper than a thread for each.",
            rate["streams"] > rate["threading"],
        ),
        (
            "3a does the most of those in Python, as no client is slow.",
            rate["3a"] == max(rate.values()),
        ),
    ]
    if c:
        found.append(("The loop that forks is faster in C.", c > rate["fork"]))
    return found


# The pages


def digest(results):
    """What tells these results from others; the charts have it, too."""
    return hashlib.sha256(json.dumps(results).encode()).hexdigest()


def measured_on(results):
    return f"Measured on {results['machine']}, on {results['date']}."


def section(results):
    """The README's section, from its heading to before the next."""
    sentences = "\n".join(wrapped(each, "- ") for each in conclusions(results))
    reading = f"""`ab` has {cost.CLIENTS} clients ask all the time, on the same processors.
    Half of the connections take no longer than p50, and 99 of 100 no longer than p99."""
    more = f"""{measured_on(results)} Since then 3g prints PIDs as well, and answers about a
    tenth fewer requests. [The report](benchmarks/results/report.md) has the
    rest: the latency as a chart, where the time goes in 3g, and what was tried to make it
    less. With the environment of the test command above, this measures your machine, in
    about four minutes, and writes `benchmarks/my-results/report.md`. It needs `ab`, which
    macOS has, and Debian in the package apache2-utils."""
    return f"""{HEADING}
![Requests a second of each design](benchmarks/results/cost.svg)

{cost_table(results)}

{wrapped(reading)}

![Descriptors, zombies and memory of the parent](benchmarks/results/leaks.svg)

{sentences}

{wrapped(more)}

```sh
{COMMAND}
```

"""


def report(results):
    """The whole report, as Markdown."""
    sentences = "\n".join(wrapped(each, "- ") for each in conclusions(results))
    costs = f"""`ab` with {cost.CLIENTS} clients at a time, as many as the listen queue of
    3a and 3c lets wait. {len(results["cost"]["3g"])} rounds, in which each server is loaded
    for about {cost.SECONDS:g} s, and after every {cost.FRESH} started anew; until then 3c
    keeps its zombies. All receive the request, show it or (3h, `http.server`) a line on it,
    answer with the same body and close the connection. `ab` is one thread and runs on the
    same processors: 3a answers faster than it can ask. A latency is that of a whole
    connection; as there are always {cost.CLIENTS}, p50 goes with the requests a second. The
    figures are medians over the rounds, and the ratios the medians of the rounds'
    ratios."""
    leaking = f"""To 3c and 3d the clients come one after the other: their listen queue does
    not take more than {latency.QUEUE}. To 3f and 3g they come in bursts of {leaks.EVERY}.
    After every {leaks.EVERY} the parent is looked at, when it and its children rest. The
    limits are raised; with those of a terminal 3d would end before (see
    [its chapter](../../docs/3d.md)). Memory tells nothing of zombies, which have none left,
    and little of descriptors."""
    waiting = f"""From before the connect to the first bytes of the answer, while slow clients
    are being served; medians of {latency.ROUNDS}. 3b sleeps {1000 * latency.DELAY:g} ms
    after each answer; there the time is from when the first of them asks, with the others
    in its queue, which holds {latency.QUEUE}. The children of 3c are asleep after their answers, those of 3g wait for clients that say
    nothing."""
    stepping = """One connection at a time, so that nothing else is going on; medians. The
    first two begin together. The clocks' own lines are part of it."""
    return f"""# What it costs

[README](../../README.md#what-it-costs)

{wrapped(measured_on(results) + " [results.json](results.json) has the figures of each round.")}

{sentences}

## Cost per connection

![Requests a second of each design](cost.svg)

{cost_table(results)}

{wrapped(costs)}

## What leaks

![Descriptors, zombies and memory of the parent](leaks.svg)

{leaks_table(results)}

{wrapped(leaking)}

## How long the next client waits

![How long the next client waits](latency.svg)

{latency_table(results)}

{wrapped(waiting)}

## Where the time goes in 3g

{wrapped(inside_text(results))}

{steps_table(results)}

{wrapped(stepping)}

{wrapped(variants_text(results))}

{variants_table(results)}
"""


def publish(results):
    """Put the README's section in its place. Raises ValueError if it has none."""
    page = ROOT / "README.md"
    before, heading, rest = page.read_text(encoding="utf-8").partition(HEADING)
    if not heading:
        raise ValueError(f"README.md has no {HEADING}")
    after = rest.partition("\n## ")[2]
    page.write_text(f"{before}{section(results)}## {after}", encoding="utf-8")
