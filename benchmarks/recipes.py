"""The augmentation of a configuration as each peer says it: crops, flips, jitter, grey, blur, solarising.

Same in kind, not in pixels: PIL works on bytes and blurs by boxes, kornia draws one order of the jitter's
operations for a batch and does not antialias. Every number comes from our own recipe. What has a probability
of zero is left out, which is in the peers' favour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torchvision.transforms import v2

from cvsa.config import PretrainConfig
from cvsa.views.maker import ViewSettings
from cvsa.views.photometric import AUGMENTATIONS, BLUR_REFERENCE_SIZE, REACH, Photometric
from cvsa.views.types import Range, check_scale


@dataclass(frozen=True)
class Recipe:
    """Of one view.

    Attributes:
        size: side of the view, pixels.
        scale: area of the crop, share of the image.
        ratio: aspect of the crop.
        flip: probability of a horizontal flip.
        colours: jitter, grey, blur and solarising.
    """

    size: int
    scale: Range
    ratio: Range
    flip: float
    colours: Photometric

    @property
    def sigma(self) -> Range:
        """Standard deviations of the blur at this size, pixels."""
        low, high = (value * self.size / BLUR_REFERENCE_SIZE for value in self.colours.sigma)
        return low, high

    @property
    def kernel(self) -> int:
        """Taps of the blur: as far as ours reaches, at least 3."""
        widest = self.sigma[1]
        return 2 * max(1, min(math.ceil(3 * widest), math.floor(REACH * widest))) + 1

    @property
    def jitter(self) -> dict[str, float]:
        """Strengths of the colour jitter."""
        return {name: getattr(self.colours, name) for name in ("brightness", "contrast", "saturation", "hue")}


def recipes(config: PretrainConfig) -> tuple[Recipe, Recipe]:
    """The recipes of both views of a row on random resized crops."""
    usual = ViewSettings(config.image_size)
    scale = check_scale(config.crop_scale)
    first, second = (
        Recipe(config.image_size, scale, usual.ratio, usual.flip, colours)
        for colours in AUGMENTATIONS[config.augmentation]
    )
    return first, second


def by_torchvision(recipe: Recipe) -> v2.Transform:
    """PIL image -> view (3, S, S) float in [0, 1]; blurred and solarised as bytes in a tensor: quicker."""
    colours = recipe.colours
    steps: list[Any] = [
        v2.RandomResizedCrop(recipe.size, scale=recipe.scale, ratio=recipe.ratio),
        v2.RandomHorizontalFlip(recipe.flip),
    ]
    if colours.jitter:
        steps.append(v2.RandomApply([v2.ColorJitter(**recipe.jitter)], colours.jitter))
    if colours.grey:
        steps.append(v2.RandomGrayscale(colours.grey))
    steps.append(v2.PILToTensor())
    if colours.blur:
        steps.append(v2.RandomApply([v2.GaussianBlur(recipe.kernel, recipe.sigma)], colours.blur))
    if colours.solarise:
        steps.append(v2.RandomSolarize(128, colours.solarise))
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True)])


def by_kornia(recipe: Recipe, cropping: str = "slice") -> nn.Module:
    """Images (B, 3, R, R) float in [0, 1] -> views (B, 3, S, S), parameters drawn for every sample.

    Args:
        recipe: of the view.
        cropping: kornia's way: "slice", image by image, quicker on a CPU; "resample", on a GPU.
    """
    kornia: Any = import_module("kornia.augmentation")
    colours = recipe.colours
    steps = [
        kornia.RandomResizedCrop((recipe.size, recipe.size), scale=recipe.scale, ratio=recipe.ratio,
                                 align_corners=False, cropping_mode=cropping),
        kornia.RandomHorizontalFlip(p=recipe.flip),
    ]  # fmt: skip
    if colours.jitter:
        steps.append(kornia.ColorJitter(**recipe.jitter, p=colours.jitter))
    if colours.grey:
        steps.append(kornia.RandomGrayscale(p=colours.grey))
    if colours.blur:
        steps.append(kornia.RandomGaussianBlur((recipe.kernel, recipe.kernel), recipe.sigma, p=colours.blur))
    if colours.solarise:
        steps.append(kornia.RandomSolarize(thresholds=(0.5, 0.5), additions=(0.0, 0.0), p=colours.solarise))
    return nn.Sequential(*steps)


def by_lightly(first: Recipe, second: Recipe) -> Any:
    """PIL image -> [view, view], each (3, S, S), normalised as lightly does it."""
    from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform

    def given(recipe: Recipe) -> dict[str, Any]:
        colours = recipe.colours
        return {
            "input_size": recipe.size, "min_scale": recipe.scale[0], "hf_prob": recipe.flip,
            "cj_prob": colours.jitter, "cj_bright": colours.brightness, "cj_contrast": colours.contrast,
            "cj_sat": colours.saturation, "cj_hue": colours.hue, "random_gray_scale": colours.grey,
            "gaussian_blur": colours.blur, "sigmas": recipe.sigma, "solarization_prob": colours.solarise,
        }  # fmt: skip

    return BYOLTransform(BYOLView1Transform(**given(first)), BYOLView2Transform(**given(second)))
