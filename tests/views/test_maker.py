"""All views of a batch, from a bank."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.methods.catalogue import PATCH, VIEWS
from cvsa.views import AUGMENTATIONS, VIEW_GENERATORS, ViewMaker, ViewSettings, kernels, saliency_swap
from cvsa.views.maker import draw_others
from cvsa.views.swap import destinations


@dataclass
class ColourBank:
    """Image k is all of colour k outside its box and of colour k, brighter in blue, inside."""

    count: int = 12
    side: int = 16
    no_object: int = 0

    def __post_init__(self) -> None:
        self.device = torch.device("cpu")
        self.boxes = torch.tensor([[4.0, 5, 12, 13]]).repeat(self.count, 1)
        self.images = torch.zeros(self.count, 4, self.side, self.side, dtype=torch.uint8)
        self.images[:, 0] = (torch.arange(self.count) * 20)[:, None, None]
        self.images[:, 2:, 5:13, 4:12] = 255  # blue and saliency

    def __len__(self) -> int:
        return self.count

    def gather(self, index: Tensor) -> Tensor:
        return self.images[index].float() / 255


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maker(bank: ColourBank | None = None, **change: object) -> ViewMaker:
    given = {"view": "saliency_swap", "size": 16, "scale": 0.5, "augmentation": "none"} | change
    view, augmentation = str(given.pop("view")), str(given.pop("augmentation"))
    settings = ViewSettings(**given)  # type: ignore[arg-type]
    bank = bank or ColourBank()
    return ViewMaker(bank, view=view, augmentation=augmentation, settings=settings)  # type: ignore[arg-type]


def test_the_catalogue_and_the_generators_name_the_same_views() -> None:
    assert set(VIEWS) == set(VIEW_GENERATORS)


@pytest.mark.parametrize("augmentation", list(AUGMENTATIONS))
@pytest.mark.parametrize("view", list(VIEW_GENERATORS))
@pytest.mark.parametrize("size", [16, 11])
def test_views_have_the_promised_shape_and_range(view: str, augmentation: str, size: int) -> None:
    made = maker(ColourBank(side=24), view=view, augmentation=augmentation, size=size)(
        torch.arange(12), generator()
    )
    assert len(made) == VIEW_GENERATORS[view].count
    side = round(PATCH * size) if view == "neighbouring_patches" else size
    for views in made:
        assert views.images.shape == (12, 3, side, side) and views.masks.shape == (12, 1, side, side)
        assert views.images.dtype == views.masks.dtype == torch.float32
        assert views.images.min() >= 0 and views.images.max() <= 1
        assert views.masks.min() >= 0 and views.masks.max() <= 1


def test_foreground_is_the_references_and_backgrounds_are_two_others() -> None:
    index = torch.arange(12).repeat(20)
    first, second = maker()(index, generator())
    grounds = []
    for views in (first, second):
        colour = (views.images[:, 0] * 255 / 20).round()
        inside = views.masks[:, 0] == 1
        assert (colour == index[:, None, None])[inside].all()
        ground = colour[:, 0, 0].long()  # a corner
        assert (ground != index).all()
        assert (colour == ground[:, None, None])[~inside].all()
        grounds.append(ground)
        assert len(ground.unique()) == 12
    same = (grounds[0] == grounds[1]).float().mean()
    assert 0.02 < same < 0.2  # 1/11 by chance: drawn independently


def test_background_draws_are_uniform_over_the_others() -> None:
    index = torch.full((11000,), 3)
    counts = torch.bincount(draw_others(index, 12, generator()), minlength=12)
    assert counts[3] == 0
    rest = torch.cat([counts[:3], counts[4:]])
    assert ((rest - 1000).abs() < 5 * 1000**0.5).all()


@pytest.mark.parametrize("view", list(VIEW_GENERATORS))
def test_two_views_differ_and_the_generator_decides_everything(view: str) -> None:
    make = maker(ColourBank(side=24), view=view, augmentation="byol")
    made = make(torch.arange(12), generator(1))
    for views, again in zip(made, make(torch.arange(12), generator(1)), strict=True):
        assert torch.equal(views.images, again.images) and torch.equal(views.masks, again.masks)
    others = [make(torch.arange(12), generator(2))[0], *made[1:]]
    assert not any(torch.equal(made[0].images, other.images) for other in others)


def test_leaving_one_out_shares_colour_with_one_key_and_rotation_with_another() -> None:
    bank = ColourBank(count=40)
    bank.images[:, 0] = 128
    bank.images[:, 1:3] = 0
    bank.images[:, 1, :8] = 200  # green above: the side where it lies tells the rotation
    make = maker(bank, view="leave_one_out", augmentation="none", crop_scale=0.9)
    query, key, _, turned = make(torch.arange(40), generator())

    def side(images: Tensor) -> Tensor:
        green = images[:, 1]
        edges = [green[:, :4].mean((1, 2)), green[:, :, :4].mean((1, 2)), green[:, -4:].mean((1, 2))]
        return torch.stack([*edges, green[:, :, -4:].mean((1, 2))], 1).argmax(1)

    assert torch.equal(side(query.images), side(turned.images))
    assert 0.05 < float((side(query.images) == side(key.images)).float().mean()) < 0.55  # 1/4 by chance
    flat = ColourBank(count=40)
    flat.images[:, 1], flat.images[:, 2] = 90, 60
    query, key, same, _ = maker(flat, view="leave_one_out", augmentation="moco_v2")(
        torch.arange(40), generator()
    )
    middle = [views.images[:, :, 8, 8] for views in (query, key, same)]  # one colour, blur changes nothing
    torch.testing.assert_close(middle[0], middle[2], atol=1e-4, rtol=0)
    assert (middle[0] - middle[1]).abs().max() > 0.1


def test_swap_probability_mixes_in_random_resized_crops() -> None:
    index = torch.arange(12).repeat(50)
    first, _ = maker(swap_probability=0.3)(index, generator())
    colour = (first.images[:, 0] * 255 / 20).round()
    # A crop shows one image, a swap two.
    swapped = colour.amax((1, 2)) != colour.amin((1, 2))
    assert abs(float(swapped.float().mean()) - 0.3) < 0.08
    never, _ = maker(swap_probability=0.0)(index, generator())
    red = never.images[:, 0]
    torch.testing.assert_close(red, red[:, :1, :1].expand_as(red))


def test_masks_nobody_reads_are_ones_for_crops() -> None:
    first, _ = maker(view="random_resized_crop", masks=False)(torch.arange(12), generator())
    assert (first.masks == 1).all()
    first, _ = maker(view="random_resized_crop")(torch.arange(12), generator())
    assert 0 < first.masks.mean() < 1


def test_saliency_masks_are_the_references_own() -> None:
    bank = ColourBank()
    bank.images[:, 3] = 0
    bank.images[:, 3, 5:13, 4:8] = 255  # the left half of each box
    first, _ = maker(bank, mask="saliency", scale=1.0, ratio=(1.0, 1.0), flip=0.0)(
        torch.arange(12), generator()
    )
    assert (first.masks[:, 0, 5:13, 4:7] == 1).all()
    assert first.masks[:, 0, 5:13, 9:].max() == 0 and first.masks[:, 0, :5].max() == 0


@pytest.fixture(params=["compiled", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the compiled loops, and by the torch operations."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "available", lambda: False)


@pytest.mark.parametrize("size", [16, 11])
def test_a_blank_is_one_colour_a_view_with_the_destination_of_another_image(size: int, path: None) -> None:
    bank = ColourBank()
    bank.boxes = torch.tensor([[k / 2, k / 2, k / 2 + 8, k / 2 + 8] for k in range(12)])
    index = torch.arange(12).repeat(10)
    first, second = maker(bank, swap_backgrounds="blank", size=size, flip=0.0)(index, generator())
    colours = []
    for views in (first, second):
        outside = views.masks == 0
        colour = torch.stack(
            [image[:, mask[0]][:, 0] for image, mask in zip(views.images, outside, strict=True)]
        )
        plain = colour[:, :, None, None].expand_as(views.images)
        torch.testing.assert_close(views.images * outside, plain * outside)
        assert colour.std(0).min() > 0.2 and colour.min() < 0.1 and colour.max() > 0.9
        colours.append(colour)
    assert (colours[0] - colours[1]).abs().mean() > 0.2
    other = draw_others(index, 12, generator())
    wanted = destinations(bank.boxes[other], 16, 16, size)
    filled = first.masks[:, 0]
    assert torch.equal(filled.any(1).float().argmax(1).float(), wanted[:, 0])
    torch.testing.assert_close(filled.sum((1, 2)), (wanted[:, 2:] - wanted[:, :2]).prod(1))


def test_backgrounds_and_destinations_of_scenes_are_the_scenes_own(path: None) -> None:
    scenes = ColourBank(count=5, side=20)
    scenes.images[:, :3] = 0
    scenes.images[:, 1] = (51 * (torch.arange(5) + 1))[:, None, None]  # green, where the references have none
    scenes.boxes = torch.tensor([[k, 2.0, k + 6, 18] for k in range(5)])
    index = torch.arange(12).repeat(20)
    first, second = maker(size=20, swap_backgrounds="scenes", scenes=scenes, flip=0.0)(index, generator())
    drawn = []
    for views in (first, second):
        scene = (views.images[:, 1, 0, 0] * 5).round().long() - 1
        assert torch.bincount(scene, minlength=5).min() > 20
        for image, mask, k in zip(views.images, views.masks[:, 0], scene.tolist(), strict=True):
            expected = torch.zeros(20, 20)
            expected[2:18, k : k + 6] = 1
            assert torch.equal(mask, expected)
            torch.testing.assert_close(image[1], (1 - mask) * (k + 1) / 5)
            assert (image[[0, 2]] * (1 - mask)).max() == 0
        drawn.append(scene)
    assert 0.05 < float((drawn[0] == drawn[1]).float().mean()) < 0.4  # 1/5 by chance: drawn independently


@pytest.mark.parametrize("mask", ["rectangle", "saliency"])
def test_a_crop_of_the_swap_moves_image_and_mask_as_one(mask: str, path: None) -> None:
    bank = ColourBank()
    bank.images[:] = 0
    bank.images[:, :, 5:13, 4:12] = 255  # white objects on black
    index = torch.arange(12).repeat(5)
    plain, cropped = (
        maker(bank, scale=1.0, swap_crop=share, mask=mask, size=16)(index, generator())
        for share in (1.0, 0.5)
    )
    assert not any(torch.equal(a.masks, b.masks) for a, b in zip(plain, cropped, strict=True))
    for views in cropped:
        torch.testing.assert_close(views.images, views.masks.expand(-1, 3, -1, -1))
        assert views.masks.mean((1, 2, 3)).max() > 0.3 > plain[0].masks.mean()  # nearer, so larger


def test_no_crop_of_the_swap_draws_nothing() -> None:
    before, after = generator(3), generator(3)
    bank, index = ColourBank(), torch.arange(12)
    views = maker(bank, swap_crop=1.0)(index, after)
    for made in views:
        other = draw_others(index, 12, before)
        swapped = saliency_swap(
            bank.gather(index), bank.boxes[index], bank.gather(other), bank.boxes[other],
            size=16, scale=0.5, generator=before, flip=0.5,
        )  # fmt: skip
        assert torch.equal(made.images, swapped.images) and torch.equal(made.masks, swapped.masks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"view": "mosaic"}, "random_resized_crop, saliency_swap"),
        ({"dilo_fraction": -0.1}, "dilo_fraction"),
        ({"bank": ColourBank(no_object=12)}, "no image of the bank has a salient object"),
        ({"augmentation": "heavy"}, "byol, moco_v2, simclr, none"),
        ({"mask": "ellipse"}, "rectangle, saliency"),
        ({"swap_probability": 1.5}, "swap_probability"),
        ({"swap_area": "object"}, "box, image"),
        ({"swap_crop": 0.0}, "swap_crop"),
        ({"swap_backgrounds": "sky"}, "same, scenes, blank"),
        ({"swap_backgrounds": "scenes"}, "a bank of scenes"),
        ({"scenes": ColourBank()}, "a bank of scenes"),
        ({"scale": 0.0}, "scale"),
        ({"bank": ColourBank(count=1)}, "another image"),
    ],
)
def test_mistakes_are_one_clear_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(CVSAError, match=message) as error:
        maker(**change)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
