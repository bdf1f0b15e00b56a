"""Saliency Swap against a per-image PIL oracle, and the properties it promises."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.views import kernels, saliency_swap
from cvsa.views.swap import clean_boxes, destinations, sample_box_crops

RATIO = (3 / 4, 4 / 3)


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test by the compiled loops, and by the torch operations."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "available", lambda: False)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(seed: int, batch: int, side: int, channels: int = 4) -> Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (batch, channels, side, side))
    return torch.from_numpy(pixels.astype(np.float32)) / 255


def random_boxes(seed: int, batch: int, side: int) -> Tensor:
    """Whole-pixel boxes, the degenerate ones first."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, side - 1, (batch, 2))
    far = corner + 1 + rng.integers(0, side, (batch, 2))
    boxes = torch.from_numpy(np.concatenate([corner, np.minimum(far, side)], 1)).float()
    special = [[0, 0, side, side], [5, 6, 6, 7], [0, 0, 1, 1], [side - 1, side - 1, side, side], [4, 4, 4, 9],
               [9, 9, 3, 3], [math.nan] * 4, [-5, -9, 8, 9], [side - 6, 3, side + 9, side + 1],
               [side + 2, 0, side + 5, 9]]  # fmt: skip
    boxes[: len(special)] = torch.tensor(special)
    return boxes


def oracle_box(box: list[float], side: int) -> list[float]:
    if any(math.isnan(v) for v in box):
        return [0, 0, side, side]
    x1, y1, x2, y2 = (min(max(v, 0), side) for v in box)
    return [x1, y1, x2, y2] if x2 > x1 and y2 > y1 else [0, 0, side, side]


def to_pil(plane: Tensor) -> Image.Image:
    return Image.fromarray((plane.numpy() * 255).round().astype(np.uint8))


def from_pil(images: list[Image.Image]) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images]).astype(np.float32)) / 255


def oracle(
    reference: Tensor, crop: list[float], background: Tensor, box: list[float], size: int
) -> tuple[Tensor, Tensor]:
    """One view and its saliency, naively: resize the background, resize the crop, paste."""
    side = background.shape[-1]
    x1, y1, x2, y2 = oracle_box(box, side)
    left, top = math.floor(x1 * size / side), math.floor(y1 * size / side)
    right, bottom = math.ceil(x2 * size / side), math.ceil(y2 * size / side)
    scene = [to_pil(plane).resize((size, size), Image.Resampling.BILINEAR) for plane in background[:3]]
    scene.append(Image.new("L", (size, size)))
    cut = (math.floor(crop[0]), math.floor(crop[1]), math.ceil(crop[2]), math.ceil(crop[3]))
    inner = (crop[0] - cut[0], crop[1] - cut[1], crop[2] - cut[0], crop[3] - cut[1])
    for target, plane in zip(scene, reference, strict=True):
        patch = (
            to_pil(plane).crop(cut).resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=inner)
        )
        target.paste(patch, (left, top))
    out = from_pil(scene)
    return out[:3], out[3:]


@pytest.mark.parametrize("size", [24, 12, 36])
@pytest.mark.parametrize("mask", ["rectangle", "saliency"])
def test_views_equal_the_oracle(size: int, mask: str) -> None:
    side, batch = 24, 40
    reference, background = noise(1, batch, side), noise(2, batch, side)
    own, other = random_boxes(3, batch, side), random_boxes(4, batch, side)
    views = saliency_swap(
        reference,
        own,
        background,
        other,
        size=size,
        scale=0.3,
        ratio=RATIO,
        generator=generator(7),
        mask=mask,
    )
    crops = sample_box_crops(clean_boxes(own, side, side), 0.3, RATIO, generator(7)).tolist()
    for k in range(batch):
        image, saliency = oracle(reference[k], crops[k], background[k], other[k].tolist(), size)
        x1, y1, x2, y2 = (v * size / side for v in oracle_box(other[k].tolist(), side))
        rectangle = torch.zeros(1, size, size)
        rectangle[:, math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)] = 1
        if mask == "rectangle":
            assert torch.equal(views.masks[k], rectangle)
        else:
            assert (views.masks[k] - saliency).abs().max() <= 1.5 / 255
        difference = (views.images[k] - image).abs()
        if size != side:  # beside the patch the oracle shows a halo of the replaced object, and we must not
            reach = math.ceil(max(1, size / side))
            near = torch.nn.functional.max_pool2d(rectangle[None], 2 * reach + 1, 1, reach)[0]
            difference = difference * (1 - near + rectangle)
        assert difference.max() <= 1.5 / 255


def test_background_at_its_own_size_is_untouched() -> None:
    reference, background = noise(1, 40, 20), noise(2, 40, 20)
    own, other = random_boxes(3, 40, 20), random_boxes(4, 40, 20)
    views = saliency_swap(
        reference, own, background, other, size=20, scale=0.5, ratio=RATIO, generator=generator()
    )
    outside = 1 - views.masks
    assert torch.equal(views.images * outside, background[:, :3] * outside)
    assert torch.equal(background, noise(2, 40, 20))  # nor is the caller's tensor


@pytest.mark.parametrize(("side", "size"), [(32, 32), (32, 16), (32, 64), (32, 23), (20, 27)])
def test_no_pixel_of_the_replaced_object_shows(side: int, size: int) -> None:
    batch = 60
    other = random_boxes(5, batch, side)
    background = torch.zeros(batch, 4, side, side)
    for image, box in zip(background, other.tolist(), strict=True):
        x1, y1, x2, y2 = (int(v) for v in oracle_box(box, side))
        image[0, y1:y2, x1:x2] = 1  # red object on black
    reference = torch.zeros(batch, 4, side, side)
    reference[:, 1] = 1  # all green
    views = saliency_swap(
        reference,
        random_boxes(6, batch, side),
        background,
        other,
        size=size,
        scale=0.5,
        ratio=RATIO,
        generator=generator(),
    )
    assert views.images[:, 0].max() <= 1e-5
    torch.testing.assert_close(
        views.images[:, 1:2], views.masks
    )  # the patch is there, whole and nowhere else


def test_the_patch_shows_only_the_reference_box() -> None:
    reference = torch.zeros(30, 4, 24, 24)
    own = random_boxes(8, 30, 24)[10:]
    reference, other = reference[10:], random_boxes(9, 30, 24)[10:]
    for image, box in zip(reference, own.int().tolist(), strict=True):
        image[1, box[1] : box[3], box[0] : box[2]] = 1
    background = torch.zeros(20, 4, 24, 24)
    views = saliency_swap(
        reference, own, background, other, size=24, scale=0.4, ratio=RATIO, generator=generator()
    )
    torch.testing.assert_close(views.images[:, 1:2], views.masks)


def test_crops_follow_their_law() -> None:
    boxes = torch.tensor([[10.0, 5, 50, 25]]).repeat(6000, 1)
    crops = sample_box_crops(boxes, 0.4, RATIO, generator())
    assert (crops[:, :2] >= boxes[:, :2]).all() and (crops[:, 2:] <= boxes[:, 2:]).all()
    w, h = (crops[:, 2] - crops[:, 0]) / 40, (crops[:, 3] - crops[:, 1]) / 20
    area, factor = w * h, w / h
    assert area.min() >= 0.4 - 1e-4 and area.max() <= 1 + 1e-4
    assert abs(float(area.mean()) - 0.7) < 0.01 and abs(float(area.std()) - 0.6 / math.sqrt(12)) < 0.01
    assert RATIO[0] - 1e-4 <= factor.min() and factor.max() <= RATIO[1] + 1e-4
    assert abs(float(factor.log().mean())) < 0.01
    slack = 40 * (1 - w)
    place = ((crops[:, 0] - 10) / slack)[slack > 1]
    assert abs(float(place.mean()) - 0.5) < 0.02 and abs(float(place.std()) - 1 / math.sqrt(12)) < 0.02


def test_scale_one_takes_the_whole_box_and_a_range_is_kept() -> None:
    boxes = clean_boxes(random_boxes(1, 50, 30), 30, 30)
    torch.testing.assert_close(sample_box_crops(boxes, 1.0, RATIO, generator()), boxes, atol=1e-4, rtol=0)
    crops = sample_box_crops(boxes, (0.2, 0.3), (2.0, 2.0), generator())
    sizes = (crops[:, 2:] - crops[:, :2]) / (boxes[:, 2:] - boxes[:, :2])
    assert sizes.prod(1).min() >= 0.2 - 1e-3 and sizes.prod(1).max() <= 0.3 + 1e-3
    torch.testing.assert_close(sizes[:, 0] / sizes[:, 1], torch.full((50,), 2.0), atol=1e-3, rtol=0)


def test_an_area_of_the_image_is_capped_by_the_box() -> None:
    boxes = torch.tensor([[10.0, 5, 50, 25]]).repeat(6000, 1)  # half of an image of 40 x 40
    drawn = sample_box_crops(boxes, 0.2, RATIO, generator(), whole=1600.0)
    assert (drawn[:, :2] >= boxes[:, :2]).all() and (drawn[:, 2:] <= boxes[:, 2:]).all()
    area = (drawn[:, 2:] - drawn[:, :2]).prod(1) / 1600
    # a ~ U(0.2, 1): the whole box where a exceeds one half, in 5 of 8 draws, else exactly a.
    whole = area > 0.5 - 1e-4
    assert abs(float(whole.float().mean()) - 5 / 8) < 0.03
    torch.testing.assert_close(drawn[whole], boxes[whole], atol=1e-3, rtol=0)
    assert area.min() >= 0.2 - 1e-4 and abs(float(area[~whole].mean()) - 0.35) < 0.01
    # The same draws as of the box: a whole image's box makes no difference between the readings.
    full = torch.tensor([[0.0, 0, 40, 40]]).repeat(50, 1)
    both = [sample_box_crops(full, 0.3, RATIO, generator(1), whole) for whole in (None, 1600.0)]
    torch.testing.assert_close(*both)


@pytest.mark.parametrize("side", [24, 40])
def test_the_readings_of_the_area_reach_the_views(side: int) -> None:
    """A ramp in the reference tells from each view how much of the box its crop spans."""
    reference = (torch.arange(side) / side).repeat(400, 4, side, 1)
    box = torch.tensor([[side / 4, side / 4, 3 * side / 4, 3 * side / 4]]).repeat(400, 1)
    background, whole = torch.zeros(400, 3, 48, 48), torch.tensor([[0.0, 0, 48, 48]]).repeat(400, 1)

    def spans(area: str) -> Tensor:
        views = saliency_swap(
            reference, box, background, whole, size=48, scale=0.3, ratio=(1, 1), generator=generator(),
            area=area,
        )  # fmt: skip
        return (views.images[:, 0, 24, -1] - views.images[:, 0, 24, 0]) * 2  # share of the box's width

    ours, other = spans("box"), spans("image")
    assert float(other.min()) > 0.85  # a quarter of the image is less than 0.3 of it: always the whole box
    assert float(ours.min()) < 0.65 and abs(float(ours.mean()) - float(other.mean())) > 0.1


def test_destinations_are_whole_pixels_around_the_box() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.6, 0.6], [3, 3, 9, 9], [29.9, 0, 30, 30]])
    expected = torch.tensor([[0.0, 0, 1, 1], [1, 1, 3, 3], [9, 0, 10, 10]])
    assert torch.equal(destinations(boxes, 30, 30, 10), expected)


def test_flip_mirrors_view_and_mask_together() -> None:
    for size in (20, 13):
        reference, background = noise(1, 40, 20), noise(2, 40, 20)
        own, other = random_boxes(3, 40, 20), random_boxes(4, 40, 20)
        plain, mirrored = (
            saliency_swap(
                reference, own, background, other, size=size, scale=1.0, ratio=(1, 1), generator=generator(),
                flip=flip, mask="saliency",
            )
            for flip in (0.0, 1.0)
        )  # fmt: skip
        torch.testing.assert_close(mirrored.images, plain.images.flip(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(mirrored.masks, plain.masks.flip(3), atol=1e-5, rtol=0)


def test_the_generator_decides_everything() -> None:
    arguments = (noise(1, 12, 16), random_boxes(2, 12, 16), noise(3, 12, 16), random_boxes(4, 12, 16))
    first, again, other = (
        saliency_swap(*arguments, size=16, scale=0.3, ratio=RATIO, generator=generator(s)).images
        for s in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 1.2}, "scale"),
        ({"mask": "circle"}, "rectangle, saliency"),
        ({"area": "object"}, "box, image"),
        ({"background": torch.zeros(3, 4, 8, 8)}, "2 references"),
        ({"reference_boxes": torch.zeros(2, 3)}, "reference_boxes"),
        ({"reference": torch.zeros(2, 3, 8, 8), "mask": "saliency"}, "4 channels"),
    ],
)
def test_mistakes_are_one_clear_line(change: dict[str, object], message: str) -> None:
    arguments = {
        "reference": torch.zeros(2, 4, 8, 8), "reference_boxes": torch.zeros(2, 4),
        "background": torch.zeros(2, 4, 8, 8), "background_boxes": torch.zeros(2, 4),
        "size": 8, "scale": 0.5, "ratio": RATIO,
    } | change  # fmt: skip
    if len(arguments["background"]) == 3:  # type: ignore[arg-type]
        arguments["background_boxes"] = torch.zeros(2, 4)
    with pytest.raises(CVSAError, match=message):
        saliency_swap(generator=generator(), **arguments)  # type: ignore[arg-type]
