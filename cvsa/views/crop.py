"""RandomResizedCrop in batches: every sample its own crop, image and saliency map resampled together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cvsa.views.resample import Axis, resample
from cvsa.views.types import (
    Range,
    Views,
    check_images,
    check_ratio,
    check_scale,
    check_size,
    coins,
    sent,
    uniform,
)

TRIES = 10  # torchvision's number of draws before it falls back to a central crop


def sample_crops(
    count: int,
    height: int,
    width: int,
    scale: float | Range,
    ratio: Range,
    generator: torch.Generator,
) -> Tensor:
    """Draw crops by the law of torchvision's RandomResizedCrop.

    Area uniform in ``scale`` (share of the image), aspect log-uniform in ``ratio``, the first of ten draws
    that fits, else the largest central crop within ``ratio``; position uniform. Crops are not rounded to
    whole pixels: the resampling reads fractions. [O]

    Returns:
        (count, 4) float boxes x1, y1, x2, y2 in pixels, within the image, on the generator's device.
    """
    device = generator.device
    (scale_low, scale_high), (ratio_low, ratio_high) = check_scale(scale), check_ratio(ratio)
    area = uniform((count, TRIES), scale_low, scale_high, generator, device) * (height * width)
    aspect = uniform((count, TRIES), math.log(ratio_low), math.log(ratio_high), generator, device).exp_()
    place = uniform((count, 2), 0.0, 1.0, generator, device)

    w, h = (area * aspect).sqrt_(), (area / aspect).sqrt_()  # (B, tries)
    fits = (w <= width) & (h <= height)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)  # the first that fits; 0 where none does
    w, h = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0]
    fallback_w, fallback_h = min(width, height * ratio_high), min(height, width / ratio_low)
    any_fits = fits.any(1)
    w = torch.where(any_fits, w, fallback_w)
    h = torch.where(any_fits, h, fallback_h)
    place = torch.where(any_fits[:, None], place, 0.5)
    x1, y1 = place[:, 0] * (width - w), place[:, 1] * (height - h)
    return torch.stack([x1, y1, (x1 + w).clamp(max=width), (y1 + h).clamp(max=height)], 1)


@torch.no_grad()
def random_resized_crop(
    images: Tensor,
    *,
    size: int,
    scale: float | Range = (0.08, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
    generator: torch.Generator,
    flip: float = 0.0,
) -> Views:
    """Crop, resize and optionally mirror each image with its saliency map, in one resampling.

    Args:
        images: (B, 4, R, R) float in [0, 1], RGB and saliency; (B, 3, R, R) makes masks of ones.
        size: side of the views, in pixels.
        scale: area of the crop as a share of the image, (low, high) or the lower bound alone.
        ratio: range of the crop's width / height.
        generator: source of all randomness.
        flip: probability of a horizontal flip.

    Returns:
        Views with images (B, 3, size, size) and masks (B, 1, size, size), the resampled saliency, both in
        [0, 1].

    Raises:
        CVSAError: on a wrong shape, type, size, scale or ratio.
    """
    check_images(images, "images")
    check_size(size)
    batch, channels, height, width = images.shape
    boxes = sent(sample_crops(batch, height, width, scale, ratio, generator), images.device).to(images.dtype)
    mirrored = coins(batch, flip, generator, images.device) if flip > 0 else None
    x1, y1, x2, y2 = boxes.unbind(1)
    y, x = Axis(y1, y2, height, size), Axis(x1, x2, width, size, flip=mirrored)
    out = resample(images, y, x).clamp_(0.0, 1.0)
    masks = out[:, 3:] if channels == 4 else out.new_ones(1, 1, 1, 1).expand(batch, 1, size, size)
    return Views(out[:, :3], masks)


def recrop(views: Views, share: float, ratio: Range, generator: torch.Generator) -> Views:
    """A random resized crop of finished views, image and mask as one.

    Args:
        views: images (B, 3, S, S) and masks (B, 1, S, S).
        share: least area of the crop as a share of the view, in (0, 1].
        ratio: range of the crop's width / height.
        generator: source of all randomness.

    Returns:
        Views of the same size. A rectangle's mask is in [0, 1] now: a pixel on its edge is partly foreground.

    Raises:
        CVSAError: on an impossible share or ratio.
    """
    both = torch.cat([views.images, views.masks], 1)  # (B, 4, S, S)
    return random_resized_crop(
        both, size=both.shape[-1], scale=(share, 1.0), ratio=ratio, generator=generator
    )
