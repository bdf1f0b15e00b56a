"""Rel-Loc's views: the centre patch of a 3 x 3 grid and one of its eight neighbours.

Doersch et al., "Unsupervised Visual Representation Learning by Context Prediction", ICCV 2015: patches of 96
pixels, half a patch apart, each moved by up to 7 pixels, so that neither continued lines nor an exact grid
give the answer away. ([O]: our choice.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.views.photometric import to_greyscale
from cvsa.views.resample import Axis, resample
from cvsa.views.types import Views, check_images, check_size, coins, constant, sent, uniform

NEIGHBOURS = 8
SMALLEST = 4  # pixels a patch needs to show anything


def patch_side(height: int, width: int, gap: float, jitter: float) -> float:
    """Side p of the patches in pixels: the largest grid that fits, 3 p + 2 gap p + 2 jitter p = side. [O]"""
    return min(height, width) / (3 + 2 * gap + 2 * jitter)


def sample_patches(
    count: int,
    height: int,
    width: int,
    gap: float,
    jitter: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a neighbour for each image, and jitter both patches.

    Returns:
        (count, 4) float boxes of the centre patch and (count, 4) of the neighbour, x1, y1, x2, y2 in pixels
        within the image, and (count,) int64 labels 0 to 7: the neighbour's place, row by row from the top
        left, the centre not counted. All on the generator's device.
    """
    device = generator.device
    side = patch_side(height, width, gap, jitter)
    labels = torch.randint(NEIGHBOURS, (count,), generator=generator, device=device)
    shift = uniform((2, count, 2), -jitter * side, jitter * side, generator, device)
    cell = labels + (labels >= 4)  # 0 to 8, 4 is the centre
    step = torch.stack([cell % 3 - 1, cell // 3 - 1], 1)  # (B, 2): right, down
    limit = constant((width - side, height - side), device)
    centre = limit / 2 + shift[0]
    neighbour = limit / 2 + step * ((1 + gap) * side) + shift[1]
    # The outermost patch touches the border: rounding must not carry it across.
    first = torch.minimum(torch.stack([centre, neighbour]).clamp_(min=0), limit)
    boxes = torch.cat([first, first + side], 2)
    return boxes[0], boxes[1], labels


@torch.no_grad()
def neighbouring_patches(
    images: Tensor,
    *,
    size: int,
    gap: float = 48 / 96,
    jitter: float = 7 / 96,
    grey: float = 0.66,
    generator: torch.Generator,
) -> tuple[Views, Views]:
    """Cut the centre patch and a random neighbour out of each image, each resized to the view size.

    A lens bends colours differently, more so towards the corners of a photograph, so that the shift between
    the colour channels of two patches tells where they lie. Doersch et al. keep one channel of each patch
    and replace the others by noise. Here a share of the images loses its colour altogether, both patches
    alike, as in the public re-implementations for ResNet-50 (Kolesnikov et al., "Revisiting Self-Supervised
    Visual Representation Learning", CVPR 2019, and the code base that followed): the other images teach
    colour, which fine-grained classes need. Drawn images have no such aberration, photographs have.

    Args:
        images: (B, 3 or 4, R, R) float in [0, 1].
        size: side of the views, in pixels.
        gap: distance between neighbouring patches, as a share of their side; at least twice the jitter, so
            that two patches never touch.
        jitter: largest displacement of a patch along each axis, as a share of its side, at least 0.
        grey: probability that an image is made grey.
        generator: source of all randomness.

    Returns:
        The Views of the centre patches and those of their neighbours: images (B, 3, size, size) in [0, 1],
        masks (B, 1, size, size) of ones, and on both the same labels (B,), see :func:`sample_patches`.

    Raises:
        CVSAError: on a wrong shape, type, size, gap, jitter or probability, or images too small for a grid.
    """
    check_images(images, "images")
    check_size(size)
    if not 0.0 <= jitter <= gap / 2 < math.inf:
        raise CVSAError(
            f"gap {gap} and jitter {jitter} let patches touch; give shares of a patch, 0 <= 2 jitter <= gap"
        )
    if not 0.0 <= grey <= 1.0:
        raise CVSAError(f"grey {grey} is not a probability; give a number in [0, 1]")
    batch, _, height, width = images.shape
    side = patch_side(height, width, gap, jitter)
    if side < SMALLEST:
        raise CVSAError(
            f"images of {width} x {height} pixels leave {side:.1f} pixels for each patch of a 3 x 3 grid;"
            f" give images of at least {math.ceil(SMALLEST * min(height, width) / side)} pixels"
        )

    drawn = sample_patches(batch, height, width, gap, jitter, generator)
    *boxes, labels = (sent(each, images.device) for each in drawn)
    rows = sent(coins(batch, grey, generator, generator.device).nonzero()[:, 0], images.device)
    colours = images[:, :3]
    if len(rows):
        colours = colours.clone()  # the caller's stays as it is
        colours[rows] = to_greyscale(colours[rows])
    ones = images.new_ones(batch, 1, size, size)
    first, second = (
        Views(resample(colours, y, x).clamp_(0.0, 1.0), ones, labels=labels)
        for y, x in (_axes(box.to(images.dtype), height, width, size) for box in boxes)
    )
    return first, second


def _axes(boxes: Tensor, height: int, width: int, size: int) -> tuple[Axis, Axis]:
    x1, y1, x2, y2 = boxes.unbind(1)
    return Axis(y1, y2, height, size), Axis(x1, x2, width, size)
