"""The charts of the report, as SVG."""

import cost
import latency
import matplotlib
import report

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402 (the backend has to be chosen first)

BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#777777"
LOOKS = {  # a stage's line; dashed lines lie on top, and other stages get matplotlib's defaults
    "3b": {"color": ORANGE, "linestyle": "-"},
    "3c": {"color": BLUE, "linestyle": "--", "zorder": 3},
    "3d": {"color": RED, "linestyle": ":", "zorder": 4},
    "3f": {"color": ORANGE, "linestyle": "-."},
    "3g": {"color": GREEN, "linestyle": "-"},
    "4a": {"color": ORANGE, "linestyle": "-"},
    "4b": {"color": BLUE, "linestyle": "-"},
    "4c": {"color": GREY, "linestyle": "-"},
    "4d": {"color": RED, "linestyle": "--"},
    "4e": {"color": ORANGE, "linestyle": "-."},
}
KINDS = {  # a design's bar, by the first of these words in how it serves
    "worker": ("a few processes, made before there is a client", ORANGE),
    "process": ("a process for each connection", GREEN),
    "a thread": ("a thread for each connection", BLUE),
    "one": ("one thread for all connections", GREY),
}
NEAR = 14  # points between two names
WIDTH = 5.2  # inches, so that letters are 9 pixels high on a phone of 390 pixels
THEMES = {  # the end of a file's name, and the looks of the page that shows the file
    "": {"figure.facecolor": "white", "axes.facecolor": "white"},
    "-dark": {"figure.facecolor": "#0d1117", "axes.facecolor": "#0d1117"},
}
INKS = {"": "#1f2328", "-dark": "#d0d7de"}
STYLE = {
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "webserver3",  # the same IDs in each run
}
INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")


def draw(results, folder):
    """Write an SVG of each chart into a folder, and a second one for dark pages."""
    metadata = {"Date": None, "Description": report.digest(results)}
    for suffix, theme in THEMES.items():
        with matplotlib.rc_context({**STYLE, **theme, **dict.fromkeys(INKED, INKS[suffix])}):
            for name, chart in CHARTS.items():
                if not results[name]:
                    continue  # this system can't measure it
                figure = chart(results[name])
                figure.savefig(folder / f"{name}{suffix}.svg", metadata=metadata)
                pyplot.close(figure)


def costs(found):
    """Bars: the requests a second of each design, in the order of DESIGNS, which has similar ones side by side."""
    names = [*reversed([*found])]
    figure, axes = pyplot.subplots(figsize=(WIDTH, 1.4 + 0.5 * len(names)))
    rates = [found[name]["rate"] for name in names]
    designs = [cost.DESIGNS[name] for name in names]
    kinds = [next(KINDS[word] for word in KINDS if word in how) for _, how in designs]
    medians = [rate["median"] for rate in rates]
    axes.barh(range(len(names)), medians, 0.36, color=[colour for _, colour in kinds])
    for place, (name, _) in enumerate(designs):
        rate = f"{rates[place]['median']:,.0f} ({rates[place]['ratio']:.2f} × 3g)"
        text = f"{name.replace('`', '')}: {rate}"
        axes.annotate(text, (0, place + 0.2), (3, 2), textcoords="offset points")
    axes.set_yticks([])
    axes.set_ylim(-0.4, len(names) - 0.2)
    axes.set_xlabel(f"requests a second, {cost.CLIENTS} clients at a time")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    for kind, colour in dict.fromkeys(kinds):
        axes.barh(0, 0, color=colour, label=kind)
    figure.legend(loc="outside upper left", ncols=1)
    return figure


def leaks(found):
    """Two charts, one above the other: descriptors and zombies by connections."""
    figure, charts = pyplot.subplots(2, 1, figsize=(WIDTH, 6.4))
    for axes, what in zip(charts, ("descriptors", "zombies")):
        for stage, counts in found.items():
            looks = LOOKS.get(stage, {})
            axes.plot(counts["connections"], counts[what], label=stage, **looks)
        axes.set_title(what)
        axes.set_xlabel("connections so far")
        axes.margins(x=0)
        axes.locator_params(axis="x", nbins=5)
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        name_lines(axes)
    return figure


def waits(found):
    """Lines: how long the next client waits, by the number of slow ones.

    Both scales are logarithmic (the lower one from 1 on), or waits of a millisecond would lie on the axis.
    """
    figure, axes = pyplot.subplots(figsize=(WIDTH, 4.2))
    for stage, times in found.items():
        at = [int(slow) for slow in times]
        looks = LOOKS.get(stage, {})
        axes.plot(at, [*times.values()], marker="o", markersize=4, label=stage, **looks)
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    axes.set_yscale("log")
    ticks = [slow for slow in latency.SLOW if slow not in (3, 5)]
    axes.set_xticks(ticks, ticks)
    axes.minorticks_off()
    axes.set_xlim(-0.15, 1.2 * max(latency.SLOW))
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.5, high * 1.5)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel("slow clients that are being served (logarithmic)")
    axes.set_ylabel("the next one waits, ms (logarithmic)")
    name_lines(axes)
    end = latency.QUEUE, found["3b"][str(latency.QUEUE)]
    write(axes, "its listen queue is full", end, 32)
    return figure


def idle_clients(found):
    """Lines: the memory of each design, by the number of silent clients.

    4a is left out: it accepts four of them, and the others cost it nothing.
    """
    figure, axes = pyplot.subplots(figsize=(WIDTH, 4.2))
    for stage, counts in found.items():
        if stage != "4a":
            looks = LOOKS.get(stage, {})
            axes.plot(counts["clients"], counts["memory"], label=stage, **looks)
    axes.set_xlabel("clients that say nothing")
    axes.set_ylabel("memory, MiB")
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.margins(x=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    name_lines(axes)
    return figure


CHARTS = {"cost": costs, "leaks": leaks, "latency": waits, "idle": idle_clients}


def name_lines(axes):
    """Write each line's name at its end, several names together where ends are near each other."""
    axes.figure.canvas.draw()  # before that it has no size
    ends = []
    for each in axes.get_lines():
        place, value = each.get_xdata()[-1], each.get_ydata()[-1]
        across, height = axes.transData.transform((place, value)) * 72 / axes.figure.dpi
        near = next(
            (end for end in ends if abs(end[2] - height) < NEAR and abs(end[1] - across) < 4 * NEAR),
            None,
        )
        if near:
            near[3].append(each)
        else:
            ends.append(((place, value), across, height, [each]))
    for end, _, _, lines in ends:
        names = ", ".join(each.get_label() for each in lines)
        looks = {"color": lines[0].get_color()} if len(lines) == 1 else {}
        write(axes, names, end, 8, weight="bold", **looks)


def write(axes, text, end, right, **looks):
    """Write a text some points to the right of a line's end."""
    axes.annotate(text, end, (right, 5), textcoords="offset points", va="center", **looks)
