"""Detection-style transfer: the object's box, by linear regression from the frozen last map.

A map that knows where the object is lets a linear readout say so; what the features contribute is how much
better it does than the training set's mean box. Our choice, as the cheapest test of its kind [O].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.evaluation.linear import STRENGTHS, Pair, check, ridge

HITS = {"over_50": 0.5, "over_75": 0.75}  # intersections over union that count as found


@dataclass(frozen=True)
class BoxRegression:
    """A linear map from the flattened last map to a box.

    Attributes:
        weight: (4, D h w) and
        bias: (4,) give centre x, centre y, width and height as shares of the image's side.
        mean_box: of the training images, x1 y1 x2 y2; the reference.
        strength: the L2 strength that was chosen.
    """

    weight: Tensor
    bias: Tensor
    mean_box: Tensor
    strength: float

    def predict(self, maps: Tensor) -> Tensor:
        """Maps (N, D, h, w) -> boxes (N, 4), x1 y1 x2 y2 in [0, 1], inside the image."""
        return to_corners(maps.flatten(1) @ self.weight.T + self.bias)


def fit_boxes(train: Pair, val: Pair, strengths: tuple[float, ...] = STRENGTHS) -> BoxRegression:
    """Ridge regression (the probe's solver); the validation split's mean IoU chooses the strength.

    Args:
        train, val: maps (N, D, h, w) and boxes (N, 4), x1 y1 x2 y2 as shares of the image's side.
        strengths: L2 strengths tried, see ``cvsa.evaluation.linear.ridge``; the largest of equals is taken.

    Raises:
        CVSAError: maps that are not finite; a box outside the image or without area; no images.
    """
    for pair, name in ((train, "training"), (val, "validation")):
        _check_boxes(pair, name)
    targets = to_centres(train[1])
    strengths = tuple(sorted(strengths, reverse=True))
    mean_box = to_corners(targets.mean(0, keepdim=True))[0]
    models = [
        BoxRegression(weight, bias, mean_box, strength)
        for (weight, bias), strength in zip(
            ridge(train[0].flatten(1), targets, strengths), strengths, strict=True
        )
    ]
    return max(models, key=lambda model: float(overlaps(model.predict(val[0]), val[1]).mean()))


def regress_boxes(
    train: Pair, val: Pair, test: Pair, strengths: tuple[float, ...] = STRENGTHS
) -> dict[str, float]:
    """Fit on the training images, choose on the validation images, measure on the test images.

    Args:
        train, val, test: maps (N, D, h, w) and boxes (N, 4), see ``fit_boxes``.
        strengths: L2 strengths tried.

    Returns:
        "iou", mean intersection over union, "over_50" and "over_75", the shares of at least 0.5 and 0.75;
        "mean_box_iou" and so on, the same of the training set's mean box. All in [0, 1].

    Raises:
        CVSAError: see ``fit_boxes``.
    """
    _check_boxes(test, "test")
    model = fit_boxes(train, val, strengths)
    found = overlaps(model.predict(test[0]), test[1])
    guessed = overlaps(model.mean_box.expand(len(found), 4), test[1])
    return _measured(found) | {f"mean_box_{name}": value for name, value in _measured(guessed).items()}


def _measured(each: Tensor) -> dict[str, float]:
    """Overlaps (N,) -> their mean and the shares of HITS."""
    shares = {name: float((each >= least).double().mean()) for name, least in HITS.items()}
    return {"iou": float(each.double().mean()), **shares}


def to_centres(boxes: Tensor) -> Tensor:
    """Boxes (N, 4) from x1 y1 x2 y2 to centre x, centre y, width, height."""
    first, last = boxes[:, :2], boxes[:, 2:]
    return torch.cat([(first + last) / 2, last - first], dim=1)


def to_corners(boxes: Tensor) -> Tensor:
    """The reverse, cut to the image [0, 1]; a negative width or height counts as none."""
    centre, half = boxes[:, :2], boxes[:, 2:].clamp_min(0) / 2
    return torch.cat([centre - half, centre + half], dim=1).clamp(0, 1)


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes (N, 4) with boxes (N, 4), pairwise by row, (N,) in [0, 1]."""
    sides = (torch.minimum(one[:, 2:], other[:, 2:]) - torch.maximum(one[:, :2], other[:, :2])).clamp_min(0)
    shared = sides.prod(1)
    whole = (one[:, 2:] - one[:, :2]).prod(1) + (other[:, 2:] - other[:, :2]).prod(1) - shared
    return shared / whole.clamp_min(torch.finfo(whole.dtype).tiny)


def _check_boxes(pair: Pair, what: str) -> None:
    maps, boxes = pair
    check(maps, boxes, what)
    fine = (boxes[:, :2] < boxes[:, 2:]).all(1) & (boxes >= 0).all(1) & (boxes <= 1).all(1)
    if not fine.all():
        raise CVSAError(
            f"{int((~fine).sum())} of {len(boxes)} boxes of {what} images have no area or leave the image; "
            "give x1 y1 x2 y2 as shares of the image's side, in [0, 1], x1 < x2 and y1 < y2."
        )
