"""Maps of an embedding: frozen features in two dimensions, with the images themselves at their points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.report.figures import to_picture

# Ten colours told apart by colour-blind eyes (seaborn's "colorblind"); groups beyond get the other one.
PALETTE = (
    "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133",
    "#56b4e9",
)  # fmt: skip
OTHER = "#000000"  # of all other groups
REST = -1  # their group
FLATTEST = 0.4  # height of a panel, as a share of its width
THUMBNAIL = 0.08  # side of a thumbnail, as a share of the panel
PANEL = 4.4  # side of a panel, inches
POINTS_PER_INCH = 1.8  # text that is 9 pixels high where the figure is 350 pixels wide


@dataclass(frozen=True)
class Plane:
    """Features projected on their first two principal components.

    Attributes:
        points: (N, 2) float32, centred.
        explained: share of the features' variance along either, each in [0, 1].
    """

    points: np.ndarray
    explained: tuple[float, float]


def principal_plane(features: Tensor) -> Plane:
    """Principal component analysis to two dimensions, exact and without random numbers.

    A linear projection, so distances are shadows of the true ones: never larger, and how much is lost is
    known, ``1 - sum(explained)``. Each axis points to where its largest entry is positive.

    Args:
        features: (N, D) finite, N >= 3.

    Raises:
        CVSAError: fewer than three images, or features that are not finite.
    """
    if features.ndim != 2 or len(features) < 3 or not bool(features.isfinite().all()):
        got = tuple(features.shape)
        raise CVSAError(f"An embedding map needs finite features (N, D) of at least 3 images; got {got}.")
    centred = features.double().cpu() - features.double().cpu().mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending
    axes = vectors[:, -2:].flip(1) if features.shape[1] > 1 else torch.cat([vectors, 0 * vectors], 1)
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    axes = axes * torch.where(largest < 0, -1.0, 1.0)
    total = float(values.clamp_min(0).sum()) or 1.0
    first, second = [*values.clamp_min(0).flip(0)[:2].tolist(), 0.0][:2]
    return Plane((centred @ axes).float().numpy(), (first / total, second / total))


def spread(points: np.ndarray, side: float, seed: int) -> np.ndarray:
    """Which points get a thumbnail: taken in random order, each that overlaps none taken before.

    Args:
        points: (N, 2), in units of the panel.
        side: of a thumbnail, in the same units.
        seed: of the order, so that nobody picked the images.

    Returns:
        (K,) int64, numbers of the points, ascending.
    """
    taken: list[int] = []
    for number in np.random.default_rng(seed).permutation(len(points)):
        if (np.abs(points[taken] - points[number]).max(axis=1) >= side).all():
            taken.append(int(number))
    return np.array(sorted(taken), dtype=np.int64)


def embedding_map(
    features: Tensor,
    images: Tensor,
    groups: Mapping[str, tuple[Sequence[int] | np.ndarray | Tensor, Sequence[str]]],
    *,
    stacked: bool = False,
    seed: int = 0,
) -> Figure:
    """The same plane once per grouping, its thumbnails framed in the colour of their class, or habitat.

    Every image is a dot; as many as fit without overlap are shown as thumbnails, at their exact places.

    Args:
        features: (N, D), frozen features.
        images: (N, 3, R, R) float in [0, 1] or uint8.
        groups: title of a panel -> group of each image (N,) and the names of the groups; a negative number
            is no group. Beyond ten groups the most frequent ten have colours, the others are grey.
        stacked: the panels one below the other, for narrow pages, instead of side by side.
        seed: of which images are shown.

    Raises:
        CVSAError: see :func:`principal_plane`; images or groups that do not fit to the features.
    """
    plane = principal_plane(features)
    count = len(plane.points)
    labels = {title: np.asarray(group) for title, (group, _) in groups.items()}
    for what, length in {"images": len(images), **{t: len(group) for t, group in labels.items()}}.items():
        if length != count:
            raise CVSAError(f"Embedding map: {length} {what} for {count} features.")
    points, tall = _places(plane.points)
    shown = spread(points, THUMBNAIL, seed)
    pictures = {int(number): to_picture(images[number]) for number in shown}

    rows, columns = (len(groups), 1) if stacked else (1, len(groups))
    font = max(POINTS_PER_INCH * PANEL * columns, 9.0)
    line = 1.4 * font / 72  # inches
    margin, gap = 1.2 * line, 0.2
    abreast = 4 if columns == 1 else 3  # names in a line below a panel
    keyed = {title: _key(group, groups[title][1]) for title, group in labels.items()}
    lines = max(-(-len(key) // abreast) for key in keyed.values())
    height = tall * PANEL + (3.0 + lines) * line
    width = margin + columns * (PANEL + gap)
    figure = Figure(figsize=(width, rows * height))
    figure.set_layout_engine("none")
    for number, (title, key) in enumerate(keyed.items()):
        row, column = divmod(number, columns)
        left, top = margin + column * (PANEL + gap), (rows - row) * height - 1.2 * line
        place = (left, top - tall * PANEL, PANEL, tall * PANEL)
        axis = figure.add_axes(tuple(np.divide(place, (width, rows * height) * 2)))
        _panel(axis, points, shown, pictures, [key.get(int(k), (OTHER, ""))[0] for k in labels[title]])
        axis.set(xlim=(0, 1), ylim=(0, tall), aspect="equal", xticks=[], yticks=[])
        axis.set_title(title, fontsize=font, fontweight="bold", pad=0.3 * font)
        first, second = (f"component ({100 * share:.0f} % of variance)" for share in plane.explained)
        axis.set_xlabel(f"first {first}", fontsize=font, labelpad=0.3 * font)
        if column == 0:
            axis.set_ylabel(f"second {second}", fontsize=font, labelpad=0.3 * font)
        handles = [
            Line2D([], [], linestyle="", marker="s", markersize=0.8 * font, color=colour, label=name)
            for colour, name in key.values()
        ]
        axis.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -1.35 * line / (tall * PANEL)),
            ncols=abreast, frameon=False, fontsize=0.9 * font, handletextpad=0.1, columnspacing=0.8,
            borderpad=0, borderaxespad=0,
        )  # fmt: skip
    return figure


def _places(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Points on a panel 1 wide, both axes on one scale, and how tall it is; with room for thumbnails."""
    low, extent = points.min(0), np.ptp(points, axis=0)
    room = 1.3 * THUMBNAIL
    unit = (1 - room) / max(float(extent.max()), 1e-12)
    tall = max(float(extent[1]) * unit + room, FLATTEST)
    return (points - low - extent / 2) * unit + np.array([0.5, tall / 2]), tall


def _key(labels: np.ndarray, names: Sequence[str]) -> dict[int, tuple[str, str]]:
    """Group -> colour and name, for the most frequent groups, in the order of their numbers, and the rest."""
    found, counts = np.unique(labels[labels >= 0], return_counts=True)
    kept = sorted(found[np.argsort(-counts, kind="stable")[: len(PALETTE)]].tolist())
    if len(found) and found[-1] >= len(names):
        raise CVSAError(f"Embedding map: group {found[-1]} has no name among {len(names)}.")
    # With no more groups than colours a group keeps its colour, whichever others there are.
    hues = {k: PALETTE[k if len(names) <= len(PALETTE) else place] for place, k in enumerate(kept)}
    key = {k: (hue, str(names[k])) for k, hue in hues.items()}
    return key if len(np.unique(labels)) == len(key) else {**key, REST: (OTHER, "other")}


def _panel(
    axis: Axes, points: np.ndarray, shown: np.ndarray, pictures: Mapping[int, np.ndarray], colours: list[str]
) -> None:
    axis.scatter(points[:, 0], points[:, 1], c=colours, s=7, linewidths=0, zorder=1)
    half, edge = 0.92 * THUMBNAIL / 2, 0.12 * THUMBNAIL  # a frame as part of the thumbnail, never beyond it
    for number in shown:
        x, y = points[number]
        axis.add_patch(
            Rectangle((x - half, y - half), 2 * half, 2 * half, color=colours[number], linewidth=0, zorder=2)
        )
        inside = half - edge
        axis.imshow(
            pictures[int(number)], extent=(x - inside, x + inside, y - inside, y + inside), aspect="auto",
            interpolation="antialiased", zorder=3,
        )  # fmt: skip
    axis.grid(visible=False)
