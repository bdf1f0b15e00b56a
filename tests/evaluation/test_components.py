"""Boxes of components at all thresholds at once: against labelling each cut map by SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cvsa.evaluation.components import box_overlaps, mask_counts
from cvsa.saliency.quality import box_iou

STEPS = 20
CUTS = (np.arange(STEPS) / STEPS).astype(np.float32)


def overlaps(maps, boxes):
    """Of maps (N, H, W) with the boxes of each; both results (N, K)."""
    best, largest = np.empty((len(maps), STEPS)), np.empty((len(maps), STEPS))
    first = np.cumsum([0, *map(len, boxes)])
    flat = np.concatenate([np.zeros((0, 4)), *boxes])
    box_overlaps(np.ascontiguousarray(maps, dtype=np.float32), CUTS, flat, first, best, largest)
    return best, largest


def slow(map, boxes, cut):
    """The same of one map at one threshold."""
    labels, count = ndimage.label(map >= cut, structure=np.ones((3, 3)))
    if not count or not len(boxes):
        return 0.0, 0.0
    each = [
        max(box_iou(np.array([x.start, y.start, x.stop, y.stop]), box) for box in boxes)
        for y, x in ndimage.find_objects(labels)
    ]
    return max(each), each[int(np.bincount(labels.ravel())[1:].argmax())]


def some_maps(kind, generator, shape=(60, 14, 17)):
    noise = generator.random(shape).astype(np.float32)
    if kind == "smooth":
        noise = np.stack([ndimage.gaussian_filter(map, 2) for map in noise])
    if kind == "coarse":  # many equal values, on the thresholds themselves
        return np.float32(CUTS[generator.integers(0, STEPS, shape)])
    if kind == "sparse":
        return np.where(noise > 0.7, noise, np.float32(0))
    low, high = noise.min((1, 2), keepdims=True), noise.max((1, 2), keepdims=True)
    return (noise - low) / (high - low)


@pytest.mark.parametrize("kind", ["noise", "smooth", "coarse", "sparse"])
def test_same_as_labelling_each_cut_map(kind):
    generator = np.random.default_rng(0)
    maps = some_maps(kind, generator)
    boxes = []
    for _ in maps:
        low = generator.uniform(0, 9, (generator.integers(0, 4), 2))
        boxes.append(np.concatenate([low, low + generator.uniform(1, 5, low.shape)], axis=1))
    best, largest = overlaps(maps, boxes)
    expected = np.array([[slow(map, own, cut) for cut in CUTS] for map, own in zip(maps, boxes, strict=True)])
    np.testing.assert_allclose(best, expected[..., 0], rtol=1e-12)
    np.testing.assert_allclose(largest, expected[..., 1], rtol=1e-12)


def test_diagonal_pixels_are_one_component():
    map = np.zeros((1, 4, 4))
    map[0, 1, 1] = map[0, 2, 2] = 0.5
    best, largest = overlaps(map, [np.array([[1.0, 1, 3, 3]])])
    np.testing.assert_array_equal(best[0, 1:11], 1)  # from 0.05 to 0.5
    np.testing.assert_array_equal(best[0, 11:], 0)
    np.testing.assert_array_equal(largest, best)
    assert best[0, 0] == 4 / 16  # at 0 the whole image


def test_of_equally_large_components_the_first_in_reading_order_counts():
    map = np.zeros((2, 3, 5))
    map[:, 0, 3:] = map[:, 2, :2] = 1
    map[1, 0, 3] = 0.9  # comes later, and joins the one above
    _, largest = overlaps(map, [np.array([[3.0, 0, 5, 1]])] * 2)
    assert largest[0, -1] == 1 and largest[1, -2] == 1
    assert largest[1, -1] == 0  # only one pixel of it is left: the other one is larger


def test_the_frame_joins_nothing_across_the_borders():
    map = np.zeros((1, 2, 3))
    map[0, 0, 2] = map[0, 1, 0] = 1  # neighbours in memory only
    best, _ = overlaps(map, [np.array([[0.0, 1, 1, 2]])])
    assert best[0, -1] == 1


def test_counts_of_pixels():
    generator = np.random.default_rng(1)
    maps = some_maps("coarse", generator)
    masks = generator.random(maps.shape) < 0.3
    common, area = np.empty((2, len(maps), STEPS), np.int64)
    mask_counts(maps, CUTS, masks, common, area)
    cut = maps[:, None] >= CUTS[:, None, None]
    np.testing.assert_array_equal(area, cut.sum((2, 3)))
    np.testing.assert_array_equal(common, (cut & masks[:, None]).sum((2, 3)))
