"""Galleries of maps: where each method looks, on images drawn at random, with its failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn import functional as F

from cvsa.errors import CVSAError
from cvsa.report.figures import HEAT, to_picture

GREY = (0.299, 0.587, 0.114)  # luminance of RGB (ITU-R BT.601)
SHARE = 0.6  # of the heat in an overlay; the rest is the greyed image
CELL = 1.1  # side of a picture, inches
GAP = 0.05  # between pictures, as a share of a cell
# Text of this many points per inch of the figure's width is 10 pixels high on a telephone: 350 pixels wide.
POINTS_PER_INCH = 2.1
MARKED = 1.15  # lines that marks take
IMAGES = "images"  # title of the top row
MARGIN = 0.04  # inches; what is saved tightly keeps its width nevertheless

Mark = float | bool | str
Marks = Mapping[str, Sequence[Mark]]


def random_images(total: int, count: int, seed: int) -> Tensor:
    """Numbers of the images a gallery shows: drawn by a seed, so that nobody picked them.

    Args:
        total: images there are.
        count: images wanted; all of them, in random order, if there are fewer.
        seed: of the draw.

    Returns:
        (min(count, total),) int64, no number twice.
    """
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count]


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A map over its image: the image greyed and darkened below it, so that both are seen.

    Args:
        image: (S, S, 3) float in [0, 1].
        heat: (S, S) float in [0, 1].

    Returns:
        (S, S, 3) float in [0, 1]: 0.6 of the map's colour and 0.4 of the grey image.
    """
    grey = image @ np.array(GREY)
    return SHARE * mpl.colormaps[HEAT](heat)[..., :3] + (1 - SHARE) * grey[..., None]


def gallery(
    images: Tensor,
    boxes: Sequence[Tensor | np.ndarray] | Tensor | None,
    rows: Mapping[str, Tensor | np.ndarray],
    marks: Marks | None = None,
    *,
    scale: str = "0 to 1, the same in every picture",
    columns: int | None = None,
) -> Figure:
    """Images on top, and below them a row of maps per method or source; the same colours everywhere.

    The titles stand above their rows and the text grows with the figure's width, so that four to six columns
    can be read on a telephone; with ``columns`` the images go on below, in further blocks.

    Args:
        images: (n, 3, R, R) float in [0, 1] or uint8, as drawn by :func:`random_images`.
        boxes: the true boxes, (n, 4), or per image (k, 4), x1 y1 x2 y2 in pixels of the images, outlined on
            every picture; None where there are none.
        rows: title -> maps (n, h, w) in [0, 1]; enlarged bilinearly to R as they are measured.
        marks: title -> per image what stands below its map: a number (IoU), a truth value (hit or miss) or
            words.
        scale: what the ends of the colours mean.
        columns: images side by side; all of them by default.

    Raises:
        CVSAError: maps or marks that do not fit to the images, or maps beyond [0, 1].
    """
    count, side = len(images), images.shape[-1]
    pictures = [to_picture(image) for image in images]
    pictures = [picture / 255 if picture.dtype == np.uint8 else picture for picture in pictures]
    maps = {title: _enlarged(title, values, count, side) for title, values in rows.items()}
    written = {title: [_words(mark) for mark in values] for title, values in (marks or {}).items()}
    for title, words in written.items():
        if title not in maps or len(words) != count:
            raise CVSAError(f"Marks {title!r}: {len(words)} for {count} images and rows {', '.join(maps)}.")
    truth = [np.zeros((0, 4))] * count if boxes is None else [np.asarray(box).reshape(-1, 4) for box in boxes]

    columns = min(columns or count, count)
    width = columns * CELL + 2 * MARGIN
    points = max(POINTS_PER_INCH * width, 8.0)
    line = 1.5 * points / 72 / CELL  # a line of text, in cells
    blocks = [range(start, min(start + columns, count)) for start in range(0, count, columns)]
    tall = len(blocks) * sum(1 + line * (1 + MARKED * (title in written)) for title in (IMAGES, *maps))
    bar = 3.2 * line
    figure = Figure(figsize=(width, (tall + bar) * CELL))
    figure.set_layout_engine("none")
    axis = figure.add_axes((0, bar / (tall + bar), 1, tall / (tall + bar)))
    y = 0.0
    for block in blocks:
        for title in (IMAGES, *maps):
            axis.text(0, y + 0.5 * line, title, va="center", fontsize=points, fontweight="bold")
            y += line
            for place, number in enumerate(block):
                shown = pictures[number]
                if title in maps:
                    shown = overlay(shown, maps[title][number])
                _picture(axis, place, y, shown, truth[number])
                if title in written:
                    middle, below = place + (1 - GAP) / 2, y + 1 + 0.35 * line
                    told = written[title][number]
                    axis.text(middle, below, told, va="center", ha="center", fontsize=points)
            y += 1 + MARKED * line * (title in written)
    edge = MARGIN / CELL
    axis.set(xlim=(-edge, columns + edge), ylim=(tall, 0))
    axis.set_axis_off()
    _scale_bar(figure, bar / (tall + bar), points, scale)
    return figure


def _enlarged(title: str, values: Tensor | np.ndarray, count: int, side: int) -> np.ndarray:
    maps = torch.as_tensor(values).detach().cpu().float()
    if maps.ndim != 3 or len(maps) != count:
        raise CVSAError(f"Maps {title!r} have the shape {tuple(maps.shape)}; {count} images need (n, h, w).")
    if not bool(((maps >= 0) & (maps <= 1)).all()):  # False for NaN too
        raise CVSAError(f"Maps {title!r} go beyond [0, 1]: bring them to one scale first.")
    return F.interpolate(maps[:, None], size=(side, side), mode="bilinear", align_corners=False)[:, 0].numpy()


def _words(mark: Mark) -> str:
    if isinstance(mark, (bool, np.bool_)):
        return "hit" if mark else "miss"
    return mark if isinstance(mark, str) else f"{float(mark):.2f}"


def _picture(axis: Axes, x: float, y: float, picture: np.ndarray, boxes: np.ndarray) -> None:
    """A picture with boxes outlined, at a place of the grid (in cells, y downwards)."""
    side = 1 - GAP
    axis.imshow(picture, extent=(x, x + side, y + side, y), interpolation="nearest", aspect="auto")
    unit = side / picture.shape[0]  # a pixel
    for x1, y1, x2, y2 in boxes * unit:
        for edge, width in (("black", 2.6), ("white", 1.2)):  # seen on dark and on light
            axis.add_patch(Rectangle((x + x1, y + y1), x2 - x1, y2 - y1, fill=False, ec=edge, lw=width))


def _scale_bar(figure: Figure, height: float, points: float, words: str) -> None:
    """The colours as an overlay shows them on a middle grey."""
    axis = figure.add_axes((0.02, 0.68 * height, 0.96, 0.2 * height))
    colours = SHARE * mpl.colormaps[HEAT](np.linspace(0, 1, 256))[:, :3] + (1 - SHARE) * 0.5
    bar = figure.colorbar(ScalarMappable(cmap=ListedColormap(colours)), cax=axis, orientation="horizontal")
    bar.set_ticks([0, 1])
    bar.ax.tick_params(labelsize=0.9 * points, length=0, pad=2)
    first, last = bar.ax.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    bar.set_label(words, fontsize=0.9 * points, labelpad=-0.9 * points)
    bar.outline.set_visible(False)
