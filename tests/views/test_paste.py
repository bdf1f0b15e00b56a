"""InsLoc's random paste against a per-image PIL oracle, and the properties it promises."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from views_support import generator, noise

from cvsa.errors import CVSAError
from cvsa.views.crop import sample_crops
from cvsa.views.paste import random_paste, sample_places
from cvsa.views.types import coins

RATIO = (1 / 2, 2.0)
PASTE = (0.5, 255 / 256)


def to_pil(plane: Tensor) -> Image.Image:
    return Image.fromarray(plane.numpy())


def oracle(
    reference: Tensor, crop: list[float], background: Tensor, place: list[int], size: int, mirror: bool
) -> Tensor:
    """One view, naively: resize the background, resize the crop, paste, mirror."""
    left, top, right, bottom = place
    cut = (math.floor(crop[0]), math.floor(crop[1]), math.ceil(crop[2]), math.ceil(crop[3]))
    inner = (crop[0] - cut[0], crop[1] - cut[1], crop[2] - cut[0], crop[3] - cut[1])
    planes = []
    for source, scene in zip(reference[:3], background[:3], strict=True):
        view = to_pil(scene).resize((size, size), Image.Resampling.BILINEAR)
        shape = (right - left, bottom - top)
        view.paste(to_pil(source).crop(cut).resize(shape, Image.Resampling.BILINEAR, box=inner), (left, top))
        planes.append(np.fliplr(np.asarray(view)) if mirror else np.asarray(view))
    return torch.from_numpy(np.stack(planes))


@pytest.mark.parametrize(("side", "size"), [(32, 32), (32, 20), (24, 50)])
def test_views_equal_the_oracle(side: int, size: int) -> None:
    batch = 30
    reference, background = noise(1, batch, side), noise(2, batch, side + 3 * (size == 20), 3)
    views = random_paste(reference, background, size=size, generator=generator(7), flip=0.5)
    same = generator(7)
    crops = sample_crops(batch, side, side, 0.2, RATIO, same)
    places = sample_places(crops, size, PASTE, same)
    mirrored = coins(batch, 0.5, same, torch.device("cpu")).tolist()
    assert 0 < sum(mirrored) < batch
    for k, place in enumerate(places.int().tolist()):
        expected = oracle(reference[k], crops[k].tolist(), background[k], place, size, mirrored[k])
        assert (views.images[k] - expected).abs().max() < 1e-4
        x1, y1, x2, y2 = place
        if mirrored[k]:
            x1, x2 = size - x2, size - x1
        assert views.boxes[k].tolist() == [x1, y1, x2, y2]


@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
def test_the_patch_is_its_box_and_the_rest_the_untouched_background(flip: float) -> None:
    reference, background = torch.ones(40, 3, 24, 24), noise(2, 40, 24) * 0.9
    kept = background.clone()
    views = random_paste(reference, background, size=24, generator=generator(1), flip=flip)
    for image, mask, box, scene in zip(
        views.images, views.masks, views.boxes.int().tolist(), background, strict=True
    ):
        expected = torch.zeros(1, 24, 24)
        expected[:, box[1] : box[3], box[0] : box[2]] = 1
        assert torch.equal(mask, expected)
        torch.testing.assert_close(image * mask, mask.expand(3, -1, -1))
        rest = [scene[:3], scene[:3].flip(2)]
        assert any(torch.equal(image * (1 - mask), other * (1 - mask)) for other in rest)
    assert torch.equal(background, kept)


def test_boxes_hold_whole_pixels_within_the_view() -> None:
    views = random_paste(noise(1, 500, 8), noise(2, 500, 8), size=15, generator=generator(), flip=0.5)
    assert torch.equal(views.boxes, views.boxes.round())
    assert views.boxes.min() >= 0 and views.boxes.max() <= 15
    assert (views.boxes[:, 2:] - views.boxes[:, :2]).min() >= 1
    area = (views.boxes[:, 2:] - views.boxes[:, :2]).prod(1)
    assert torch.equal(views.masks.sum((1, 2, 3)), area)


def test_places_follow_their_law() -> None:
    crops = torch.tensor([[3.0, 4, 35, 20]]).repeat(6000, 1)  # twice as wide as high
    places = sample_places(crops, 256, PASTE, generator())
    w, h = (places[:, 2:] - places[:, :2]).T
    assert ((w / h - 2).abs() < 0.04).all()  # aspect kept, but for the rounding to whole pixels
    assert w.max() <= 255 and w.min() >= 128
    assert h.min() >= 64 and h.max() <= 128
    square = sample_places(torch.tensor([[0.0, 0, 9, 9]]).repeat(6000, 1), 256, PASTE, generator(1))
    w, h = (square[:, 2:] - square[:, :2]).T
    assert torch.equal(w, h) and w.min() >= 128
    assert abs(float(w.mean()) - (128 + 127 / 3)) < 2  # the smaller of two uniform draws
    slack = 256 - w
    share = (square[:, 0] / slack)[slack > 20]
    assert abs(float(share.mean()) - 0.5) < 0.02 and abs(float(share.std()) - 1 / math.sqrt(12)) < 0.02
    assert share.min() == 0 and share.max() == 1


def test_same_seed_same_views() -> None:
    first, again, other = (
        random_paste(noise(1, 9, 20), noise(2, 9, 20), size=16, generator=generator(s), flip=0.5)
        for s in (3, 3, 4)
    )
    assert torch.equal(first.images, again.images) and torch.equal(first.boxes, again.boxes)
    assert not torch.equal(first.boxes, other.boxes)


def test_tiny_images_and_the_largest_patch() -> None:
    for side in (1, 2, 3):
        views = random_paste(noise(1, 5, side), noise(2, 5, side), size=4, generator=generator())
        assert views.images.isfinite().all() and views.images.shape == (5, 3, 4, 4)
    whole = random_paste(
        noise(1, 5, 16), noise(2, 5, 16), size=16, crop_scale=1.0, ratio=(1.0, 1.0), paste_size=(1.0, 1.0),
        generator=generator(),
    )  # fmt: skip
    torch.testing.assert_close(whole.images, noise(1, 5, 16)[:, :3])
    assert (whole.boxes == torch.tensor([0.0, 0, 16, 16])).all()


def test_bad_input_is_refused() -> None:
    good = noise(1, 3, 8)
    for reference, background, extra, message in [
        (good[0], good, {}, "reference has shape"),
        (good, good[:, :2], {}, "background has shape"),
        (good, good[:2], {}, "3 references need as many backgrounds, got 2"),
        (good, good, {"paste_size": (0.5, 1.1)}, "paste_size"),
        (good, good, {"paste_size": (0.0, 0.5)}, "paste_size"),
        (good, good, {"size": 0}, "view size 0"),
        (good, good, {"ratio": (2.0, 1.0)}, "ratio"),
    ]:
        with pytest.raises(CVSAError, match=message):
            random_paste(reference, background, **{"size": 8, "generator": generator()} | extra)
