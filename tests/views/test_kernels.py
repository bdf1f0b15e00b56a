"""The compiled loops against the torch operations; other tests hold both against PIL and torchvision."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from cvsa.views import Photometric, compiled, kernels
from cvsa.views.photometric import Changes
from cvsa.views.resample import Axis, mirror, rectangle, resample

TOLERANCE = 2e-5  # rounding in single precision; one grey level is 200 times as much


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def by_torch(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Calls a function with the compiled loops put away."""

    def call(function, *arguments, **options):  # type: ignore[no-untyped-def]
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "available", lambda: False)
            return function(*arguments, **options)

    return call


def random_axis(seed: int, batch: int, size_in: int, size_out: int, *, place: bool, flip: bool) -> Axis:
    """Fractional intervals; among them the whole axis, a single pixel, a sliver, and single output pixels."""
    draw = torch.rand(5, batch, generator=generator(seed))
    start = draw[0] * (size_in - 0.2)
    stop = torch.minimum(start + 0.1 + draw[1] * (size_in - start), torch.tensor(float(size_in)))
    middle = size_in // 2
    start[:4] = torch.tensor([0.0, middle, middle + 0.4, size_in - 1])[:batch]
    stop[:4] = torch.tensor([float(size_in), middle + 1, middle + 0.6, size_in])[:batch]
    first = (draw[2] * size_out).floor()
    last = first + 1 + (draw[3] * (size_out - first)).floor().clamp(max=size_out - 1 - first)
    last[4:6] = first[4:6] + 1
    interval = (first, last) if place else (None, None)
    return Axis(start, stop, size_in, size_out, *interval, draw[4] < 0.5 if flip else None)


@pytest.mark.parametrize("place", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(48, 48, 48, 48), (31, 17, 12, 40), (9, 64, 33, 7), (1, 5, 4, 1), (40, 40, 1, 3)],
)
def test_resampling(
    by_torch, place: bool, channels: int, height: int, width: int, rows: int, columns: int
) -> None:  # type: ignore[no-untyped-def]
    images = torch.rand(24, channels, height, width, generator=generator())
    y = random_axis(1, 24, height, rows, place=place, flip=channels == 4)
    x = random_axis(2, 24, width, columns, place=place, flip=channels != 1)
    expected = by_torch(resample, images, y, x)
    torch.testing.assert_close(resample(images, y, x), expected, atol=TOLERANCE, rtol=0)

    canvas = torch.rand(24, channels, rows, columns, generator=generator(1))
    painted = resample(images, y, x, canvas=canvas.clone())
    torch.testing.assert_close(
        painted, by_torch(resample, images, y, x, canvas=canvas.clone()), atol=TOLERANCE, rtol=0
    )
    assert torch.equal(rectangle(y, x), by_torch(rectangle, y, x))
    outside = 1 - rectangle(y, x)
    assert torch.equal(painted * outside, canvas * outside)


def test_images_are_read_where_they_lie_and_left_alone() -> None:
    base = torch.rand(6, 4, 20, 24, generator=generator())
    y, x = (random_axis(k, 6, size, 16, place=False, flip=True) for k, size in ((1, 20), (2, 24)))
    kept = base.clone()
    for images in (
        base[:, :3],
        base[:, 1:2],
        base.transpose(0, 1).contiguous().transpose(0, 1),
        base[:1].expand(6, -1, -1, -1),
        base.to(memory_format=torch.channels_last),
        base.clone().requires_grad_(),
    ):
        assert torch.equal(resample(images, y, x), resample(images.detach().contiguous(), y, x))
        assert torch.equal(mirror(images, x.flip), mirror(images.detach().contiguous(), x.flip))
    assert torch.equal(base, kept)
    canvas = torch.rand(6, 16, 16, 4, generator=generator(1)).permute(0, 3, 1, 2)
    assert torch.equal(resample(base, y, x, canvas=canvas.clone()), resample(base, y, x, canvas.contiguous()))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30, -7.0])
def test_impossible_bounds_stay_within_memory(bad: float) -> None:
    images, good = torch.rand(4, 3, 8, 8), torch.tensor([0.0, 1, 2, 3])
    for bounds in (
        [bad, 5],
        [2, bad],
        [2, 5, bad, 6],
        [2, 5, 1, bad],
        [5, 2, 6, 1],
        [9, 12, 0, 8],
        [bad] * 4,
    ):
        full = [good * 0 + value for value in bounds]
        axis = Axis(*full[:2], 8, 8, *full[2:])
        assert resample(images, axis, axis).shape == images.shape


def test_shapes_that_do_not_fit_are_refused() -> None:
    images = torch.rand(4, 3, 8, 8)
    axis, short = (random_axis(1, batch, 8, 5, place=False, flip=True) for batch in (4, 3))
    for y, x, canvas in (
        (short, axis, None),
        (axis, short, None),
        (axis, axis, torch.zeros(4, 3, 5, 4)),
        (axis, axis, torch.zeros(3, 3, 5, 5)),
    ):
        with pytest.raises(ValueError):
            resample(images, y, x, canvas=canvas)
    with pytest.raises(ValueError, match="flip"):
        mirror(images, torch.ones(3, dtype=torch.bool))
    recipe = Photometric(1.0, 0.4)
    with pytest.raises(ValueError, match="images"):
        recipe.apply(images, recipe.draw(3, generator()))


def test_an_empty_batch_stays_empty() -> None:
    recipe, images = Photometric(1.0, 0.4, blur=1.0), torch.rand(0, 3, 8, 8)
    axis = Axis(torch.zeros(0), torch.ones(0), 8, 5)
    assert resample(images, axis, axis).shape == (0, 3, 5, 5)
    assert recipe(images, generator()).shape == images.shape
    assert mirror(images, torch.zeros(0, dtype=torch.bool)).shape == images.shape


def test_mirror(by_torch) -> None:  # type: ignore[no-untyped-def]
    images = torch.rand(9, 4, 5, 7, generator=generator())
    flip = torch.rand(9, generator=generator(1)) < 0.5
    assert torch.equal(mirror(images, flip), by_torch(mirror, images, flip))
    expected = torch.stack([i.flip(2) if f else i for i, f in zip(images, flip, strict=True)])
    assert torch.equal(mirror(images, flip), expected)


def pictures(batch: int, height: int, width: int) -> Tensor:
    """Noise; greys, ties, black, white and primary colours in the first rows and samples."""
    images = torch.rand(batch, 3, height, width, generator=generator(9))
    images[:, :, 0] = images[:, :1, 0]
    images[:, 1, -1] = images[:, 0, -1]
    images[: batch // 4] = images[: batch // 4].round()
    return images


@pytest.mark.parametrize(("height", "width"), [(48, 48), (13, 30), (31, 7), (2, 3), (1, 1)])
@pytest.mark.parametrize(
    "recipe",
    [
        Photometric(1.0, 1.0, 1.0, 1.0, 0.5),
        Photometric(1.0, hue=0.5),
        Photometric(grey=0.5, solarise=0.5),
        Photometric(blur=0.9, sigma=(0.1, 60.0)),
        Photometric(0.8, 0.4, 0.4, 0.4, 0.1, grey=0.2, blur=0.5, sigma=(2.0, 20.0), solarise=0.2),
    ],
)
def test_photometric_changes(by_torch, recipe: Photometric, height: int, width: int) -> None:  # type: ignore[no-untyped-def]
    images = pictures(96, height, width)  # four samples of each order of the jitter
    changes = recipe.draw(96, generator(height))
    expected = by_torch(recipe.apply, images, changes)
    kept = images.clone()
    torch.testing.assert_close(recipe.apply(images, changes), expected, atol=TOLERANCE, rtol=0)
    assert torch.equal(images, kept)
    strided = torch.cat([images, images[:, :1]], 1)[:, :3]
    assert torch.equal(recipe.apply(strided, changes), recipe.apply(images, changes))


def test_same_bits_again_whatever_the_neighbours() -> None:
    images = torch.rand(10, 3, 21, 21, generator=generator())
    y, x = (random_axis(k, 10, 21, 30, place=True, flip=True) for k in (1, 2))
    recipe = Photometric(1.0, 0.4, 0.4, 0.4, 0.1, grey=0.3, blur=0.5, sigma=(5.0, 50.0), solarise=0.5)
    changes = recipe.draw(10, generator())

    def work(at: slice) -> Tensor:
        own = [Axis(*(v[at] if isinstance(v, Tensor) else v for v in axis)) for axis in (y, x)]
        drawn = {
            name: value[:, at] if name == "factors" else value[at] for name, value in vars(changes).items()
        }
        return recipe.apply(resample(images[at], *own), Changes(**drawn))

    whole = work(slice(0, 10))
    assert torch.equal(whole, work(slice(0, 10)))
    assert torch.equal(whole, torch.cat([work(slice(0, 3)), work(slice(3, 10))]))


def test_what_they_cannot_serve_goes_to_torch() -> None:
    axis = random_axis(1, 3, 10, 8, place=False, flip=True)
    images = torch.rand(3, 3, 10, 10, dtype=torch.float64)
    assert (
        kernels.serve(images.float()) and not kernels.serve(images) and not kernels.serve(images.bfloat16())
    )
    double = Axis(*(v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for v in axis))
    assert resample(images, double, double).dtype == torch.float64
    assert Photometric(blur=1.0)(images, generator()).dtype == torch.float64


def test_numba_is_imported_late_and_may_be_missing() -> None:
    code = (
        "import sys, torch, cvsa.views as v; assert 'numba' not in sys.modules; sys.modules['numba'] = None\n"
        "out = v.random_resized_crop(torch.rand(2, 3, 9, 9), size=5, generator=torch.Generator())\n"
        "assert out.images.shape == (2, 3, 5, 5) and not v.kernels.available()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])  # numba finds no folder
    with pytest.raises(RuntimeError, match="cannot cache"):
        compiled.njit(cache=True)(max_of)
    assert compiled.entry(max_of)(2, 3) == 3


def max_of(a, b):  # type: ignore[no-untyped-def]
    return a if a > b else b
