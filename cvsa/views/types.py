"""What a view generator returns, and the small helpers the view modules share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from cvsa.errors import CVSAError

Range = tuple[float, float]


@dataclass(frozen=True)
class Views:
    """One view of every reference of a batch, with its view mask.

    Attributes:
        images: (B, 3, S, S) float, RGB in [0, 1]; normalisation is the backbone's business.
        masks: (B, 1, S, S) float; where the object lies in the view: {0, 1} for rectangles, [0, 1] for
            saliency.
        boxes: (B, 4) float x1, y1, x2, y2 in view pixels, where a pasted object lies; None where nobody asks.
        labels: (B,) int64, the answer of a pretext task; None for contrastive views.
    """

    images: Tensor
    masks: Tensor
    boxes: Tensor | None = None
    labels: Tensor | None = None


@cache
def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """The values as a tensor (n,), not to be modified: made once, as making one makes a GPU wait."""
    return torch.tensor(values, device=device, dtype=dtype)


def sent(draw: Tensor, device: torch.device) -> Tensor:
    """A draw on another device; the CPU does not wait for the GPU."""
    return draw.to(device, non_blocking=True)


def uniform(
    shape: tuple[int, ...], low: float, high: float, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Draw U(low, high) on the generator's own device, then move: views do not depend on it."""
    draw = torch.rand(shape, generator=generator, device=generator.device)
    return sent(draw.mul_(high - low).add_(low), device)


def coins(count: int, probability: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """(count,) bool, each True with the given probability (never at 0, always at 1)."""
    return sent(torch.rand(count, generator=generator, device=generator.device) < probability, device)


def check_scale(scale: float | Range) -> Range:
    """Read a crop scale: a lower bound alone means (bound, 1).

    Raises:
        CVSAError: if not 0 < low <= high <= 1.
    """
    low, high = (float(scale), 1.0) if isinstance(scale, (int, float)) else (float(scale[0]), float(scale[1]))
    if not 0.0 < low <= high <= 1.0:
        raise CVSAError(
            f"scale {scale} is not a share of the area: give a number in (0, 1], or (low, high) within it"
        )
    return low, high


def check_ratio(ratio: Range) -> Range:
    """Read an aspect range (width / height).

    Raises:
        CVSAError: if not 0 < low <= high < infinity.
    """
    low, high = float(ratio[0]), float(ratio[1])
    if not 0.0 < low <= high < math.inf:
        raise CVSAError(
            f"ratio {ratio} is not an aspect range: give (low, high) with 0 < low <= high, such as (3/4, 4/3)"
        )
    return low, high


def check_images(images: Tensor, name: str, channels: tuple[int, ...] = (3, 4)) -> None:
    """Refuse what is not a batch of float images.

    Raises:
        CVSAError: on a wrong number of axes or channels, or on integer pixels.
    """
    if images.ndim != 4 or images.shape[1] not in channels:
        allowed = " or ".join(map(str, channels))
        raise CVSAError(
            f"{name} has shape {tuple(images.shape)}; views need (B, C, R, R) with {allowed} channels"
        )
    if not images.is_floating_point():
        raise CVSAError(
            f"{name} is {images.dtype}; views need float pixels in [0, 1]: divide uint8 by 255 first"
        )


def check_size(size: int) -> None:
    """Refuse an impossible view size.

    Raises:
        CVSAError: if size is below 1 pixel.
    """
    if size < 1:
        raise CVSAError(f"view size {size} is not possible; give at least 1 pixel")
