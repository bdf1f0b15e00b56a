"""What two views of an image have in common: how often the object, how much of it, how much background.

Counted exactly, without making any view: the crops are drawn as `cvsa.views` draws them, and the object's
share of a crop, or of what two crops both show, is the area of its mask inside a rectangle. For Saliency Swap
the rectangles are the pasted crops; around them each view shows another image.

The paper argues that random crops share background [A]; that this is measured, and how, is ours [O].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cvsa.data.bank import ImageBank
from cvsa.errors import CVSAError
from cvsa.records import atomic_write
from cvsa.saliency.boxes import THRESHOLD
from cvsa.views.crop import sample_crops
from cvsa.views.maker import draw_others
from cvsa.views.swap import clean_boxes, sample_box_crops
from cvsa.views.types import Range, coins

# CAST keeps random crops that hold at least this share of the mask (Selvaraju et al., 2021).
LEAST = 0.2
MEASURES = {
    "views_empty": "views without object",
    "views_poor": "views with little of it",
    "disjoint": "pairs that share no region",
    "common_empty": "pairs that share no object",
    "common_poor": "pairs that share little of it",
    "common_object": "share of the object in both views",
    "common_background": "background in the common region",
    "common_mostly": "pairs that share more background than object",
    "view_background": "of a view, background the other shows too",
}
"""What `summarise` tells of pairs of views, all shares in [0, 1]."""
PIXELS = 2**24  # mask pixels that are worked on at a time
ROUNDING = 1e-9  # share of an object's area that is none


class Shown(NamedTuple):
    """What views show of their references.

    Attributes:
        boxes: (B, 4) float x1, y1, x2, y2 in pixels of the reference.
        filled: (B,) float, the share of the view that it fills; the rest shows another image.
    """

    boxes: Tensor
    filled: Tensor


# (bank, image numbers, scale, ratio, flip, generator) -> what a view of each shows
_Draw = Callable[[ImageBank, Tensor, "float | Range", Range, float, torch.Generator], Shown]


def _crop(
    bank: ImageBank,
    index: Tensor,
    scale: float | Range,
    ratio: Range,
    flip: float,
    generator: torch.Generator,
) -> Shown:
    side = bank.resolution
    boxes = sample_crops(len(index), side, side, scale, ratio, generator)
    if flip > 0:
        coins(len(index), flip, generator, boxes.device)
    return Shown(boxes, boxes.new_ones(len(boxes)))


def _swap(
    bank: ImageBank,
    index: Tensor,
    scale: float | Range,
    ratio: Range,
    flip: float,
    generator: torch.Generator,
) -> Shown:
    side = bank.resolution
    boxes = clean_boxes(bank.boxes, side, side)
    place = boxes[draw_others(index, len(bank), generator).to(boxes.device)]
    crops = sample_box_crops(boxes[index.to(boxes.device)], scale, ratio, generator)
    coins(len(index), flip, generator, boxes.device)
    return Shown(crops, (place[:, 2:] - place[:, :2]).prod(1) / side**2)


DRAWS: dict[str, _Draw] = {"random_resized_crop": _crop, "saliency_swap": _swap}
"""View generators whose pairs are measured; their draws are those of `cvsa.views`, in the same order."""


def shown(
    bank: ImageBank,
    index: Tensor,
    view: str,
    scale: float | Range,
    generator: torch.Generator,
    *,
    ratio: Range = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> tuple[Shown, Shown]:
    """What the two views of each reference show of it; the same generator gives `ViewMaker` those views.

    Args:
        bank: images with boxes.
        index: (B,) int64, image numbers.
        view: name in DRAWS.
        scale: least area of the crop (or (low, high)), as a share of the image, for Saliency Swap of the box.
        generator: source of all randomness.
        ratio: aspect range of the crops.
        flip: probability of mirroring; it only decides how many numbers are drawn.

    Returns:
        Of the first views and of the second.

    Raises:
        CVSAError: an unknown view, an impossible scale or ratio, or no other image to take as background.
    """
    if view not in DRAWS:
        raise CVSAError(f"Pairs of view {view!r} cannot be measured; choose one of {', '.join(DRAWS)}.")
    if len(bank) < 2:
        raise CVSAError(f"Views of a bank of {len(bank)} image cannot be measured; give at least 2.")
    first, second = (DRAWS[view](bank, index, scale, ratio, flip, generator) for _ in range(2))
    return first, second


def integrals(masks: Tensor) -> Tensor:
    """Integral of each mask (B, R, R) from the upper left corner, (B, R + 1, R + 1) float64."""
    batch, height, width = masks.shape
    out = torch.zeros((batch, height + 1, width + 1), dtype=torch.float64, device=masks.device)
    out[:, 1:, 1:] = masks.to(torch.float64).cumsum(1).cumsum(2)
    return out


def area_inside(integral: Tensor, boxes: Tensor) -> Tensor:
    """Area of a mask inside a box whose edges may cut pixels.

    A mask is constant on each pixel, so its integral I is bilinear there, and the area is
    I(x2, y2) - I(x1, y2) - I(x2, y1) + I(x1, y1).

    Args:
        integral: (B, R + 1, R + 1) of :func:`integrals`.
        boxes: (B, 4) x1, y1, x2, y2 within the image; without area where x2 <= x1 or y2 <= y1.

    Returns:
        (B,) float64, in pixels.
    """
    x1, y1, x2, y2 = boxes.to(torch.float64).unbind(1)
    sample = torch.arange(len(integral), device=integral.device)
    last = integral.shape[-1] - 2  # the last pixel

    def until(x: Tensor, y: Tensor) -> Tensor:
        column, row = x.long().clamp(0, last), y.long().clamp(0, last)
        right, down = x - column, y - row
        upper, lower = (
            torch.lerp(integral[sample, line, column], integral[sample, line, column + 1], right)
            for line in (row, row + 1)
        )
        return torch.lerp(upper, lower, down)

    area = until(x2, y2) - until(x1, y2) - until(x2, y1) + until(x1, y1)
    return torch.where((x2 > x1) & (y2 > y1), area, 0.0)


def measure_pairs(
    bank: ImageBank,
    view: str,
    scale: float | Range,
    *,
    repeats: int = 8,
    limit: int = 1000,
    seed: int = 0,
    ratio: Range = (3 / 4, 4 / 3),
) -> pd.DataFrame:
    """Draw pairs of views and measure what they show of the object.

    An object is where the map of an image is at least 0.5; images without any are left out.

    Args:
        bank: images with masks. What the measure is worth is what its masks are worth.
        view: name in DRAWS.
        scale: see `shown`.
        repeats: pairs drawn of each image.
        limit: images at most, spread over the bank.
        seed: of the draws. Equal seeds at several scales give curves that are smoother than their points are
            certain.
        ratio: aspect range of the crops.

    Returns:
        A line per pair: image; object (share of the image that it covers); object_1, object_2 (share of the
        object that each view shows); common (area of what both show, share of the image); common_object
        (share of the object that both show); background (share of the common region that is not object, NaN
        where there is no such region); of_view (share of a view that is background which the other view shows
        too, mean of the two).

    Raises:
        CVSAError: no image with an object, or an impossible number.
    """
    known = bank.found.nonzero()[:, 0].cpu()
    if repeats < 1 or limit < 1 or not len(known):
        raise CVSAError(
            f"No pair to measure: {len(known)} images with a known object, limit {limit}, repeats {repeats}. "
            "Each must be at least 1; give a data set with masks."
        )
    chosen = known[torch.linspace(0, len(known) - 1, min(limit, len(known))).round().long()]
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for index in chosen.split(max(1, PIXELS // bank.resolution**2)):
        integral = integrals(bank.gather(index)[:, 3].cpu() >= THRESHOLD)
        for _ in range(repeats):
            pair = shown(bank, index, view, scale, generator, ratio=ratio)
            parts.append(compare(integral, pair).assign(image=index.numpy()))
    return pd.concat(parts, ignore_index=True)


def compare(integral: Tensor, pair: tuple[Shown, Shown]) -> pd.DataFrame:
    """What the two views of each reference have in common.

    Args:
        integral: (B, R + 1, R + 1), :func:`integrals` of the references' objects, none of them empty.
        pair: of :func:`shown`.

    Returns:
        A line per reference; columns of :func:`measure_pairs`, without image.
    """
    first, second = pair
    whole, side = integral[:, -1, -1], integral.shape[-1] - 1
    low = torch.maximum(first.boxes[:, :2], second.boxes[:, :2])
    high = torch.minimum(first.boxes[:, 2:], second.boxes[:, 2:])
    common, both = _area(low, high), area_inside(integral, torch.cat([low, high], 1))
    seen = sum(one.filled / _area(one.boxes[:, :2], one.boxes[:, 2:]) for one in pair)
    columns = {
        "object": whole / side**2,
        "object_1": area_inside(integral, first.boxes) / whole,
        "object_2": area_inside(integral, second.boxes) / whole,
        "common": common / side**2,
        "common_object": both / whole,
        "background": (1 - both / common).clamp(0, 1),  # NaN: nothing in common
        "of_view": (common - both).clamp(min=0) * seen / 2,
    }
    return pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).to(torch.float64).prod(1)


def summarise(pairs: pd.DataFrame, least: float = LEAST) -> pd.DataFrame:
    """Shares of pairs and means over them.

    Args:
        pairs: of `measure_pairs`.
        least: share of the object below which a view, or a pair, has "little of it".

    Returns:
        Columns measure (the keys of MEASURES), value, error: its standard error over images, NaN for one.
        "No object" means no area of it; pairs without any common region count as sharing none.
    """
    first, second, both = (pairs[name] for name in ("object_1", "object_2", "common_object"))
    each = {
        "views_empty": ((first <= ROUNDING) * 1.0 + (second <= ROUNDING)) / 2,
        "views_poor": ((first < least) * 1.0 + (second < least)) / 2,
        "disjoint": (pairs["common"] == 0) * 1.0,
        "common_empty": (both <= ROUNDING) * 1.0,
        "common_poor": (both < least) * 1.0,
        "common_object": both,
        "common_background": pairs["background"],
        "common_mostly": (pairs["background"] > 0.5) * 1.0,
        "view_background": pairs["of_view"],
    }
    lines = []
    for name, values in each.items():
        of_images = values.groupby(pairs["image"]).mean().dropna()
        error = of_images.std() / np.sqrt(len(of_images)) if len(of_images) > 1 else np.nan
        lines.append((name, float(values.mean()), float(error)))
    return pd.DataFrame(lines, columns=["measure", "value", "error"])


def view_curves(
    bank: ImageBank,
    data: str,
    scales: Sequence[float],
    *,
    views: Sequence[str] = tuple(DRAWS),
    repeats: int = 8,
    limit: int = 1000,
    least: float = LEAST,
    seed: int = 0,
) -> pd.DataFrame:
    """What pairs of views have in common, at several crop scales.

    Args:
        bank, repeats, limit, seed: see `measure_pairs`; least: see `summarise`.
        data: name of the data set, for people.
        scales: least areas of the crops.
        views: names in DRAWS.

    Returns:
        Columns measure, value, error, data, view, scale, object (mean share of the image that it covers),
        images, pairs, least, seed, fingerprint (of the bank): a line per view, scale and measure.
    """
    parts = []
    for view in views:
        for scale in scales:
            pairs = measure_pairs(bank, view, scale, repeats=repeats, limit=limit, seed=seed)
            about: dict[str, Any] = {
                "data": data,
                "view": view,
                "scale": float(scale),
                "object": pairs["object"].mean(),
            }
            counts = {"images": pairs["image"].nunique(), "pairs": len(pairs)}
            drawn: dict[str, Any] = {"least": least, "seed": seed, "fingerprint": bank.fingerprint}
            parts.append(summarise(pairs, least).assign(**about, **counts, **drawn))
    return pd.concat(parts, ignore_index=True)


def write_views(curves: pd.DataFrame, folder: Path) -> Path:
    """Keep the curves of one data set beside the runs, as ``views-DATA.csv``."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", str(curves["data"].iloc[0]))
    path = Path(folder) / f"views-{name}.csv"
    atomic_write(path, curves.to_csv(index=False))
    return path


def read_views(folder: Path) -> pd.DataFrame:
    """All curves kept in a folder, one data set after the other; empty where there are none.

    Raises:
        CVSAError: a file that `write_views` did not make.
    """
    parts = []
    for path in sorted(Path(folder).glob("views-*.csv")):
        part = pd.read_csv(path)
        if missing := {"data", "view", "scale", "object", "measure", "value"} - set(part):
            raise CVSAError(f"{path} has no column {min(missing)}. Make it again with notebooks/pilot.ipynb.")
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
