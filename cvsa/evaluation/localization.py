"""How well maps find the object: boxes, pixels, the pointing game, parts. No networks, only maps and truth.

Sources:
    Choe et al., Evaluating Weakly Supervised Object Localization Methods Right, CVPR 2020, and its extension
        (arXiv 2007.04178): MaxBoxAcc, MaxBoxAccV2, PxAP; thresholds belong on a held-out split.
    Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016, IJCV 2018: pointing game.
    Wang et al., Score-CAM, CVPR Workshops 2020: energy-based pointing game.
    Deselaers, Alexe, Ferrari, Weakly Supervised Localization and Learning with Generic Knowledge, IJCV 2012:
        CorLoc.

Metrics, all in [0, 1]. A map is resized to the pixels of the truth and stretched to [0, 1] (`to_pixels`); the
map cut at a threshold t is the set of pixels of value t or more; of `THRESHOLDS` the one that serves a
held-out split best is used (`choose`), the lowest of equally good ones.

    box_acc_30, _50, _70: share of the images in which the box of any component of the cut map reaches this
        IoU (per cent) with any true box; each has a threshold of its own.
    box_acc: their mean (MaxBoxAccV2, but with thresholds from held-out images).
    max_box_acc: the same with the thresholds that are best for the measured images themselves, as the
        literature reports it; optimistic.
    corloc: share of the images in which the box of the largest component alone reaches 0.5; MaxBoxAcc, but
        with a threshold from held-out images.
    iou: of the cut map with the mask, mean over images.
    pxap: area under the precision-recall curve of all pixels of all images together (average precision).
    pointing: the map's maximum lies on the mask. Several equal maxima count by the share of them that do. No
        tolerance around the object, mean over images (the original: 15 pixels, mean over classes).
    energy: the map's sum inside the mask over its sum.
    part_hit, part_hit_NAME: share of the visible parts whose pixel belongs to the map cut at the threshold of
        iou; without masks at that of corloc. part_area: what a random place would hit, the mean share of the
        picture that the cut map covers.

Where there are boxes but no masks, pointing and energy use the pixels of the boxes. A constant or non-finite
map points nowhere: pointing and energy are the object's share of the picture, which chance gives; its box is
the whole image at threshold 0 and there is none above. At threshold 0 any map says "the whole image", so a
chosen threshold of 0 means that a map is worth no more.

Besides: threshold_NAME, as chosen; images, how many were measured; excluded, how many were left out because
they have no object; constant, how many of the measured ones have a map that is constant or not finite.

Differences from the code of Choe et al., apart from the thresholds' origin: 100 thresholds instead of 1000 on
maps of 256 grey levels; "at least t", as their paper has it, where the code takes "more than"; boxes have
exclusive ends; holes in a component are no boxes. [O]
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cvsa.errors import CVSAError
from cvsa.evaluation.truth import Truth, truth_of

if TYPE_CHECKING:
    from torch import Tensor

THRESHOLDS = np.arange(100) / 100
OVERLAPS = (30, 50, 70)  # IoU in per cent that counts as found
ROUNDING = 1e-6  # a map that varies by less, relative to its values, is constant
EXACT, BINS = 2**24, 2**16  # pxap: up to so many pixels exactly, beyond with so many equal bins of [0, 1]
CHUNK = 128  # images at a time

__all__ = ["Choice", "Measured", "Truth", "choose", "measure", "references", "to_pixels", "truth_of"]


@dataclass(frozen=True)
class Choice:
    """Thresholds from a held-out split.

    Attributes:
        thresholds: of box_30, box_50, box_70, corloc, iou; those that its truth allows to choose.
        images: how many images they were chosen on.
        excluded: how many were left out because they have no object.
    """

    thresholds: dict[str, float] = field(default_factory=dict)
    images: int = 0
    excluded: int = 0


@dataclass(frozen=True, eq=False)
class Measured:
    """What came of the maps of one source.

    Attributes:
        metrics: name -> value; see the head of this module.
        per_image: image (0, 1, ...), iou, pointing, energy, box_iou (the best IoU of a box at box_50's
            threshold), one row per image; NaN where there is no object or no truth.
        unavailable: name of a metric -> why it is not there.
    """

    metrics: dict[str, float]
    per_image: pd.DataFrame
    unavailable: dict[str, str]


def to_pixels(maps: np.ndarray | Tensor, size: int) -> np.ndarray:
    """Maps as they are measured.

    Args:
        maps: (N, h, w) of any finite values, of any size.
        size: R, pixels.

    Returns:
        (N, R, R) float32 in [0, 1]: resized bilinearly (pixel centres as in ``align_corners=False``), then
        each stretched so that its lowest value is 0 and its highest 1. All zeros where a map is constant (but
        for rounding) or not finite.

    Raises:
        CVSAError: another number of axes.
    """
    import torch
    from torch.nn.functional import interpolate

    values = np.asarray(maps.detach().cpu().double() if isinstance(maps, torch.Tensor) else maps)
    if values.ndim != 3:
        raise CVSAError(f"Maps must have the shape (N, h, w), got {values.shape}.")
    stretched = _stretch(values.astype(np.float64))  # first: where nothing can overflow, and before rounding
    if values.shape[1:] != (size, size) and len(values):
        resized = interpolate(torch.from_numpy(stretched)[:, None], size=(size, size), mode="bilinear")
        stretched = _stretch(resized[:, 0].numpy())
    return stretched


def _stretch(maps: np.ndarray) -> np.ndarray:
    if not maps.size:
        return maps.astype(np.float32)
    maps = np.where(np.isfinite(maps).all(axis=(1, 2), keepdims=True), maps, 0)
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    span = high - low
    flat = span <= ROUNDING * np.maximum(abs(low), abs(high))
    return np.where(flat, 0, (maps - low) / np.where(flat, 1, span)).astype(np.float32)


@dataclass
class _Seen:
    """What one pass over the maps of M images with objects yields; K thresholds, P parts."""

    best: np.ndarray  # (M, K) highest IoU of a component's box with a true box
    largest: np.ndarray  # (M, K) the same of the largest component
    iou: np.ndarray  # (M, K) of the cut map with the region
    covered: np.ndarray  # (M, K) share of the picture
    pointing: np.ndarray  # (M,)
    energy: np.ndarray  # (M,)
    at_parts: np.ndarray  # (M, P) values of the map, NaN where a part is not visible
    constant: np.ndarray  # (M,) bool
    inside: np.ndarray  # values of the map in the regions; or how many are in each bin
    values: np.ndarray  # all values of the map; or how many are in each bin


def _see(maps: np.ndarray | Tensor, truth: Truth) -> tuple[_Seen | None, np.ndarray]:
    """A pass over the maps of the images with objects, and which these are."""
    if len(maps) != len(truth) and (truth.known or len(truth)):
        raise CVSAError(f"There are {len(maps)} maps for {len(truth)} images.")
    rows = np.flatnonzero(truth.present)
    if not len(rows):
        return None, rows
    binned = len(rows) * truth.size**2 > EXACT
    chunks = np.split(rows, range(CHUNK, len(rows), CHUNK))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        seen = list(pool.map(lambda some: _see_chunk(maps[some], truth, some, binned), chunks))
    joined = {name: np.concatenate([getattr(one, name) for one in seen]) for name in vars(seen[0])}
    if binned:
        joined |= {name: joined[name].reshape(-1, BINS).sum(axis=0) for name in ("inside", "values")}
    return _Seen(**joined), rows


def _see_chunk(maps: np.ndarray | Tensor, truth: Truth, rows: np.ndarray, binned: bool) -> _Seen:
    from cvsa.evaluation.components import box_overlaps, mask_counts

    pixels, region = to_pixels(maps, truth.size), truth.region(rows)
    cuts, shape = THRESHOLDS.astype(np.float32), (len(rows), len(THRESHOLDS))
    best, largest = np.zeros(shape), np.zeros(shape)
    if truth.boxes is not None:
        boxes = [np.asarray(truth.boxes[row], dtype=np.float64).reshape(-1, 4) for row in rows]
        first = np.cumsum([0, *map(len, boxes)])
        box_overlaps(pixels, cuts, np.concatenate(boxes), first, best, largest)
    common, area = np.empty(shape, np.int64), np.empty(shape, np.int64)
    mask_counts(pixels, cuts, region, common, area)
    objects = region.sum(axis=(1, 2))  # never 0: images without an object are left out
    tops = pixels == pixels.max(axis=(1, 2), keepdims=True)
    total, share = pixels.sum(axis=(1, 2), dtype=np.float64), objects / truth.size**2
    within = pixels.sum(axis=(1, 2), where=region, dtype=np.float64)
    inside, values = pixels[region], pixels.ravel()
    if binned:
        inside, values = (
            np.bincount(np.minimum(v * BINS, BINS - 1).astype(np.intp), minlength=BINS)
            for v in (inside, values)
        )
    return _Seen(
        best=best,
        largest=largest,
        iou=common / (area + objects[:, None] - common),
        covered=area / truth.size**2,
        pointing=(tops & region).sum(axis=(1, 2)) / tops.sum(axis=(1, 2)),
        energy=np.divide(within, total, out=share, where=total > 0),
        at_parts=_at_parts(pixels, truth, rows),
        constant=total == 0,
        inside=inside,
        values=values,
    )


def _at_parts(pixels: np.ndarray, truth: Truth, rows: np.ndarray) -> np.ndarray:
    if truth.parts is None:
        return np.empty((len(rows), 0))
    xy = truth.parts[rows]
    there = ((xy >= 0) & (xy <= truth.size)).all(axis=-1)  # NaN compares as False
    x, y = np.where(there[..., None], xy, 0).astype(int).clip(max=truth.size - 1).transpose(2, 0, 1)
    return np.where(there, pixels[np.arange(len(rows))[:, None], y, x], np.nan)


def choose(maps: np.ndarray | Tensor, truth: Truth) -> Choice:
    """The thresholds that serve a held-out split best.

    Args:
        maps: (N, h, w), raw or of `to_pixels`.
        truth: of their N images.

    Raises:
        CVSAError: numbers that differ.
    """
    seen, rows = _see(maps, truth)
    if seen is None:
        return Choice(excluded=len(maps))
    shares: dict[str, np.ndarray] = {}  # (K,), the mean to be made as large as possible
    if truth.boxes is not None:
        shares |= {f"box_{overlap}": (seen.best >= overlap / 100).mean(axis=0) for overlap in OVERLAPS}
        shares["corloc"] = (seen.largest >= 0.5).mean(axis=0)
    if truth.masks is not None:
        shares["iou"] = seen.iou.mean(axis=0)
    thresholds = {name: float(THRESHOLDS[share.argmax()]) for name, share in shares.items()}
    return Choice(thresholds, len(rows), len(truth) - len(rows))


def measure(maps: np.ndarray | Tensor, truth: Truth, chosen: Choice) -> Measured:
    """All metrics that the truth allows; see the head of this module.

    Args:
        maps: (N, h, w), raw or of `to_pixels`.
        truth: of their N images.
        chosen: thresholds from other images, for maps of the same source.

    Raises:
        CVSAError: numbers that differ.
    """
    seen, rows = _see(maps, truth)
    at = {name: round(cut * len(THRESHOLDS)) for name, cut in chosen.thresholds.items()}
    lacks = _lacks(truth, at, seen)
    columns = {name: np.full(len(maps), np.nan) for name in ("iou", "pointing", "energy", "box_iou")}
    metrics: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    for name, (needs, formula) in _formulas(truth, at).items():
        if missing := [lacks[need] for need in ("object", *needs) if need in lacks]:
            unavailable[name] = missing[0]
            continue
        assert seen is not None
        value = np.asarray(formula(seen))
        if name in columns:  # one value per image
            columns[name][rows] = value
        if name != "box_iou":
            metrics[name] = float(value.mean())
    unavailable.pop("box_iou", None)  # a column only
    metrics |= {f"threshold_{name}": cut for name, cut in chosen.thresholds.items()}
    constant = int(seen.constant.sum()) if seen else 0
    metrics |= {"images": len(rows), "excluded": len(maps) - len(rows), "constant": constant}
    return Measured(metrics, pd.DataFrame({"image": np.arange(len(maps)), **columns}), unavailable)


def _formulas(truth: Truth, at: dict[str, int]) -> dict[str, tuple[tuple[str, ...], Callable[[_Seen], Any]]]:
    """Metric -> what it needs (see `_lacks`), and its formula: the mean of what it returns."""
    deltas = {f"box_{overlap}": overlap / 100 for overlap in OVERLAPS}
    region = at.get("iou" if truth.masks is not None else "corloc", 0)  # threshold of the parts' region

    def found(name: str) -> Callable[[_Seen], Any]:
        return lambda seen: seen.best[:, at[name]] >= deltas[name]

    def hit(part: int | slice) -> Callable[[_Seen], Any]:
        return lambda seen: _known(seen.at_parts[:, part]) >= np.float32(THRESHOLDS[region])

    def part_area(seen: _Seen) -> Any:
        visible = (~np.isnan(seen.at_parts)).sum(axis=1)
        return np.average(seen.covered[:, region], weights=visible)

    box, cut = ("boxes", *deltas), "iou" if truth.masks is not None else "corloc"
    formulas: dict[str, tuple[tuple[str, ...], Callable[[_Seen], Any]]] = {
        "box_acc": (box, lambda seen: [found(name)(seen).mean() for name in deltas]),
        **{f"box_acc_{name[4:]}": (("boxes", name), found(name)) for name in deltas},
        "max_box_acc": (
            ("boxes",),
            lambda seen: [(seen.best >= delta).mean(axis=0).max() for delta in deltas.values()],
        ),
        "box_iou": (("boxes", "box_50"), lambda seen: seen.best[:, at["box_50"]]),
        "corloc": (("boxes", "corloc"), lambda seen: seen.largest[:, at["corloc"]] >= 0.5),
        "iou": (("masks", "iou"), lambda seen: seen.iou[:, at["iou"]]),
        "pxap": (("masks",), lambda seen: _average_precision(seen.inside, seen.values)),
        "pointing": (("either",), lambda seen: seen.pointing),
        "energy": (("either",), lambda seen: seen.energy),
        "part_hit": (("parts", "either", cut), hit(slice(None))),
        "part_area": (("parts", "either", cut), part_area),
    }
    for number, name in enumerate(truth.part_names):
        key = "part_hit_" + re.sub(r"\W+", "_", name.strip().lower())
        formulas[key] = (("parts", "either", cut, f"part {number}"), hit(number))
    return formulas


def _lacks(truth: Truth, at: dict[str, int], seen: _Seen | None) -> dict[str, str]:
    """What is not there of what metrics need -> why."""
    because = f": {truth.reason}" if truth.reason else ""
    lacks = {}
    if truth.masks is None:
        lacks["masks"] = f"no masks{because}"
    if truth.boxes is None:
        lacks["boxes"] = f"no boxes{because}"
    if truth.masks is None and truth.boxes is None:
        lacks["either"] = f"neither masks nor boxes{because}"
    for name in (*(f"box_{overlap}" for overlap in OVERLAPS), "corloc", "iou"):
        if name not in at:
            lacks[name] = f"the held-out images gave no threshold for {name}"
    if truth.parts is None:
        lacks["parts"] = "the places of parts are not known"
    if seen is None:
        if "either" not in lacks:
            lacks["object"] = "none of the images has an object" if len(truth) else "there are no images"
    elif truth.parts is not None:
        visible = ~np.isnan(seen.at_parts)
        if not visible.any():
            lacks["parts"] = "no part is visible"
        lacks |= {f"part {n}": "never visible" for n in np.flatnonzero(~visible.any(axis=0))}
    return lacks


def _known(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]


def _average_precision(inside: np.ndarray, values: np.ndarray) -> float:
    """Sum over thresholds of precision times the recall that the threshold adds; equal values are one step.

    Args:
        inside: (p,) values of the pixels on objects, float; or how many are in each of `BINS` bins, int.
        values: (q,) values of all pixels, or their counts, likewise.
    """
    if inside.dtype.kind == "f":
        levels, gained = np.unique(inside, return_counts=True)
        above = len(values) - np.searchsorted(np.sort(values), levels)
    else:
        gained, above = inside, values[::-1].cumsum()[::-1]
    hits = gained[::-1].cumsum()[::-1]
    precision = hits / np.maximum(above, 1)
    return float((precision * gained).sum() / gained.sum())


def references(truth: Truth, count: int, size: int, seed: int = 0, grid: int = 7) -> dict[str, np.ndarray]:
    """Maps that have not seen the image.

    Args:
        truth: of a held-out split; the centred box has the mean height and width of its boxes.
        count: N, images.
        size: R, pixels.
        seed: of the random maps; map i depends on it and on i alone.
        grid: side of the random maps before they are resized, that of the feature map they stand for.

    Returns:
        ref_centre: a box in the middle; only if the truth has boxes.
        ref_whole: a constant map; its box is the whole image.
        ref_random: smooth random maps, uniform noise on the grid resized to the pixels.
        Each (N, R, R) float32; the first two are views of one map, not to be written to.
    """
    maps = {}
    known = np.concatenate([np.zeros((0, 4)), *(truth.boxes or [])])
    if len(known):
        extent = (known[:, 2:] - known[:, :2]).mean(axis=0) * size / truth.size
        width, height = np.clip(np.round(extent).astype(int), 1, size)
        left, top = (size - width) // 2, (size - height) // 2
        centre = np.zeros((size, size), dtype=np.float32)
        centre[top : top + height, left : left + width] = 1
        maps["ref_centre"] = np.broadcast_to(centre, (count, size, size))
    maps["ref_whole"] = np.broadcast_to(np.float32(1), (count, size, size))
    noise = [np.random.default_rng([seed, i]).random((grid, grid)) for i in range(count)]
    maps["ref_random"] = to_pixels(np.array(noise).reshape(count, grid, grid), size)
    return maps
