"""Figures on speed: a roof over every contender, the parts of a step, and what grows with what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from cvsa.report.speed_numbers import spread
from cvsa.report.speed_records import AXES, CVSA, PARTS, Contender, Speed
from cvsa.report.speed_text import NOT_MEASURED, SOURCES, Pairs, fitted, power

# Hues of Okabe-Ito; each library with a shape of its own, so that colour is not needed.
MARKS = {
    CVSA: ("#009e73", "o"), "lightly": ("#d55e00", "D"), "torchvision": ("#0072b2", "s"),
    "kornia": ("#cc79a7", "^"),
}  # fmt: skip
PART_COLOURS = dict(
    zip(PARTS, ("#004d40", "#009e73", "#66c2a5", "#0072b2", "#56b4e9", "#e69f00", "#7f7f7f"), strict=True)
)
WIDTH = 8.0


def nothing() -> Figure:
    """A figure that says that nothing was measured."""
    figure = Figure(figsize=(WIDTH, 1.2), layout="constrained")
    axis = figure.subplots()
    axis.set_axis_off()
    axis.text(0.5, 0.5, NOT_MEASURED, ha="center", va="center", fontsize=16, color="#555555")
    return figure


def roofs(measured: Sequence[Speed]) -> Figure:
    """Whole steps over their views alone: a panel per record and row that peers have too."""
    panels = [
        (speed, row)
        for speed in measured
        for row in dict.fromkeys(c.row for c in speed.measured("peer"))
        if speed.ceiling(row) and any(c.feed for c in _below(speed, row))
    ]
    if not panels:
        return nothing()
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(WIDTH, 3.7 * lines + 0.9), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, (speed, row) in zip(axes, panels, strict=False):
        _roof(axis, speed, row)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    shown = {c.library for speed, row in panels for c in _below(speed, row)}
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label="ours" if name == CVSA else name)
        for name, (colour, marker) in MARKS.items()
        if name in shown
    ]
    handles.append(
        Line2D([], [], color="#555555", marker="o", mfc="white", linestyle="", label=SOURCES["files"])
    )
    handles.append(Line2D([], [], color="#555555", marker="o", linestyle="", label="already decoded"))
    handles.append(Line2D([], [], color="black", label="roof: views and network at once"))
    handles.append(Line2D([], [], color="black", linestyle="--", label="one after the other"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _below(speed: Speed, row: str) -> list[Contender]:
    """What stands below the roof of a row: all with its model and views of their own."""
    ceiling = speed.ceiling(row)
    return [
        each
        for each in [*speed.measured("ours"), *speed.measured("peer")]
        if each.feed and speed.ceiling(each.row) is ceiling
    ]


def _roof(axis: Axes, speed: Speed, row: str) -> None:
    ceiling = speed.ceiling(row)
    assert ceiling is not None
    top = spread(ceiling.rates().values()).median
    points = [
        (each, spread(each.feed_rates().values()), spread(each.rates().values()))
        for each in _below(speed, row)
    ]
    low = min([top, *(value for _, x, y in points for value in (x.low, y.low))]) / 1.6
    high = max([top, *(x.high for _, x, _ in points)]) * 1.6
    x = np.geomspace(low, high, 200)
    axis.plot(x, np.minimum(x, top), color="black", linewidth=1.5)
    axis.plot(x, 1 / (1 / x + 1 / top), color="black", linewidth=1, linestyle="--")
    for each, across, up in points:
        colour, marker = MARKS.get(each.library, ("black", "o"))
        axis.errorbar(
            across.median, up.median, color=colour, marker=marker, markersize=7, elinewidth=1,
            mfc="white" if each.images == "files" else colour,
            xerr=[[across.median - across.low], [across.high - across.median]],
            yerr=[[up.median - up.low], [up.high - up.median]],
        )  # fmt: skip
        if each.library == CVSA and each.row != row:
            axis.annotate(
                each.row,
                (across.median, up.median),
                (-6, -14),
                textcoords="offset points",
                size=9,
                ha="right",
            )
    axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, top * 1.6))
    axis.set(xlabel="images/s, views alone", ylabel="images/s, whole step", title=f"{speed.setting}: {row}")
    _plain(axis)


def parts(measured: Sequence[Speed]) -> Figure:
    """Milliseconds of a step's parts, side by side in one bar per row; a panel per record."""
    found = [(speed, [p for p in speed.parts if p.rounds]) for speed in measured]
    found = [(speed, timed) for speed, timed in found if timed]
    if not found:
        return nothing()
    height = sum(0.9 + 0.42 * len(timed) for _, timed in found) + 1.0
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    ratios = [0.9 + 0.42 * len(timed) for _, timed in found]
    axes = figure.subplots(len(found), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for axis, (speed, timed) in zip(axes, found, strict=True):
        for place, each in enumerate(timed):
            left = 0.0
            for part in PARTS:
                width = each.median(part)
                axis.barh(place, width, left=left, color=PART_COLOURS[part], height=0.65)
                left += width
        axis.set_yticks(range(len(timed)), [each.row for each in timed])
        axis.invert_yaxis()
        axis.grid(False, axis="y")
        axis.set(xlabel="milliseconds of a step", title=speed.setting)
    handles = [Line2D([], [], color=PART_COLOURS[part], linewidth=8, label=part) for part in PARTS]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def growth(measured: Sequence[Speed]) -> Figure:
    """Seconds and memory of a step against each size, with the fitted line; two lines of panels a record."""
    found = [speed for speed in measured if any(point.seconds for point in speed.growth)]
    if not found:
        return nothing()
    figure = Figure(figsize=(WIDTH + 1, 4.9 * len(found)), layout="constrained")
    blocks = figure.subfigures(len(found), 1, squeeze=False)[:, 0]
    for block, speed in zip(blocks, found, strict=True):
        axes = block.subplots(2, len(AXES), squeeze=False)
        block.suptitle(speed.setting)
        for column, (axis_name, about) in enumerate(AXES.items()):
            points = [p for p in speed.growth if p.axis == axis_name and p.seconds]
            for axis, values, pairs, unit in zip(
                axes[:, column],
                ([p.seconds for p in points], [p.memory_mib for p in points]),
                fitted(points), ("seconds", "MiB"), strict=True,
            ):  # fmt: skip
                _panel(axis, [p.value for p in points], values, pairs)
                axis.set_ylabel(unit if column == 0 else "")
            axes[1, column].set_xlabel(about)
    return figure


def _panel(axis: Axes, sizes: Sequence[int], values: Sequence[Sequence[float]], pairs: Pairs) -> None:
    """Spreads at each size, and the line through those pairs that were fitted."""
    slope = power(pairs)
    spreads = [spread(each) for each in values]
    middle = [each.median for each in spreads]
    axis.errorbar(
        sizes, middle, marker="o", markersize=4, color="#0072b2", linestyle="", elinewidth=1,
        yerr=[[m - s.low for m, s in zip(middle, spreads, strict=True)],
              [s.high - m for m, s in zip(middle, spreads, strict=True)]],
    )  # fmt: skip
    if slope is not None:
        fit = np.log(np.array(pairs, dtype=float))  # (points, 2), size and cost
        x = np.exp(np.array([fit[:, 0].min(), fit[:, 0].max()]))
        axis.plot(
            x,
            np.exp(fit[:, 1].mean() + slope * (np.log(x) - fit[:, 0].mean())),
            color="#d55e00",
            linewidth=1,
            linestyle="--",
        )
    axis.set_title(NOT_MEASURED if slope is None else f"power {slope:.2f}", fontsize=10)
    axis.set(xscale="log", yscale="log")
    _plain(axis)
    axis.set_xticks(sizes, [_short(size) for size in sizes])
    axis.set_ylim(min(s.low for s in spreads) / 1.5 or None, max(s.high for s in spreads) * 1.5)


def _plain(axis: Axes) -> None:
    """Numbers, not powers of ten, on logarithmic axes."""
    for line in (axis.xaxis, axis.yaxis):
        line.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        line.set_major_formatter(lambda value, _: _short(value))
        line.set_minor_formatter(NullFormatter())
        line.set_tick_params(labelsize=9)


def _short(value: float) -> str:
    """1500 -> "1.5k"."""
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
