"""What several tests of views use: seeded draws, and one crop by PIL as the oracle."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(seed: int, batch: int, side: int, channels: int = 4) -> Tensor:
    return torch.rand(batch, channels, side, side, generator=generator(seed))


def pil_crop(image: Tensor, box: list[float], size: int) -> Tensor:
    """Cut whole pixels around the box out of each channel (C, H, W), then resize the box: (C, size, size)."""
    left, top = math.floor(box[0]), math.floor(box[1])
    inner = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    frame = (left, top, math.ceil(box[2]), math.ceil(box[3]))
    planes = [
        Image.fromarray(plane.numpy()).crop(frame).resize((size, size), Image.Resampling.BILINEAR, box=inner)
        for plane in image
    ]
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]))
