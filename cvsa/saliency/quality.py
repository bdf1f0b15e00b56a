"""How good saliency is, against true masks.

Not part of the paper, which names no detector: our own comparison. [O]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cvsa.errors import CVSAError
from cvsa.saliency.boxes import THRESHOLD, binary, maps_to_boxes

THRESHOLDS = np.arange(1, 20) / 20  # among which the best is looked for
GOOD_BOX = 0.5  # a box is right from this IoU on

# image (H, W, 3) uint8 -> map (H, W) in [0, 1]; every detector is one
Finder = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Quality:
    """One row of a comparison; means over images.

    Attributes:
        detector: its name.
        images: how many.
        iou: of the map cut at 0.5 with the true mask.
        best_iou: of the map cut at best_threshold, on the half of the images that did not choose it.
        best_threshold: with the highest mean IoU on the other half.
        box_iou: of the saliency box with the box of the true mask.
        boxes_right: share of the images in which that IoU is over 0.5.
        nothing_found: images in which nothing reached 0.5 (their box is the whole image).
        milliseconds: per image, as given; None for stored maps.
    """

    detector: str
    images: int
    iou: float
    best_iou: float
    best_threshold: float
    box_iou: float
    boxes_right: float
    nothing_found: int
    milliseconds: float | None


def compare(
    finders: Mapping[str, Finder], images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seed: int = 0
) -> list[Quality]:
    """A row for each detector, and for the trivial references below them.

    Args:
        finders: name -> detector.
        images: N arrays (H, W, 3) uint8, of any sizes.
        masks: N true masks (H, W), bool or uint8 meaning value / 255.
        seed: of the halves and of the random boxes.

    Raises:
        CVSAError: no images, sizes that differ, whatever a detector refuses.
    """
    rows = []
    for name, find in {**finders, **references(masks, seed)}.items():
        maps, seconds = [], 0.0
        for number, image in enumerate(images):
            if number == 0:
                find(image)  # loads and compiles
            start = time.perf_counter()
            maps.append(find(image))
            seconds += time.perf_counter() - start
        rows.append(rate(name, maps, masks, seed=seed, milliseconds=1000 * seconds / max(1, len(maps))))
    return rows


def rate(
    name: str,
    maps: Iterable[np.ndarray],
    masks: Sequence[np.ndarray],
    *,
    seed: int = 0,
    milliseconds: float | None = None,
) -> Quality:
    """The row of given maps, for instance of stored ones.

    Args:
        name: of their detector.
        maps: N maps (H, W), float in [0, 1], bool, or uint8 meaning value / 255; of the sizes of the masks.
        masks: N true masks (H, W), bool or uint8 meaning value / 255.
        seed: of the halves.
        milliseconds: goes into the row.

    Raises:
        CVSAError: fewer than two images, numbers or sizes that differ.
    """
    overlaps: list[list[float]] = []
    boxes: list[float] = []
    found: list[bool] = []
    for map, mask in zip(maps, masks, strict=False):
        if np.shape(map) != np.shape(mask):
            raise CVSAError(f"Map {len(found)} of {name!r} is {np.shape(map)}, its mask {np.shape(mask)}.")
        truth = binary(mask)
        overlaps.append([iou(binary(map, cut), truth) for cut in (THRESHOLD, *THRESHOLDS)])
        (box,), (hit,) = maps_to_boxes(np.asarray(map)[None])
        boxes.append(box_iou(box.numpy(), maps_to_boxes(truth[None])[0][0].numpy()))
        found.append(bool(hit))
    if len(found) != len(masks) or len(found) < 2:
        raise CVSAError(
            f"{len(masks)} masks and {len(found)} maps of {name!r}; at least 2 of each are needed."
        )
    table = np.array(overlaps)  # (N, 1 + thresholds)
    order = np.random.default_rng(seed).permutation(len(table))
    choosing, judging = order[: len(order) // 2], order[len(order) // 2 :]
    best = int(table[choosing, 1:].mean(0).argmax())
    return Quality(
        detector=name,
        images=len(table),
        iou=float(table[:, 0].mean()),
        best_iou=float(table[judging, 1 + best].mean()),
        best_threshold=float(THRESHOLDS[best]),
        box_iou=float(np.mean(boxes)),
        boxes_right=float(np.mean(np.array(boxes) > GOOD_BOX)),
        nothing_found=len(found) - sum(found),
        milliseconds=milliseconds,
    )


def references(masks: Sequence[np.ndarray], seed: int = 0) -> dict[str, Finder]:
    """What needs no eyes: the whole image, a centred box, a random box.

    Both boxes have the mean height and width of the true boxes, in shares of their images: the references
    know more than a detector does.
    """
    sizes = []
    for mask in masks:
        truth = binary(mask)
        left, top, right, bottom = maps_to_boxes(truth[None])[0][0].tolist()
        sizes.append(((bottom - top) / truth.shape[0], (right - left) / truth.shape[1]))
    height, width = np.mean(sizes, axis=0) if sizes else (1.0, 1.0)
    rng = np.random.default_rng(seed)

    def box(image: np.ndarray, place: Callable[[], np.ndarray]) -> np.ndarray:
        rows, columns = image.shape[:2]
        y, x = place()
        top, left = (1 - height) * y * rows, (1 - width) * x * columns
        map = np.zeros((rows, columns), dtype=np.float32)
        map[round(top) : round(top + height * rows), round(left) : round(left + width * columns)] = 1
        return map

    return {
        "whole image": lambda image: np.ones(image.shape[:2], dtype=np.float32),
        "centred box": lambda image: box(image, lambda: np.array([0.5, 0.5])),
        "random box": lambda image: box(image, lambda: rng.random(2)),
    }


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two bool masks of one shape; two empty ones agree."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0


def box_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes x1 y1 x2 y2 of positive area."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    common = (high - low).clip(0).prod()
    return float(common / ((first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod() - common))
