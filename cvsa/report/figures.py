"""Figures in one house style: colour-blind safe, one colour per row of the tables everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cvsa.methods.catalogue import ROWS

if TYPE_CHECKING:
    from torch import Tensor

    from cvsa.views import Views

# Greys for no training of ours, one hue per base, darker as more is added (hues of Okabe-Ito and of Tol).
COLOURS = {
    "Random": "#7f7f7f",
    "Published": "#404040",
    "Rel-Loc": "#aa4499",
    "Rot-Pred": "#882255",
    "SimCLR": "#bbb433",
    "SimCLR+SS": "#999933",
    "SimCLR+CVSA": "#66661f",
    "MoCo.v2": "#e69f00",
    "MoCo.v2+SS": "#d55e00",
    "MoCo.v2+CVSA": "#993404",
    "MoCo.v2+CAST": "#c2a14d",
    "LooC": "#cc79a7",
    "InsLoc": "#cc6677",
    "BYOL": "#56b4e9",
    "BYOL+SS": "#0072b2",
    "BYOL+CVSA": "#009e73",
    "BYOL+DiLo": "#332288",
    "BYOL+CCrop": "#44aa99",
}
assert set(COLOURS) <= set(ROWS), "a colour for a row that the catalogue does not have"
HEAT = "magma"


def use_house_style() -> None:
    """Apply the style to matplotlib; call once per process."""
    mpl.style.use(["seaborn-v0_8-whitegrid", "seaborn-v0_8-colorblind"])
    mpl.rcParams.update({
        "figure.dpi": 110, "savefig.dpi": 160, "savefig.bbox": "tight", "axes.spines.top": False,
        "axes.spines.right": False, "axes.titlesize": "medium", "svg.hashsalt": "cvsa",
        "figure.constrained_layout.use": True, "font.size": 12, "axes.labelsize": 12, "legend.fontsize": 11,
        "xtick.labelsize": 11, "ytick.labelsize": 11, "lines.markersize": 6, "patch.edgecolor": "white",
        "patch.force_edgecolor": True, "legend.frameon": True,
    })  # fmt: skip
    _show_figures_in_notebooks()


def _show_figures_in_notebooks() -> None:
    # Our figures are made without pyplot, whose import would teach IPython to show them.
    try:
        from IPython.core.getipython import get_ipython
        from IPython.core.pylabtools import select_figure_formats
    except ImportError:
        return
    shell = get_ipython()
    if shell is not None:
        select_figure_formats(shell, {"png"})


def colour(row: str) -> str:
    """The row's colour; a row of one's own gets black."""
    return COLOURS.get(row, "#000000")


def to_picture(image: Tensor) -> np.ndarray:
    """(3, S, S) float in [0, 1] or uint8 -> (S, S, 3) for imshow."""
    picture = image.detach().cpu().permute(1, 2, 0).numpy()
    return np.asarray(picture if picture.dtype == np.uint8 else picture.clip(0, 1))


def image_grid(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    boxes: Sequence[Sequence[Any]] | None = None,
    cell: float = 1.35,
) -> Figure:
    """Rows of pictures, one title per row on the left.

    Args:
        rows: pictures (S, S, 3) for colour, (S, S) for heat in [0, 1].
        titles: one per row.
        boxes: for each picture an x1 y1 x2 y2 box to outline, or None.
        cell: side of a picture, inches.
    """
    columns, margin, gap = max(map(len, rows)), 1.4, 0.06
    figure = Figure(figsize=(columns * cell + margin, len(rows) * cell))
    figure.set_layout_engine("none")
    # One axes for all pictures: an axes each, laid out against the others, takes seconds.
    axis = figure.add_axes((margin / figure.get_figwidth(), 0, columns * cell / figure.get_figwidth(), 1))
    for r, pictures in enumerate(rows):
        axis.text(
            -gap, r + 0.5 - gap / 2, titles[r], ha="right", va="center", fontsize=10 * max(1, columns / 7)
        )
        for c, picture in enumerate(pictures):
            side = 1 - gap
            place = (c, c + side, r + side, r)  # left, right, bottom, top
            axis.imshow(picture, cmap=HEAT, vmin=0, vmax=1, extent=place, interpolation="nearest")
            if boxes is not None and boxes[r][c] is not None:
                unit = side / picture.shape[0]  # a pixel
                x1, y1, x2, y2 = (float(v) * unit for v in boxes[r][c])
                for edge, width in (("white", 2.2), ("#d55e00", 1.1)):
                    outline = Rectangle((c + x1, r + y1), x2 - x1, y2 - y1, fill=False, ec=edge, lw=width)
                    axis.add_patch(outline)
    axis.set(xlim=(0, columns), ylim=(len(rows), 0), aspect="equal")
    axis.set_axis_off()
    return figure


def view_pairs(
    references: Tensor, boxes: Tensor, pairs: dict[str, tuple[Views, ...]], count: int = 6
) -> Figure:
    """References with their saliency boxes, and below them all views of each named generator."""
    rows: list[list[np.ndarray]] = [[to_picture(image[:3]) for image in references[:count]]]
    outlines: list[list[Any]] = [list(boxes[:count].cpu().numpy())]
    titles = ["reference"]
    for name, pair in pairs.items():
        for number, views in enumerate(pair, start=1):
            rows.append([to_picture(image) for image in views.images[:count]])
            pasted = [None] * count if views.boxes is None else list(views.boxes[:count].cpu().numpy())
            outlines.append(pasted)
            titles.append(f"{name}\nview {number}")
    return image_grid(rows, titles, outlines)


def attention_rows(views: Views, maps: dict[str, Tensor], count: int = 6) -> Figure:
    """Views, their masks, and one row of attention maps (B, 1, H, W) per name, all on the scale 0 to 1."""
    rows = [
        [to_picture(image) for image in views.images[:count]],
        [mask[0].cpu().numpy() for mask in views.masks[:count]],
    ]
    rows += [[attention[0].cpu().numpy() for attention in each[:count]] for each in maps.values()]
    return image_grid(rows, ["view", "view mask", *maps])


def curves(histories: dict[str, pd.DataFrame], quantities: Iterable[tuple[str, str]]) -> Figure:
    """Per-epoch curves: a panel per quantity (column, title), a line per row (its seeds share the colour)."""
    quantities = list(quantities)
    figure = Figure(figsize=(3.3 * len(quantities), 2.9), layout="constrained")
    axes = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axis, (column, title) in zip(axes, quantities, strict=True):
        labelled: set[str] = set()
        for name, history in histories.items():
            row = name.split(" #")[0]
            if column in history:
                axis.plot(
                    history["epoch"],
                    history[column],
                    color=colour(row),
                    label=None if row in labelled else row,
                )
                labelled.add(row)
        axis.set(title=title, xlabel="epoch")
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if handles:
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False
        )
    return figure


def seeds_and_intervals(axis: Axes, summary: pd.DataFrame, values: pd.DataFrame, scale: float = 100) -> None:
    """Horizontal dot plot: every seed a small dot, the mean a bar, its interval a line.

    Args:
        axis: where to draw.
        summary: index row; columns mean, low, high (low and high may be missing).
        values: columns row, value; one line per seed.
        scale: factor from stored shares to the axis (100 for percent).
    """
    order = list(summary.index)
    for y, row in enumerate(order):
        entry = summary.loc[row]
        if pd.notna(entry["low"]):
            axis.plot(
                [scale * entry["low"], scale * entry["high"]],
                [y, y],
                color=colour(row),
                linewidth=1.5,
                alpha=0.7,
                zorder=2,
            )
        points = values.loc[values["row"] == row, "value"]
        axis.scatter(
            scale * points,
            [y] * len(points),
            color=colour(row),
            s=22,
            zorder=3,
            edgecolor="white",
            linewidth=0.6,
        )
        axis.plot([scale * entry["mean"]] * 2, [y - 0.3, y + 0.3], color=colour(row), linewidth=3, zorder=4)
    axis.set_yticks(range(len(order)), order)
    axis.set_ylim(len(order) - 0.5, -0.5)  # the first row on top, however often axes are shared


def scale_lines(axis: Axes, table: pd.DataFrame, baselines: dict[str, float]) -> None:
    """Accuracy against Saliency Swap's crop scale, one line per row; dashed lines for rows without it.

    Args:
        axis: where to draw.
        table: columns row, scale, percent.
        baselines: row -> percent.
    """
    for row, part in table.groupby("row", sort=False):
        mean = part.groupby("scale")["percent"].mean()
        axis.plot(mean.index, mean, marker="o", color=colour(str(row)), label=row)
        axis.scatter(part["scale"], part["percent"], s=10, color=colour(str(row)), alpha=0.6)
    for row, percent in baselines.items():
        axis.axhline(percent, color=colour(row), linestyle="--", linewidth=1.2, label=f"{row} (no swap)")
    axis.set(xlabel="least area of the crop, share of the saliency box", ylabel="fine-tuned top-1, %")
