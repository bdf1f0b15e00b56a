"""From image numbers to pairs of views: geometry by a named generator, then a named photometric recipe."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.views.crop import random_resized_crop
from cvsa.views.photometric import AUGMENTATIONS
from cvsa.views.swap import MASKS, saliency_swap
from cvsa.views.types import Range, Views, check_ratio, check_scale, check_size

if TYPE_CHECKING:
    from cvsa.data.bank import ImageBank


@dataclass(frozen=True)
class ViewSettings:
    """What a view generator may need to know.

    Attributes:
        size: side of the views, in pixels.
        scale: area of Saliency Swap's crop as a share of the saliency box: lower bound or (low, high).
        ratio: aspect range of the crops.
        crop_scale: area of RandomResizedCrop's crop as a share of the image.
        mask: "rectangle" or "saliency", the mask of swapped views.
        masks: whether the masks are used at all; if not, they may be anything that costs nothing.
        flip: probability of a horizontal flip.
    """

    size: int
    scale: float | Range = 0.5
    ratio: Range = (3 / 4, 4 / 3)
    crop_scale: float | Range = (0.08, 1.0)
    mask: str = "rectangle"
    masks: bool = True
    flip: float = 0.5


# (bank, image numbers (B,), their images (B, 4, R, R), settings, generator) -> one view each
ViewGenerator = Callable[["ImageBank", Tensor, Tensor, ViewSettings, torch.Generator], Views]


def _crop_view(
    bank: ImageBank, index: Tensor, images: Tensor, settings: ViewSettings, generator: torch.Generator
) -> Views:
    return random_resized_crop(
        images if settings.masks else images[:, :3],
        size=settings.size,
        scale=settings.crop_scale,
        ratio=settings.ratio,
        generator=generator,
        flip=settings.flip,
    )


def _swap_view(
    bank: ImageBank, index: Tensor, images: Tensor, settings: ViewSettings, generator: torch.Generator
) -> Views:
    other = draw_others(index, len(bank), generator).to(bank.boxes.device)
    return saliency_swap(
        images,
        bank.boxes[index.to(bank.boxes.device)],
        bank.gather(other),
        bank.boxes[other],
        size=settings.size,
        scale=settings.scale,
        ratio=settings.ratio,
        generator=generator,
        mask=settings.mask if settings.masks else "rectangle",
        flip=settings.flip,
    )


VIEW_GENERATORS: dict[str, ViewGenerator] = {
    "random_resized_crop": _crop_view,
    "saliency_swap": _swap_view,
}
"""Name -> view generator; a new one is one more line."""


def draw_others(index: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """For each image number, another one: uniform over the bank without the image itself.

    Args:
        index: (B,) int64 in [0, count).
        count: images in the bank, at least 2.

    Returns:
        (B,) int64 on the generator's device, nowhere equal to index.
    """
    step = torch.randint(1, count, index.shape, generator=generator, device=generator.device)
    return (index.to(generator.device) + step) % count


class ViewMaker:
    """Makes the two views of each reference of a batch, on the bank's device.

    Args:
        bank: images with saliency and boxes.
        view: name in VIEW_GENERATORS.
        size: side of the views, in pixels.
        scale: Saliency Swap's crop area as a share of the saliency box, in (0, 1]: lower bound or (low,
            high).
        ratio: aspect range of the crops (of the factor on the box's aspect for Saliency Swap).
        augmentation: name in AUGMENTATIONS.
        swap_probability: share of the views made by ``view``; the others are random resized crops [O: 1].
        mask: "rectangle" or "saliency", see :func:`~cvsa.views.saliency_swap`.
        crop_scale: area of random resized crops as a share of the image.
        flip: probability of a horizontal flip.
        masks: False where no one reads the masks (no alignment): those of crops are then ones, and cost
            nothing.

    Raises:
        CVSAError: on an unknown name, an impossible number, or a bank too small to swap.
    """

    def __init__(
        self,
        bank: ImageBank,
        *,
        view: str,
        size: int,
        scale: float | Range = 0.5,
        ratio: Range = (3 / 4, 4 / 3),
        augmentation: str,
        swap_probability: float = 1.0,
        mask: str = "rectangle",
        crop_scale: float | Range = (0.08, 1.0),
        flip: float = 0.5,
        masks: bool = True,
    ) -> None:
        _known("view", view, VIEW_GENERATORS)
        _known("augmentation", augmentation, AUGMENTATIONS)
        _known("view mask", mask, MASKS)
        check_size(size)
        for name, probability in (("swap_probability", swap_probability), ("flip", flip)):
            if not 0.0 <= probability <= 1.0:
                raise CVSAError(f"{name} {probability} is not a probability; give a number in [0, 1]")
        if view != "random_resized_crop" and len(bank) < 2:
            raise CVSAError(
                f"view {view!r} needs another image as background, but the bank holds {len(bank)}; add images"
            )
        self.bank = bank
        self.settings = ViewSettings(
            size, check_scale(scale), check_ratio(ratio), check_scale(crop_scale), mask, masks, flip
        )
        self.view = view
        self.recipes = AUGMENTATIONS[augmentation]
        self.swap_probability = swap_probability

    @torch.no_grad()
    def __call__(self, index: Tensor, generator: torch.Generator) -> tuple[Views, Views]:
        """Make a pair of views of each reference, independent of each other.

        Args:
            index: (B,) int64, image numbers in the bank.
            generator: source of all randomness. On the CPU it makes the same views for every device, without
                waiting for a GPU.

        Returns:
            Two Views: images (B, 3, size, size) in [0, 1], masks (B, 1, size, size).
        """
        images = self.bank.gather(index)
        first, second = (self._geometry(index, images, generator) for _ in self.recipes)
        return (
            Views(self.recipes[0](first.images, generator), first.masks),
            Views(self.recipes[1](second.images, generator), second.masks),
        )

    def _geometry(self, index: Tensor, images: Tensor, generator: torch.Generator) -> Views:
        generate = VIEW_GENERATORS[self.view]
        if self.swap_probability == 1.0:
            return generate(self.bank, index, images, self.settings, generator)
        swapped = torch.rand(len(index), generator=generator, device=generator.device) < self.swap_probability
        size = self.settings.size
        out = Views(images.new_empty(len(index), 3, size, size), images.new_empty(len(index), 1, size, size))
        for chosen, make in ((swapped, generate), (~swapped, _crop_view)):
            rows = chosen.nonzero()[:, 0]
            if len(rows):
                at = rows.to(images.device)
                views = make(self.bank, index[rows.to(index.device)], images[at], self.settings, generator)
                out.images[at], out.masks[at] = views.images, views.masks
        return out


def _known(what: str, name: str, allowed: Collection[str]) -> None:
    if name not in allowed:
        raise CVSAError(f"{what} {name!r} is unknown; choose one of {', '.join(allowed)}")
