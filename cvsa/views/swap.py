"""Saliency Swap: the object's region of one image, pasted over the object of another.

The paper's view generator: crop inside the box of the salient object, another image's object box as the
destination, a hard-edged rectangle, and the paste is the mask [A]. ([A]: by the authors, [O]: our choice.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.views.resample import Axis, mirror, rectangle, resample
from cvsa.views.types import (
    Range,
    Views,
    check_images,
    check_ratio,
    check_scale,
    check_size,
    coins,
    constant,
    sent,
    uniform,
)

MASKS = ("rectangle", "saliency")
AREAS = ("box", "image")
"""What the area of the crop is a share of: the saliency box, or the whole image."""


def clean_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Clip boxes to the image; an empty, outlying or undefined (NaN) box becomes the whole image.

    Args:
        boxes: (B, 4) x1, y1, x2, y2 in pixels, x2 and y2 exclusive.
        height, width: size of the image, in pixels.

    Returns:
        (B, 4) float boxes with 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height.
    """
    whole = constant((0.0, 0.0, width, height), boxes.device, boxes.dtype)
    limit = constant((width, height, width, height), boxes.device, boxes.dtype)
    clipped = torch.minimum(boxes.clamp(min=0), limit)
    good = (clipped[:, 2:] > clipped[:, :2]).all(1, keepdim=True)  # False for NaN too
    return torch.where(good, clipped, whole)


def sample_box_crops(
    boxes: Tensor,
    scale: float | Range,
    ratio: Range,
    generator: torch.Generator,
    whole: float | None = None,
) -> Tensor:
    """Draw one crop inside each box, RandomResizedCrop-style.

    With a box of width W and height H, a ~ U(scale, 1) is the crop's share of the box's area and r
    multiplies the box's own aspect: w = W sqrt(a r), h = H sqrt(a / r). r is log-uniform in ``ratio``, cut
    to [a, 1/a], where the crop fits. The position is uniform. The paper shows the range of a [A]; that it
    refers to the box, and r, are ours [O].

    With ``whole`` the share is one of the image instead, and a = min(1, U(scale, 1) whole / (W H)): the crop
    stays within the box, so a share that the box does not have takes all of it [O].

    Args:
        boxes: (B, 4) clean boxes, in pixels.
        scale: lower bound of the share, or (low, high).
        ratio: range of r.
        generator: source of all randomness, drawn alike for both readings.
        whole: area of the image, in square pixels.

    Returns:
        (B, 4) float boxes x1, y1, x2, y2, each within its box.
    """
    (scale_low, scale_high), (ratio_low, ratio_high) = check_scale(scale), check_ratio(ratio)
    count, device = len(boxes), boxes.device
    area = uniform((count,), scale_low, scale_high, generator, device)
    draw = uniform((count,), 0.0, 1.0, generator, device)
    place = uniform((count, 2), 0.0, 1.0, generator, device)

    if whole is not None:
        area = (area * (whole / (boxes[:, 2:] - boxes[:, :2]).prod(1))).clamp_(max=1.0)
    bound = -area.log()  # |log r| <= -log a
    low = torch.full_like(area, ratio_low).log_().clamp_(max=bound).clamp_(min=-bound)
    high = torch.full_like(area, ratio_high).log_().clamp_(max=bound).clamp_(min=-bound)
    aspect = (low + draw * (high - low)).exp()
    share = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], 1).clamp_(max=1.0)  # of W and of H
    corner, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    first = corner + place * (1.0 - share) * extent
    return torch.cat([first, torch.minimum(first + share * extent, boxes[:, 2:])], 1)


def destinations(boxes: Tensor, height: int, width: int, size: int) -> Tensor:
    """Where the patch goes: the background's saliency box in view pixels, rounded outward to whole pixels.

    Args:
        boxes: (B, 4) clean boxes of the background, in its pixels.

    Returns:
        (B, 4) float boxes holding whole view pixels, at least one pixel wide and high.
    """
    scaled = boxes * size / constant((width, height, width, height), boxes.device, boxes.dtype)
    first = scaled[:, :2].floor().clamp_(0, size - 1)
    last = scaled[:, 2:].ceil().clamp_(max=size)
    return torch.cat([first, torch.maximum(last, first + 1)], 1)


def _span(start: Tensor, stop: Tensor, size: int) -> Tensor:
    """(B, size) float, 1 for the pixels whose centres lie in [start, stop)."""
    centre = torch.arange(size, device=start.device, dtype=start.dtype) + 0.5
    return ((centre >= start[:, None]) & (centre < stop[:, None])).to(start.dtype)


def _resized_background(images: Tensor, boxes: Tensor, size: int, flip: Tensor | None) -> Tensor:
    """The background at view size with its object left out, so that no object pixel bleeds past the patch.

    A resize mixes neighbours, so beside the destination it would show a halo of the object that was
    replaced. Pixels of the object's box therefore carry no weight, and what remains is renormalised:
    out = resize(X outside) / resize(outside).
    """
    height, width = images.shape[-2:]
    zero = boxes.new_zeros(len(boxes))
    inside_y, inside_x = _span(boxes[:, 1], boxes[:, 3], height), _span(boxes[:, 0], boxes[:, 2], width)
    outside = 1 - inside_y[:, None, :, None] * inside_x[:, None, None, :]  # (B, 1, H, W)
    out = resample(
        torch.cat([images * outside, outside], 1),
        Axis(zero, zero + height, height, size),
        Axis(zero, zero + width, width, size, flip=flip),
    )
    return out[:, :-1] / out[:, -1:].clamp(min=1e-4)


@torch.no_grad()
def saliency_swap(
    reference: Tensor,
    reference_boxes: Tensor,
    background: Tensor,
    background_boxes: Tensor,
    *,
    size: int,
    scale: float | Range = 0.5,
    ratio: Range = (3 / 4, 4 / 3),
    generator: torch.Generator,
    mask: str = "rectangle",
    flip: float = 0.0,
    area: str = "box",
) -> Views:
    """Replace the background's object by a crop of the reference's object.

    1. Crop inside the reference's saliency box (:func:`sample_box_crops`). [A]
    2. Resize the crop, aspect not kept, to fill exactly the background's saliency box, a hard-edged
       rectangle [A], rounded outward to whole view pixels so that none of the replaced object shows [O].
    3. The rest is the background resized to the view [A]; the mask is where the patch lies [A].

    Crop and resize are one resampling straight into the view. Where no resize is needed the background is
    untouched.

    Args:
        reference: (B, 4, R, R) float in [0, 1], RGB and saliency; 3 channels suffice for rectangles.
        reference_boxes: (B, 4) x1, y1, x2, y2 in pixels of the reference; empty or NaN means the whole image.
        background: (B, 3 or 4, R', R') float in [0, 1].
        background_boxes: (B, 4) in pixels of the background, likewise.
        size: side of the views, in pixels.
        scale: lower bound (or range) of the crop's area, as a share of the reference's box; the paper's
            best is 0.4 to 0.5 [A].
        ratio: range of the factor on the box's own aspect [O].
        generator: source of all randomness; with boxes where it is, a GPU gets finished numbers.
        mask: "rectangle" (1 where the patch lies [A]) or "saliency" (the reference's saliency inside it [O]).
        flip: probability of mirroring the composite with its mask.
        area: what scale is a share of, "box" or "image" [O], see :func:`sample_box_crops`.

    Returns:
        Views with images (B, 3, size, size) in [0, 1] and masks (B, 1, size, size).

    Raises:
        CVSAError: on a wrong shape, type, size, scale, ratio, mask or area.
    """
    for what, name, allowed in (("view mask", mask, MASKS), ("area", area, AREAS)):
        if name not in allowed:
            raise CVSAError(f"{what} {name!r} is unknown; choose one of {', '.join(allowed)}")
    check_images(reference, "reference", (4,) if mask == "saliency" else (3, 4))
    check_images(background, "background")
    check_size(size)
    for name, boxes in (("reference_boxes", reference_boxes), ("background_boxes", background_boxes)):
        if boxes.shape != (len(reference), 4):
            raise CVSAError(
                f"{name} has shape {tuple(boxes.shape)}; {len(reference)} images need ({len(reference)}, 4)"
            )
    if len(background) != len(reference):
        raise CVSAError(f"{len(reference)} references need as many backgrounds, got {len(background)}")

    dtype, device = reference.dtype, reference.device
    height, width = reference.shape[-2:]
    own_boxes = clean_boxes(reference_boxes.to(dtype), height, width)
    whole = float(height * width) if area == "image" else None
    crops = sample_box_crops(own_boxes, scale, ratio, generator, whole)
    coin = coins(len(reference), flip, generator, device)
    mirrored = coin if flip > 0 else None
    rows, columns = background.shape[-2:]
    target_boxes = clean_boxes(background_boxes.to(dtype), rows, columns)
    target = destinations(target_boxes, rows, columns, size)
    # One small copy where the images are elsewhere.
    crops, target_boxes, target = sent(torch.cat([crops, target_boxes, target], 1), device).split(4, 1)

    y = Axis(crops[:, 1], crops[:, 3], height, size, target[:, 1], target[:, 3])
    x = Axis(crops[:, 0], crops[:, 2], width, size, target[:, 0], target[:, 2], mirrored)

    scene = background[:, :3]
    if (rows, columns) != (size, size):
        scene = _resized_background(scene, target_boxes, size, mirrored)
    else:
        scene = scene.clone() if mirrored is None else mirror(scene, mirrored)
    images = resample(reference[:, :3], y, x, canvas=scene).clamp_(0.0, 1.0)
    masks = resample(reference[:, 3:], y, x).clamp_(0.0, 1.0) if mask == "saliency" else rectangle(y, x)
    return Views(images, masks)
