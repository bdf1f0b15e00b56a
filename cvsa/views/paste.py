"""InsLoc's composites: a crop of one image, pasted at a random place and size onto another image.

Yang et al., "Instance Localization for Self-supervised Detection Pretraining", CVPR 2021, with the settings
of the authors' code. ([O]: our choice.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.views.crop import sample_crops
from cvsa.views.resample import Axis, mirror, rectangle, resample
from cvsa.views.types import Range, Views, check_images, check_size, coins, sent, uniform


def sample_places(crops: Tensor, size: int, paste_size: Range, generator: torch.Generator) -> Tensor:
    """Draw where each crop is pasted: first its size, then its place.

    Two lengths are drawn, each U(paste_size) of the view's side; the crop, its aspect kept, is resized to
    the largest that has its longer side within the longer and its shorter side within the shorter of them,
    and rounded to whole pixels (what the authors' code does; so an elongated patch may be narrower than the
    lower bound). The place is uniform over the whole pixels where the patch fits.

    Args:
        crops: (B, 4) float, in pixels of the reference.
        size: side of the views, in pixels.
        paste_size: range of the lengths, as shares of the view's side, within (0, 1].

    Returns:
        (B, 4) float boxes x1, y1, x2, y2 holding whole view pixels, at least one pixel wide and high.
    """
    bounds = uniform((len(crops), 2), *paste_size, generator, crops.device).mul_(size)
    place = uniform((len(crops), 2), 0.0, 1.0, generator, crops.device)
    extent = crops[:, 2:] - crops[:, :2]
    factor = torch.minimum(bounds.amax(1) / extent.amax(1), bounds.amin(1) / extent.amin(1))
    sides = (extent * factor[:, None]).round_().clamp_(1, size)
    first = (place * (size - sides + 1)).floor_().minimum(size - sides)
    return torch.cat([first, first + sides], 1)


@torch.no_grad()
def random_paste(
    reference: Tensor,
    background: Tensor,
    *,
    size: int,
    crop_scale: float | Range = (0.2, 1.0),
    ratio: Range = (1 / 2, 2.0),
    paste_size: Range = (128 / 256, 255 / 256),
    generator: torch.Generator,
    flip: float = 0.0,
) -> Views:
    """Paste a random crop of the reference onto the whole background, at a random place and size.

    The crop goes straight from the reference into the view in one resampling, its aspect kept but for the
    rounding to whole pixels (:func:`sample_places`). The background is resized to the view, whole. The
    saliency plays no part. Defaults are those of the authors' code (patches of 128 to 255 pixels in 256).

    Args:
        reference: (B, 3 or 4, R, R) float in [0, 1].
        background: (B, 3 or 4, R', R') float in [0, 1].
        size: side of the views, in pixels.
        crop_scale: area of the crop as a share of the reference.
        ratio: range of the crop's width / height.
        paste_size: range of the patch's sides, as shares of the view's side, within (0, 1].
        generator: source of all randomness.
        flip: probability of mirroring the composite with its box.

    Returns:
        Views with images (B, 3, size, size) in [0, 1], masks (B, 1, size, size), 1 where the patch lies, and
        boxes (B, 4), its x1, y1, x2, y2 in view pixels.

    Raises:
        CVSAError: on a wrong shape, type, size, scale, ratio or paste_size.
    """
    check_images(reference, "reference")
    check_images(background, "background")
    check_size(size)
    low, high = float(paste_size[0]), float(paste_size[1])
    if not 0.0 < low <= high <= 1.0:
        raise CVSAError(
            f"paste_size {paste_size} is not a share of the view's side: give (low, high) within (0, 1]"
        )
    if len(background) != len(reference):
        raise CVSAError(f"{len(reference)} references need as many backgrounds, got {len(background)}")

    batch, _, height, width = reference.shape
    dtype, device = reference.dtype, reference.device
    crops = sample_crops(batch, height, width, crop_scale, ratio, generator).to(dtype)
    place = sent(sample_places(crops, size, (low, high), generator), device)
    crops = sent(crops, device)
    mirrored = coins(batch, flip, generator, device) if flip > 0 else None

    y = Axis(crops[:, 1], crops[:, 3], height, size, place[:, 1], place[:, 3])
    x = Axis(crops[:, 0], crops[:, 2], width, size, place[:, 0], place[:, 2], mirrored)
    scene = _view_of(background[:, :3], size, mirrored)
    images = resample(reference[:, :3], y, x, scene).clamp_(0.0, 1.0)
    if mirrored is not None:
        x1, y1, x2, y2 = place.unbind(1)
        place = torch.where(mirrored[:, None], torch.stack([size - x2, y1, size - x1, y2], 1), place)
    return Views(images, rectangle(y, x), boxes=place)


def _view_of(images: Tensor, size: int, flip: Tensor | None) -> Tensor:
    """A copy of whole images at view size, mirrored where flip; resampled only where a resize is needed."""
    rows, columns = images.shape[-2:]
    if (rows, columns) == (size, size):
        return images.clone() if flip is None else mirror(images, flip)
    zero = images.new_zeros(len(images))
    y = Axis(zero, zero + rows, rows, size)
    return resample(images, y, Axis(zero, zero + columns, columns, size, flip=flip))
