"""Each photometric operation against torchvision, image by image; each recipe's rates and strengths."""

import math
from collections import Counter
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from cvsa.views import AUGMENTATIONS, Photometric, kernels
from cvsa.views import photometric as ops


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test by the compiled loops, and by the torch operations."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "available", lambda: False)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(batch: int, side: int = 24, seed: int = 0) -> Tensor:
    """Noise with grey, black, white, primary and tied pixels among it."""
    images = torch.rand((batch, 3, side, side), generator=generator(seed))
    special = torch.tensor([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0],
                            [0, 1, 1], [1, 0, 1], [0.3, 0.3, 0.7], [0.7, 0.3, 0.3]])  # fmt: skip
    images[:, :, 0, : len(special)] = special.T[:, :side]
    return images


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        (ops.brightness_, TF.adjust_brightness, 0.0, 2.0),
        (ops.contrast_, TF.adjust_contrast, 0.0, 2.0),
        (ops.saturation_, TF.adjust_saturation, 0.0, 2.0),
        (ops.hue_, TF.adjust_hue, -0.5, 0.5),
    ],
)
def test_colour_operations_equal_torchvision(ours, theirs, low: float, high: float) -> None:  # type: ignore[no-untyped-def]
    images = pictures(16)
    factor = torch.linspace(low, high, 16)
    expected = torch.stack([theirs(image, float(f)) for image, f in zip(images, factor, strict=True)])
    result = ours(images.clone(), factor)
    torch.testing.assert_close(result, expected, atol=2e-5, rtol=0)
    assert result.min() >= 0 and result.max() <= 1


def test_greyscale_and_solarise_equal_torchvision() -> None:
    images = pictures(4)
    torch.testing.assert_close(
        ops.to_greyscale(images).contiguous(), TF.rgb_to_grayscale(images, 3), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(ops.solarise(images), TF.solarize(images, 0.5))


@pytest.mark.parametrize("radius", [1, 2, 6])
def test_blur_equals_torchvision(radius: int) -> None:
    images, sigma = pictures(6), torch.tensor([0.1, 0.3, 0.5, 0.8, 1.4, 2.0])
    expected = [
        TF.gaussian_blur(i, [2 * radius + 1] * 2, [s, s]) for i, s in zip(images, sigma.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        ops.gaussian_blur(images, sigma, radius), torch.stack(expected), atol=1e-5, rtol=0
    )


def rate(recipe: Photometric, changed, images: Tensor, count: int = 3000) -> float:  # type: ignore[no-untyped-def]
    """Share of the samples for which changed(before, after) holds."""
    batch = images.expand(count, -1, -1, -1)
    return float(changed(batch, recipe(batch, generator())).float().mean())


def moved(before: Tensor, after: Tensor) -> Tensor:
    return (before - after).abs().amax((1, 2, 3)) > 1e-4


@pytest.mark.parametrize(("name", "view"), [(n, v) for n in ("byol", "moco_v2") for v in (0, 1)])
def test_each_operation_happens_as_often_as_its_recipe_says(name: str, view: int) -> None:
    recipe, image = AUGMENTATIONS[name][view], pictures(1, side=8, seed=3)
    none = {"jitter": 0.0, "grey": 0.0, "blur": 0.0, "solarise": 0.0}
    for operation in none:
        alone = replace(recipe, **(none | {operation: getattr(recipe, operation)}), sigma=(40.0, 60.0))
        expected = getattr(recipe, operation)
        tolerance = 4 * math.sqrt(max(expected * (1 - expected), 1e-9) / 3000) + 1e-9
        assert abs(rate(alone, moved, image) - expected) <= tolerance, operation


def test_recipes_are_those_of_the_papers() -> None:
    first, second = AUGMENTATIONS["byol"]
    assert (first.jitter, first.brightness, first.contrast, first.saturation, first.hue) == (
        0.8,
        0.4,
        0.4,
        0.2,
        0.1,
    )
    assert (first.grey, first.blur, first.solarise, first.sigma) == (0.2, 1.0, 0.0, (0.1, 2.0))
    assert (second.grey, second.blur, second.solarise, second.hue) == (0.2, 0.1, 0.2, 0.1)
    moco, same = AUGMENTATIONS["moco_v2"]
    assert moco == same
    assert (moco.jitter, moco.brightness, moco.contrast, moco.saturation, moco.hue) == (
        0.8,
        0.4,
        0.4,
        0.4,
        0.1,
    )
    assert (moco.grey, moco.blur, moco.solarise) == (0.2, 0.5, 0.0)
    images = pictures(2)
    assert torch.equal(AUGMENTATIONS["none"][0](images, generator()), images)


def test_brightness_factors_are_uniform_and_drawn_per_sample() -> None:
    images = torch.full((4000, 3, 2, 2), 0.5)
    factor = Photometric(jitter=1.0, brightness=0.4)(images, generator()).mean((1, 2, 3)) / 0.5
    assert factor.min() >= 0.6 - 1e-5 and factor.max() <= 1.4 + 1e-5
    assert abs(float(factor.mean()) - 1) < 0.02 and abs(float(factor.std()) - 0.8 / math.sqrt(12)) < 0.01
    assert len(factor.unique()) > 3900


def test_hue_shifts_are_uniform() -> None:
    images = torch.zeros(4000, 3, 2, 2)
    images[:, 0] = 1  # red: its green and blue tell the shift
    out = Photometric(jitter=1.0, hue=0.1)(images, generator())[:, :, 0, 0]
    shift = (out[:, 1] - out[:, 2]) / 6
    assert abs(float(shift.mean())) < 0.005 and abs(float(shift.std()) - 0.2 / math.sqrt(12)) < 0.003
    assert shift.abs().max() <= 0.1 + 1e-5


def test_blur_strength_scales_with_the_size() -> None:
    """The variance that a blurred point spreads over is sigma squared: the recipe's, times size / 224."""
    for side in (84, 56):
        point = torch.zeros(600, 1, side, side).expand(-1, 3, -1, -1).clone()
        point[:, :, side // 2, side // 2] = 1
        out = Photometric(blur=1.0, sigma=(2.0, 4.0))(point, generator())[:, 0].sum(1)
        offset = torch.arange(side) - side // 2
        sigma = (out * offset.square()).sum(1).sqrt() * 224 / side
        # Three sigma of the largest blur are kept, so the widest lose a little.
        assert abs(float(sigma.mean()) - 3) < 0.1 and abs(float(sigma.std()) - 2 / math.sqrt(12)) < 0.07


def test_every_order_of_the_jitter_is_as_likely() -> None:
    order = Photometric(jitter=0.8).draw(24 * 400, generator()).order
    counts = Counter(map(tuple, order.tolist()))
    assert set(counts) == set(permutations(range(4)))
    assert all(abs(count - 400) < 5 * math.sqrt(400) for count in counts.values())


def test_each_sample_is_changed_as_drawn_whatever_its_neighbours() -> None:
    """One sample at a time, in its own order, by the single operations."""
    images = pictures(60)
    recipe = Photometric(0.7, 0.4, 0.4, 0.4, 0.2, grey=0.3, blur=0.6, sigma=(4.0, 20.0), solarise=0.3)
    drawn = recipe.draw(60, generator(4))
    scale = images.shape[-1] / ops.BLUR_REFERENCE_SIZE
    jitter = (ops.brightness_, ops.contrast_, ops.saturation_, ops.hue_)
    expected = []
    for k, image in enumerate(images.split(1)):
        image = image.clone()
        for operation in drawn.order[k].tolist() if drawn.jittered[k] else []:
            jitter[operation](image, drawn.factors[operation, k : k + 1])
        image = ops.to_greyscale(image) if drawn.grey[k] else image
        if drawn.blurred[k]:
            image = ops.gaussian_blur(image, drawn.sigma[k : k + 1] * scale, math.ceil(3 * 20 * scale))
        expected.append(ops.solarise(image) if drawn.solarised[k] else image)
    torch.testing.assert_close(recipe.apply(images, drawn), torch.cat(expected), atol=1e-5, rtol=0)


def test_colours_can_be_shared_while_the_rest_stays_ones_own() -> None:
    recipe = Photometric(0.5, 0.4, 0.4, 0.4, 0.1, grey=0.5, blur=0.5, solarise=0.5)
    own, other = recipe.draw(50, generator(0)), recipe.draw(50, generator(1))
    shared = own.with_colour_of(other)
    for name in ("jittered", "factors", "order", "grey"):
        assert getattr(shared, name) is getattr(other, name)
    for name in ("blurred", "sigma", "solarised"):
        assert getattr(shared, name) is getattr(own, name)


def test_chosen_samples_only_and_never_the_callers_tensor() -> None:
    images = pictures(200)
    kept = images.clone()
    out = Photometric(grey=0.5, solarise=0.3)(images, generator())
    assert torch.equal(images, kept)
    same = (out == images).flatten(1).all(1)
    assert 40 < int(same.sum()) < 100  # 0.35 of 200


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_the_generator_decides_everything_and_the_range_is_kept(name: str) -> None:
    images = pictures(100)
    for recipe in AUGMENTATIONS[name]:
        first, again = recipe(images, generator(1)), recipe(images, generator(1))
        assert torch.equal(first, again)
        assert first.min() >= 0 and first.max() <= 1 and first.shape == images.shape
