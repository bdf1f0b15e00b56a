"""Figures of the pilot study: what pairs of views share, what runs read and where they look. [O]"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from cvsa.data.bank import ImageBank
from cvsa.evaluation.pilot import ROUNDING, Shown, compare, integrals, shown
from cvsa.report.figures import colour, image_grid, to_picture
from cvsa.saliency.boxes import THRESHOLD
from cvsa.views import ViewMaker, ViewSettings

CROP, SWAP = "random_resized_crop", "saliency_swap"
ROW_OF = {CROP: "BYOL", SWAP: "BYOL+SS"}  # whose views they are: one colour everywhere
NAMED = {CROP: "random resized crops", SWAP: "Saliency Swap"}
SEEN = 0.02  # overlap, as a share of the image, that an example must have to be seen
EDGES = ("#d55e00", "#56b4e9")  # outlines of the two crops
WIDE, HIGH, SMALL = 5.4, 2.7, 10.5  # inches of two panels side by side, points: legible on a phone


class Dial(NamedTuple):
    """A parameter that the runs vary.

    Attributes:
        name: of its figures and tables.
        field: of `PretrainConfig`.
        label: for people.
        log: whether its axis is logarithmic.
    """

    name: str
    field: str
    label: str
    log: bool


def panels(count: int, columns: int = 2) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, few beside each other."""
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDE * min(count, columns) / columns, HIGH * rows), layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, min(count, columns), squeeze=False)))
    for axis in axes:
        axis.tick_params(labelsize=SMALL - 1)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def _finish(axis: Axes, title: str, label: str) -> None:
    axis.set_title(title, fontsize=SMALL, loc="left")
    axis.set_xlabel(label, fontsize=SMALL)


def _ticks(axis: Axes, values: Sequence[float], log: bool) -> None:
    if log:
        axis.set_xscale("log")
    axis.set_xticks(list(values), [f"{value:g}" for value in values])
    axis.minorticks_off()


def _from_zero(axis: Axes) -> None:
    top = axis.get_ylim()[1]
    axis.set_ylim(-0.04 * top, top)  # marks at 0 stay whole


def _key(**look: Any) -> Line2D:
    return Line2D([], [], **look)


def _legend(figure: Figure, handles: list[Line2D], columns: int = 2) -> None:
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=SMALL)


def views_against_scale(curves: pd.DataFrame, measures: Mapping[str, str]) -> Figure:
    """What pairs share against the least area of the crops, one line per view generator, in percent.

    Args:
        curves: of one data set, see :func:`cvsa.evaluation.pilot.view_curves`.
        measures: measure -> title, a panel each.
    """
    figure, axes = panels(len(measures))
    scales = sorted(curves["scale"].unique())
    for axis, (measure, title) in zip(axes, measures.items(), strict=True):
        for view, part in curves[curves["measure"] == measure].groupby("view", sort=False):
            tint, ordered = colour(ROW_OF[str(view)]), part.sort_values("scale")
            axis.errorbar(
                ordered["scale"], 100 * ordered["value"], 196 * ordered["error"], color=tint, marker="o",
                markersize=4, linestyle="-" if view == CROP else "--",
            )  # fmt: skip
        _ticks(axis, _apart(scales), log=True)
        _from_zero(axis)
        _finish(axis, title, "least area of the crop")
    _legend(figure, [
        _key(color=colour(ROW_OF[view]), linestyle=style, marker="o", label=NAMED[view])
        for view, style in ((CROP, "-"), (SWAP, "--")) if (curves["view"] == view).any()
    ])  # fmt: skip
    return figure


def _apart(values: Sequence[float], factor: float = 1.55) -> list[float]:
    """Values far enough from each other for their labels on a logarithmic axis."""
    kept: list[float] = []
    for value in values:
        if not kept or value >= factor * kept[-1]:
            kept.append(float(value))
    return kept


def views_against_size(
    curves: pd.DataFrame,
    photographs: pd.DataFrame,
    lines: Sequence[tuple[str, float]],
    measures: Mapping[str, str],
) -> Figure:
    """What pairs share against the size of the object, in percent; photographs as open marks at theirs.

    Args:
        curves: drawn birds of several sizes; photographs: other data sets.
        lines: (view, scale), a line each; photographs are marked at the last scale of each view.
        measures: measure -> title, a panel each.
    """
    figure, axes = panels(len(measures))
    styles = ("-", "--", ":", "-.")
    marks = dict(zip(photographs["data"].unique() if len(photographs) else [], "sD^vP", strict=False))
    handles = []
    for axis, (measure, title) in zip(axes, measures.items(), strict=True):
        for (view, scale), style in zip(lines, styles, strict=False):
            tint = colour(ROW_OF[view])
            part = _at(curves, view, scale, measure).sort_values("object")
            axis.plot(100 * part["object"], 100 * part["value"], color=tint, linestyle=style, marker=".")
            if len(photographs) and scale == dict(lines)[view]:
                for line in _at(photographs, view, scale, measure).to_dict("records"):
                    axis.plot(
                        [100 * line["object"]], [100 * line["value"]], marks[line["data"]], color=tint,
                        markerfacecolor="white", markersize=6, markeredgewidth=1.4,
                    )  # fmt: skip
            if axis is axes[0]:
                label = f"{NAMED[view]}, from {scale:g}"
                handles.append(_key(color=tint, linestyle=style, marker=".", label=label))
        _from_zero(axis)
        axis.set_xlim(left=0)
        _finish(axis, title, "object, % of the picture")
    for name, mark in marks.items():
        look: dict[str, Any] = {
            "linestyle": "none",
            "color": "#555555",
            "markerfacecolor": "white",
            "markeredgewidth": 1.4,
        }
        handles.append(_key(marker=mark, label=str(name), **look))
    _legend(figure, handles, columns=1 if len(handles) < 4 else 2)
    return figure


def _at(curves: pd.DataFrame, view: str, scale: float, measure: str) -> pd.DataFrame:
    chosen = (curves["view"] == view) & (curves["measure"] == measure) & np.isclose(curves["scale"], scale)
    return curves[chosen]


def run_curves(
    runs: pd.DataFrame,
    shown_panels: Sequence[tuple[Dial, str, str]],
    references: Callable[[Dial, str], Mapping[str, pd.Series[Any]]],
    styles: Mapping[str, str],
) -> Figure:
    """Metrics of runs against the dials: every seed a dot, the means a line for each row, in percent.

    Args:
        runs: columns row, seed, metric, value, sweep (name of the dial) and at (its value).
        shown_panels: (dial, metric, title), a panel each.
        references: what a panel shows besides, label -> values by the dial's values.
        styles: line style of each such label.
    """
    figure, axes = panels(len(shown_panels))
    labels: dict[str, str] = {}
    for axis, (dial, metric, title) in zip(axes, shown_panels, strict=True):
        part = runs[(runs["sweep"] == dial.name) & (runs["metric"] == metric)]
        for row, lines in part.groupby("row"):
            tint, means = colour(str(row)), 100 * lines.groupby("at")["value"].mean()
            axis.plot(means.index, means, color=tint, zorder=3)
            axis.scatter(
                lines["at"],
                100 * lines["value"],
                s=26,
                color=tint,
                zorder=4,
                edgecolor="white",
                linewidth=0.5,
            )
        for label, values in references(dial, metric).items():
            axis.plot(values.index, 100 * values, color="#333333", linestyle=styles[label], linewidth=1.2)
            labels[label] = styles[label]
        _ticks(axis, sorted(part["at"].unique()), dial.log)
        _finish(axis, f"{title}, %", dial.label)
    rows = sorted(set(runs["row"]))
    _legend(figure, [
        *(_key(color=colour(row), marker="o", label=row) for row in rows),
        *(_key(color="#333333", linestyle=style, label=label) for label, style in labels.items()),
    ])  # fmt: skip
    return figure


def pair_sheet(
    bank: ImageBank,
    settings: ViewSettings,
    *,
    seed: int,
    empty: bool = False,
    count: int = 4,
) -> Figure:
    """References with the two crops outlined, those crops as views, and Saliency Swap's views of the same.

    Args:
        bank: drawn images or photographs that may be shown.
        settings: of the views; their photometric changes are left out.
        seed: of the first image's draws; each image has its own.
        empty: show the first images whose crops overlap without any object there, not just the first.
        count: references, at most.
    """
    crops: dict[int, tuple[Shown, Shown]] = {}
    fixed: dict[str, Any] = {"ratio": settings.ratio, "flip": settings.flip}
    for image in range(len(bank)):
        index, generator = torch.tensor([image]), torch.Generator().manual_seed(seed + image)
        pair = shown(bank, index, CROP, settings.crop_scale, generator, **fixed)
        shared = compare(integrals(bank.gather(index)[:, 3] >= THRESHOLD), pair).iloc[0]
        if not empty or (shared["common"] >= SEEN and shared["common_object"] < ROUNDING):
            crops[image] = pair
        if len(crops) == count:
            break
    rows = [[to_picture(image[:3]) for image in bank.gather(torch.tensor(list(crops)))]]
    titles = ["reference,\ntwo crops"]
    for view in ROW_OF:
        maker = ViewMaker(bank, view=view, augmentation="none", settings=settings)
        made = [maker(torch.tensor([i]), torch.Generator().manual_seed(seed + i)) for i in crops]
        rows += [[to_picture(views[number].images[0]) for views in made] for number in (0, 1)]
        titles += [f"{'crop' if view == CROP else 'swap'},\nview {number}" for number in (1, 2)]
    figure = image_grid(rows, titles, cell=1.0)
    axis, unit = figure.axes[0], (1 - 0.06) / bank.resolution
    for column, pair in enumerate(crops.values()):
        for one, edge in zip(pair, EDGES, strict=True):
            x1, y1, x2, y2 = (one.boxes[0] * unit).tolist()
            for tint, width in (("white", 3.2), (edge, 1.8)):
                axis.add_patch(Rectangle((column + x1, y1), x2 - x1, y2 - y1, fill=False, ec=tint, lw=width))
    return figure


def nothing_to_show(text: str) -> Figure:
    """A line of text in place of a figure whose runs are not there."""
    figure = Figure(figsize=(WIDE, 0.6))
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=SMALL)
    return figure
