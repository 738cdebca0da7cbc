"""The charts of the report, as SVG."""

import cost
import latency
import matplotlib
import report

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402 (after the choice of what it draws on)

BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#777777"
COLOURS = {"3b": ORANGE, "3c": BLUE, "3d": RED, "3f": ORANGE, "3g": GREEN}
LINES = {"3b": "-", "3c": "--", "3d": ":", "3f": "-.", "3g": "-"}
NEAR = 10  # pixels between two names
STYLE = {
    "figure.facecolor": "white",  # a dark page would swallow the text
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "webserver3",  # the same names in each run
}


def draw(results, folder):
    """Write cost.svg, leaks.svg and latency.svg into a folder."""
    metadata = {"Date": None, "Description": report.digest(results)}
    with matplotlib.rc_context(STYLE):
        for name, chart in (("cost", costs), ("leaks", leaks), ("latency", waits)):
            figure = chart(results)
            figure.savefig(folder / f"{name}.svg", metadata=metadata)
            pyplot.close(figure)


def costs(results):
    """Bars: the requests a second of each design, the fastest first."""
    found = results["cost"]
    names = sorted(found, key=lambda name: found[name]["rate"]["median"])
    rates = [found[name]["rate"]["median"] for name in names]
    figure, axes = pyplot.subplots(figsize=(9, 4.6), layout="constrained")
    bars = axes.barh(range(len(names)), rates, color=[colour(name) for name in names])
    labels = [
        f"{rate:,.0f} ({found[name]['rate']['ratio']:.2f} × 3g)"
        for name, rate in zip(names, rates)
    ]
    axes.bar_label(bars, labels, padding=5)
    axes.set_yticks(
        range(len(names)), [cost.DESIGNS[name][0].replace("`", "") for name in names]
    )
    axes.set_xlim(0, 1.3 * max(rates))
    axes.set_xlabel(f"requests a second, {cost.CLIENTS} clients at a time")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    for how, shade in (
        ("a process for each connection", GREEN),
        ("a thread for each connection", BLUE),
        ("one process, one thread", GREY),
    ):
        axes.barh(0, 0, color=shade, label=how)
    axes.legend(loc="lower right", frameon=False)
    return figure


def colour(name):
    how = cost.DESIGNS[name][1]
    return GREEN if "process" in how else BLUE if "a thread" in how else GREY


def leaks(results):
    """Two charts: descriptors and zombies over the connections."""
    figure, charts = pyplot.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for axes, what in zip(charts, ("descriptors", "zombies")):
        for stage, found in results["leaks"].items():
            line(axes, stage, found["connections"], found[what])
        axes.set_title(what)
        axes.set_xlabel("connections so far")
        axes.margins(x=0)
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        name_lines(axes)
    charts[0].legend(loc="center left", frameon=False)
    return figure


def waits(results):
    """Lines: how long the next client waits, over how many slow ones there are."""
    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    places = [str(slow) for slow in latency.SLOW]
    for stage, found in results["latency"].items():
        line(axes, stage, [places.index(slow) for slow in found], [*found.values()], "o")
    axes.set_xticks(range(len(places)), places)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("slow clients that are being served")
    axes.set_ylabel("the next one waits, ms")
    axes.legend(loc="upper right", frameon=False)
    name_lines(axes)
    full = results["latency"]["3b"][str(latency.QUEUE)]
    axes.annotate(
        "its listen queue is full",
        (latency.QUEUE, full),
        (32, 5),
        textcoords="offset points",
        va="center",
    )
    return figure


def line(axes, stage, places, values, marker=None):
    axes.plot(
        places,
        values,
        LINES[stage],
        color=COLOURS[stage],
        linewidth=2,
        marker=marker,
        label=stage,
    )


def name_lines(axes):
    """Write the names of the lines at their ends, in one where lines end together."""
    ends = {}
    for each in axes.get_lines():
        place, value = each.get_xdata()[-1], each.get_ydata()[-1]
        height = axes.transData.transform((place, value))[1]
        near = next((end for end in ends if abs(end[2] - height) < NEAR), None)
        ends.setdefault(near or (place, value, height), []).append(each)
    for (place, value, _), lines in ends.items():
        axes.annotate(
            ", ".join(each.get_label() for each in lines),
            (place, value),
            (8, 5),
            textcoords="offset points",
            va="center",
            color=lines[0].get_color() if len(lines) == 1 else "black",
            weight="bold",
        )
