"""DiLo's copy-and-paste: the object keeps its pixels and its place, the picture around it is exchanged.

Zhao et al., "Distilling Localization for Self-Supervised Representation Learning", AAAI 2021, with the
settings of the data loader its authors published. ([O]: our choice where it is silent.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.views.crop import random_resized_crop
from cvsa.views.resample import Axis, resample
from cvsa.views.types import Range, Views, check_images, coins, sent, uniform

BACKGROUNDS = ("image", "texture", "plain")
SOFTNESS = 0.012  # blur of a soft mask, share of the side: the authors' 5 pixels in a picture of ImageNet
WAVES = 16  # plane waves in a texture: enough to look irregular


class Composites(NamedTuple):
    """Which views of a batch get a new background, all on the generator's device.

    Attributes:
        rows: (n,) int64, their places in the batch, those of one kind of background together.
        counts: how many there are of each kind, in the order of the allowed backgrounds.
        soft: (n,) bool, whether the mask is blurred first.
    """

    rows: Tensor
    counts: list[int]
    soft: Tensor


def sample_composites(
    count: int, kinds: int, fraction: float, soft: float, generator: torch.Generator
) -> Composites:
    """Draw which views get a new background, of which kind (uniform), and whether its mask is soft."""
    device = generator.device
    rows = coins(count, fraction, generator, device).nonzero()[:, 0]
    kind, order = torch.randint(kinds, (len(rows),), generator=generator, device=device).sort(stable=True)
    counts = kind.bincount(minlength=kinds).tolist()
    return Composites(rows[order], counts, coins(len(rows), soft, generator, device))


def plain(count: int, side: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(count, 3, side, side): one grey level each, uniform in [0, 1]."""
    return uniform((count, 1, 1, 1), 0.0, 1.0, generator, device).expand(-1, 3, side, side)


def textures(count: int, side: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw homogeneous textures in two colours, coarse to fine, from isotropic grain to stripes.

    A texture is a stationary random field: plane waves of about one wavelength, their directions within a
    fan that is narrow (stripes) to full (grain). A wave cos(a(x) + b(y)) is cos a cos b - sin a sin b, so
    the sum of all is one matrix product. [O]

    Returns:
        (count, 3, side, side) in [0, 1].
    """
    finest = math.log(max(side / 6, 1.0))  # cycles per side: at least four pixels per cycle
    coarsest = min(math.log(3.0), finest)
    cycles = uniform((count, 1), coarsest, finest, generator, device).exp_()
    cycles = cycles * uniform((count, WAVES), 0.7, 1.4, generator, device)
    fan = uniform((count, 1), 0.05, 1.0, generator, device) * (math.pi / 2)
    angle = uniform((count, 1), 0.0, math.pi, generator, device)
    angle = angle + fan * uniform((count, WAVES), -1.0, 1.0, generator, device)
    phase = uniform((count, WAVES), 0.0, 2 * math.pi, generator, device)
    first, second = uniform((2, count, 3, 1, 1), 0.0, 1.0, generator, device)

    place = (torch.arange(side, device=device) + 0.5) * (2 * math.pi / side)  # (S,)
    along = (cycles * angle.cos())[:, :, None] * place  # (n, K, S)
    down = (cycles * angle.sin())[:, :, None] * place + phase[:, :, None]
    field = torch.bmm(
        torch.cat([down.cos(), -down.sin()], 1).transpose(1, 2), torch.cat([along.cos(), along.sin()], 1)
    )  # (n, S, S), variance K / 2
    share = (0.5 + field * (0.25 * math.sqrt(2 / WAVES))).clamp_(0.0, 1.0)[:, None]
    return first + (second - first) * share


def soften(masks: Tensor) -> Tensor:
    """Blur (n, 1, R, R) masks by a Gaussian of SOFTNESS of the side, renormalised at the border."""
    place = torch.arange(masks.shape[-1], device=masks.device, dtype=masks.dtype)
    weights = ((place - place[:, None]) / (SOFTNESS * len(place))).square_().mul_(-0.5).exp_()
    weights /= weights.sum(1, keepdim=True)
    across = (masks @ weights.T).transpose(2, 3).contiguous()  # contiguous: one product for all masks
    return (across @ weights.T).transpose(2, 3)


@torch.no_grad()
def dilo(
    reference: Tensor,
    background: Tensor | None,
    *,
    size: int,
    crop_scale: float | Range = (0.08, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
    generator: torch.Generator,
    fraction: float = 0.3,
    backgrounds: Sequence[str] = BACKGROUNDS,
    soft: float = 0.5,
    flip: float = 0.0,
) -> Views:
    """Random resized crops, in a fraction of which the object stands on another background.

    As in the authors' loader, the composite is made first, at the image's own size, so the object keeps the
    place it had; crop, flip and photometric changes follow. The composite is s I + (1 - s) J with the
    saliency map s as it is, soft, not thresholded, blurred for a share ``soft`` of the composites. Their
    loader has one kind of J, a plain grey level; the paper also studies textures (photographs; ours are
    drawn, :func:`textures` [O]) and other images. Each view draws its kind uniformly [O]. Another image
    comes whole, with its own object in it [O].

    Where no pixel reaches a saliency of 0.5 there is no object to keep: that image stays as it is [O].

    Args:
        reference: (B, 4, R, R) float in [0, 1], RGB and saliency.
        background: (B, 3 or 4, R', R') float in [0, 1]; None where no "image" is among the backgrounds.
        size: side of the views, in pixels.
        crop_scale: area of the crop as a share of the image.
        ratio: range of the crop's width / height.
        generator: source of all randomness.
        fraction: probability that a view gets another background; 0.3 in the authors' loader.
        backgrounds: the kinds to draw from, of "image", "texture" and "plain".
        soft: probability that a composite's mask is blurred; 0.5 in the authors' loader.
        flip: probability of a horizontal flip.

    Returns:
        Views with images (B, 3, size, size) and masks (B, 1, size, size), the resampled saliency, both in
        [0, 1].

    Raises:
        CVSAError: on a wrong shape, type, probability or background.
    """
    _check(reference, background, fraction, soft, backgrounds)
    plan = sample_composites(len(reference), len(backgrounds), fraction, soft, generator)
    if len(plan.rows):
        scene = _scenes(background, backgrounds, plan, reference, generator)
        rows, blurred = (sent(each, reference.device) for each in (plan.rows, plan.soft.nonzero()[:, 0]))
        own = reference.index_select(0, rows)
        mask = own[:, 3:].clone()  # (n, 1, R, R)
        nothing = mask.amax((1, 2, 3), keepdim=True) < 0.5
        mask[blurred] = soften(mask[blurred])
        own[:, :3] = torch.lerp(scene, own[:, :3], mask.masked_fill_(nothing, 1.0))
        reference = reference.index_copy(0, rows, own)
    return random_resized_crop(
        reference, size=size, scale=crop_scale, ratio=ratio, generator=generator, flip=flip
    )


def _scenes(
    background: Tensor | None,
    backgrounds: Sequence[str],
    plan: Composites,
    like: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """(n, 3, R, R): the new background of each composite."""
    height, width = like.shape[-2:]
    scenes = []
    for kind, rows in zip(backgrounds, plan.rows.split(plan.counts), strict=True):
        if kind == "image" and background is not None:
            chosen = background.index_select(0, sent(rows, background.device))[:, :3]
            scenes.append(_resized(chosen, height, width))
        else:
            draw = textures if kind == "texture" else plain
            scenes.append(draw(len(rows), max(height, width), generator, like.device)[..., :height, :width])
    return torch.cat(scenes).to(like.dtype)


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    rows, columns = images.shape[-2:]
    if (rows, columns) == (height, width):
        return images
    zero = images.new_zeros(len(images))
    return resample(images, Axis(zero, zero + rows, rows, height), Axis(zero, zero + columns, columns, width))


def _check(
    reference: Tensor, background: Tensor | None, fraction: float, soft: float, backgrounds: Sequence[str]
) -> None:
    check_images(reference, "reference", (4,))
    for name, share in (("fraction", fraction), ("soft", soft)):
        if not 0.0 <= share <= 1.0:
            raise CVSAError(f"DiLo's {name} {share} is not a probability; give a number in [0, 1]")
    unknown = [kind for kind in backgrounds if kind not in BACKGROUNDS]
    if unknown or not backgrounds or isinstance(backgrounds, str):
        raise CVSAError(
            f"DiLo's backgrounds are {backgrounds!r}; give one or more of {', '.join(BACKGROUNDS)}"
        )
    if background is not None:
        check_images(background, "background")
    if "image" in backgrounds and (background is None or len(background) != len(reference)):
        count = "none" if background is None else len(background)
        raise CVSAError(f"{len(reference)} references need as many background images, got {count}")
