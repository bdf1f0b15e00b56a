"""Figures of quality, by hand and against loops."""

import numpy as np
import pytest

from cvsa.errors import CVSAError
from cvsa.saliency.quality import THRESHOLDS, box_iou, compare, iou, rate, references


def mask_of(*box: int, shape: tuple[int, int] = (10, 20)) -> np.ndarray:
    left, top, right, bottom = box
    mask = np.zeros(shape, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def test_overlaps_by_hand() -> None:
    first, second = mask_of(0, 0, 4, 4), mask_of(2, 0, 6, 4)
    assert iou(first, second) == pytest.approx(8 / 24)
    assert box_iou(np.array([0, 0, 4, 4]), np.array([2, 0, 6, 4])) == pytest.approx(8 / 24)
    assert box_iou(np.array([0, 0, 4, 4]), np.array([5, 0, 6, 4])) == 0
    empty = np.zeros_like(first)
    assert iou(first, empty) == 0 and iou(empty, empty) == 1


def test_a_row_by_hand() -> None:
    truth = mask_of(4, 2, 8, 6)
    half, twice = mask_of(4, 2, 6, 6), mask_of(4, 2, 12, 6)
    nothing = np.full(truth.shape, 0.4)
    row = rate("by hand", [truth * 0.5, half * 1.0, twice * 1.0, nothing], [truth] * 4, milliseconds=3.0)
    assert (row.detector, row.images, row.nothing_found, row.milliseconds) == ("by hand", 4, 1, 3.0)
    assert row.iou == pytest.approx((1 + 0.5 + 0.5 + 0) / 4)
    # Where nothing is found the box is the whole image: 16 of 200 pixels.
    assert row.box_iou == pytest.approx((1 + 0.5 + 0.5 + 16 / 200) / 4)
    assert row.boxes_right == 0.25  # over 0.5, not at it


def test_kinds_of_maps_and_masks_agree() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 256, (6, 7), dtype=np.uint8) for _ in range(4)]
    masks = [rng.random((6, 7)) < 0.5 for _ in range(4)]
    expected = rate("one", maps, masks)
    assert rate("one", [map / 255 for map in maps], [mask * np.uint8(255) for mask in masks]) == expected


def test_the_best_threshold_is_chosen_on_one_half_and_judged_on_the_other() -> None:
    truth = mask_of(4, 2, 8, 6)
    maps = [truth * 0.30 + ~truth * 0.12] * 9
    row = rate("faint", maps, [truth] * 9)
    assert row.iou == 0 and row.nothing_found == 9
    assert row.best_iou == 1 and 0.12 < row.best_threshold <= 0.30
    # One image that wants another threshold: it can be in one half only.
    odd = [*maps[1:], truth * 0.9 + ~truth * 0.6]
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(9)
        row = rate("odd", odd, [truth] * 9, seed=seed)
        judged = order[4:]
        cut = row.best_threshold
        assert cut in THRESHOLDS
        loop = [iou(odd[i] >= cut, truth) for i in judged]
        assert row.best_iou == pytest.approx(np.mean(loop))


def test_references_know_the_mean_size_only() -> None:
    masks = [mask_of(0, 0, 8, 4), mask_of(8, 4, 20, 10)]  # means: 10 of 20 wide, 5 of 10 high
    finders = references(masks, seed=3)
    image = np.zeros((10, 20, 3), dtype=np.uint8)
    assert finders["whole image"](image).all()
    assert np.array_equal(finders["centred box"](image) > 0, mask_of(5, 2, 15, 8)) or np.array_equal(
        finders["centred box"](image) > 0, mask_of(5, 2, 15, 7)
    )
    areas = {int(finders["random box"](image).sum()) for _ in range(50)}
    assert min(areas) >= 9 * 4 and max(areas) <= 11 * 6
    again = references(masks, seed=3)["random box"]
    assert np.array_equal(again(image), references(masks, seed=3)["random box"](image))


def test_a_comparison_has_a_row_for_each_detector_and_reference() -> None:
    rng = np.random.default_rng(1)
    masks = [mask_of(4, 2, 12, 8), mask_of(1, 1, 6, 9), mask_of(3, 3, 18, 9), mask_of(0, 2, 9, 9)]
    images = [(mask[..., None] * rng.integers(200, 256, (10, 20, 3))).astype(np.uint8) for mask in masks]
    perfect = lambda image: (image[..., 0] > 0).astype(np.float32)  # noqa: E731
    rows = compare({"perfect": perfect, "blind": lambda image: np.zeros(image.shape[:2])}, images, masks)
    by_name = {row.detector: row for row in rows}
    assert list(by_name) == ["perfect", "blind", "whole image", "centred box", "random box"]
    assert by_name["perfect"].iou == by_name["perfect"].best_iou == by_name["perfect"].boxes_right == 1
    assert by_name["blind"].iou == 0 and by_name["blind"].nothing_found == 4
    # The box of a blind detector is the whole image.
    assert by_name["blind"].box_iou == by_name["whole image"].box_iou
    assert by_name["whole image"].iou == pytest.approx(np.mean([mask.mean() for mask in masks]))
    assert all(row.milliseconds is not None and row.milliseconds >= 0 for row in rows)


@pytest.mark.parametrize(
    ("maps", "masks", "word"),
    [
        ([np.zeros((3, 3))] * 2, [np.ones((3, 4), bool)] * 2, r"\(3, 3\).*\(3, 4\)"),
        ([np.zeros((3, 3))], [np.ones((3, 3), bool)] * 2, "2 masks and 1 maps"),
        ([np.zeros((3, 3))], [np.ones((3, 3), bool)], "at least 2"),
    ],
)
def test_what_does_not_belong_together_is_refused(maps: list, masks: list, word: str) -> None:
    with pytest.raises(CVSAError, match=word):
        rate("any", maps, masks)
