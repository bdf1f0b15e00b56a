"""Dot plots of evaluations, used for localisation and for backgrounds. [O]"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from cvsa.report import tables
from cvsa.report.evaluated import named
from cvsa.report.figures import colour, seeds_and_intervals


def dots(
    axis: Axes,
    table: pd.DataFrame,
    metric: str,
    rows: Sequence[str],
    lines: Mapping[str, tuple[float, str]],
    *,
    frozen: bool,
    least: float = 0.0,
) -> None:
    """Dot plot of a share, a line a row, with references as vertical lines.

    Args:
        axis: where to draw.
        table: of :func:`cvsa.report.evaluated.evaluations`.
        metric: what is shown, in percent.
        rows: from top to bottom; a row that lacks the metric keeps its place.
        lines: reference -> (value, line style).
        frozen: see :func:`cvsa.report.evaluated.named`.
        least: lower end of what is possible.
    """
    if not rows:
        return
    summary = tables.by_row(table, metric).reindex(list(rows))
    values = summary["seeds"].dropna().explode().rename("value").rename_axis("row").reset_index()
    seeds_and_intervals(axis, summary, values)
    axis.set_yticks(range(len(rows)), [named(row, frozen).split("<br>")[0] for row in rows])
    shown = [float(value) for value in values["value"]]
    for value, style in lines.values():
        if not np.isnan(value):
            axis.axvline(100 * value, color="black", linewidth=1.1, linestyle=style, zorder=1)
            shown.append(value)
    if shown:
        # A t interval of two seeds can span everything: the axis shows the seeds, the table has the interval.
        margin = max(0.03, 0.08 * (max(shown) - min(shown)))
        low, high = max(least, min(shown) - margin), min(1.0, max(shown) + margin)
        axis.set_xlim(100 * low - 0.5, 100 * high + 0.5)
    axis.grid(axis="y", visible=False)


def beside(axis: Axes, table: pd.DataFrame, lines: Mapping[str, str], rows: Sequence[str]) -> None:
    """Rows side by side: a line of the axis for each share, in percent, every seed a dot.

    Args:
        axis: where to draw.
        table: of :func:`cvsa.report.evaluated.evaluations`.
        lines: label -> metric, from top to bottom.
        rows: a few, just below each other in each line.
    """
    for place, metric in enumerate(lines.values()):
        found = tables.by_row(table, metric)["seeds"].to_dict()
        for offset, row in enumerate(rows):
            if row in found:
                y = place + 0.16 * (offset - (len(rows) - 1) / 2)
                values = [100 * value for value in found[row]]
                axis.plot(values, [y] * len(values), color=colour(row), linewidth=1.2, alpha=0.7)
                axis.scatter(values, [y] * len(values), color=colour(row), s=26, zorder=3)
    axis.set_yticks(range(len(lines)), list(lines))
    axis.set_ylim(max(1, len(lines)) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)


def row_handles(names: Mapping[str, str]) -> list[Line2D]:
    """For a legend: a dot of the colour of each row (row -> name)."""
    look: dict[str, Any] = {"marker": "o", "linestyle": "none"}
    return [Line2D([], [], color=colour(row), label=name, **look) for row, name in names.items()]
