"""From image numbers to the views of a method: geometry by a named generator, then a photometric recipe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.methods.catalogue import PATCH, VIEWS
from cvsa.views.contrastive_crop import contrastive_crop
from cvsa.views.crop import random_resized_crop, recrop
from cvsa.views.cutout import BACKGROUNDS, dilo
from cvsa.views.leave_one_out import leave_one_out
from cvsa.views.paste import random_paste
from cvsa.views.patches import neighbouring_patches
from cvsa.views.photometric import AUGMENTATIONS
from cvsa.views.swap import AREAS, MASKS, saliency_swap
from cvsa.views.types import Range, Views, check_ratio, check_scale, check_size, sent, uniform

if TYPE_CHECKING:
    from cvsa.data.bank import ImageBank

SWAP_BACKGROUNDS = ("same", "scenes", "blank")
"""What Saliency Swap pastes on: other images of the bank [A], drawn scenes, or a plain colour [O]."""


@dataclass(frozen=True)
class ViewSettings:
    """What a view generator may need to know.

    Attributes:
        size: side of the views, in pixels.
        scale: area of Saliency Swap's crop as a share of the saliency box: lower bound or (low, high).
        swap_area: what that is a share of, "box" or "image" [O].
        swap_crop: least share of a swapped view's area that a further random resized crop keeps; 1 is none.
        swap_backgrounds: name in SWAP_BACKGROUNDS.
        scenes: the bank of backgrounds where they are "scenes"; each has its own saliency box.
        ratio: aspect range of the crops (of the factor on the box's aspect for Saliency Swap).
        crop_scale: area of RandomResizedCrop's crop as a share of the image.
        swap_probability: share of the views made by Saliency Swap, the others being crops [O: 1].
        mask: "rectangle" or "saliency", the mask of swapped views.
        masks: whether the masks are used at all; if not, they may be anything that costs nothing.
        flip: probability of a horizontal flip.
        dilo_fraction: share of DiLo's views that get another background.
        dilo_backgrounds: kinds of those.
    """

    size: int
    scale: float | Range = 0.5
    ratio: Range = (3 / 4, 4 / 3)
    crop_scale: float | Range = (0.08, 1.0)
    swap_probability: float = 1.0
    mask: str = "rectangle"
    masks: bool = True
    flip: float = 0.5
    dilo_fraction: float = 0.3
    dilo_backgrounds: tuple[str, ...] = BACKGROUNDS
    swap_area: str = "box"
    swap_crop: float = 1.0
    swap_backgrounds: str = "same"
    scenes: ImageBank | None = None


# (bank, image numbers (B,), their images (B, 4, R, R), settings, generator) -> Views of every reference
Single = Callable[["ImageBank", Tensor, Tensor, ViewSettings, torch.Generator], Views]
Joint = Callable[["ImageBank", Tensor, Tensor, ViewSettings, torch.Generator], tuple[Views, ...]]


@dataclass(frozen=True)
class ViewGenerator:
    """How the views of a reference are made.

    Attributes:
        make: makes all of them, each in memory of its own, which the photometric recipe may reuse.
        count: how many.
        others: whether a view takes from another image too.
        colour_of: view -> the view whose photometric colours it shares.
    """

    make: Joint
    count: int = 2
    others: bool = False
    colour_of: Mapping[int, int] = field(default_factory=dict)


def _independent(make: Single, count: int = 2) -> Joint:
    """Views that know nothing of each other, made one after the other."""
    return lambda *inputs: tuple(make(*inputs) for _ in range(count))


def _crop(
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


def _contrastive_crop(
    bank: ImageBank, index: Tensor, images: Tensor, settings: ViewSettings, generator: torch.Generator
) -> Views:
    return contrastive_crop(
        images,
        bank.boxes[index.cpu()],
        size=settings.size,
        scale=settings.crop_scale,
        ratio=settings.ratio,
        generator=generator,
        flip=settings.flip,
    )


def _swap(
    bank: ImageBank, index: Tensor, images: Tensor, settings: ViewSettings, generator: torch.Generator
) -> Views:
    background, destination = _backgrounds(bank, index, images, settings, generator)
    views = saliency_swap(
        images,
        bank.boxes[index.cpu()],
        background,
        destination,
        size=settings.size,
        scale=settings.scale,
        ratio=settings.ratio,
        generator=generator,
        mask=settings.mask if settings.masks else "rectangle",
        flip=settings.flip,
        area=settings.swap_area,
    )
    if settings.swap_crop < 1.0:
        views = recrop(views, settings.swap_crop, settings.ratio, generator)
    return views


def _backgrounds(
    bank: ImageBank, index: Tensor, images: Tensor, settings: ViewSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What each reference is pasted on: images (B, 3 or 4, R', R'), and the boxes (B, 4) where, in pixels.

    A blank is one colour per view, uniform in RGB, and has the box of another image of the bank [O].
    """
    if settings.scenes is not None:
        count = len(settings.scenes)
        chosen = torch.randint(count, index.shape, generator=generator, device=generator.device)
        return settings.scenes.gather(chosen), settings.scenes.boxes[chosen.cpu()]
    other = draw_others(index, len(bank), generator)
    if settings.swap_backgrounds == "blank":
        colour = uniform((len(index), 3, 1, 1), 0.0, 1.0, generator, images.device)
        return colour.expand(-1, -1, *images.shape[2:]), bank.boxes[other.cpu()]
    return bank.gather(other), bank.boxes[other.cpu()]


def _swap_or_crop(
    bank: ImageBank, index: Tensor, images: Tensor, settings: ViewSettings, generator: torch.Generator
) -> Views:
    if settings.swap_probability == 1.0:
        return _swap(bank, index, images, settings, generator)
    swapped = torch.rand(len(index), generator=generator, device=generator.device) < settings.swap_probability
    size = settings.size
    out = Views(images.new_empty(len(index), 3, size, size), images.new_empty(len(index), 1, size, size))
    for chosen, make in ((swapped, _swap), (~swapped, _crop)):
        rows = chosen.nonzero()[:, 0]
        if len(rows):
            at = sent(rows, images.device)
            views = make(bank, index[sent(rows, index.device)], images[at], settings, generator)
            out.images[at], out.masks[at] = views.images, views.masks
    return out


def _dilo(
    bank: ImageBank, index: Tensor, images: Tensor, settings: ViewSettings, generator: torch.Generator
) -> Views:
    return dilo(
        images,
        bank.gather(draw_others(index, len(bank), generator)),
        size=settings.size,
        crop_scale=settings.crop_scale,
        ratio=settings.ratio,
        generator=generator,
        fraction=settings.dilo_fraction,
        backgrounds=settings.dilo_backgrounds,
        flip=settings.flip,
    )


def _random_paste(
    bank: ImageBank, index: Tensor, images: Tensor, settings: ViewSettings, generator: torch.Generator
) -> Views:
    return random_paste(
        images,
        bank.gather(draw_others(index, len(bank), generator)),
        size=settings.size,
        crop_scale=settings.crop_scale,
        generator=generator,
        flip=settings.flip,
    )


def _leave_one_out(
    bank: ImageBank, index: Tensor, images: Tensor, settings: ViewSettings, generator: torch.Generator
) -> tuple[Views, ...]:
    return leave_one_out(
        images if settings.masks else images[:, :3],
        size=settings.size,
        scale=settings.crop_scale,
        ratio=settings.ratio,
        generator=generator,
        flip=settings.flip,
    )


def _patches(
    bank: ImageBank, index: Tensor, images: Tensor, settings: ViewSettings, generator: torch.Generator
) -> tuple[Views, ...]:
    # Smaller than other views, so that the network meets things at about the size they have in an image.
    return neighbouring_patches(images[:, :3], size=round(PATCH * settings.size), generator=generator)


VIEW_GENERATORS: dict[str, ViewGenerator] = {
    "random_resized_crop": ViewGenerator(_independent(_crop)),
    "saliency_swap": ViewGenerator(_independent(_swap_or_crop), others=True),
    "dilo": ViewGenerator(_independent(_dilo), others=True),
    "contrastive_crop": ViewGenerator(_independent(_contrastive_crop)),
    "random_paste": ViewGenerator(_independent(_random_paste), others=True),
    "leave_one_out": ViewGenerator(_leave_one_out, count=4, colour_of={2: 0}),
    "neighbouring_patches": ViewGenerator(_patches),
    "one_crop": ViewGenerator(_independent(_crop, 1), count=1),
}
"""Name -> view generator; a new one is one more line, here and in the catalogue."""


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
    """Makes the views of each reference of a batch, on the bank's device.

    Args:
        bank: images with saliency and boxes.
        view: name in VIEW_GENERATORS.
        augmentation: name in AUGMENTATIONS; its second recipe serves every view after the first.
        settings: what the view generators may need to know.

    Raises:
        CVSAError: on an unknown name, an impossible number, a bank too small to take another image from, or
            one that knows no object where the view needs it.
    """

    def __init__(self, bank: ImageBank, *, view: str, augmentation: str, settings: ViewSettings) -> None:
        _known("view", view, VIEW_GENERATORS)
        _known("augmentation", augmentation, AUGMENTATIONS)
        _known("view mask", settings.mask, MASKS)
        _known("swap_area", settings.swap_area, AREAS)
        _known("swap_backgrounds", settings.swap_backgrounds, SWAP_BACKGROUNDS)
        if (settings.swap_backgrounds == "scenes") != (settings.scenes is not None):
            raise CVSAError(
                "swap_backgrounds 'scenes' and a bank of scenes go together; give both or neither"
            )
        if not 0.0 < settings.swap_crop <= 1.0:
            raise CVSAError(
                f"swap_crop {settings.swap_crop} is not a share of the area; give a number in (0, 1]"
            )
        check_size(settings.size)
        for name in ("swap_probability", "flip", "dilo_fraction"):
            share = getattr(settings, name)
            if not 0.0 <= share <= 1.0:
                raise CVSAError(f"{name} {share} is not a probability; give a number in [0, 1]")
        self.bank = bank
        self.generator = VIEW_GENERATORS[view]
        if self.generator.others and len(bank) < 2:
            raise CVSAError(
                f"view {view!r} needs another image as background, but the bank holds {len(bank)}; add images"
            )
        if VIEWS[view].saliency and bank.no_object == len(bank):
            raise CVSAError(
                f"view {view!r} needs to know where the object is, and no image of the bank has a salient "
                "object; give masks, boxes or predicted maps, or take view random_resized_crop"
            )
        self.settings = replace(
            settings,
            scale=check_scale(settings.scale),
            ratio=check_ratio(settings.ratio),
            crop_scale=check_scale(settings.crop_scale),
        )
        self.view = view
        self.recipes = AUGMENTATIONS[augmentation]

    @torch.no_grad()
    def __call__(self, index: Tensor, generator: torch.Generator) -> tuple[Views, ...]:
        """Make the views of each reference.

        Args:
            index: (B,) int64, image numbers in the bank; on the CPU, as the generator, no GPU is waited for.
            generator: source of all randomness. On the CPU it makes the same views for every device, without
                waiting for a GPU.

        Returns:
            As many Views as the generator makes: images (B, 3, size, size) in [0, 1], masks (B, 1, size,
            size).
        """
        made = self.generator.make(self.bank, index, self.bank.gather(index), self.settings, generator)
        recipes = [self.recipes[min(number, 1)] for number in range(len(made))]
        changes = [recipe.draw(len(index), generator) for recipe in recipes]
        for view, source in self.generator.colour_of.items():
            changes[view] = changes[view].with_colour_of(changes[source])
        return tuple(
            replace(views, images=recipe.apply(views.images, change, reuse=True))
            for views, recipe, change in zip(made, recipes, changes, strict=True)
        )


def _known(what: str, name: str, allowed: Collection[str]) -> None:
    if name not in allowed:
        raise CVSAError(f"{what} {name!r} is unknown; choose one of {', '.join(allowed)}")
