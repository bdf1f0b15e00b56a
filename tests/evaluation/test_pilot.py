"""What pairs of views have in common, against the views themselves, pixel loops and hand-computed cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cvsa.data.bank import ImageBank
from cvsa.errors import CVSAError
from cvsa.evaluation.pilot import (
    DRAWS,
    MEASURES,
    area_inside,
    integrals,
    measure_pairs,
    read_views,
    shown,
    summarise,
    view_curves,
    write_views,
)
from cvsa.saliency.boxes import maps_to_boxes
from cvsa.views import ViewMaker, ViewSettings

SIDE = 40


def bank_of(masks: torch.Tensor, pictures: torch.Tensor | None = None) -> ImageBank:
    """A bank with these masks (N, R, R) bool."""
    boxes, found = maps_to_boxes(masks.numpy())
    maps = torch.where(found[:, None, None], masks, True).to(torch.uint8) * 255
    pictures = (
        torch.zeros(len(masks), 3, *masks.shape[1:], dtype=torch.uint8) if pictures is None else pictures
    )
    return ImageBank(
        torch.cat([pictures, maps[:, None]], 1), boxes, torch.zeros(len(masks)), ["bird"], found=found
    )


def squares(count: int = 12, side: int = 14) -> torch.Tensor:
    """Masks with a square each, at random places."""
    generator = np.random.default_rng(0)
    masks = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    for mask in masks:
        y, x = generator.integers(0, SIDE - side, 2)
        mask[y : y + side, x : x + side] = True
    return masks


@pytest.mark.parametrize("view", DRAWS)
def test_the_boxes_are_what_the_views_show(view: str) -> None:
    """Pictures whose colours are their own coordinates: every view tells which pixels it shows."""
    ramp = torch.arange(SIDE, dtype=torch.uint8) * 6
    pictures = torch.stack([ramp.expand(SIDE, SIDE), ramp[:, None].expand(SIDE, SIDE)])
    pictures = torch.cat([pictures, torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)])
    bank = bank_of(squares(), pictures.expand(12, 3, SIDE, SIDE))
    index = torch.tensor([3, 0, 7, 11, 5])
    settings = ViewSettings(size=SIDE, scale=0.3, crop_scale=0.3)
    maker = ViewMaker(bank, view=view, augmentation="none", settings=settings)
    views = maker(index, torch.Generator().manual_seed(5))
    boxes = shown(bank, index, view, 0.3, torch.Generator().manual_seed(5))
    for made, told in zip(views, boxes, strict=True):
        for k in range(len(index)):
            inside = made.masks[k, 0] == 1 if view == "saliency_swap" else torch.ones(SIDE, SIDE, dtype=bool)
            rows, columns = inside.nonzero()[:, 0], inside.nonzero()[:, 1]
            y1, y2, x1, x2 = int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())
            assert bool(inside[y1 : y2 + 1, x1 : x2 + 1].all())
            patch = made.images[k, :2, y1 : y2 + 1, x1 : x2 + 1] * 255 / 6 + 0.5  # places in the reference
            for axis, along in ((0, patch[0][0]), (1, patch[1][:, 0])):
                low, high = float(told.boxes[k][axis]), float(told.boxes[k][axis + 2])
                middle = along[2:-2].sort().values  # at the very edge the resampling reads fewer pixels
                step = (high - low) / len(along)
                expected = low + (torch.arange(len(along)) + 0.5)[2:-2] * step
                torch.testing.assert_close(middle, expected, atol=0.05, rtol=0)
            # Saliency Swap rounds its destination outward to whole pixels.
            assert float(told.filled[k]) == pytest.approx(float(inside.float().mean()), abs=0.06)


def test_areas_equal_a_loop_over_pixels() -> None:
    masks = torch.rand(6, 9, 9, generator=torch.Generator().manual_seed(1)) > 0.5
    boxes = torch.rand(6, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 9
    boxes = torch.cat(
        [torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])], 1
    )
    boxes[0] = torch.tensor([0, 0, 9, 9])
    boxes[1] = torch.tensor([5, 2, 3, 8])  # nothing
    for mask, box, area in zip(masks, boxes, area_inside(integrals(masks), boxes), strict=True):
        x1, y1, x2, y2 = box.tolist()
        expected = sum(
            max(0.0, min(x2, x + 1) - max(x1, x)) * max(0.0, min(y2, y + 1) - max(y1, y))
            for y, x in mask.nonzero().tolist()
        )
        assert float(area) == pytest.approx(expected, abs=1e-9)


def test_whole_images_share_all_their_object_and_all_their_background() -> None:
    pairs = measure_pairs(bank_of(squares()), "random_resized_crop", (1.0, 1.0), ratio=(1, 1), repeats=2)
    assert len(pairs) == 24
    found = summarise(pairs).set_index("measure")["value"]
    background = 1 - 14**2 / SIDE**2
    assert found["common_object"] == pytest.approx(1)
    assert found["common_background"] == pytest.approx(background)
    assert found["view_background"] == pytest.approx(background)
    assert found["common_mostly"] == 1 and not found[["views_empty", "views_poor", "common_empty"]].any()
    assert pairs["object"].iloc[0] == pytest.approx(14**2 / SIDE**2)


def test_swapped_crops_of_a_filled_box_share_no_background() -> None:
    found = summarise(measure_pairs(bank_of(squares()), "saliency_swap", 0.2)).set_index("measure")["value"]
    assert found["common_background"] == pytest.approx(0, abs=1e-6) and found["view_background"] < 1e-6
    whole = measure_pairs(bank_of(squares()), "saliency_swap", 1.0, repeats=1)
    assert whole["common_object"].to_numpy() == pytest.approx(1)


def test_shares_of_pairs_worked_out_by_hand() -> None:
    pairs = pd.DataFrame({
        "image": [0, 0, 1, 1], "object": 0.1,
        "object_1": [0.0, 0.1, 1.0, 0.5], "object_2": [0.5, 0.6, 1.0, 0.5],
        "common": [0.0, 0.2, 0.5, 0.3], "common_object": [0.0, 0.0, 1.0, 0.4],
        "background": [np.nan, 1.0, 0.5, 0.6], "of_view": [0.0, 0.4, 0.2, 0.2],
    })  # fmt: skip
    table = summarise(pairs, least=0.2).set_index("measure")
    assert set(table.index) == set(MEASURES)
    expected = {
        "views_empty": 1 / 8, "views_poor": 2 / 8, "disjoint": 1 / 4, "common_empty": 1 / 2,
        "common_poor": 1 / 2, "common_object": 0.35, "common_background": 0.7, "common_mostly": 1 / 2,
        "view_background": 0.2,
    }  # fmt: skip
    assert table["value"].to_dict() == pytest.approx(expected)
    # Two images, means 0 and 0.7: the standard error over them is half their distance.
    assert table["error"]["common_object"] == pytest.approx(0.35)


def test_smaller_crops_share_less_of_the_object_and_equal_seeds_give_equal_numbers(tmp_path: Path) -> None:
    bank = bank_of(squares())
    curves = view_curves(bank, "my birds/x", [0.05, 0.5], repeats=20)
    wide = curves[curves["view"] == "random_resized_crop"].pivot(
        index="scale", columns="measure", values="value"
    )
    assert wide.loc[0.05, "common_empty"] > wide.loc[0.5, "common_empty"]
    assert wide.loc[0.05, "common_object"] < wide.loc[0.5, "common_object"]
    assert (wide["views_empty"] <= wide["views_poor"]).all() and (
        wide["disjoint"] <= wide["common_empty"]
    ).all()
    again = view_curves(bank, "my birds/x", [0.05, 0.5], repeats=20)
    pd.testing.assert_frame_equal(curves, again)
    assert read_views(tmp_path).empty
    assert write_views(curves, tmp_path).name == "views-my-birds-x.csv"
    pd.testing.assert_frame_equal(read_views(tmp_path), curves)
    (tmp_path / "views-z.csv").write_text("data,view\na,b\n")
    with pytest.raises(CVSAError, match="has no column"):
        read_views(tmp_path)


def test_images_without_an_object_are_left_out() -> None:
    masks = squares(4)
    masks[1] = False
    pairs = measure_pairs(bank_of(masks), "random_resized_crop", 0.5, repeats=3)
    assert sorted(pairs["image"].unique()) == [0, 2, 3]
    assert measure_pairs(bank_of(masks), "saliency_swap", 0.5, limit=2)["image"].nunique() == 2
    with pytest.raises(CVSAError, match="0 images with a known object"):
        measure_pairs(bank_of(torch.zeros(3, SIDE, SIDE, dtype=torch.bool)), "saliency_swap", 0.5)
    with pytest.raises(CVSAError, match="at least 1"):
        measure_pairs(bank_of(masks), "saliency_swap", 0.5, repeats=0)
    with pytest.raises(CVSAError, match="random_resized_crop, saliency_swap"):
        measure_pairs(bank_of(masks), "dilo", 0.5)
    with pytest.raises(CVSAError, match="at least 2"):
        measure_pairs(bank_of(masks[:1]), "saliency_swap", 0.5)
