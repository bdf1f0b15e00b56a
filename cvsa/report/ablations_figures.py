"""Small multiples of ablations: a panel for each parameter, every seed a dot, the mean a bar. [O]"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from cvsa.methods.catalogue import find_row
from cvsa.report.figures import colour
from cvsa.report.pilot_figures import SMALL, WIDE, nothing_to_show

if TYPE_CHECKING:
    from cvsa.report.ablations_study import Study

BAND = "#d9d9d9"
# Inches: of a panel with its title, above all panels, below them, and of a line of the legend there.
HIGH, ABOVE, BELOW, LINE = 1.9, 0.25, 0.4, 0.2
COLUMNS = 3  # of the legend
HALF = 0.28  # half the width of the bar of a mean, in steps between values
LONGEST = 9  # letters of a label, four of which fit side by side
UNTOLD = "No such runs are recorded here."


def small_multiples(studies: list[Study], metric: str, title: str, plain: pd.DataFrame) -> Figure:
    """One panel for each study of a row's values, with one common vertical axis.

    Args:
        studies: their values are the places on the horizontal axis, in the grid's order.
        metric: "finetune.test_accuracy" and such; shares are drawn in percent, an attention as it is.
        title: of the metric.
        plain: runs of the row that the dashed line is the mean of; may be empty.
    """
    if not any((each.runs["metric"] == metric).any() for each in studies):
        return nothing_to_show(UNTOLD)
    scale = 1.0 if metric.endswith("gap") else 100.0
    level = plain.loc[plain["metric"] == metric, "value"]
    rows = list(dict.fromkeys(find_row(row)[0] for each in studies for row in each.ablation.rows))
    figure, axes = _grid(len(studies), 2, len(rows) + 2)
    for axis, each in zip(axes, studies, strict=True):
        here = [find_row(row)[0] for row in each.ablation.rows]
        for place in {each.labels.index(at) for at in each.reference.values()}:
            axis.axvspan(place - 0.45, place + 0.45, color=BAND, alpha=0.6, linewidth=0, zorder=0)
        for number, row in enumerate(here):
            shift = 0.0 if len(here) == 1 else 0.6 * (number / (len(here) - 1) - 0.5)
            _seeds(axis, each, row, metric, scale, shift)
        if len(level):
            axis.axhline(scale * level.mean(), color="#333333", linestyle="--", linewidth=1.2, zorder=1)
        _finish(axis, each.labels, each.ablation.vary)
    _share(axes, title + (", %" if scale > 1 else ""))
    usual = all(each.usual for each in studies)
    keys: list[Any] = [_key(row) for row in rows]
    keys.append(Patch(color=BAND, alpha=0.6, label="the default" if usual else "compared with"))
    if len(level):
        names = " and ".join(dict.fromkeys(plain["row"]))
        keys.append(Line2D([], [], color="#333333", linestyle="--", label=f"{names}, mean"))
    _legend(figure, keys)
    return figure


def _seeds(axis: Axes, each: Study, row: str, metric: str, scale: float, shift: float) -> None:
    tint = colour(row)
    paths: dict[int, list[tuple[float, float]]] = {}
    for place, at in enumerate(each.labels):
        values = scale * each.values(row, at, metric)
        _dots(axis, place + shift, values, tint)
        for seed, value in values.items():
            paths.setdefault(int(str(seed)), []).append((place + shift, value))
    for path in paths.values():  # the same seed at all values: differences are taken along these lines
        axis.plot(*zip(*path, strict=True), color=tint, linewidth=0.7, alpha=0.45, zorder=2)


def _dots(axis: Axes, x: float, values: pd.Series[Any], tint: str) -> None:
    if len(values):
        axis.plot([x - HALF, x + HALF], [values.mean()] * 2, color=tint, linewidth=3, zorder=3)
        places = [x] * len(values)
        axis.scatter(places, values, s=24, color=tint, zorder=4, edgecolor="white", linewidth=0.6)


def parts_figure(studies: list[Study], metric: str, title: str) -> Figure:
    """A panel for each study whose rows are compared at each value: rows side by side, values in groups."""
    if not any((each.runs["metric"] == metric).any() for each in studies):
        return nothing_to_show(UNTOLD)
    named = dict.fromkeys(row for each in studies for row in each.ablation.rows)
    figure, axes = _grid(len(studies), 1, len(named))
    rows: list[str] = []
    for axis, each in zip(axes, studies, strict=True):
        middles, x = [], 0.0
        pairs = dict.fromkeys((row, at) for r, at, o, _ in each.pairs for row in (o, r))
        for at in each.labels:
            here = [row for row, where in pairs if where == at]
            middles.append(x + (len(here) - 1) / 2)
            paths: dict[int, list[tuple[float, float]]] = {}
            for row in here:
                values = 100 * each.values(row, at, metric)
                _dots(axis, x, values, colour(row))
                for seed, value in values.items():
                    paths.setdefault(int(str(seed)), []).append((x, value))
                rows += [row] if row not in rows else []
                x += 1
            for path in paths.values():
                axis.plot(*zip(*path, strict=True), color="#777777", linewidth=0.7, alpha=0.6, zorder=2)
            x += 0.7
        axis.set_xticks(middles, each.labels, fontsize=SMALL - 1)
        axis.grid(axis="x", visible=False)
        axis.set_title("base objective" if each.ablation.vary == "base" else each.ablation.vary,
                       fontsize=SMALL, loc="left")  # fmt: skip
    _share(axes, f"{title}, %")
    _legend(figure, [_key(row) for row in rows])
    return figure


def _key(row: str) -> Line2D:
    return Line2D([], [], color=colour(row), marker="o", linestyle="none", label=row)


def _finish(axis: Axes, labels: list[str], vary: str) -> None:
    short = [at if len(at) <= LONGEST or len(labels) < 4 else f"{at[: LONGEST - 1]}…" for at in labels]
    axis.set_xticks(range(len(labels)), short, fontsize=SMALL - 1)
    axis.set_xlim(-0.6, len(labels) - 0.4)
    axis.grid(axis="x", visible=False)
    axis.set_title(vary, fontsize=SMALL, loc="left")


def _grid(count: int, columns: int, keys: int) -> tuple[Figure, list[Axes]]:
    """Panels at fixed places: a layout that measures so many labels takes seconds."""
    rows = -(-count // columns)
    below = BELOW + LINE * -(-keys // COLUMNS)
    high = HIGH * rows + ABOVE + below
    figure = Figure(figsize=(WIDE, high))
    figure.set_layout_engine("none")
    places = {"left": 0.12, "right": 0.99, "bottom": below / high, "top": 1 - ABOVE / high}
    spaces = {"wspace": 0.08, "hspace": 0.48}
    axes = list(figure.subplots(rows, columns, squeeze=False, gridspec_kw=places | spaces).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def _share(axes: list[Axes], title: str) -> None:
    """One vertical range for all panels, so that distances can be compared, its numbers at the left only."""
    low, high = (f(axis.get_ylim()[n] for axis in axes) for n, f in enumerate((min, max)))
    ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    for axis in axes:
        axis.set_ylim(low, high)
        axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        first = axis.get_subplotspec().is_first_col()  # type: ignore[union-attr]
        axis.tick_params(labelsize=SMALL - 1, labelleft=first)
        if first:
            axis.set_ylabel(title, fontsize=SMALL - 1)


def _legend(figure: Figure, keys: list[Any]) -> None:
    figure.legend(
        handles=keys, loc="lower center", ncols=min(COLUMNS, len(keys)), frameon=False, fontsize=SMALL - 1,
        handlelength=1.6, columnspacing=1.2,
    )  # fmt: skip
