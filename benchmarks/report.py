"""What is said of the results: the report, the README's section, and what has to hold."""

import hashlib
import json

import cost
import latency
import leaks
from library.servers import ROOT

SENTENCES = """\
![How long the next client waits]({folder}latency.svg)

Slow clients hold up those behind them. Behind {queue} clients that take {delay:g} ms each, 3b lets the next one wait for
{behind:.1f} seconds. In 3c and 3g it is served at once, however many there are.

![Descriptors and zombies of the parent]({folder}leaks.svg)

What is not given back adds up. 3d keeps a descriptor and a zombie for every connection. When clients come in bursts, 3f leaves
{percent} % of its children as zombies, and 3g leaves none.

![Requests a second of each design]({folder}cost.svg)

The cost is one Python process per connection. With a thread for each instead, Python answers {threads:.1f} times as many
requests. (3a is fast as long as no client is slow.)
"""

SECTION = """\
## What it costs

{sentences}
Measured on {machine}, on {date}.
[The report](benchmarks/results/report.md) has all the figures, and says how they came about.
With the environment of the test command above, this measures your machine, in about three minutes, and writes
`benchmarks/my-results/report.md`. It needs `ab`, which macOS has, and Debian in the package apache2-utils.

```sh
.venv/bin/pip install --quiet matplotlib tqdm && .venv/bin/python benchmarks/run.py
```

"""

REPORT = """\
# What it costs

[README](../../README.md#what-it-costs)

Measured on {machine}, on {date}. [results.json](results.json) has the figures.

{sentences}
## Cost per connection

{cost}

`ab` keeps {clients} clients asking, as many as the listen queue of 3a and 3c lets wait. There are {rounds} rounds. In each one
every server is loaded for about {seconds:g} s, and after every {fresh} rounds all are started anew; until then 3c keeps its
zombies. All of them receive the request, show it or (3h, `http.server`) a line about it, answer with the same body and close the
connection. `ab` is one thread and runs on the same processors: 3a answers faster than it can ask. A latency is that of a whole
connection. Half of them take no longer than p50, and 99 of 100 no longer than p99. The figures are medians over the rounds, and
the ratios are medians of the rounds' ratios.

Why does a connection cost 3g so much? `fork` copies the tables that say where the memory is
([fork(2)](https://man7.org/linux/man-pages/man2/fork.2.html)). Then parent and child share each page until one of them writes to
it, and the kernel copies that page: a *page fault*. A Python process writes to many pages. It takes the kernel about as long to
end a child as to make one. Reaping is cheap. Leaving out `argparse` and the signal handler gives 3g about a tenth more requests,
and takes `--help` and the lesson from the reader.

## What leaks

{leaks}

To 3c and 3d the clients come one after the other: their listen queue takes no more than {queue}. To 3f and 3g they come in bursts
of {every}. The parent is looked at when it and its children rest. The limits are raised. With those of a terminal 3d would end
before (see [its chapter](../../docs/3d.md)).

## How long the next client waits

{latency}

The time is from before the connect to the first bytes of the answer, the median of {waits}. 3b sleeps {delay:g} ms after each
answer; there the time is from when the first of them asks, with the others in its queue. The children of 3c are asleep after
their answers, and those of 3g wait for clients that say nothing.
"""


def number(value):
    """A number with as many digits as it is worth."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head, rows):
    """A Markdown table. Columns of numbers are aligned to the right."""
    first = [str(cell) for cell in rows[0]]
    rules = ["---:" if cell[0].isdigit() and cell[-1].isdigit() else "---" for cell in first]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [head, rules, *rows])


def cost_table(results):
    rows = []
    for name, found in results["cost"].items():
        figures = []
        for what in ("rate", "p50", "p99"):
            figures += [number(found[what]["median"]), f"{found[what]['ratio']:.2f}"]
        rows.append([*cost.DESIGNS[name], *figures])
    head = ["server", "how it serves", "requests/s", "ratio to 3g"]
    return table(head + ["p50, ms", "ratio", "p99, ms", "ratio"], rows)


def leaks_table(results):
    rows = []
    for stage, found in results["leaks"].items():
        for index in (0, len(found["connections"]) // 2, -1):
            rows.append([stage, *(f"{values[index]:,}" for values in found.values())])
    return table(["stage", "connections", "descriptors", "zombies"], rows)


def latency_table(results):
    found = results["latency"]
    rows = []
    for slow in found["3g"]:
        waits = [found[stage].get(slow) for stage in found]
        rows.append([slow, *("" if wait is None else number(wait) for wait in waits)])
    return table(["slow clients", *(f"{stage}, ms" for stage in found)], rows)


def filled(template, results, folder):
    """A template with the figures of the results. folder is where the charts are."""
    last = {stage: found["zombies"][-1] for stage, found in results["leaks"].items()}
    figures = {
        "machine": results["machine"],
        "date": results["date"],
        "folder": folder,
        "behind": results["latency"]["3b"][str(latency.QUEUE)] / 1000,
        "percent": round(100 * last["3f"] / last["3c"]),
        "threads": results["cost"]["threading"]["rate"]["ratio"],
        "queue": latency.QUEUE,
        "delay": 1000 * latency.DELAY,
        "waits": latency.ROUNDS,
        "every": leaks.EVERY,
        "clients": cost.CLIENTS,
        "rounds": cost.ROUNDS,
        "seconds": cost.SECONDS,
        "fresh": cost.FRESH,
        "cost": cost_table(results),
        "leaks": leaks_table(results),
        "latency": latency_table(results),
    }
    return template.format(sentences=SENTENCES.format(**figures), **figures)


def section(results):
    """The README's section, from its heading to before the next."""
    return filled(SECTION, results, "benchmarks/results/")


def report(results):
    """The whole report, as Markdown."""
    return filled(REPORT, results, "")


def publish(results):
    """Put the README's section in its place. Raises ValueError if it has none."""
    page = ROOT / "README.md"
    text, new = page.read_text(encoding="utf-8"), section(results)
    start = text.index(new.partition("\n")[0])
    end = text.index("\n## ", start) + 1
    page.write_text(text[:start] + new + text[end:], encoding="utf-8")


def claims(results):
    """What has to hold on every machine: a list of pairs, a sentence and whether it does.

    Quick results have too few figures for those that are about speed.
    """
    last = {
        stage: {what: values[-1] - values[0] for what, values in found.items()}
        for stage, found in results["leaks"].items()
    }
    count = last["3g"]["connections"]
    wait, delay = results["latency"], 1000 * latency.DELAY
    found = {
        "3c has a zombie for each connection.": last["3c"]["zombies"] == count,
        "3d has a zombie for each connection.": last["3d"]["zombies"] == count,
        "3d has a descriptor more for each connection.": last["3d"]["descriptors"] == count,
        "3f has zombies after bursts, but fewer.": 0 < last["3f"]["zombies"] < count,
        "3g has none after bursts, but for the gap that docs/3h.md explains.":
            last["3g"]["zombies"] <= count / 100,
        "3c, 3f and 3g have no descriptor more.":
            not any(last[stage]["descriptors"] for stage in ("3c", "3f", "3g")),
        "In 3b the next client waits a delay for each slow one.":
            all(wait["3b"][slow] > 0.99 * delay * int(slow) for slow in wait["3b"]),
    }  # fmt: skip
    if not results["quick"]:
        rate = {name: each["rate"]["ratio"] for name, each in results["cost"].items()}
        found |= {
            "In 3c and 3g it waits no delay, however many there are.":
                max(*wait["3c"].values(), *wait["3g"].values()) < delay,
            "3g does 1.2 or more of ForkingTCPServer.": 1 / rate["forking"] >= 1.2,
            "A thread for each connection is cheaper than a process.": rate["threading"] > 1,
            "One thread for all is cheaper than a thread for each.":
                rate["streams"] > rate["threading"],
            "The loop that forks is faster in C.": rate.get("c", 9) > rate["fork"],
        }  # fmt: skip
    return list(found.items())


def digest(results):
    """What tells these results from others; the charts have it, too."""
    return hashlib.sha256(json.dumps(results).encode()).hexdigest()
