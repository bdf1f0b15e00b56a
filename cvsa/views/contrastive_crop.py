"""ContrastiveCrop: random resized crops whose centres lie in the object's box, rather near its border.

Peng et al., "Crafting Better Contrastive Views for Siamese Representation Learning", CVPR 2022, following
the authors' code. ([O]: our choice.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.views.crop import sample_crops
from cvsa.views.resample import Axis, resample
from cvsa.views.swap import clean_boxes
from cvsa.views.types import Range, Views, check_images, check_size, coins, constant, sent, uniform


def symmetric_beta(
    shape: tuple[int, ...], alpha: float, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Draw Beta(alpha, alpha), alpha > 0, from two uniform numbers each.

    If T follows Student's law with 2 alpha degrees of freedom, 1/2 + T / (2 sqrt(2 alpha + T^2)) follows
    Beta(alpha, alpha) (Devroye, "Non-Uniform Random Variate Generation", 1986, IX.3), and Bailey's polar
    method (Mathematics of Computation 62, 1994) gives T^2 = 2 alpha (U^(-1/alpha) - 1) cos^2(2 pi V).
    """
    power = uniform(shape, 0.0, 1.0, generator, device).pow_(1 / alpha)
    cosine = uniform(shape, 0.0, 2 * math.pi, generator, device).cos_()
    spread = power + (1 - power) * cosine.square()
    return (0.5 + 0.5 * cosine * ((1 - power) / spread.clamp_(min=1e-12)).sqrt()).clamp_(0.0, 1.0)


def sample_object_crops(
    boxes: Tensor,
    height: int,
    width: int,
    scale: float | Range,
    ratio: Range,
    alpha: float,
    generator: torch.Generator,
) -> Tensor:
    """Draw one crop per box: size as for RandomResizedCrop, centre within the box, clipped to the image.

    Along each axis the crop's corner may lie between the two that put its centre on the edges of the box,
    each first moved so that the crop stays in the image; the share of the way is Beta(alpha, alpha). Where
    no size fits, the fallback crop is placed likewise (in the authors' code, centrally) [O].

    Args:
        boxes: (B, 4) clean boxes, in pixels.

    Returns:
        (B, 4) float boxes x1, y1, x2, y2 in pixels, within the image.
    """
    crops = sample_crops(len(boxes), height, width, scale, ratio, generator).to(boxes)
    way = symmetric_beta((len(boxes), 2), alpha, generator, boxes.device).to(boxes.dtype)
    extent = crops[:, 2:] - crops[:, :2]
    far = constant((width, height), boxes.device, boxes.dtype)
    limit = far - extent
    low = torch.minimum((boxes[:, :2] - extent / 2).clamp_(min=0), limit)
    high = torch.minimum((boxes[:, 2:] - extent / 2).clamp_(min=0), limit)
    first = low + (high - low) * way
    return torch.cat([first, torch.minimum(first + extent, far)], 1)


@torch.no_grad()
def contrastive_crop(
    images: Tensor,
    boxes: Tensor,
    *,
    size: int,
    scale: float | Range = (0.2, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
    alpha: float = 0.6,
    generator: torch.Generator,
    flip: float = 0.0,
) -> Views:
    """Crop around the object: centres in its box, and by alpha < 1 rather near the edges than in the middle.

    The paper takes the box from the network's own heat map, anew every few epochs after a warm-up of random
    resized crops; here it is the saliency box from the start [O].

    Args:
        images: (B, 4, R, R) float in [0, 1], RGB and saliency; (B, 3, R, R) makes masks of ones.
        boxes: (B, 4) x1, y1, x2, y2 in pixels of the images; empty or NaN means the whole image. The geometry
            is computed where they are.
        size: side of the views, in pixels.
        scale: area of the crop as a share of the image.
        ratio: range of the crop's width / height.
        alpha: both parameters of the Beta law of the place, above 0; 1 is uniform; 0.6 is the paper's for
            ImageNet.
        generator: source of all randomness.
        flip: probability of a horizontal flip.

    Returns:
        Views with images (B, 3, size, size) and masks (B, 1, size, size), the resampled saliency, both in
        [0, 1].

    Raises:
        CVSAError: on a wrong shape, type, size, scale, ratio or alpha.
    """
    check_images(images, "images")
    check_size(size)
    batch, channels, height, width = images.shape
    if boxes.shape != (batch, 4):
        raise CVSAError(f"boxes has shape {tuple(boxes.shape)}; {batch} images need ({batch}, 4)")
    if not 0.0 < alpha < math.inf:
        raise CVSAError(f"alpha {alpha} makes no Beta law; give a number above 0, 1 for uniform places")
    clean = clean_boxes(boxes.to(images.dtype), height, width)
    crops = sample_object_crops(clean, height, width, scale, ratio, alpha, generator)
    x1, y1, x2, y2 = sent(crops, images.device).unbind(1)
    mirrored = coins(batch, flip, generator, images.device) if flip > 0 else None
    y, x = Axis(y1, y2, height, size), Axis(x1, x2, width, size, flip=mirrored)
    out = resample(images, y, x).clamp_(0.0, 1.0)
    return Views(out[:, :3], out[:, 3:] if channels == 4 else out.new_ones(batch, 1, size, size))
