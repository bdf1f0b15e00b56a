"""Figures on saliency: accuracy against the quality of the training maps, and maps side by side. [O]"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cvsa.evaluation.comparison import MaskedImages
from cvsa.report.figures import colour, image_grid
from cvsa.report.tables import TOP1
from cvsa.saliency.boxes import map_to_box
from cvsa.saliency.degrade import find_degradation
from cvsa.saliency.detectors import find_detector

METRICS = {
    TOP1: "fine-tuned",
    "probe.knn_test": "kNN",
    "probe.linear_test": "linear probe",
}
AXES = {"box_iou": "box IoU of the training maps", "iou": "IoU of the training maps"}
MARKERS = "o^vDPX<>hp*"
HOLLOW = "box"  # views of a filled box are those of the exact mask: both must be seen at one place


def curve(runs: pd.DataFrame, against: str = "box_iou") -> Figure:
    """Accuracy against the quality of the training maps: a panel per metric, a marker per condition.

    Small dots are seeds, markers their means; a dashed line is a row that uses no saliency, the band behind
    it spans its seeds.

    Args:
        runs: of :func:`cvsa.report.saliency.runs_table`.
        against: "box_iou" or "iou".
    """
    shown = {metric: title for metric, title in METRICS.items() if (runs["metric"] == metric).any()}
    used = runs[runs["condition"] != ""].sort_values(["box_iou", "iou"], ascending=False, kind="stable")
    marker = {
        c: "s" if c == HOLLOW else MARKERS[i % len(MARKERS)] for i, c in enumerate(used["condition"].unique())
    }
    figure = Figure(figsize=(3.3 * max(2, len(shown)), 4.0), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, (metric, title) in zip(axes, shown.items(), strict=True):
        part = runs[runs["metric"] == metric].assign(percent=lambda t: 100 * t["value"])
        for name, lines in part[part["condition"] == ""].groupby("row", sort=False):
            percents, tint = lines["percent"], colour(str(name))
            axis.axhline(percents.mean(), color=tint, linestyle="--", linewidth=1.4)
            axis.axhspan(percents.min(), percents.max(), color=tint, alpha=0.13, linewidth=0)
        for (row, condition), lines in part[part["condition"] != ""].groupby(["row", "condition"]):
            tint, x, y = colour(str(row)), lines[against], lines["percent"]
            axis.scatter(x, y, s=13, color=tint, alpha=0.55, linewidth=0, zorder=3)
            look = _look(str(condition), tint)
            axis.plot(x.iloc[:1], [y.mean()], marker=marker[str(condition)], zorder=4, **look)
        axis.set(title=title, xlabel=AXES[against])
    rows = list(used["row"].unique())
    axes[0].set_ylabel(f"top-1 of {rows[0]}, %" if len(rows) == 1 else "top-1, %")
    handles = _handles(runs, marker, rows)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize="small")
    return figure


def _look(condition: str, tint: str) -> dict[str, Any]:
    hollow = condition == HOLLOW
    return {
        "linestyle": "none", "color": tint, "markersize": 12 if hollow else 8,
        "markerfacecolor": "none" if hollow else tint, "markeredgecolor": tint if hollow else "white",
    }  # fmt: skip


def _handles(runs: pd.DataFrame, marker: Mapping[str, str], rows: Sequence[str]) -> list[Line2D]:
    tint = colour(rows[0]) if len(rows) == 1 else "#555555"
    handles = [
        Line2D([], [], marker=shape, label=name, **_look(name, tint)) for name, shape in marker.items()
    ]
    if len(rows) > 1:
        handles += [
            Line2D([], [], linestyle="none", marker="o", color=colour(row), label=row) for row in rows
        ]
    blind = runs.loc[runs["condition"] == "", "row"].unique()
    return handles + [
        Line2D([], [], linestyle="--", color=colour(r), label=f"{r}, no saliency") for r in blind
    ]


def example_maps(
    data: MaskedImages, detectors: Sequence[str], errors: Sequence[str], count: int = 6
) -> Figure:
    """The same few images with true masks, stored and detected maps, and masks made worse; boxes outlined.

    Args:
        data: images with masks; a few, spread over them, are shown, their central squares.
        detectors: names of those that can run.
        errors: degradations, see `cvsa.saliency.degrade`.
        count: images.
    """
    index = np.linspace(0, len(data) - 1, min(count, len(data))).round().astype(int)
    images = [data.images[i] for i in index]
    maps = {"exact": [data.masks[i] / 255 for i in index]}
    maps |= {name: [stored[i] for i in index] for name, stored in data.stored.items()}
    for name in detectors:
        detector = find_detector(name)
        maps[name] = [detector(image) for image in images]
    for name in errors:
        degrade = find_degradation(name)
        maps[name] = [degrade(data.masks[i], int(i)) / 255 for i in index]
    squares = {name: [_square(map) for map in each] for name, each in maps.items()}
    boxes = {name: [map_to_box(map.copy()).numpy() for map in each] for name, each in squares.items()}
    return image_grid(
        [[_square(image) for image in images], *squares.values()],
        ["image", *(name.replace("_", "\n") for name in squares)],
        [boxes["exact"], *boxes.values()],
    )


def _square(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]
