"""Box regression from frozen maps: by hand, on maps that show the box, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.evaluation.linear import STRENGTHS
from cvsa.evaluation.regression import fit_boxes, overlaps, regress_boxes, to_centres, to_corners


def scenes(count: int, side: int = 6, channels: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Maps whose first channel is how much of each cell the box covers; the others are noise."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(count, 2, generator=generator) * 0.5
    size = 0.2 + torch.rand(count, 2, generator=generator) * 0.3
    boxes = torch.cat([first, first + size], 1)
    edges = torch.arange(side + 1) / side
    shares = [
        (torch.minimum(boxes[:, i + 2, None], edges[1:]) - torch.maximum(boxes[:, i, None], edges[:-1]))
        .clamp_min(0)
        .mul(side)
        for i in (0, 1)
    ]
    maps = 0.1 * torch.randn(count, channels, side, side, generator=generator)
    maps[:, 0] = shares[1][:, :, None] * shares[0][:, None, :]
    return maps, boxes


def test_overlaps_by_hand() -> None:
    one = torch.tensor([[0, 0, 0.5, 0.5], [0, 0, 1, 1], [0, 0, 0.2, 0.2], [0.3, 0.3, 0.3, 0.3]])
    other = torch.tensor([[0.25, 0, 0.75, 0.5], [0, 0, 0.5, 0.5], [0.5, 0.5, 0.9, 0.9], [0.3, 0.3, 0.3, 0.3]])
    assert overlaps(one, other).tolist() == pytest.approx([1 / 3, 1 / 4, 0, 0])


def test_boxes_there_and_back() -> None:
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.8]])
    assert to_centres(boxes)[0].tolist() == pytest.approx([0.3, 0.5, 0.4, 0.6])
    torch.testing.assert_close(to_corners(to_centres(boxes)), boxes)
    # What leaves the image is cut; a negative width is none.
    assert to_corners(torch.tensor([[0.1, 0.5, 0.6, -0.2]]))[0].tolist() == pytest.approx([0, 0.5, 0.4, 0.5])


def test_a_linear_world_by_hand() -> None:
    # One number tells the centre's x: box of width 0.2 at x = 0.2 + 0.1 value.
    value = torch.tensor([0.0, 1, 2, 3, 4])
    maps = value.view(5, 1, 1, 1)
    x = 0.2 + 0.1 * value
    boxes = torch.stack([x - 0.1, torch.full((5,), 0.4), x + 0.1, torch.full((5,), 0.6)], 1)
    model = fit_boxes((maps, boxes), (maps, boxes), strengths=(1e-9,))
    torch.testing.assert_close(
        model.predict(torch.full((1, 1, 1, 1), 5.0))[0], torch.tensor([0.6, 0.4, 0.8, 0.6])
    )
    torch.testing.assert_close(model.mean_box, torch.tensor([0.3, 0.4, 0.5, 0.6]))
    found = regress_boxes((maps, boxes), (maps, boxes), (maps, boxes), strengths=(1e-9,))
    assert found["iou"] == pytest.approx(1, abs=1e-4) and found["over_75"] == 1
    # The mean box against boxes moved by -.2, -.1, 0, .1, .2 of width .2: 0, 1/3, 1, 1/3, 0.
    assert found["mean_box_iou"] == pytest.approx((1 + 2 / 3) / 5, abs=1e-5)
    assert found["mean_box_over_50"] == found["mean_box_over_75"] == pytest.approx(1 / 5)


@pytest.mark.parametrize("count", [60, 400])  # fewer and more images than the 108 inputs
def test_maps_that_show_the_box_beat_the_mean_box(count: int) -> None:
    train, val, test = scenes(count), scenes(100, seed=1), scenes(200, seed=2)
    found = regress_boxes(train, val, test)
    assert found["iou"] > found["mean_box_iou"] + 0.2
    assert found["over_50"] > found["mean_box_over_50"] and found["over_50"] >= found["over_75"]
    assert found == regress_boxes(train, val, test)
    blind = regress_boxes(*((torch.zeros_like(maps), boxes) for maps, boxes in (train, val, test)))
    assert blind["iou"] == pytest.approx(blind["mean_box_iou"]) == pytest.approx(found["mean_box_iou"])


def test_validation_chooses_the_strength() -> None:
    train, val = scenes(60), scenes(100, seed=1)
    chosen = fit_boxes(train, val)
    each = {
        s: float(overlaps(fit_boxes(train, val, strengths=(s,)).predict(val[0]), val[1]).mean())
        for s in STRENGTHS
    }
    assert each[chosen.strength] == max(each.values())
    assert min(STRENGTHS) < chosen.strength < max(STRENGTHS)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("pixels", ["20 of 20 boxes", "training", "shares"]),
        ("flat", ["1 of 20", "no area"]),
        ("nan map", ["1 of 20", "not finite"]),
        ("nan box", ["1 of 20 boxes"]),
        ("none", ["0 features"]),
    ],
)
def test_bad_input_is_one_line(fault: str, words: list[str]) -> None:
    maps, boxes = scenes(20)
    if fault == "pixels":
        boxes = boxes * 48
    elif fault == "flat":
        boxes[3, 2] = boxes[3, 0]
    elif fault == "nan map":
        maps[2, 0, 1, 1] = float("nan")
    elif fault == "nan box":
        boxes[2, 0] = float("nan")
    else:
        maps, boxes = maps[:0], boxes[:0]
    with pytest.raises(CVSAError) as error:
        regress_boxes((maps, boxes), scenes(20), scenes(20))
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words)
