"""The fast path of making views: where it serves, and how tensors reach the compiled loops.

On a CPU, views made of torch operations cost more than their arithmetic: each operation passes over fresh
memory. There, :mod:`cvsa.views.compiled` takes over. On a GPU, for other number types, and where numba is
missing, the torch operations remain; both give the same pixels within rounding.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from cvsa.views.photometric import Changes
    from cvsa.views.resample import Axis


def serve(tensor: Tensor) -> bool:
    """Whether the compiled loops work on such images or bounds; the one place where the path is chosen."""
    fitting = tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.numel() > 0
    return fitting and available()


@cache
def available() -> bool:
    """Whether numba can be imported here, beside this numpy."""
    try:
        from cvsa.views import compiled  # noqa: F401
    except ImportError:
        return False
    return True


def resample(images: Tensor, y: Axis, x: Axis, canvas: Tensor) -> Tensor:
    """Paint the resized images (B, C, H, W) into the output intervals of a contiguous canvas."""
    from cvsa.views import compiled

    _same_shape("canvas", canvas, (*images.shape[:2], y.size_out, x.size_out))
    axes, flips = zip(*(_arrays(axis, len(images)) for axis in (y, x)), strict=True)
    compiled.resample(*_run(images), *axes, *flips, canvas.numpy())
    return canvas


def rectangle(y: Axis, x: Axis) -> Tensor:
    """(B, 1, S_y, S_x), 1 in the output intervals and 0 outside."""
    from cvsa.views import compiled

    out = y.start.new_zeros(len(y.start), 1, y.size_out, x.size_out)
    axes, flips = zip(*(_arrays(axis, len(out)) for axis in (y, x)), strict=True)
    compiled.rectangle(*axes, *flips, out.numpy())
    return out


def mirror(images: Tensor, flip: Tensor) -> Tensor:
    """A contiguous copy of images (B, C, H, W), mirrored where flip (B,)."""
    from cvsa.views import compiled

    _same_shape("flip", flip, (len(images),))
    out = images.new_empty(images.shape)
    compiled.mirror(*_run(images), np.ascontiguousarray(flip.numpy(force=True)), out.numpy())
    return out


def photometric(
    images: Tensor, changes: Changes, sigma: Tensor, blurred: Tensor, radius: int, reuse: bool
) -> Tensor:
    """Images (B, 3, H, W) with the changes, contiguous, in their own memory or new; sigma (B,) in pixels."""
    from cvsa.views import compiled_photometric

    _same_shape("images", images, (len(sigma), 3, *images.shape[2:]))
    out = images if reuse and images.is_contiguous() else images.new_empty(images.shape)
    drawn = (
        changes.jittered, changes.factors, changes.order, changes.grey, blurred, sigma, changes.solarised
    )  # fmt: skip
    arrays = (np.ascontiguousarray(tensor.numpy(force=True)) for tensor in drawn)
    compiled_photometric.photometric(*_run(images), *arrays, radius, out.numpy())
    return out


def _same_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """The compiled loops do not look whether they leave an array."""
    if tensor.shape != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")


def _run(images: Tensor) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
    """The run of memory that holds the images, with their shape and strides, each channel contiguous.

    Channels taken out of a batch, or one image repeated, are read where they lie.
    """
    if images.stride()[2:] != (images.shape[3], 1):
        images = images.contiguous()
    length = 1 + sum((size - 1) * step for size, step in zip(images.shape, images.stride(), strict=True))
    run = images.detach().as_strided((length,), (1,))
    return run.numpy(), tuple(images.shape), images.stride()


def _arrays(axis: Axis, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """The axis as (4, B) float32, start, stop, out_start and out_stop, and (B,) bool, flip."""
    bounds, flip = np.zeros((4, batch), np.float32), np.zeros(batch, np.bool_)
    bounds[3] = axis.size_out
    for row, bound in zip(bounds, (axis.start, axis.stop, axis.out_start, axis.out_stop), strict=True):
        if bound is not None:
            row[:] = bound.numpy(force=True)
    if axis.flip is not None:
        flip[:] = axis.flip.numpy(force=True)
    return bounds, flip
