"""Renders results.json as Markdown, and checks the claims that have to hold on every machine."""

import hashlib
import json
import math

import computing
import cost
import idle
import latency
import leaks
from harness.stages import ROOT

SENTENCES = """\
## Waiting

{latency_chart}

Slow clients hold up those behind them. Behind {queue} clients that take {delay:g} ms each, 3b keeps the next one waiting for
{behind:.1f} seconds. In 3c and 3g it is served at once, however many there are.

## Leaking

{leaks_chart}

What is not given back adds up. 3c keeps a zombie for every connection, and 3d a descriptor as well. When clients come in bursts, 3f
leaves {percent} % of its children as zombies, and 3g leaves none.

## Answering

{cost_chart}

A Python process for each connection is what makes 3g slow. Make the processes before the clients come, as 4a does, and you get
{prefork} times as many requests a second. Threads, as in 4b, give you {threads} times as many, and an event loop, as in 4c, gives you
{loop} times as many. (3a is fast as long as no client is slow.)

Why is 4e not ahead of all? The client that asks needs a processor, too. And workers that have so little to do keep falling asleep:
each client wakes all that wait, and [all but one find nothing](4e.md#why). Where the handlers compute, that hardly matters: 4d has
one processor, however many there are, and 4e has all of them. It answers {computing} times as many requests as 4d.

## The servers that people use

{others}

## Keeping

{idle_chart}

Some clients connect and say nothing. Even so, each one costs memory. {idle}
In 4a four silent clients take all the workers, and nobody else is served.
"""

PAGE = """\
# What it costs

English | [简体中文](zh/costs.md)

[Contents](../README.md#the-stages)

How long does a client wait? What does a server lose as clients come and go? How many can it answer, and how many can it keep?
Every design has its own price, and these are the bills.

{sentences}
## Measure your machine

These figures are from {machine}, on {date}.{load} [The report](../benchmarks/results/report.md) has all the others,
and says how they came about. Yours will differ. With the environment of the README's test command, this
takes about six minutes, and writes `benchmarks/my-results/report.md`:

```sh
.venv/bin/pip install --quiet matplotlib tqdm gunicorn uvicorn && .venv/bin/python benchmarks/run.py
```

It needs `ab`, which macOS has, and Debian in the package apache2-utils. Without nginx (Debian: nginx-light) it leaves nginx out.
"""

OTHERS = """\
Servers in production have [these designs](next.md#which-server-is-which), too, and ran beside ours in the same rounds. 4a answers
{sync} times as many requests as gunicorn's sync workers, 4b {gthread} times as many as its threads, and 4d {uvicorn} times as many
as uvicorn. 4c answers {nginx} times as many as nginx, but `ab` can't ask as fast as nginx could answer.

Are ours better, then? They do less. They receive once, and send everybody the same bytes. The others read each request to its end,
refuse what is malformed or too large, and log the status of the answer, too. gunicorn and uvicorn call an application. Most can keep
a connection open for the next request. nginx gives up clients that take too long, and gunicorn replaces workers that hang. Where an
application works for some milliseconds, all of this hardly matters.\
"""

CHARTS = {  # a chart's name, and its alternative text
    "latency": "How long the next client waits",
    "leaks": "Descriptors and zombies of the parent",
    "cost": "Requests a second of each design",
    "idle": "The memory of each design, over clients that say nothing",
}

REPORT = """\
# What it costs

[The page](../../docs/costs.md)

Measured on {machine}, on {date}.{load} [results.json](results.json) has the figures.

## Cost per connection

{cost_chart}

{cost}

`ab` keeps {clients} clients asking, as many as the listen queue of 3a and 3c lets wait. There are {rounds} rounds. In each one
every server is loaded for about {seconds:g} s. After every {fresh} rounds all are started anew, so that the zombies of 3c don't get too
many. All of them receive the request, write it or (3i and the servers that aren't ours) a line about it to `/dev/null`, answer with the
same body and close the connection. A latency is that of a whole connection. Half of them take no longer than p50, and 99 of 100 no
longer than p99. The figures are medians over the rounds, and the ratios are medians of the rounds' ratios.

`ab` is one thread and runs on the same processors. 3a and nginx answer faster than it can ask, 4c and 4d about as fast. So the order
among these four says little. 4d tries `accept` and `recv` first and asks the kernel what is ready only if there is nothing yet, and 4c
always asks before. That saves 4d calls and costs it a coroutine: which of the two is ahead depends on the machine and its load.

Why does a connection cost 3g so much? `fork` copies the tables that say where the memory is
([fork(2)](https://man7.org/linux/man-pages/man2/fork.2.html)). Then parent and child share each page until one of them writes to
it, and the kernel copies that page: a *page fault*. A Python process writes to many pages. It takes the kernel about as long to
end a child as to make one. Reaping is cheap.

The stages beside servers of the same design:

{peers}

These ratios are medians of the rounds' ratios, too. 4a and gunicorn's sync have 4 workers. gthread has one worker with up to {clients}
threads, nginx one with an event loop. uvicorn has asyncio's own loop and a parser in Python (h11). With uvloop and httptools, both in C,
it takes about half as much of a processor for a request. {versions}

## When handlers compute

{computing_table}

These are copies of 4d and 4e, in which `handle_request` computes `sum(range(200_000))` before it answers. There are {computed}
rounds. `ab` needs far less of a processor here than the handlers.

## What leaks

{leaks_chart}

{leaks}

To 3c and 3d the clients come one after the other: their listen queue takes no more than {queue}. To 3f and 3g they come in bursts
of {every}. The parent is looked at when it and its children rest. The limits are raised. With those of a terminal 3d would end
before (see [its chapter](../../docs/3d.md)).

## How long the next client waits

{latency_chart}

{latency}

The time is from before the connect to the first bytes of the answer, the median of {waits}. 3b sleeps {delay:g} ms after each
answer. For 3b the clock starts when the first slow client asks; the others are in the queue by then. The children of 3c are asleep after
their answers, and those of 3g wait for clients that say nothing.

## What clients cost that say nothing

{idle_chart}

{idle_table}

Memory is the sum of `Pss` over all processes of a server: a page that several of them share counts in parts
([proc_pid_smaps(5)](https://man7.org/linux/man-pages/man5/proc_pid_smaps.5.html)). The kernel's own memory
for sockets is not part of it. A newcomer's time is from before its connect to
the first bytes of its answer, the median of {newcomers}. A dash stands for no answer within {patience:g} s. 3g gets no more than 500 clients.
In 4a four silent clients keep the workers, and the others wait in the listen queue. It gets no more, because a newcomer isn't served any longer.
"""


def number(value):
    """A number with about three digits, for a table."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def rounded(value):
    """A number with two digits, for a sentence: 9.5 or 380."""
    digits = 1 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{round(value, digits):.{max(digits, 0)}f}"


def table(head, rows):
    """A Markdown table with columns of numbers aligned right."""
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


def peers_table(results):
    rows = []
    for stage, ratio in results["peers"].items():
        rows.append([cost.DESIGNS[stage][0], cost.DESIGNS[cost.PEERS[stage]][0], number(ratio)])
    return table(["stage", "the other", "ratio of requests"], rows) if rows else "None of them is installed."


def versions(results):
    """Which servers were measured, and which were missing."""
    found = [f"{name} {version}" for name, version in results["versions"].items() if version]
    missing = [name for name, version in results["versions"].items() if not version]
    sentence = f"Measured: {', '.join(found)}." if found else ""
    return f"{sentence} Left out, as not installed: {', '.join(missing)}.".strip() if missing else sentence


def others_sentences(results):
    if len(results["peers"]) < len(cost.PEERS):
        return "(Not all of them are installed here.)"
    return OTHERS.format(**{cost.PEERS[stage]: rounded(ratio) for stage, ratio in results["peers"].items()})


def computing_table(results):
    rows = []
    for stage, found in results["computing"].items():
        rate = found["rate"]
        rows.append([stage, number(rate["median"]), f"{rate['ratio']:.2f}", number(found["p50"]["median"])])
    return table(["stage", "requests/s", "ratio to 4d", "p50, ms"], rows)


def idle_table(results):
    rows = []
    for stage, found in results["idle"].items():
        for clients, memory, processes, threads, wait in zip(*found.values()):
            waits = "-" if wait is None else number(wait)
            rows.append([stage, f"{clients:,}", number(memory), f"{processes:,}", f"{threads:,}", waits])
    if not rows:
        return "Only Linux has these figures."
    return table(["stage", "silent clients", "MiB", "processes", "threads", "a newcomer waits, ms"], rows)


def each_idle(results, stage):
    """What a silent client costs a stage in KiB; None where it was not measured."""
    found = results["idle"].get(stage)
    if not found or found["clients"][-1] == found["clients"][0]:
        return None
    more = found["memory"][-1] - found["memory"][0]
    return 1024 * more / (found["clients"][-1] - found["clients"][0])


def idle_sentence(results):
    costs = {stage: each_idle(results, stage) for stage in ("3g", "4b", "4c", "4d")}
    if None in costs.values():
        return "(Only Linux shows how much.)"
    return (
        f"In 3g it is a process, and {rounded(costs['3g'])} KiB.\n"
        f"In 4b it is a thread, and {rounded(costs['4b'])} KiB. In 4d it is a coroutine of {rounded(costs['4d'])} KiB. In 4c it is a "
        f"few small objects:\n{rounded(costs['4c'])} KiB. (What the kernel needs comes on top, on Linux "
        "a few KiB for a connection, 20 or more for a thread, 100 or more for a process.)"
    )


def load_sentence(results):
    """That the machine was busy before the benchmark began, if it was (load average, getloadavg(3))."""
    load = results["load"]
    if load < int(results["machine"].split()[0]) / 2:
        return ""
    return (
        f" The machine was busy with other work (load average {load:.0f}), so the times are longer than they could be."
    )


def chart(name, alternative, folder):
    """A chart, for light pages and for dark ones."""
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{folder}{name}-dark.svg">'
        f'<img alt="{alternative}" src="{folder}{name}.svg"></picture>'
    )


def filled(template, results, folder):
    """Fill in a template with the results. folder has the charts."""
    last = {stage: found["zombies"][-1] for stage, found in results["leaks"].items()}
    rate = {name: found["rate"]["ratio"] for name, found in results["cost"].items()}
    figures = {
        "machine": results["machine"],
        "date": results["date"],
        "load": load_sentence(results),
        "behind": results["latency"]["3b"][str(latency.QUEUE)] / 1000,
        "percent": round(100 * last["3f"] / last["3c"]),
        "prefork": rounded(rate["4a"]),
        "threads": rounded(rate["4b"]),
        "loop": rounded(rate["4c"]),
        "computing": rounded(results["computing"]["4e"]["rate"]["ratio"]),
        "idle": idle_sentence(results),
        "computed": computing.ROUNDS,
        "newcomers": idle.NEWCOMERS,
        "patience": idle.PATIENCE,
        "queue": latency.QUEUE,
        "delay": 1000 * latency.DELAY,
        "waits": latency.ROUNDS,
        "every": leaks.EVERY,
        "clients": cost.CLIENTS,
        "rounds": cost.ROUNDS,
        "seconds": cost.SECONDS,
        "fresh": cost.FRESH,
        "cost": cost_table(results),
        "peers": peers_table(results),
        "versions": versions(results),
        "others": others_sentences(results),
        "computing_table": computing_table(results),
        "idle_table": idle_table(results),
        "leaks": leaks_table(results),
        "latency": latency_table(results),
    }
    for name, alternative in CHARTS.items():
        figures[f"{name}_chart"] = chart(name, alternative, folder) if results[name] else ""
    return template.format(sentences=SENTENCES.format(**figures), **figures)


def page(results):
    """The page docs/costs.md."""
    return filled(PAGE, results, "../benchmarks/results/")


def report(results):
    """The whole report, as Markdown."""
    return filled(REPORT, results, "")


def publish(results):
    """Write docs/costs.md."""
    (ROOT / "docs/costs.md").write_text(page(results), encoding="utf-8")


def claims(results):
    """The claims that have to hold on every machine: a list of pairs, a sentence and whether it holds.

    Quick results have too few figures for claims about speed.
    """
    found = {**claims_about_leaks(results["leaks"]), **claims_about_waits(results["latency"], results["quick"])}
    if not results["quick"]:
        found.update(claims_about_speed(results))
    return list(found.items())


def claims_about_leaks(found):
    grown = {stage: {what: values[-1] - values[0] for what, values in each.items()} for stage, each in found.items()}
    zombies = {stage: each["zombies"] for stage, each in grown.items()}
    descriptors = {stage: each["descriptors"] for stage, each in grown.items()}
    count = grown["3g"]["connections"]
    return {
        "3c has a zombie for each connection.": zombies["3c"] == count,
        "3d has a zombie for each connection.": zombies["3d"] == count,
        "3d has a descriptor more for each connection.": descriptors["3d"] == count,
        "3f has zombies after bursts, but fewer.": 0 < zombies["3f"] < count,
        "3g has none after bursts, but for the gap that docs/3i.md explains.": zombies["3g"] <= count / 100,
        "3c, 3f and 3g have no descriptor more.": descriptors["3c"] == descriptors["3f"] == descriptors["3g"] == 0,
    }


def claims_about_waits(waits, quick):
    delay = 1000 * latency.DELAY
    behind = all(wait > 0.99 * delay * int(slow) for slow, wait in waits["3b"].items())
    beside = max(*waits["3c"].values(), *waits["3g"].values())
    found = {"In 3b the next client waits a delay for each slow one.": behind}
    return found if quick else {**found, "In 3c and 3g it waits no delay, however many there are.": beside < delay}


def claims_about_speed(results):
    rate = {name: each["rate"]["ratio"] for name, each in results["cost"].items()}
    found = {
        "4a answers 4 times as many requests as 3g.": rate["4a"] >= 4,
        "A thread for each connection is cheaper than a process.": rate["4b"] > 1,
        "One thread for all is cheaper than a thread for each.": min(rate["4c"], rate["4d"]) > rate["4b"],
        "3g's loop is faster in C.": rate.get("c", 9) > 1,
    }
    for stage, ratio in results["peers"].items():
        if stage != "4c":  # nginx is in C
            found[f"{stage} answers more requests than {cost.DESIGNS[cost.PEERS[stage]][0]}, which does more."] = (
                ratio > 1
            )
    if not results["machine"].startswith("1 "):  # with one processor 4e has nothing to gain
        computed = results["computing"]["4e"]["rate"]["ratio"]
        found["4e answers at least as many requests as 4d when handlers compute."] = computed >= 1
    return found


def digest(results):
    """A checksum of the results, which the charts carry, too."""
    return hashlib.sha256(json.dumps(results).encode()).hexdigest()
