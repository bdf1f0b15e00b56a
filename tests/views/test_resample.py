"""The matrix resampling against PIL, crop by crop."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cvsa.views import kernels
from cvsa.views.resample import Axis, resample


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test by the compiled loops, and by the torch operations."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "available", lambda: False)


def noise(seed: int, batch: int, channels: int, side: int) -> Tensor:
    """Whole grey levels in [0, 1], so that PIL sees the same pixels; smooth enough to look like images."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (batch, channels, side, side)).astype(np.float32)
    return torch.from_numpy(pixels) / 255


def pil_resize(image: Tensor, box: list[float], width: int, height: int) -> Tensor:
    """Cut out the pixels that a box touches, then let PIL resize the box."""
    left, top = math.floor(box[0]), math.floor(box[1])
    frame = (left, top, math.ceil(box[2]), math.ceil(box[3]))
    inner = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    planes = []
    for channel in image:
        pixels = Image.fromarray((channel.numpy() * 255).round().astype(np.uint8)).crop(frame)
        planes.append(np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR, box=inner)))
    return torch.from_numpy(np.stack(planes).astype(np.float32)) / 255


@pytest.mark.parametrize(("side", "size"), [(32, 32), (48, 20), (20, 48), (64, 9)])
def test_crops_equal_pil(side: int, size: int) -> None:
    images = noise(side + size, 12, 4, side)
    generator = torch.Generator().manual_seed(side)
    corner = torch.rand((12, 2), generator=generator) * side * 0.6
    boxes = torch.cat(
        [corner, corner + 0.5 + torch.rand((12, 2), generator=generator) * (side - 0.5 - corner)], 1
    )
    boxes[0] = torch.tensor([0, 0, side, side])
    boxes[1] = torch.tensor([3, 5, 4, 6])  # one pixel
    boxes[2] = torch.tensor([side - 1.5, 0, side, 2.25])
    out = resample(
        images,
        Axis(boxes[:, 1], boxes[:, 3], side, size),
        Axis(boxes[:, 0], boxes[:, 2], side, size),
    )
    for image, box, ours in zip(images, boxes.tolist(), out, strict=True):
        assert (ours - pil_resize(image, box, size, size)).abs().max() <= 1.5 / 255


def test_placement_fills_its_rectangle_and_nothing_else() -> None:
    images = noise(0, 6, 3, 24) * 0.9 + 0.1
    boxes = torch.tensor([[2.0, 3, 20, 9]]).repeat(6, 1)
    out = torch.tensor(
        [[0.0, 0, 16, 16], [3, 4, 4, 5], [0, 10, 16, 16], [5, 0, 9, 12], [1, 1, 15, 2], [7, 7, 16, 9]]
    )
    placed = resample(
        images,
        Axis(boxes[:, 1], boxes[:, 3], 24, 16, out_start=out[:, 1], out_stop=out[:, 3]),
        Axis(boxes[:, 0], boxes[:, 2], 24, 16, out_start=out[:, 0], out_stop=out[:, 2]),
    )
    for image, box, target, ours in zip(images, boxes.tolist(), out.int().tolist(), placed, strict=True):
        x1, y1, x2, y2 = target
        assert (ours[:, y1:y2, x1:x2] - pil_resize(image, box, x2 - x1, y2 - y1)).abs().max() <= 1.5 / 255
        rest = ours.clone()
        rest[:, y1:y2, x1:x2] = 0
        assert rest.abs().max() == 0


def test_flip_mirrors_the_output_of_chosen_samples() -> None:
    images = noise(1, 3, 4, 20)
    start, stop = torch.tensor([1.3, 0, 4]), torch.tensor([17.2, 20, 9])
    first, last = torch.tensor([0.0, 2, 5]), torch.tensor([12.0, 10, 6])
    rows = Axis(start, stop, 20, 12)
    plain = resample(images, rows, Axis(start, stop, 20, 12, out_start=first, out_stop=last))
    flip = torch.tensor([True, False, True])
    mirrored = resample(images, rows, Axis(start, stop, 20, 12, out_start=first, out_stop=last, flip=flip))
    expected = torch.where(flip[:, None, None, None], plain.flip(3), plain)
    torch.testing.assert_close(mirrored, expected, atol=1e-5, rtol=0)


def test_rows_are_averages_and_the_whole_at_its_own_size_is_the_identity() -> None:
    start, stop = torch.tensor([0.0, 2.5, 7.9]), torch.tensor([10.0, 9.0, 8.0])
    weights = Axis(start, stop, 10, 7).weights()
    torch.testing.assert_close(weights.sum(2), torch.ones(3, 7))
    assert weights.min() >= 0
    identity = Axis(torch.zeros(1), torch.full((1,), 10.0), 10, 10).weights()
    torch.testing.assert_close(identity[0], torch.eye(10))


def test_nothing_from_beyond_the_crop_bleeds_in() -> None:
    image = torch.ones(1, 1, 16, 16)
    image[..., 4:12, 4:12] = 0
    axis = Axis(torch.tensor([4.0]), torch.tensor([12.0]), 16, 5)
    assert resample(image, axis, axis).abs().max() == 0


def test_half_precision_autocast_does_not_reach_the_pixels() -> None:
    images = noise(2, 2, 3, 16)
    axis = Axis(torch.tensor([0.0, 3]), torch.tensor([16.0, 9]), 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = resample(images, axis, axis)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, resample(images, axis, axis))
