"""ContrastiveCrop against a naive per-image version on the same draws, and the law of its places."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest
from torch import Tensor
from views_support import generator, noise, pil_crop

from cvsa.errors import CVSAError
from cvsa.views.contrastive_crop import contrastive_crop, sample_object_crops, symmetric_beta
from cvsa.views.crop import sample_crops

RATIO = (3 / 4, 4 / 3)
CPU = torch.device("cpu")


def random_boxes(seed: int, batch: int, side: int) -> Tensor:
    corner = torch.rand(batch, 2, generator=generator(seed)) * (side - 4)
    extent = 1 + torch.rand(batch, 2, generator=generator(seed + 1)) * (side - 1 - corner)
    return torch.cat([corner, corner + extent], 1)


def naive_corner(low: float, high: float, length: float, side: float, way: float) -> float:
    """One axis: the corner between the two that centre the crop on the box's edges, clipped to the image."""
    first = min(max(low - length / 2, 0), side - length)
    last = min(max(high - length / 2, 0), side - length)
    return first + (last - first) * way


@pytest.mark.parametrize("size", [32, 20, 40])
def test_views_equal_the_oracle(size: int) -> None:
    batch, side = 30, 32
    images, boxes = noise(1, batch, side), random_boxes(2, batch, side)
    boxes[0] = torch.tensor([0.0, 0, side, side])
    boxes[1] = torch.tensor([31.0, 31, 32, 32])
    views = contrastive_crop(images, boxes, size=size, generator=generator(7))
    same = generator(7)
    drawn = sample_crops(batch, side, side, (0.2, 1.0), RATIO, same).tolist()
    ways = symmetric_beta((batch, 2), 0.6, same, CPU).tolist()
    for k, (x1, y1, x2, y2) in enumerate(drawn):
        w, h = x2 - x1, y2 - y1
        left, top, right, bottom = boxes[k].tolist()
        x = naive_corner(left, right, w, side, ways[k][0])
        y = naive_corner(top, bottom, h, side, ways[k][1])
        expected = pil_crop(images[k], [x, y, min(x + w, side), min(y + h, side)], size)
        assert (views.images[k] - expected[:3]).abs().max() < 2e-4
        assert (views.masks[k] - expected[3:]).abs().max() < 2e-4


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.6, 1.0, 4.0])
def test_symmetric_beta_follows_its_law(alpha: float) -> None:
    draw = symmetric_beta((20000,), alpha, generator(), CPU)
    assert draw.min() >= 0 and draw.max() <= 1
    # At small alpha a good part of the law lies closer to 1 than single precision can tell: fold it.
    folded = torch.minimum(draw, 1 - draw).double().numpy()
    resolved = folded[folded > 1e-6]
    law = beta(alpha, alpha)
    assert abs(len(resolved) / 20000 - (1 - 2 * law.cdf(1e-6))) < 0.02

    def folded_law(x: np.ndarray) -> np.ndarray:
        return (law.cdf(x) - law.cdf(1e-6)) / (0.5 - law.cdf(1e-6))

    assert kstest(resolved, folded_law).pvalue > 1e-3
    assert abs(float((draw > 0.5).float().mean()) - 0.5) < 0.015


def test_crops_stay_in_the_image_and_their_centres_in_the_box() -> None:
    boxes = torch.tensor([[40.0, 45, 60, 58]]).repeat(8000, 1)
    crops = sample_object_crops(boxes, 100, 100, (0.1, 0.3), RATIO, 0.6, generator())
    assert crops.min() >= 0 and crops.max() <= 100
    w, h = (crops[:, 2:] - crops[:, :2]).T
    area = w * h / 10000
    assert area.min() >= 0.1 - 1e-4 and area.max() <= 0.3 + 1e-4
    assert (w / h).min() >= RATIO[0] - 1e-4 and (w / h).max() <= RATIO[1] + 1e-4
    centre = (crops[:, :2] + crops[:, 2:]) / 2
    assert (centre >= boxes[:, :2] - 1e-3).all() and (centre <= boxes[:, 2:] + 1e-3).all()
    share = (centre - boxes[:, :2]) / (boxes[:, 2:] - boxes[:, :2])
    assert (share.mean(0) - 0.5).abs().max() < 0.02
    assert (share.var(0) - 1 / (4 * (2 * 0.6 + 1))).abs().max() < 0.005  # Beta's variance
    uniform_share = 0.2
    outer = ((share < 0.1) | (share > 0.9)).float().mean(0)
    assert (outer > 1.5 * uniform_share).all()  # pushed outward, compared with alpha = 1
    even = sample_object_crops(boxes, 100, 100, (0.1, 0.3), RATIO, 1.0, generator())
    share = ((even[:, :2] + even[:, 2:]) / 2 - boxes[:, :2]) / (boxes[:, 2:] - boxes[:, :2])
    assert (((share < 0.1) | (share > 0.9)).float().mean(0) - uniform_share).abs().max() < 0.02


def test_crops_show_more_of_the_object_than_random_ones() -> None:
    images = torch.zeros(500, 4, 40, 40)
    images[:, 3, 4:14, 22:36] = 1
    boxes = torch.tensor([[22.0, 4, 36, 14]]).repeat(500, 1)
    aimed = contrastive_crop(images, boxes, size=20, generator=generator())
    random = contrastive_crop(images, torch.zeros(500, 4), size=20, alpha=1.0, generator=generator())
    assert (aimed.masks.amax((1, 2, 3)) > 0.1).all()
    assert aimed.masks.mean() > 1.3 * random.masks.mean()


def test_a_degenerate_box_means_the_whole_image() -> None:
    images = noise(1, 6, 24)
    bad = torch.tensor(
        [[0.0, 0, 0, 0], [9, 9, 3, 3], [math.nan] * 4, [30, 0, 40, 9], [5, 5, 5, 9], [0, 0, 24, 24]]
    )
    whole = torch.tensor([[0.0, 0, 24, 24]]).repeat(6, 1)
    ours, expected = (
        contrastive_crop(images, boxes, size=12, generator=generator()) for boxes in (bad, whole)
    )
    assert torch.equal(ours.images, expected.images)


def test_flip_mirrors_image_and_mask() -> None:
    images, boxes = noise(1, 8, 24), random_boxes(3, 8, 24)
    plain = contrastive_crop(images, boxes, size=16, generator=generator())
    mirrored = contrastive_crop(images, boxes, size=16, generator=generator(), flip=1.0)
    torch.testing.assert_close(mirrored.images, plain.images.flip(3))
    torch.testing.assert_close(mirrored.masks, plain.masks.flip(3))


def test_same_seed_same_views_and_three_channels_suffice() -> None:
    boxes = random_boxes(3, 8, 24)
    first, again, other = (
        contrastive_crop(noise(1, 8, 24, 3), boxes, size=16, generator=generator(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first.images, again.images) and not torch.equal(first.images, other.images)
    assert torch.equal(first.masks, torch.ones(8, 1, 16, 16))


def test_tiny_images_and_the_fallback() -> None:
    for side in (1, 2, 3):
        views = contrastive_crop(
            noise(1, 50, side), torch.zeros(50, 4), size=4, scale=1.0, generator=generator()
        )
        assert views.images.isfinite().all() and views.images.shape == (50, 3, 4, 4)


def test_bad_input_is_refused() -> None:
    images, boxes = noise(1, 3, 8), random_boxes(1, 3, 8)
    for pictures, corners, extra, message in [
        (images[:, :2], boxes, {}, "images has shape"),
        (images, boxes[:2], {}, r"boxes has shape \(2, 4\); 3 images need \(3, 4\)"),
        (images, boxes, {"alpha": 0.0}, "alpha 0.0"),
        (images, boxes, {"alpha": math.nan}, "alpha nan"),
        (images, boxes, {"size": 0}, "view size 0"),
        (images, boxes, {"scale": (0.5, 0.2)}, "scale"),
    ]:
        with pytest.raises(CVSAError, match=message):
            contrastive_crop(pictures, corners, **{"size": 4, "generator": generator()} | extra)
