"""Rel-Loc's patches against per-image PIL crops, and what their labels promise."""

import math

import pytest
import torch
from views_support import generator, noise, pil_crop

from cvsa.errors import CVSAError
from cvsa.views.patches import neighbouring_patches, patch_side, sample_patches

GAP, JITTER = 48 / 96, 7 / 96
# Right and down, by label: row by row from the top left, without the centre.
STEPS = [(-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)]


@pytest.mark.parametrize(("side", "size"), [(48, 48), (48, 9), (96, 20)])
def test_patches_equal_the_oracle(side: int, size: int) -> None:
    images = noise(1, 24, side)
    views = neighbouring_patches(images, size=size, grey=0.0, generator=generator(7))
    *boxes, labels = sample_patches(24, side, side, GAP, JITTER, generator(7))
    for view, box in zip(views, boxes, strict=True):
        assert torch.equal(view.labels, labels) and view.labels.dtype == torch.int64
        assert torch.equal(view.masks, torch.ones(24, 1, size, size))
        for image, corners, ours in zip(images[:, :3], box.tolist(), view.images, strict=True):
            assert (ours - pil_crop(image, corners, size)).abs().max() < 1e-4


@pytest.mark.parametrize("side", [32, 48, 128])
def test_labels_say_where_the_neighbour_lies(side: int) -> None:
    place = (torch.arange(side) + 0.5) / side
    image = torch.stack(
        [place.expand(side, side), place[:, None].expand(side, side), torch.zeros(side, side)]
    )
    centre, neighbour = neighbouring_patches(
        image.expand(400, 3, side, side), size=16, grey=0.0, generator=generator()
    )
    assert set(centre.labels.tolist()) == set(range(8))
    patch = patch_side(side, side, GAP, JITTER) / side
    shift = (neighbour.images - centre.images)[:, :2].mean((2, 3))  # right, down, as shares of the image
    wanted = torch.tensor(STEPS)[centre.labels] * (1 + GAP) * patch
    slack = 2 * JITTER * patch + 0.5 / side  # jitter of both; half a pixel where a patch starts within one
    assert (shift - wanted).abs().max() <= slack
    assert (shift - wanted).abs().max() > 0.6 * 2 * JITTER * patch  # and there is jitter


def test_patches_stay_apart_and_fill_the_image() -> None:
    centre, neighbour, labels = sample_patches(8000, 96, 96, GAP, JITTER, generator())
    both = torch.cat([centre, neighbour])
    side = patch_side(96, 96, GAP, JITTER)
    assert side == pytest.approx(96 / (3 + 2 * 0.5 + 2 * 7 / 96))
    assert both.min() >= 0 and both.max() <= 96 + 1e-4
    assert both.min() < 0.1 and both.max() > 95.9
    torch.testing.assert_close(both[:, 2:] - both[:, :2], torch.full((16000, 2), side))
    apart = torch.maximum(neighbour[:, :2] - centre[:, 2:], centre[:, :2] - neighbour[:, 2:]).amax(1)
    assert apart.min() >= (GAP - 2 * JITTER) * side - 1e-3
    assert (labels.bincount() / 8000 - 1 / 8).abs().max() < 0.015
    middle = (centre[:, :2] + side / 2 - 48) / (JITTER * side)  # uniform in [-1, 1]
    assert middle.abs().max() <= 1 + 1e-3 and abs(float(middle.std()) - 1 / math.sqrt(3)) < 0.02


@pytest.mark.parametrize("grey", [0.0, 0.66, 1.0])
def test_a_share_of_the_images_is_grey_in_both_patches(grey: float) -> None:
    images = noise(1, 600, 32, 3)
    kept = images.clone()
    views = neighbouring_patches(images, size=6, grey=grey, generator=generator())
    first, second = ((view.images.amax(1) - view.images.amin(1)).amax((1, 2)) < 1e-5 for view in views)
    assert torch.equal(first, second)
    assert abs(float(first.float().mean()) - grey) < (0.06 if 0 < grey < 1 else 1e-9)
    assert torch.equal(images, kept)
    coloured = neighbouring_patches(images, size=6, grey=0.0, generator=generator())[0].images
    luma = (coloured * torch.tensor([0.2989, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(views[0].images[first], luma.expand(-1, 3, -1, -1)[first], atol=2e-4, rtol=0)


def test_without_jitter_the_grid_is_exact() -> None:
    centre, neighbour, labels = sample_patches(50, 40, 40, 0.5, 0.0, generator())
    assert torch.equal(centre, torch.tensor([15.0, 15, 25, 25]).expand(50, 4))
    torch.testing.assert_close(neighbour[:, :2] - 15, torch.tensor(STEPS)[labels] * 15.0)


def test_same_seed_same_views() -> None:
    pairs = [neighbouring_patches(noise(1, 9, 40), size=16, generator=generator(s)) for s in (3, 3, 4)]
    for first, again, other in zip(*pairs, strict=True):
        assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
        assert not torch.equal(first.images, other.images)
        assert first.images.shape == (9, 3, 16, 16) and 0 <= first.images.min() <= first.images.max() <= 1


def test_bad_input_is_refused() -> None:
    good = noise(1, 3, 32)
    for images, extra, message in [
        (good[:, :2], {}, "images has shape"),
        (good, {"size": 0}, "view size 0"),
        (good, {"jitter": 0.3}, "let patches touch"),
        (good, {"jitter": -0.1}, "let patches touch"),
        (good, {"gap": math.nan}, "let patches touch"),
        (good, {"gap": math.inf}, "let patches touch"),
        (good, {"grey": 1.5}, "grey 1.5"),
        (good[..., :8, :8], {}, "8 x 8 pixels leave 1.9 .* at least 17 pixels"),
    ]:
        with pytest.raises(CVSAError, match=message):
            neighbouring_patches(images, **{"size": 8, "generator": generator()} | extra)
    assert neighbouring_patches(noise(1, 3, 17), size=8, generator=generator())[0].images.isfinite().all()
