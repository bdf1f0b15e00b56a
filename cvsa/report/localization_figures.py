"""Figures on localisation: dot plots with references, kinds of maps side by side, parts of the bird. [O]"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cvsa.report.evaluated import FEW, SCRATCH, mean, named, rows_with
from cvsa.report.evaluated_figures import beside, dots, row_handles
from cvsa.report.figures import colour

SOURCES = {
    "cam_finetuned": "Grad-CAM, fine-tuned",
    "cam_probe": "Grad-CAM, linear probe",
    "similarity": "Grad-CAM, similarity",
    "similarity_centred": "Grad-CAM, centred similarity",
    "norm": "feature norm",
    "attention_self": "attention, image itself",
    "attention_pair": "attention, same class",
    "attention_self_fixed": "mean attention",
    "vit": "class token (ViT)",
}
FINETUNED = "cam_finetuned"
REFERENCES: dict[str, tuple[str, Any]] = {  # name, line style
    "ref_centre": ("centred box", "--"),
    "ref_whole": ("whole image", ":"),
    "ref_random": ("random map", "-."),
    "ref_detector": ("saliency detector", "-"),
}
CENTRE = "ref_centre"
GAIN = "part_gain"  # of part_hit over part_area: a map that marks everything hits every part
MAIN = {
    "box_acc": "BoxAcc",
    "pxap": "PxAP",
    "pointing": "pointing game",
    "iou": "mask IoU",
    "energy": "energy inside",
    GAIN: "parts over chance",
}
SHOWN = ("box_acc", "iou", "pointing", "energy")  # in the dot plots
PARTS = ("beak", "crown", "eye", "wing", "tail")


def key(source: str, metric: str) -> str:
    """The metric's name in a record."""
    return f"localization.{source}.{metric}"


def _references(table: pd.DataFrame, metric: str) -> dict[str, tuple[float, str]]:
    return {name: (mean(table, key(name, metric)), style) for name, (_, style) in REFERENCES.items()}


def _finish(figure: Figure, table: pd.DataFrame, handles: list[Line2D], references: bool = True) -> Figure:
    """A legend of the given handles, and of the references that were measured."""
    for reference, (name, style) in REFERENCES.items() if references else ():
        if any(not np.isnan(mean(table, key(reference, metric))) for metric in SHOWN):
            handles.append(Line2D([], [], color="black", linewidth=1.1, linestyle=style, label=name))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize="small")
    return figure


def dot_plots(table: pd.DataFrame, source: str) -> Figure:
    """Every seed, its mean and interval by four metrics, the trivial references as vertical lines.

    Args:
        table: of :func:`cvsa.report.evaluated.evaluations`.
        source: kind of map.
    """
    rows = rows_with(table, [key(source, metric) for metric in SHOWN])
    figure = Figure(figsize=(8, 2 * (1.1 + 0.28 * max(2, len(rows)))), layout="constrained")
    for axis, metric in zip(figure.subplots(2, 2, sharey=True).flat, SHOWN, strict=True):
        lines = _references(table, metric)
        dots(axis, table, key(source, metric), rows, lines, frozen=source != FINETUNED)
        axis.set(title=MAIN[metric], xlabel="%")
    return _finish(figure, table, [])


def by_source(table: pd.DataFrame, metrics: Sequence[str] = ("iou", "energy")) -> Figure:
    """The same few rows by every kind of map: the kind of map may matter more than the row."""
    kinds = [s for s in SOURCES if rows_with(table, [key(s, metric) for metric in metrics])]
    rows = [row for row in FEW if row in set(table["row"])]
    figure = Figure(figsize=(8, 1.6 + 0.55 * max(1, len(kinds))), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axis, metric in zip(axes, metrics, strict=True):
        for value, style in _references(table, metric).values():
            if not np.isnan(value):
                axis.axvline(100 * value, color="black", linewidth=1.1, linestyle=style, zorder=1)
        beside(axis, table, {SOURCES[source]: key(source, metric) for source in kinds}, rows)
        axis.set(title=MAIN[metric], xlabel="%")
    names = {row: "no pre-training" if row == SCRATCH else row for row in rows}
    return _finish(figure, table, row_handles(names))


def parts(table: pd.DataFrame, source: str = FINETUNED) -> Figure:
    """How often the marked region holds each part, against the share of the picture that it covers."""
    rows = [row for row in FEW if row in set(table["row"])]
    shown = {part: key(source, f"part_hit_{part}") for part in PARTS}
    shown = {part: metric for part, metric in shown.items() if rows_with(table, [metric])}
    figure = Figure(figsize=(6.5, 1.5 + 0.6 * max(1, len(shown))), layout="constrained")
    axis = figure.subplots()
    for row in rows:
        area = mean(table, key(source, "part_area"), row)
        if not np.isnan(area):
            axis.axvline(100 * area, color=colour(row), linewidth=1.4, linestyle="--", zorder=1)
    beside(axis, table, shown, rows)
    axis.set(xlabel="%", xlim=(0, 100))
    names = {row: named(row, source != FINETUNED).split("<br>")[0] for row in rows}
    chance = Line2D([], [], color="#555555", linestyle="--", label="area marked (chance)")
    return _finish(figure, table, [*row_handles(names), chance], references=False)
