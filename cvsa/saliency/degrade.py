"""True masks made worse in known ways, to measure what errors of saliency do to training. [O]

A degradation takes the mask (H, W) of an image, bool or uint8 meaning value / 255, and the number of the
image, and gives a mask (H, W) uint8, 0 or 255 ("exact" gives back what it was given). The number seeds what
is random: an image has the same degraded mask in every bank. An empty mask stays empty.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from cvsa.errors import CVSAError
from cvsa.saliency.boxes import binary, maps_to_boxes
from cvsa.saliency.detectors import nearest

Degradation = Callable[[np.ndarray, int], np.ndarray]


def exact(mask: np.ndarray, number: int = 0) -> np.ndarray:
    """The mask as it is."""
    return mask


def dilated(share: float) -> Degradation:
    """Grow the object evenly on all sides until its area is (1 + share) times what it was.

    Args:
        share: above -1; negative values shrink it.
    """
    if not -1 < share < np.inf:
        raise CVSAError(f"dilated takes a share above -1, got {share}.")
    return partial(_dilated, share=share)


def _dilated(mask: np.ndarray, number: int = 0, *, share: float) -> np.ndarray:
    from scipy import ndimage

    truth = binary(mask)
    if not truth.any():
        return _image(truth)
    # Distance to the object outside of it, minus the distance to the background inside: (H, W).
    outside = ndimage.distance_transform_edt(~truth)
    inside = ndimage.distance_transform_edt(truth) if not truth.all() else np.zeros(truth.shape)
    count = min(max(1, round((1 + share) * truth.sum())), truth.size)
    nearest_first = np.argsort((outside - inside).ravel(), kind="stable")
    grown = np.zeros(truth.size, dtype=bool)
    grown[nearest_first[:count]] = True
    return _image(grown.reshape(truth.shape))


def shifted(share: float, seed: int = 0) -> Degradation:
    """Move the object in a random direction; what leaves the image is lost.

    The direction is mirrored, along an axis, where the other side has more room: few objects are cut.

    Args:
        share: of the geometric mean of the sides of its box, not negative.
        seed: of the directions.
    """
    if not 0 <= share < np.inf:
        raise CVSAError(f"shifted takes a share that is not negative, got {share}.")
    return partial(_shifted, share=share, seed=seed)


def _shifted(mask: np.ndarray, number: int = 0, *, share: float, seed: int) -> np.ndarray:
    truth = binary(mask)
    if not truth.any():
        return _image(truth)
    rows, columns = np.nonzero(truth)
    low, high = np.array([rows.min(), columns.min()]), np.array([rows.max(), columns.max()]) + 1
    angle = 2 * np.pi * np.random.default_rng([seed, number]).random()
    step = share * np.sqrt((high - low).prod()) * np.array([np.sin(angle), np.cos(angle)])
    before, after = low, np.array(truth.shape) - high  # room on both sides
    room, other = np.where(step < 0, before, after), np.where(step < 0, after, before)
    step = np.round(np.where((abs(step) > room) & (other > room), -step, step)).astype(int)
    moved = np.zeros_like(truth)
    rows, columns = rows + step[0], columns + step[1]
    kept = (rows >= 0) & (rows < truth.shape[0]) & (columns >= 0) & (columns < truth.shape[1])
    moved[rows[kept], columns[kept]] = True
    return _image(moved)


def box(mask: np.ndarray, number: int = 0) -> np.ndarray:
    """The box of the object's largest component, filled."""
    return _placed(mask, lambda room: None)


def random_box(seed: int = 0) -> Degradation:
    """A box of the size of the object's, anywhere in the image: right in size, wrong in place.

    Args:
        seed: of the places.
    """
    return partial(_random_box, seed=seed)


def _random_box(mask: np.ndarray, number: int = 0, *, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, number])
    return _placed(mask, lambda room: rng.integers(0, room + 1))


def _placed(mask: np.ndarray, place: Callable[[np.ndarray], np.ndarray | None]) -> np.ndarray:
    truth = binary(mask)
    boxes, found = maps_to_boxes(truth[None])
    filled = np.zeros_like(truth)
    if found[0]:
        left, top, right, bottom = boxes[0].int().tolist()
        size = np.array([bottom - top, right - left])
        corner = place(np.array(truth.shape) - size)
        y, x = (top, left) if corner is None else corner
        filled[y : y + size[0], x : x + size[1]] = True
    return _image(filled)


def _image(binary: np.ndarray) -> np.ndarray:
    return binary.astype(np.uint8) * np.uint8(255)


def find_degradation(text: str, seed: int = 0) -> Degradation:
    """The degradation that a text names.

    Args:
        text: "exact", "box", "random_box", "dilated:SHARE" or "shifted:SHARE", for instance "dilated:0.5".
        seed: of what is random.

    Raises:
        CVSAError: none of these.
    """
    name, _, share = text.partition(":")
    makers: dict[str, Callable[[], Degradation]] = {
        "exact": lambda: exact,
        "box": lambda: box,
        "random_box": lambda: random_box(seed),
        "dilated": lambda: dilated(float(share)),
        "shifted": lambda: shifted(float(share), seed),
    }
    make = nearest(name, makers, "degradation")
    if bool(share) != (name in ("dilated", "shifted")):
        raise CVSAError(
            f"Degradation {text!r}: dilated and shifted need a share, as in 'dilated:0.5'; no other."
        )
    try:
        return make()
    except ValueError:
        raise CVSAError(f"Degradation {text!r}: the share must be a number, as in 'dilated:0.5'.") from None
