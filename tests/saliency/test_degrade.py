"""Degraded masks: properties on random and drawn masks."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from cvsa.data.birds import SynthBirds
from cvsa.errors import CVSAError
from cvsa.saliency import map_to_box
from cvsa.saliency.degrade import box, dilated, exact, find_degradation, random_box, shifted


@pytest.fixture(scope="module")
def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    noise = [ndimage.gaussian_filter(rng.random((40, 50)), 3) > 0.5 for _ in range(6)]
    drawn = SynthBirds(num_classes=10, num_images=6, image_size=48, seed=1).draw(torch.arange(6))
    birds = [np.where(np.asarray(mask)[0] > 127, np.uint8(255), np.uint8(0)) for mask in drawn.masks]
    return [mask.astype(np.uint8) * 255 for mask in noise] + birds


NAMES = ["exact", "box", "random_box", "dilated:0.5", "dilated:-0.4", "shifted:0.3"]


@pytest.mark.parametrize("name", NAMES)
def test_masks_stay_masks_and_depend_on_mask_and_number_only(name: str, masks: list[np.ndarray]) -> None:
    degrade = find_degradation(name, seed=4)
    for number, mask in enumerate(masks):
        before = mask.copy()
        worse = degrade(mask, number)
        assert worse.shape == mask.shape and worse.dtype == np.uint8 and set(np.unique(worse)) <= {0, 255}
        assert np.array_equal(mask, before)
        assert np.array_equal(
            worse, find_degradation(name, seed=4)(mask > 0, number).astype(bool) * np.uint8(255)
        )
        assert not degrade(np.zeros_like(mask), number).any()


def test_exact_is_the_mask(masks: list[np.ndarray]) -> None:
    assert all(exact(mask, 0) is mask for mask in masks)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 2.0, 50.0, -0.3, -0.9])
def test_dilation_has_its_area_and_is_nested(share: float, masks: list[np.ndarray]) -> None:
    for mask in masks:
        area, grown = (mask > 0).sum(), dilated(share)(mask, 0) > 0
        assert grown.sum() == min(max(1, round((1 + share) * area)), mask.size)
        inner, outer = (mask > 0, grown) if share >= 0 else (grown, mask > 0)
        assert not (inner & ~outer).any()


def test_dilation_is_even(masks: list[np.ndarray]) -> None:
    """No pixel that was left out is nearer to the object than one that was taken."""
    for mask in masks:
        truth, grown = mask > 0, dilated(0.6)(mask, 0) > 0
        distance = ndimage.distance_transform_edt(~truth)
        assert distance[grown].max() <= distance[~grown].min()


def test_shifts_move_by_their_share_of_the_box() -> None:
    mask = np.zeros((100, 120), dtype=np.uint8)
    mask[40:56, 50:59] = 255  # 16 x 9: geometric mean 12
    steps = []
    for number in range(64):
        moved = shifted(0.5, seed=2)(mask, number)
        assert (moved > 0).sum() == (mask > 0).sum()
        y, x = (int(axis.min()) for axis in np.nonzero(moved))
        steps.append((y - 40, x - 50))
        assert np.hypot(*steps[-1]) == pytest.approx(6, abs=0.75)
        assert np.array_equal(np.roll(mask, steps[-1], (0, 1)), moved)
    angles = np.arctan2(*np.transpose(steps))
    assert abs(np.exp(1j * angles).mean()) < 0.3  # in all directions
    assert not np.array_equal(shifted(0.5, seed=3)(mask, 0), shifted(0.5, seed=2)(mask, 0))
    assert np.array_equal(shifted(0.0)(mask, 0), mask)


def test_shifts_avoid_the_edge_where_there_is_room() -> None:
    mask = np.zeros((60, 60), dtype=np.uint8)
    mask[:12, 48:] = 255  # in a corner
    for number in range(32):
        assert (shifted(1.0)(mask, number) > 0).sum() == 144
    mask[:] = 255  # no room at all: cut, as nothing else is possible
    assert 0 < (shifted(0.5)(mask, 0) > 0).sum() < mask.size


def test_the_box_is_the_saliency_box(masks: list[np.ndarray]) -> None:
    for mask in masks:
        filled = box(mask, 0)
        left, top, right, bottom = map_to_box(mask).int().tolist()
        assert (filled > 0).sum() == (right - left) * (bottom - top)
        assert map_to_box(filled).tolist() == [left, top, right, bottom]


def test_random_boxes_have_the_size_of_the_box_and_any_place() -> None:
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[5:11, 4:8] = 255
    places = np.array([map_to_box(random_box(1)(mask, number)).tolist() for number in range(400)])
    assert (places[:, 2] - places[:, 0] == 4).all() and (places[:, 3] - places[:, 1] == 6).all()
    assert places[:, 0].min() == 0 and places[:, 2].max() == 30
    assert places[:, 1].min() == 0 and places[:, 3].max() == 20
    # Uniform over 27 x 15 places: means 13 and 7, deviations about 7.8 and 4.3.
    assert abs(places[:, 0].mean() - 13) < 1.6 and abs(places[:, 1].mean() - 7) < 0.9


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("dilate:0.5", "Did you mean 'dilated'"),
        ("dilated", "need a share"),
        ("box:0.5", "need a share"),
        ("shifted:far", "must be a number"),
        ("shifted:-1", "not negative"),
        ("dilated:-1", "above -1"),
        ("dilated:nan", "above -1"),
    ],
)
def test_unknown_degradations_are_refused(text: str, word: str) -> None:
    with pytest.raises(CVSAError, match=word):
        find_degradation(text)
