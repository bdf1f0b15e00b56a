"""DiLo against a naive per-image composite, and the properties it promises."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from views_support import generator, noise, pil_crop

from cvsa.errors import CVSAError
from cvsa.views import random_resized_crop
from cvsa.views.crop import sample_crops
from cvsa.views.cutout import BACKGROUNDS, SOFTNESS, dilo, plain, sample_composites, textures

CPU = torch.device("cpu")


def discs(seed: int, batch: int, side: int) -> Tensor:
    """Noise with hard discs as saliency."""
    images = noise(seed, batch, side)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    for image, (cx, cy) in zip(
        images, (torch.rand(batch, 2, generator=generator(seed)) * side).tolist(), strict=True
    ):
        image[3] = ((x - cx) ** 2 + (y - cy) ** 2 < (side / 4) ** 2).float()
    return images


def unchanged(size: int) -> dict:
    """Arguments by which the crop is the whole image at its own size."""
    return {"size": size, "crop_scale": 1.0, "ratio": (1.0, 1.0)}


@pytest.mark.parametrize("soft", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [28, 40])
def test_views_equal_the_oracle(soft: float, size: int) -> None:
    batch, side = 24, 40
    reference, background = noise(1, batch, side), noise(2, batch, side)
    views = dilo(
        reference, background, size=size, crop_scale=0.2, generator=generator(7), fraction=0.6,
        backgrounds=("image",), soft=soft,
    )  # fmt: skip
    same = generator(7)
    plan = sample_composites(batch, 1, 0.6, soft, same)
    crops = sample_crops(batch, side, side, 0.2, (3 / 4, 4 / 3), same).tolist()
    chosen = dict(zip(plan.rows.tolist(), plan.soft.tolist(), strict=True))
    assert 8 < len(chosen) < 20
    for k in range(batch):
        image = reference[k].clone()
        if k in chosen:
            mask = image[3].numpy().astype(float)
            if chosen[k]:
                blur = {"sigma": SOFTNESS * side, "mode": "constant", "truncate": 20}
                mask = gaussian_filter(mask, **blur) / gaussian_filter(np.ones_like(mask), **blur)
            image[:3] = torch.from_numpy(mask * image[:3].numpy() + (1 - mask) * background[k, :3].numpy())
        expected = pil_crop(image, crops[k], size)
        assert (views.images[k] - expected[:3]).abs().max() < 1e-4
        assert (views.masks[k] - expected[3:]).abs().max() < 1e-4


def test_object_stays_and_the_rest_goes() -> None:
    reference, background = discs(1, 12, 30), noise(2, 12, 30)
    views = dilo(
        reference, background, generator=generator(), fraction=1.0, backgrounds=("image",), soft=0.0,
        **unchanged(30),
    )  # fmt: skip
    inside = reference[:, 3:]
    torch.testing.assert_close(views.images * inside, reference[:, :3] * inside)
    torch.testing.assert_close(views.images * (1 - inside), background[:, :3] * (1 - inside))
    torch.testing.assert_close(views.masks, inside)
    assert torch.equal(reference, discs(1, 12, 30)) and torch.equal(background, noise(2, 12, 30))


def test_plain_backgrounds_are_one_grey_level_each() -> None:
    reference = discs(1, 30, 20)
    views = dilo(
        reference, None, generator=generator(), fraction=1.0, backgrounds=["plain"], soft=0.0, **unchanged(20)
    )
    levels = []
    for image, inside in zip(views.images, reference[:, 3] == 1, strict=True):
        rest = image[:, ~inside]
        assert rest.max() - rest.min() < 1e-5
        levels.append(float(rest.mean()))
    assert min(levels) < 0.2 and max(levels) > 0.8
    assert plain(5, 4, generator(), CPU).shape == (5, 3, 4, 4)


def test_textures_are_homogeneous_various_and_valid() -> None:
    drawn = textures(300, 48, generator(), CPU)
    assert drawn.shape == (300, 3, 48, 48) and drawn.min() >= 0 and drawn.max() <= 1
    contrast = drawn.std((2, 3)).amax(1)
    assert (contrast > 0.01).float().mean() > 0.95
    # Homogeneous: over many textures, no place differs from another.
    assert (drawn.mean((0, 1)) - drawn.mean()).abs().max() < 0.06
    assert (drawn.var(0).mean(0) / drawn.var(0).mean() - 1).abs().max() < 0.35
    # Coarse and fine: neighbours are alike in some, not in others.
    rough = ((drawn[..., 1:] - drawn[..., :-1]).square().mean((1, 2, 3)) / drawn.var((2, 3)).sum(1)).sqrt()
    assert rough.quantile(0.9) > 2.5 * rough.quantile(0.1)
    assert textures(3, 1, generator(), CPU).isfinite().all() and textures(0, 8, generator(), CPU).numel() == 0


def test_a_texture_has_about_one_wavelength() -> None:
    drawn = textures(60, 64, generator(3), CPU)[:, 0]
    power = torch.fft.rfft2(drawn - drawn.mean((1, 2), keepdim=True)).abs().square()
    cycles = torch.hypot(torch.fft.fftfreq(64)[:, None] * 64, torch.fft.rfftfreq(64)[None] * 64)
    finest, coarsest = 1.4 * 64 / 6, 0.7 * 3
    beyond = power * ((cycles > finest + 2) | (cycles < coarsest - 1.5))
    share = beyond.sum((1, 2)) / power.sum((1, 2)).clamp(min=1e-9)
    assert share.quantile(0.9) < 0.05  # leakage and clipping alone


def test_fraction_kinds_and_softness_are_respected() -> None:
    plan = sample_composites(20000, 3, 0.3, 0.25, generator())
    assert abs(len(plan.rows) / 20000 - 0.3) < 0.012
    assert len(plan.rows.unique()) == len(plan.rows) == sum(plan.counts)
    assert all(abs(count / len(plan.rows) - 1 / 3) < 0.03 for count in plan.counts)
    assert abs(float(plan.soft.float().mean()) - 0.25) < 0.02
    reference, background = discs(1, 400, 12), noise(2, 400, 12)
    views = dilo(reference, background, generator=generator(), fraction=0.3, **unchanged(12))
    changed = (views.images - reference[:, :3]).abs().amax((1, 2, 3)) > 1e-3
    drawn = sample_composites(400, 3, 0.3, 0.5, generator()).rows
    assert torch.equal(changed.nonzero()[:, 0], drawn.sort().values)


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_other_views_are_plain_random_resized_crops(fraction: float) -> None:
    reference, background = noise(1, 20, 24), noise(2, 20, 24)
    views = dilo(
        reference, background, size=16, generator=generator(5), fraction=fraction, backgrounds=("image",),
        flip=0.5,
    )  # fmt: skip
    same = generator(5)
    kept = torch.ones(20, dtype=torch.bool)
    kept[sample_composites(20, 1, fraction, 0.5, same).rows] = False
    crops = random_resized_crop(reference, size=16, generator=same, flip=0.5)
    assert torch.equal(views.images[kept], crops.images[kept]) and torch.equal(views.masks, crops.masks)
    assert fraction == 0 or (views.images[~kept] != crops.images[~kept]).any()


def test_an_image_without_an_object_stays_as_it_is() -> None:
    reference = noise(1, 6, 16)
    reference[:, 3] = 0
    reference[1, 3] = 0.49
    reference[2, 3, 4, 4] = 0.5  # one salient pixel: an object
    views = dilo(
        reference, None, generator=generator(), fraction=1.0, backgrounds=("plain",), **unchanged(16)
    )
    kept = [0, 1, 3, 4, 5]
    torch.testing.assert_close(views.images[kept], reference[kept, :3])
    assert (views.images[2] - reference[2, :3]).abs().max() > 0.1
    torch.testing.assert_close(views.masks, reference[:, 3:])


def test_a_background_of_another_size_is_resized_whole() -> None:
    reference = torch.zeros(2, 4, 16, 16)
    reference[:, 3, 0, 0] = 1
    background = torch.linspace(0, 1, 32).expand(2, 3, 32, 32)
    views = dilo(
        reference, background, generator=generator(), fraction=1.0, backgrounds=("image",), soft=0.0,
        **unchanged(16),
    )  # fmt: skip
    rest = views.images[:, :, 1:]
    assert (rest[..., 1:] > rest[..., :-1]).all() and rest[..., 0].max() < 0.05 and rest[..., -1].min() > 0.95


@pytest.mark.parametrize("backgrounds", [BACKGROUNDS, ("texture",), ("plain", "image")])
def test_same_seed_same_views(backgrounds: tuple[str, ...]) -> None:
    arguments = {"size": 12, "fraction": 0.7, "backgrounds": backgrounds, "flip": 0.5}
    first, again, other = (
        dilo(noise(1, 9, 20), noise(2, 9, 20), generator=generator(seed), **arguments) for seed in (3, 3, 4)
    )
    assert torch.equal(first.images, again.images) and not torch.equal(first.images, other.images)
    assert first.images.shape == (9, 3, 12, 12) and first.images.min() >= 0 and first.images.max() <= 1


def test_tiny_images_and_empty_batches() -> None:
    for side in (1, 2, 3):
        views = dilo(noise(1, 5, side), noise(2, 5, side), size=4, generator=generator(), fraction=1.0)
        assert views.images.shape == (5, 3, 4, 4) and views.images.isfinite().all()
    assert dilo(noise(1, 0, 8), noise(2, 0, 8), size=4, generator=generator()).images.shape == (0, 3, 4, 4)


def test_bad_input_is_refused() -> None:
    good, background = noise(1, 3, 8), noise(2, 3, 8)
    for bad, message in [
        ((good[:, :3], background, {}), "reference has shape"),
        ((good, background[:, :2], {}), "background has shape"),
        ((good, None, {}), "need as many background images, got none"),
        ((good, background[:2], {}), "got 2"),
        ((good, background, {"fraction": 1.2}), "fraction 1.2"),
        ((good, background, {"soft": -0.1}), "soft -0.1"),
        ((good, background, {"backgrounds": ()}), "one or more of image, texture, plain"),
        ((good, background, {"backgrounds": ("plain", "snow")}), "one or more of image, texture, plain"),
        ((good, background, {"backgrounds": "plain"}), "one or more of image, texture, plain"),
    ]:
        with pytest.raises(CVSAError, match=message):
            dilo(bad[0], bad[1], size=4, generator=generator(), **bad[2])
