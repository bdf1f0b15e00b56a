"""Figures on the background: accuracy by condition, gaps, texture against shape, the causal picture. [O]"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from cvsa.report.evaluated import DASH, FEW, FIRST, PLAIN, mean, named, rows_with
from cvsa.report.evaluated_figures import beside, dots, row_handles
from cvsa.report.figures import colour
from cvsa.report.page import percent

WIDTH = 5.4  # inches: wider figures cannot be read on a phone
CLASSIFIERS = {"finetuned": "fine-tuned", "probe": "linear probe"}
CONDITIONS = {
    "original": "as in training",
    "same_class": "own habitat",
    "random_class": "other habitat",
    "blank": "plain backdrop",
    "foreground": "bird alone",
    "background": "habitat alone",
}
CAUSES = {"style": "S", "background": "B", "texture": "T"}
CONFLICT = {
    "surface": "#0072b2",
    "shape": "#e69f00",
    "neither": "#cccccc",
}


def conditions(table: pd.DataFrame, classifier: str) -> Figure:
    """Accuracy in every condition, a few rows side by side; naming the most frequent class as a line."""
    lines = {title: f"background.{classifier}.{name}" for name, title in CONDITIONS.items()}
    lines = {title: metric for title, metric in lines.items() if rows_with(table, [metric])}
    rows = [row for row in FEW if row in rows_with(table, lines.values())]
    figure = Figure(figsize=(WIDTH, 1.6 + 0.55 * max(1, len(lines))), layout="constrained")
    axis = figure.subplots()
    beside(axis, table, lines, rows)
    chance = mean(table, f"background.{classifier}.chance")
    handles = row_handles({row: named(row, classifier == "probe").split("<br>")[0] for row in rows})
    if not np.isnan(chance):
        axis.axvline(100 * chance, color="black", linewidth=1.1, linestyle=":", zorder=1)
        handles.append(
            Line2D([], [], color="black", linewidth=1.1, linestyle=":", label="most frequent class")
        )
    axis.set(xlabel="top-1, %", xlim=(0, 100))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return figure


def gaps(table: pd.DataFrame) -> Figure:
    """What is lost when another habitat takes the place of the own one; seeds, means, intervals."""
    metrics = {classifier: f"background.{classifier}.gap" for classifier in CLASSIFIERS}
    rows = rows_with(table, metrics.values())
    figure = Figure(figsize=(WIDTH, 2 * (1.0 + 0.32 * max(2, len(rows)))), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(2, 1)
    for axis, (classifier, metric) in zip(axes, metrics.items(), strict=True):
        dots(axis, table, metric, rows, {"none": (0.0, ":")}, frozen=True, least=-1.0)
        axis.set(title=CLASSIFIERS[classifier], xlabel="gap, percentage points")
        axis.set_yticks(range(len(rows)), ["no pre-training" if row == "Random" else row for row in rows])
    return figure


def texture(table: pd.DataFrame) -> Figure:
    """Birds with the surface of one class and the shape of another: which class is named, mean over seeds."""
    metrics = [f"texture.{classifier}.{name}" for classifier in CLASSIFIERS for name in CONFLICT]
    rows = rows_with(table, metrics)
    figure = Figure(figsize=(WIDTH, 2 * (1.0 + 0.32 * max(2, len(rows)))), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(2, 1)
    for axis, (classifier, title) in zip(axes, CLASSIFIERS.items(), strict=True):
        start = np.zeros(len(rows))
        for name, tint in CONFLICT.items():
            found = [mean(table, f"texture.{classifier}.{name}", row) for row in rows]
            widths = 100 * np.nan_to_num(found)
            axis.barh(range(len(rows)), widths, left=start, color=tint, label=name, height=0.7)
            start += widths
        axis.set(title=title, xlabel="% of birds", xlim=(0, 100), ylim=(max(1, len(rows)) - 0.5, -0.5))
        axis.grid(axis="y", visible=False)
        axis.set_yticks(range(len(rows)), ["no pre-training" if row == "Random" else row for row in rows])
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False,
        fontsize="small",
    )  # fmt: skip
    return figure


PLACES = {
    "S": (0.0, 2.0),
    "B": (0.0, 1.0),
    "T": (0.0, 0.0),
    "X": (1.75, 1.0),
    "Z": (2.5, 1.0),
    "Y": (3.25, 1.0),
}
NAMES = {"S": "style", "B": "background", "T": "texture"}


def causal(table: pd.DataFrame, classifier: str, rows: Sequence[str] = (PLAIN, FIRST)) -> Figure:
    """The paper's graph, one for each row of the tables; on the arrows what an intervention on a cause does.

    The arrow of a cause is the wider the more decisions change when nothing but that cause is drawn anew.

    Args:
        table: of :func:`cvsa.report.evaluated.evaluations`.
        classifier: "finetuned" or "probe".
        rows: one a panel.
    """
    figure = Figure(figsize=(4.4, 0.5 + 3.1 * len(rows)), layout="constrained")
    for axis, row in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        for cause, node in CAUSES.items():
            flip = mean(table, f"causal.{classifier}.{cause}.flip", row)
            moved = mean(table, f"causal.{classifier}.{cause}.distance", row)
            width = 1.0 if np.isnan(flip) else 0.8 + 4.5 * flip
            _arrow(axis, node, "X", width, "#888888" if np.isnan(flip) else colour(row))
            told = (DASH if np.isnan(moved) else f"{moved:.2f}", DASH if np.isnan(flip) else percent(flip, 0))
            x, y = 0.55 * np.array(PLACES[node]) + 0.45 * np.array(PLACES["X"])
            axis.text(
                x, y, f"Z {told[0]}\nY {told[1]} %", ha="center", va="center", fontsize=10.5, zorder=4,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.92},
            )  # fmt: skip
        _arrow(axis, "X", "Z", 1.5, "#555555")
        _arrow(axis, "Z", "Y", 1.5, "#555555")
        for node, (x, y) in PLACES.items():
            axis.scatter([x], [y], s=560, color="white", edgecolor="black", linewidth=1.3, zorder=3)
            axis.text(x, y, f"${node}$", ha="center", va="center", fontsize=14, zorder=5)
            if node in NAMES:
                axis.text(x, y - 0.3, NAMES[node], ha="center", va="top", fontsize=10)
        axis.set(title=row, xlim=(-0.5, 3.6), ylim=(-0.65, 2.4))
        axis.set_axis_off()
    figure.supxlabel("Z: how far the features move; 1 is as far\nas from one picture to another. "
                     "Y: decisions that change.", fontsize=10)  # fmt: skip
    return figure


def _arrow(axis: Axes, start: str, end: str, width: float, tint: str) -> None:
    axis.add_patch(
        FancyArrowPatch(
            PLACES[start], PLACES[end], arrowstyle="-|>", mutation_scale=10 + 1.5 * width, linewidth=width,
            color=tint, shrinkA=13, shrinkB=13, zorder=2,
        )
    )  # fmt: skip
