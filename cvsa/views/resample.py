"""One antialiased resampling for crop, placement, resize and flip: two matrix products.

The triangle filter that PIL (BILINEAR) and torchvision (antialias=True) use is separable, so a resized crop
of an image X is W_y X W_x^T with one small matrix per axis and sample. Where the patch lands in the output,
and whether it is mirrored, only changes the rows of those matrices: every pixel is resampled once, image
and saliency map together.
"""

from __future__ import annotations

import torch
from torch import Tensor


def axis_weights(
    start: Tensor,
    stop: Tensor,
    size_in: int,
    size_out: int,
    *,
    out_start: Tensor | None = None,
    out_stop: Tensor | None = None,
    flip: Tensor | None = None,
) -> Tensor:
    """Weights that resize the interval [start, stop) of one axis into [out_start, out_stop) of the output.

    Only input pixels that the interval touches are read, as if the interval were cut out first: nothing
    from beyond a crop bleeds into it.

    Args:
        start, stop: (B,) float, input pixels, 0 <= start < stop <= size_in.
        size_in: length of the input axis, in pixels.
        size_out: length of the output axis, in pixels.
        out_start, out_stop: (B,) float holding whole output pixels; the whole axis by default.
        flip: (B,) bool, mirrors the finished output axis.

    Returns:
        (B, size_out, size_in) float. Rows inside the output interval sum to 1, rows outside are 0.
    """
    start, stop = start[:, None], stop[:, None]  # (B, 1)
    position = torch.arange(size_out, device=start.device, dtype=start.dtype).expand(len(start), -1)
    if flip is not None:
        position = torch.where(flip[:, None], size_out - 1 - position, position)  # (B, S)
    first = torch.zeros_like(start) if out_start is None else out_start[:, None]
    last = torch.full_like(start, size_out) if out_stop is None else out_stop[:, None]
    scale = (stop - start) / (last - first)
    support = scale.clamp(min=1.0)  # the triangle widens when shrinking (antialiasing), never below one pixel
    centre = start + (position + 0.5 - first) * scale
    pixel = torch.arange(size_in, device=start.device, dtype=start.dtype)  # (R,)

    weights = ((pixel + 0.5) / support)[:, None, :] - (centre / support)[:, :, None]  # (B, S, R)
    weights = weights.abs_().clamp_(max=1.0).neg_().add_(1.0)
    touched = (pixel >= start.floor()) & (pixel < stop.ceil())
    weights.mul_(touched[:, None, :])
    inside = (position >= first) & (position < last)
    # A row outside the output interval may have weights of its own: its factor is 0.
    return weights.mul_((inside / weights.sum(2).clamp_(min=1e-6))[:, :, None])


def resample(images: Tensor, weights_y: Tensor, weights_x: Tensor) -> Tensor:
    """Apply per-sample axis weights: out = W_y X W_x^T for every channel.

    Args:
        images: (B, C, H, W) float.
        weights_y: (B, S_y, H) from :func:`axis_weights`.
        weights_x: (B, S_x, W).

    Returns:
        (B, C, S_y, S_x) float, without gradient; in memory, channels come before samples.
    """
    batch, channels, height, _ = images.shape
    # Half precision would cost image quality: keep the products in the images' own type under autocast.
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        out = images.new_empty(channels, batch, weights_y.shape[1], weights_x.shape[1])
        rows = images.new_empty(batch, height, weights_x.shape[1])
        across = weights_x.transpose(1, 2).contiguous()
        # Channel by channel, each whole in memory: no copies of the images or of the weights.
        for channel in range(channels):
            torch.bmm(images[:, channel], across, out=rows)
            torch.bmm(weights_y, rows, out=out[channel])
    return out.transpose(0, 1)
