"""Photometric augmentation in batches, with parameters drawn for every sample.

The operations are those of torchvision's functional API (ColorJitter's four, greyscale, Gaussian blur,
solarise), the recipes those of BYOL (Grill et al. 2020, table 6; its two views differ) and of MoCo v2 (Chen
et al. 2020). What is drawn does not depend on where it is applied: by torch operations, which define what
each change means, or on a CPU by the same arithmetic compiled (:mod:`cvsa.views.kernels`). As in torch, a
trailing underscore marks a function that works in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from cvsa.views import kernels
from cvsa.views.types import constant

GREY = (0.2989, 0.587, 0.114)  # torchvision's luma weights
BLUR_REFERENCE_SIZE = 224  # the size at which the recipes state sigma, in pixels
NEGLIGIBLE = 1e-4  # a neighbour's weight, relative to the centre's, far below one grey level (1/255)
REACH = math.sqrt(-2 * math.log(NEGLIGIBLE))  # in sigmas: from here on a neighbour's weight is negligible


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
    mean = images.mean((2, 3)) @ constant(GREY, images.device, images.dtype)  # (B,)
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

    peak = constant((0.0, 1 / 3, 2 / 3), images.device, images.dtype)[:, None, None]
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


_JITTER = (brightness_, contrast_, saturation_, hue_)


@dataclass(frozen=True)
class Changes:
    """All that a recipe has drawn for a batch, on the generator's device; the same whatever applies it.

    Attributes:
        jittered: (B,) bool, whose colours are jittered.
        factors: (4, B) float, the factors of brightness, contrast and saturation and the shift of the hue.
        order: (B, 4) int64, the rows of ``factors`` in the order in which they are applied.
        grey: (B,) bool, which samples lose their colour.
        blurred: (B,) bool.
        sigma: (B,) float, standard deviation of the blur, in pixels at 224 px.
        solarised: (B,) bool.
    """

    jittered: Tensor
    factors: Tensor
    order: Tensor
    grey: Tensor
    blurred: Tensor
    sigma: Tensor
    solarised: Tensor

    def with_colour_of(self, other: Changes) -> Changes:
        """The colour jitter and greyscale of another draw for the same samples; own blur and solarising."""
        return replace(
            self, jittered=other.jittered, factors=other.factors, order=other.order, grey=other.grey
        )


@dataclass(frozen=True)
class Photometric:
    """A recipe: colour jitter, then greyscale, then blur, then solarise, each with its probability.

    Attributes:
        jitter: probability of colour jitter, its four operations in an order drawn for each sample.
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

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the changes of a batch and apply them; see :meth:`draw` and :meth:`apply`."""
        if not (self.jitter or self.grey or self.blur or self.solarise):
            return images
        return self.apply(images, self.draw(len(images), generator))

    def draw(self, batch: int, generator: torch.Generator) -> Changes:
        """Draw what happens to each sample of a batch.

        Everything stays on the generator's device: with a CPU generator, a GPU is never waited for and
        draws the same views as a CPU.
        """
        draw = torch.rand(13, batch, generator=generator, device=generator.device)
        jittered, grey, blurred, solarised = (
            coin < probability
            for coin, probability in zip(
                draw[:4], (self.jitter, self.grey, self.blur, self.solarise), strict=True
            )
        )
        spread = constant((self.brightness, self.contrast, self.saturation, self.hue), draw.device)[:, None]
        factors = draw[4:8].mul(2).sub_(1).mul_(spread)  # (4, B)
        factors[:3] += 1
        sigma = self.sigma[0] + (self.sigma[1] - self.sigma[0]) * draw[8]
        order = draw[9:].argsort(0).T.contiguous()  # (B, 4)
        return Changes(jittered, factors, order, grey, blurred, sigma, solarised)

    @torch.no_grad()
    def apply(self, images: Tensor, changes: Changes, *, reuse: bool = False) -> Tensor:
        """Apply what was drawn by this recipe.

        Args:
            images: (B, 3, H, W) float in [0, 1]; not modified unless ``reuse``.
            changes: one draw for B samples.
            reuse: whether the images' own memory may take the result, where that is quicker.

        Returns:
            (B, 3, H, W) float in [0, 1].
        """
        scaling = images.shape[-1] / BLUR_REFERENCE_SIZE
        sigma, widest = changes.sigma * scaling, self.sigma[1] * scaling
        blurred = changes.blurred & (sigma > 1 / REACH)
        radius = min(math.ceil(3 * widest), math.floor(REACH * widest), min(images.shape[-2:]) - 1)
        if kernels.serve(images):
            return kernels.photometric(images, changes, sigma, blurred, radius, reuse)
        out = _jittered(images, changes)
        _replace(to_greyscale, out, changes.grey)
        _replace(partial(gaussian_blur, radius=radius), out, blurred, sigma)
        _replace(solarise, out, changes.solarised)
        return out


def _jittered(images: Tensor, changes: Changes) -> Tensor:
    """A jittered copy, in four rounds; in each, samples with the same operation lie side by side."""
    last = len(_JITTER)
    turn = torch.where(changes.jittered[:, None], changes.order, last).T  # (4, B), whose turn; 4: nobody's
    counts = F.one_hot(turn, last + 1).sum(1).tolist()  # (4, 5)
    if counts[0][last] == len(images):
        return images.clone(memory_format=torch.contiguous_format)
    place = turn.argsort(dim=1, stable=True)  # which sample lies where
    where = place.argsort(1)
    # Each move starts from where the round before has left the samples; the last one brings them home.
    moves = torch.cat([place[:1], where[:-1].gather(1, place[1:]), where[-1:]])  # (5, B)
    moves = moves.to(images.device, non_blocking=True)
    factors = changes.factors[:, place].to(images.device, images.dtype, non_blocking=True)  # (4, 4, B)
    for turns, (move, count) in enumerate(zip(moves[:-1], counts, strict=True)):
        images = images.index_select(0, move)
        for number, operation in enumerate(_JITTER):
            begin, length = sum(count[:number]), count[number]
            if length:
                samples, own = (
                    images.narrow(0, begin, length),
                    factors[number, turns].narrow(0, begin, length),
                )
                operation(samples, own)
    return images.index_select(0, moves[-1])


def _replace(operation: Callable[..., Tensor], images: Tensor, chosen: Tensor, *parameters: Tensor) -> None:
    """Replace the chosen samples by operation(samples, their parameters), in place."""
    index = chosen.nonzero()[:, 0]
    if len(index):
        own = [values[index].to(images.device, images.dtype, non_blocking=True) for values in parameters]
        at = index.to(images.device, non_blocking=True)
        images[at] = operation(images.index_select(0, at), *own)


_BYOL = Photometric(jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, grey=0.2, blur=1.0)
_SIMCLR = Photometric(jitter=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, grey=0.2, blur=0.5)
_MOCO_V2 = Photometric(jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.2, blur=0.5)

AUGMENTATIONS: dict[str, tuple[Photometric, Photometric]] = {
    "byol": (_BYOL, replace(_BYOL, blur=0.1, solarise=0.2)),
    "moco_v2": (_MOCO_V2, _MOCO_V2),
    "simclr": (_SIMCLR, _SIMCLR),
    "none": (Photometric(), Photometric()),
}
"""Name -> the recipes of the first and of the second view."""
