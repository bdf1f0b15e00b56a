"""Crops of the object's box, as in Saliency Swap, but pasted nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cvsa.views.resample import Axis, resample
from cvsa.views.swap import clean_boxes, sample_box_crops
from cvsa.views.types import Views, coins, sent

if TYPE_CHECKING:
    from cvsa.data.bank import ImageBank
    from cvsa.views.maker import ViewSettings


def object_crop(
    bank: ImageBank,
    index: Tensor,
    images: Tensor,
    settings: ViewSettings,
    generator: torch.Generator,
) -> Views:
    """A random part of each reference's saliency box, resized to the view.

    Takes numbers (B,) and images (B, 4, R, R) of the references.
    """
    side, size = images.shape[-1], settings.size
    boxes = clean_boxes(bank.boxes[index.cpu()], side, side)  # geometry is drawn on the CPU
    crops = sample_box_crops(boxes, settings.scale, settings.ratio, generator)
    x1, y1, x2, y2 = sent(crops, images.device).unbind(1)  # (B,) each
    mirrored = coins(len(images), settings.flip, generator, images.device)
    y = Axis(y1, y2, side, size)
    x = Axis(x1, x2, side, size, flip=mirrored)
    views = resample(images, y, x).clamp_(0.0, 1.0)  # colours and saliency alike
    return Views(views[:, :3], views[:, 3:])
