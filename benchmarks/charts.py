"""The charts of the report, as SVG."""

import cost
import latency
import matplotlib
import report

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402 (after the choice of what it draws on)

BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#777777"
LOOKS = {  # of a stage's line
    "3b": {"color": ORANGE, "linestyle": "-"},
    "3c": {"color": BLUE, "linestyle": "--"},
    "3d": {"color": RED, "linestyle": ":"},
    "3f": {"color": ORANGE, "linestyle": "-."},
    "3g": {"color": GREEN, "linestyle": "-"},
}
KINDS = {  # of a design's bar, by a word in how it serves
    "process": ("a process for each connection", GREEN),
    "a thread": ("a thread for each connection", BLUE),
    "one": ("one process, one thread", GREY),
}
NEAR = 10  # pixels between two names
STYLE = {
    "figure.facecolor": "white",  # a dark page would swallow the text
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "webserver3",  # the same names in each run
}


def draw(results, folder):
    """Write cost.svg, leaks.svg and latency.svg into a folder."""
    metadata = {"Date": None, "Description": report.digest(results)}
    with matplotlib.rc_context(STYLE):
        for name, chart in (("cost", costs), ("leaks", leaks), ("latency", waits)):
            figure = chart(results[name])
            figure.savefig(folder / f"{name}.svg", metadata=metadata)
            pyplot.close(figure)


def costs(found):
    """Bars: the requests a second of each design, the fastest first."""
    figure, axes = pyplot.subplots(figsize=(9, 4.6))
    names = sorted(found, key=lambda name: found[name]["rate"]["median"])
    rates = [found[name]["rate"] for name in names]
    designs = [cost.DESIGNS[name] for name in names]
    kinds = [next(KINDS[word] for word in KINDS if word in how) for _, how in designs]
    medians = [rate["median"] for rate in rates]
    bars = axes.barh(range(len(names)), medians, color=[colour for _, colour in kinds])
    labels = [f"{rate['median']:,.0f} ({rate['ratio']:.2f} × 3g)" for rate in rates]
    axes.bar_label(bars, labels, padding=5)
    axes.set_yticks(range(len(names)), [name.replace("`", "") for name, _ in designs])
    axes.set_xlim(0, 1.3 * max(medians))
    axes.set_xlabel(f"requests a second, {cost.CLIENTS} clients at a time")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    for kind, colour in KINDS.values():
        axes.barh(0, 0, color=colour, label=kind)
    axes.legend(loc="lower right")
    return figure


def leaks(found):
    """Two charts: descriptors and zombies over the connections."""
    figure, charts = pyplot.subplots(1, 2, figsize=(9, 3.8))
    for axes, what in zip(charts, ("descriptors", "zombies")):
        for stage, counts in found.items():
            axes.plot(counts["connections"], counts[what], label=stage, **LOOKS[stage])
        axes.set_title(what)
        axes.set_xlabel("connections so far")
        axes.margins(x=0)
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        name_lines(axes)
    charts[0].legend(loc="center left")
    return figure


def waits(found):
    """Lines: how long the next client waits, over how many slow ones there are."""
    figure, axes = pyplot.subplots(figsize=(9, 4))
    places = {str(slow): place for place, slow in enumerate(latency.SLOW)}
    for stage, times in found.items():
        at = [places[slow] for slow in times]
        axes.plot(at, [*times.values()], marker="o", label=stage, **LOOKS[stage])
    axes.set_xticks(range(len(places)), places)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("slow clients that are being served")
    axes.set_ylabel("the next one waits, ms")
    axes.legend(loc="upper right")
    name_lines(axes)
    end = latency.QUEUE, found["3b"][str(latency.QUEUE)]
    write(axes, "its listen queue is full", end, 32)
    return figure


def name_lines(axes):
    """Write the names of the lines at their ends, in one where lines end together."""
    ends = {}
    for each in axes.get_lines():
        place, value = each.get_xdata()[-1], each.get_ydata()[-1]
        height = axes.transData.transform((place, value))[1]
        near = next((end for end in ends if abs(end[2] - height) < NEAR), None)
        ends.setdefault(near or (place, value, height), []).append(each)
    for (place, value, _), lines in ends.items():
        names = ", ".join(each.get_label() for each in lines)
        colour = lines[0].get_color() if len(lines) == 1 else "black"
        write(axes, names, (place, value), 8, color=colour, weight="bold")


def write(axes, text, end, right, **looks):
    """Write to the right of a line's end, so many points from it."""
    axes.annotate(text, end, (right, 5), textcoords="offset points", va="center", **looks)
