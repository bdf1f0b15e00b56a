"""One antialiased resampling for crop, placement, resize and flip: two matrix products.

The triangle filter that PIL (BILINEAR) and torchvision (antialias=True) use is separable, so a resized crop
of an image X is W_y X W_x^T with one small matrix per axis and sample. Where the patch lands in the output,
and whether it is mirrored, only changes the rows of those matrices: every pixel is resampled once, image
and saliency map together. On a CPU the same sums are compiled (:mod:`cvsa.views.kernels`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cvsa.views import kernels


class Axis(NamedTuple):
    """Resizes the interval [start, stop) of one image axis into [out_start, out_stop) of the output's.

    Only input pixels that the interval touches are read, as if the interval were cut out first: nothing
    from beyond a crop bleeds into it.

    Attributes:
        start, stop: (B,) float, input pixels, 0 <= start < stop <= size_in.
        size_in: length of the input axis, in pixels.
        size_out: length of the output axis, in pixels.
        out_start, out_stop: (B,) float holding whole output pixels; the whole axis by default.
        flip: (B,) bool, mirrors the finished output axis, and the output interval with it.
    """

    start: Tensor
    stop: Tensor
    size_in: int
    size_out: int
    out_start: Tensor | None = None
    out_stop: Tensor | None = None
    flip: Tensor | None = None

    def weights(self) -> Tensor:
        """The axis as matrices.

        Returns:
            (B, size_out, size_in) float. Rows inside the output interval sum to 1, rows outside are 0.
        """
        start, stop = self.start[:, None], self.stop[:, None]  # (B, 1)
        position, first, last = self._output()
        scale = (stop - start) / (last - first)
        support = scale.clamp(
            min=1.0
        )  # the triangle widens when shrinking (antialiasing), never below 1 pixel
        centre = start + (position + 0.5 - first) * scale
        pixel = torch.arange(self.size_in, device=start.device, dtype=start.dtype)  # (R,)

        weights = ((pixel + 0.5) / support)[:, None, :] - (centre / support)[:, :, None]  # (B, S, R)
        weights = weights.abs_().clamp_(max=1.0).neg_().add_(1.0)
        touched = (pixel >= start.floor()) & (pixel < stop.ceil())
        weights.mul_(touched[:, None, :])
        # A row outside the output interval may have weights of its own: its factor is 0.
        return weights.mul_((self.inside() / weights.sum(2).clamp_(min=1e-6))[:, :, None])

    def inside(self) -> Tensor:
        """(B, size_out) bool, the output pixels that lie in the output interval."""
        position, first, last = self._output()
        return (position >= first) & (position < last)

    def _output(self) -> tuple[Tensor, Tensor, Tensor]:
        """Place of each output pixel before the flip, (B or 1, S), and the output interval, (B, 1) each."""
        start = self.start[:, None]
        position = torch.arange(self.size_out, device=start.device, dtype=start.dtype)[None]
        if self.flip is not None:
            position = torch.where(self.flip[:, None], self.size_out - 1 - position, position)
        first = torch.zeros_like(start) if self.out_start is None else self.out_start[:, None]
        last = torch.full_like(start, self.size_out) if self.out_stop is None else self.out_stop[:, None]
        return position, first, last


@torch.no_grad()
def resample(images: Tensor, y: Axis, x: Axis, canvas: Tensor | None = None) -> Tensor:
    """Resize each image by its own axes: out = W_y X W_x^T for every channel.

    Args:
        images: (B, C, H, W) float.
        y: the vertical axis, size_in = H.
        x: the horizontal axis, size_in = W.
        canvas: (B, C, y.size_out, x.size_out), what the result shows outside the output intervals, instead
            of 0; it is painted over and not to be used any more.

    Returns:
        (B, C, y.size_out, x.size_out) float, without gradient; within the range of the
        images but for rounding.
    """
    batch, channels, height, _ = images.shape
    if kernels.serve(images):
        if canvas is None:
            whole = y.out_start is None and x.out_start is None  # all is painted: nothing shows through
            canvas = (images.new_empty if whole else images.new_zeros)(
                batch, channels, y.size_out, x.size_out
            )
        return kernels.resample(images, y, x, canvas.contiguous())
    # Half precision would cost image quality: keep the products in the images' own type under autocast.
    with torch.autocast(images.device.type, enabled=False):
        down, across = y.weights(), x.weights().transpose(1, 2).contiguous()
        out = images.new_empty(channels, batch, y.size_out, x.size_out)
        rows = images.new_empty(batch, height, x.size_out)
        # Channel by channel, each whole in memory: no copies of the images or of the weights.
        for channel in range(channels):
            torch.bmm(images[:, channel], across, out=rows)
            torch.bmm(down, rows, out=out[channel])
    out = out.transpose(0, 1)
    return out if canvas is None else canvas.mul_(1 - rectangle(y, x)).add_(out)


def rectangle(y: Axis, x: Axis) -> Tensor:
    """(B, 1, y.size_out, x.size_out) float, 1 in the output intervals and 0 outside."""
    if kernels.serve(y.start):
        return kernels.rectangle(y, x)
    dtype = y.start.dtype
    return y.inside().to(dtype)[:, None, :, None] * x.inside().to(dtype)[:, None, None, :]


@torch.no_grad()
def mirror(images: Tensor, flip: Tensor) -> Tensor:
    """A copy of the images (B, C, H, W), each mirrored left to right where flip (B,) is true."""
    if kernels.serve(images):
        return kernels.mirror(images, flip)
    return torch.where(flip[:, None, None, None], images.flip(3), images)
