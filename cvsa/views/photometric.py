"""Photometric augmentation in batches, with parameters drawn for every sample.

The operations are those of torchvision's functional API (ColorJitter's four, greyscale, Gaussian blur,
solarise), the recipes those of BYOL (Grill et al. 2020, table 6; its two views differ) and of MoCo v2 (Chen
et al. 2020). As in torch, a trailing underscore marks a function that works in place: fresh memory is what
costs most on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (0.2989, 0.587, 0.114)  # torchvision's luma weights
BLUR_REFERENCE_SIZE = 224  # the size at which the recipes state sigma, in pixels
NEGLIGIBLE = 1e-4  # a neighbour's weight, relative to the centre's, far below one grey level (1/255)
REACH = math.sqrt(-2 * math.log(NEGLIGIBLE))  # in sigmas: from here on a neighbour's weight is negligible
GROUP = 64  # samples worked on together on a CPU: their pixels stay in its cache


def _column(factor: Tensor) -> Tensor:
    return factor[:, None, None, None]


def _grey(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W)."""
    red, green, blue = images.split(1, 1)
    return (red * GREY[0]).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2])


def brightness_(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply each image (B, 3, H, W) in [0, 1] by its factor (B,) >= 0, in place."""
    return images.mul_(_column(factor)).clamp_(0.0, 1.0)


def contrast_(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image with the mean of its grey version, in place; factor (B,) >= 0, 1 changes nothing."""
    mean = images.mean((2, 3)) @ images.new_tensor(GREY)  # (B,)
    return images.mul_(_column(factor)).add_(_column((1 - factor) * mean)).clamp_(0.0, 1.0)


def saturation_(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image with its grey version, in place; factor (B,) >= 0, 1 changes nothing."""
    grey = _grey(images)
    return images.mul_(_column(factor)).add_(grey.mul_(_column(1 - factor))).clamp_(0.0, 1.0)


def hue_(images: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue of HSV in place; shift (B,) in [-0.5, 0.5], a share of the full circle.

    With value V = max, chroma C = max - min and hue h in turns (red at 0, green at 1/3, blue at 2/3), a
    channel whose own hue is n has the value V - C t(h - n), where t rises from 0 to 1 between one and two
    sixths away on the circle. It equals the usual table of six cases without its branches.
    """
    red, green, blue = images.split(1, 1)
    value = torch.maximum(red, green)
    torch.maximum(value, blue, out=value)
    chroma = torch.minimum(red, green)
    torch.minimum(chroma, blue, out=chroma)
    torch.sub(value, chroma, out=chroma)
    # 0 where this channel is the maximum:
    not_red, not_green = (value - red).sign_(), (value - green).sign_()
    # lerp with a weight of 0 or 1 is a choice; it costs far less on a CPU than where().
    blue_case = (red - green).add_(chroma, alpha=4)
    green_case = (blue - red).add_(chroma, alpha=2).lerp_(blue_case, not_green)
    hue = (green - blue).lerp_(green_case, not_red)
    value.sub_(chroma, alpha=2)
    chroma.mul_(6)
    hue.div_(torch.clamp(chroma, min=1e-12, out=not_red))  # grey: 0 / 1e-12
    hue.add_(_column(shift + 1)).frac_()  # (B, 1, H, W); the sum is positive, so this is its place in [0, 1)

    peak = images.new_tensor([0.0, 1 / 3, 2 / 3])[:, None, None]
    torch.sub(hue, peak, out=images)  # in (-1, 1); its distance on the circle is 1/2 - ||x| - 1/2|
    images.abs_().sub_(0.5).abs_().clamp_(1 / 6, 1 / 3)  # (2 - t) / 6
    return images.mul_(chroma).add_(value).clamp_(0.0, 1.0)


def to_greyscale(images: Tensor) -> Tensor:
    """The grey version, in three equal channels."""
    return _grey(images).expand(-1, 3, -1, -1)


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur each image with its own sigma.

    Args:
        images: (B, C, H, W) float.
        sigma: (B,) standard deviations in pixels, > 0.
        radius: taps on each side of the centre, < H and W; borders are mirrored.

    Returns:
        (B, C, H, W) float, as torchvision's gaussian_blur with a kernel of 2 radius + 1.
    """
    weights = torch.exp(-0.5 * (torch.arange(radius + 1, device=sigma.device) / sigma[:, None]).square())
    weights /= 2 * weights.sum(1, keepdim=True) - weights[:, :1]  # (B, radius + 1), centre first
    taps = [_column(weight) for weight in weights.unbind(1)]
    # Shifted sums, not a grouped convolution: that would be compiled anew for every number of chosen samples.
    pair = torch.empty_like(images)
    for axis, border in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        length = images.shape[axis]
        padded = F.pad(images, border, mode="reflect")
        images = padded.narrow(axis, radius, length) * taps[0]
        for k in range(1, radius + 1):
            before, after = (padded.narrow(axis, radius + side * k, length) for side in (-1, 1))
            torch.add(before, after, out=pair)
            images.add_(pair.mul_(taps[k]))
    return images


def solarise(images: Tensor, threshold: float = 0.5) -> Tensor:
    """Invert every value at or above the threshold."""
    inverted = 1 - images
    if threshold == 0.5:  # there, it is the smaller of the two, many times cheaper on a CPU than where()
        return torch.minimum(images, inverted, out=inverted)
    return torch.where(images < threshold, images, inverted)


_OPERATIONS = (brightness_, contrast_, saturation_, hue_)


@dataclass(frozen=True)
class Photometric:
    """A recipe: colour jitter, then greyscale, then blur, then solarise, each with its probability.

    Attributes:
        jitter: probability of colour jitter.
        brightness, contrast, saturation: factors are U(1 - x, 1 + x), 0 <= x <= 1.
        hue: shifts are U(-x, x), as a share of the circle, 0 <= x <= 0.5.
        grey: probability of greyscale.
        blur: probability of Gaussian blur.
        sigma: range of its standard deviation in pixels at 224 px; scaled by size / 224 at other sizes [O].
        solarise: probability of solarising, at 0.5.
    """

    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    solarise: float = 0.0

    @torch.no_grad()
    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a batch.

        Decisions are drawn on the generator's device: with a CPU generator, a GPU is never waited for and
        draws the same views as a CPU.

        Args:
            images: (B, 3, H, W) float in [0, 1]; not modified.
            generator: source of all randomness.

        Returns:
            (B, 3, H, W) float in [0, 1].
        """
        if not (self.jitter or self.grey or self.blur or self.solarise):
            return images
        batch, device = len(images), generator.device
        # ColorJitter's random order of operations is drawn per group of samples [O].
        group = GROUP if images.device.type == "cpu" else max(GROUP, math.ceil(batch / 4))
        groups = math.ceil(batch / group)
        draw = torch.rand(9 * batch + 4 * groups, generator=generator, device=device)
        coin, strength = draw[: 9 * batch].view(9, batch).split((4, 5))

        spread = strength.new_tensor([self.brightness, self.contrast, self.saturation, self.hue])[:, None]
        change = strength[:4].mul(2).sub_(1).mul_(spread)  # (4, B)
        change[:3] += 1
        scaling = images.shape[-1] / BLUR_REFERENCE_SIZE
        sigma = (self.sigma[0] + (self.sigma[1] - self.sigma[0]) * strength[4]) * scaling
        widest = self.sigma[1] * scaling
        radius = min(math.ceil(3 * widest), math.floor(REACH * widest), min(images.shape[-2:]) - 1)

        jittered, blurred = coin[0] < self.jitter, (coin[2] < self.blur) & (sigma > 1 / REACH)
        # Sorted, samples to jitter come first and samples to blur lie side by side: slices, not copies.
        sort = torch.where(jittered, 0, 3) + torch.where(blurred, 1, 0) * torch.where(jittered, 1, -1)
        place = sort.argsort()  # 0: jitter; 1: both; 2: blur; 3: neither
        counts = torch.bincount(sort, minlength=4).tolist()
        jitter, blur = slice(0, counts[0] + counts[1]), slice(counts[0], sum(counts[:3]))
        change, sigma, coin = change[:, place], sigma[place], coin[:, place]
        back = place.argsort().to(images.device, non_blocking=True)
        out = images.index_select(0, place.to(images.device, non_blocking=True))

        orders = draw[9 * batch :].view(groups, 4).argsort(1).tolist() if self.jitter else []
        moved = change[:, jitter].to(images.device, images.dtype, non_blocking=True).tensor_split(groups, 1)
        for samples, factors, order in zip(out[jitter].tensor_split(groups), moved, orders, strict=False):
            for operation in order:
                _OPERATIONS[operation](samples, factors[operation])
        _apply(to_greyscale, out, coin[1] < self.grey)
        if blur.stop > blur.start:
            own = sigma[blur].to(images.device, images.dtype, non_blocking=True)
            out[blur] = gaussian_blur(out[blur], own, radius)
        _apply(solarise, out, coin[3] < self.solarise)
        return out.index_select(0, back)


def _apply(operation: Callable[[Tensor], Tensor], images: Tensor, chosen: Tensor) -> None:
    """Replace the chosen samples by operation(samples), in place."""
    index = chosen.nonzero()[:, 0].to(images.device, non_blocking=True)
    if len(index):
        images[index] = operation(images.index_select(0, index))


_BYOL = Photometric(jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, grey=0.2, blur=1.0)
_MOCO_V2 = Photometric(jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.2, blur=0.5)

AUGMENTATIONS: dict[str, tuple[Photometric, Photometric]] = {
    "byol": (_BYOL, replace(_BYOL, blur=0.1, solarise=0.2)),
    "moco_v2": (_MOCO_V2, _MOCO_V2),
    "none": (Photometric(), Photometric()),
}
"""Name -> the recipes of the first and of the second view."""
