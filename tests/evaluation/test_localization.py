"""Metrics of localisation: cases worked out by hand, naive oracles, what must not matter, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn.functional import interpolate

from cvsa.data.bank import ImageBank
from cvsa.errors import CVSAError
from cvsa.evaluation import localization
from cvsa.evaluation.localization import (
    THRESHOLDS,
    Choice,
    Truth,
    choose,
    measure,
    references,
    to_pixels,
    truth_of,
)
from cvsa.saliency.quality import box_iou, iou

BOTH = ("box_30", "box_50", "box_70", "corloc", "iou")


def box_map(size, x1, y1, x2, y2, value=1.0):
    map = np.zeros((size, size))
    map[y1:y2, x1:x2] = value
    return map


def truth_from(masks, boxes=True, parts=None, names=()):
    """Truth of masks; the box of each is its extent."""
    masks = np.asarray(masks, dtype=bool)
    found = []
    for mask in masks:
        ys, xs = np.nonzero(mask)
        found.append(
            np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], float)
            if len(ys)
            else np.zeros((0, 4))
        )
    return Truth(masks, found if boxes else None, parts, names, masks.shape[-1])


def at(cut):
    """All thresholds the same."""
    return Choice(dict.fromkeys(BOTH, cut))


def smooth_maps(count, size, seed=0, sigma=3.0):
    noise = np.random.default_rng(seed).random((count, size, size))
    return np.stack([ndimage.gaussian_filter(map, sigma) for map in noise])


def blobs(count, size, seed=1):
    return np.stack([map > np.quantile(map, 0.8) for map in smooth_maps(count, size, seed)])


# Maps


def test_maps_are_resized_and_stretched_each_on_its_own():
    maps = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)) * 40 - 90
    resized = interpolate(maps[:, None], size=(12, 12), mode="bilinear")[:, 0].numpy()
    low, high = resized.min((1, 2), keepdims=True), resized.max((1, 2), keepdims=True)
    pixels = to_pixels(maps, 12)
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, (resized - low) / (high - low), atol=1e-5)
    assert (pixels.min((1, 2)) == 0).all() and (pixels.max((1, 2)) == 1).all()
    np.testing.assert_array_equal(to_pixels(pixels, 12), pixels)  # once more changes nothing


def test_maps_that_say_nothing_are_zero():
    maps = np.ones((6, 3, 3), dtype=np.float32)
    maps[1] = 0
    maps[2] = 0.1  # resizing rounds
    maps[3, 0, 0], maps[4, 1, 1] = np.nan, np.inf
    maps[5] = 1000 + np.random.default_rng(0).random((3, 3)) * 1e-4
    np.testing.assert_array_equal(to_pixels(maps, 8), 0)


def test_huge_and_tiny_values_are_maps_all_the_same():
    shape = np.array([[[0, 1], [2, 4]]])
    huge = np.float32(shape - 2) * np.float32(1.5e38)
    for maps in (huge, np.float32(shape) * np.float32(1e-30)):
        np.testing.assert_allclose(to_pixels(maps, 2), shape / 4, rtol=1e-6)


def test_maps_have_three_axes():
    with pytest.raises(CVSAError, match=r"\(N, h, w\)"):
        to_pixels(np.zeros((2, 1, 4, 4)), 8)
    assert len(to_pixels(np.zeros((0, 4, 4)), 8)) == 0


# By hand


def test_a_perfect_map():
    masks = [box_map(10, 2, 3, 7, 8), box_map(10, 0, 0, 3, 3)]
    truth = truth_from(masks)
    maps = np.array(masks)
    found = measure(maps, truth, choose(maps, truth))
    for name in ("box_acc", "max_box_acc", "corloc", "iou", "pxap", "pointing", "energy"):
        assert found.metrics[name] == 1, name
    assert found.metrics["threshold_iou"] == 0.01
    np.testing.assert_array_equal(found.per_image.drop(columns="image"), 1)


def test_accuracies_of_boxes_by_hand():
    # A true box of 4 x 5 = 20 pixels. Above 0.5 the map is its left 4 x 2 (IoU 0.4); above 0.2 it is 4 x 4 of
    # it (0.8); above 0 the whole image (20 / 100).
    map = box_map(10, 2, 2, 6, 6, 0.3)
    map[2:4, 2:6] = 1
    truth = truth_from([box_map(10, 2, 2, 6, 7)])
    shares = {cut: measure(map[None], truth, at(cut)).metrics for cut in (0.0, 0.2, 0.3, 0.31, 0.9)}
    assert [shares[cut]["box_acc_30"] for cut in shares] == [0, 1, 1, 1, 1]
    assert [shares[cut]["box_acc_50"] for cut in shares] == [0, 1, 1, 0, 0]
    assert [shares[cut]["box_acc_70"] for cut in shares] == [0, 1, 1, 0, 0]
    assert [shares[cut]["corloc"] for cut in shares] == [0, 1, 1, 0, 0]
    np.testing.assert_allclose([shares[cut]["box_acc"] for cut in shares], [0, 1, 1, 1 / 3, 1 / 3])
    assert {one["max_box_acc"] for one in shares.values()} == {1}
    np.testing.assert_allclose([shares[cut]["iou"] for cut in shares], [0.2, 0.8, 0.8, 0.4, 0.4])


@pytest.mark.parametrize(("height", "delta"), [(3, 30), (5, 50), (7, 70)])
def test_an_overlap_that_is_exactly_reached_counts(height, delta):
    truth = truth_from([box_map(10, 0, 0, 10, 10)])
    metrics = measure(box_map(10, 0, 0, 10, height)[None], truth, at(0.5)).metrics
    reached = [metrics[f"box_acc_{each}"] for each in (30, 50, 70)]
    assert reached == [float(each <= delta) for each in (30, 50, 70)]


def test_any_component_and_any_object_count_for_boxes_but_only_the_largest_for_corloc():
    map = box_map(12, 0, 0, 6, 6) + box_map(12, 8, 8, 11, 11)
    objects = np.array([[8.0, 8, 11, 11], [0, 9, 2, 11]])
    masks = (box_map(12, 8, 8, 11, 11) + box_map(12, 0, 9, 2, 11))[None] > 0
    metrics = measure(map[None], Truth(masks, [objects], None, (), 12), at(0.5)).metrics
    assert metrics["box_acc"] == 1 and metrics["corloc"] == 0
    assert measure(map[None], Truth(masks, [objects[1:]], None, (), 12), at(0.5)).metrics["box_acc"] == 0
    assert metrics["pointing"] == metrics["energy"] == 9 / 45


def test_thresholds_come_from_the_held_out_images():
    # The object is the 4 x 4 square: 0.8 in the held-out map, whose surroundings are 0.6; 0.5 in the other.
    mask = box_map(8, 2, 2, 6, 6)
    held = np.maximum(box_map(8, 0, 0, 8, 4, 0.6), box_map(8, 2, 2, 6, 6, 0.8))
    held[2, 2], held[7, 7] = 1, 0
    other = box_map(8, 2, 2, 6, 6, 0.5)
    other[2, 2] = 1
    truth = truth_from([mask])
    chosen = choose(held[None], truth)
    assert chosen.thresholds == {**dict.fromkeys(BOTH, 0.61), "box_30": 0.0 if 16 / 64 >= 0.3 else 0.01}
    assert (chosen.images, chosen.excluded) == (1, 0)
    metrics = measure(other[None], truth, chosen).metrics
    assert metrics["box_acc_50"] == metrics["corloc"] == 0 and metrics["iou"] == 1 / 16
    assert metrics["max_box_acc"] == 1  # by the measured image itself
    assert metrics["threshold_iou"] == metrics["threshold_box_70"] == 0.61


def test_mask_overlap_is_a_mean_over_images_at_one_threshold():
    masks = [box_map(10, 0, 0, 10, 5), box_map(10, 0, 0, 10, 2)]
    maps = np.array([box_map(10, 0, 0, 10, 4), box_map(10, 0, 0, 10, 4)])
    found = measure(maps, truth_from(masks), at(0.5))
    np.testing.assert_allclose(found.per_image["iou"], [4 / 5, 2 / 4])
    assert found.metrics["iou"] == pytest.approx((4 / 5 + 2 / 4) / 2)


def test_average_precision_by_hand():
    # Values 1, 0.75, 0.5, 0.25, and many 0: object, no, object, object, no ...
    map, mask = np.zeros((4, 4)), np.zeros((4, 4))
    map.flat[:4], mask.flat[[0, 2, 3]] = (1, 0.75, 0.5, 0.25), 1
    expected = 1 / 3 * (1 + 2 / 3 + 3 / 4)
    assert measure(map[None], truth_from([mask]), Choice()).metrics["pxap"] == pytest.approx(expected)


def test_pointing_by_hand():
    mask = box_map(6, 0, 0, 3, 6)
    hit, miss, half = (box_map(6, x, 1, x + w, 2) for x, w in ((1, 1), (4, 1), (2, 4)))
    found = measure(np.array([hit, miss, half]), truth_from([mask] * 3), Choice())
    np.testing.assert_array_equal(
        found.per_image["pointing"], [1, 0, 1 / 4]
    )  # of 4 equal maxima 1 lies on it
    assert found.metrics["pointing"] == pytest.approx(1.25 / 3)


def test_energy_by_hand():
    mask = box_map(4, 0, 0, 2, 2)
    map = box_map(4, 0, 0, 4, 1, 0.5)
    map[0, 0], map[3, 3] = 1, 0.5  # 1 + 0.5 of 1 + 3 * 0.5 + 0.5
    assert measure(map[None], truth_from([mask]), Choice()).metrics["energy"] == 0.5


def test_parts_by_hand():
    nan = np.nan
    parts = np.array(
        [
            [[0.0, 0.0], [1.99, 1.99], [2.0, 0.5], [nan, nan]],
            [[7.0, 7.5], [1.0, 8.0], [8.5, 1.0], [nan, nan]],  # 8 is the border, 8.5 is outside
        ]
    )
    maps = np.array([box_map(8, 0, 0, 2, 2), box_map(8, 0, 4, 8, 8)])
    truth = truth_from(maps > 0, parts=parts, names=("left eye", "beak", "wing", "leg"))
    found = measure(maps, truth, at(0.5))
    assert found.metrics["part_hit_left_eye"] == 1  # (0, 0) and (7, 7)
    assert found.metrics["part_hit_beak"] == 1  # (1, 1) and (1, 7)
    assert found.metrics["part_hit_wing"] == 0  # (2, 0); not visible in the other
    assert found.metrics["part_hit"] == 4 / 5
    assert found.metrics["part_area"] == pytest.approx((3 * 4 / 64 + 2 * 32 / 64) / 5)
    assert found.unavailable == {"part_hit_leg": "never visible"}


# Oracles


def test_same_as_a_loop_over_images_and_thresholds():
    maps, held = to_pixels(smooth_maps(40, 24), 24), to_pixels(smooth_maps(30, 24, seed=5), 24)
    truth, other = truth_from(blobs(40, 24)), truth_from(blobs(30, 24, seed=7))
    overlap = {}
    for name, images, true in (("measured", maps, truth), ("held", held, other)):
        rows = []
        for map, mask, (box,) in zip(images, true.masks, true.boxes, strict=True):
            row = []
            for cut in np.float32(THRESHOLDS):
                labels, count = ndimage.label(map >= cut, structure=np.ones((3, 3)))
                each = [
                    box_iou(np.array([x.start, y.start, x.stop, y.stop]), box)
                    for y, x in ndimage.find_objects(labels)
                ]
                largest = int(np.bincount(labels.ravel())[1:].argmax())
                row.append((max(each), each[largest], iou(map >= cut, mask)))
            rows.append(row)
        overlap[name] = np.array(rows)  # (N, K, 3)
    expected, optimistic = {}, []
    for delta in (30, 50, 70):
        share = (overlap["held"][..., 0] >= delta / 100).mean(0)
        right = overlap["measured"][..., 0] >= delta / 100
        expected[f"box_acc_{delta}"] = right[:, share.argmax()].mean()
        optimistic.append(right.mean(0).max())
    expected["box_acc"], expected["max_box_acc"] = np.mean(list(expected.values())), np.mean(optimistic)
    k = (overlap["held"][..., 1] >= 0.5).mean(0).argmax()
    expected["corloc"] = (overlap["measured"][:, k, 1] >= 0.5).mean()
    expected["iou"] = overlap["measured"][:, overlap["held"][..., 2].mean(0).argmax(), 2].mean()
    metrics = measure(maps, truth, choose(held, other)).metrics
    assert 0 < expected["box_acc_50"] < expected["box_acc_30"] < 1  # neither trivial
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-12), name
    assert metrics["max_box_acc"] >= metrics["box_acc"]


@pytest.mark.parametrize("kind", ["smooth", "many equal values"])
def test_average_precision_is_that_of_scikit_learn(kind, monkeypatch):
    from sklearn.metrics import average_precision_score

    maps, masks = to_pixels(smooth_maps(20, 32), 32), blobs(20, 32)
    if kind != "smooth":
        maps = np.round(maps * 8) / np.float32(8)
    expected = average_precision_score(masks.ravel(), to_pixels(maps, 32).ravel())
    exact = measure(maps, truth_from(masks), Choice()).metrics["pxap"]
    assert exact == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr(localization, "EXACT", 100)  # now by bins
    binned = measure(maps, truth_from(masks), Choice()).metrics["pxap"]
    assert binned == pytest.approx(expected, abs=1e-12 if kind != "smooth" else 2e-5)


def test_how_images_are_divided_into_chunks_does_not_matter(monkeypatch):
    maps, truth = smooth_maps(50, 16), truth_from(blobs(50, 16))
    whole = measure(maps, truth, choose(maps, truth))
    monkeypatch.setattr(localization, "CHUNK", 7)
    parts = measure(maps, truth, choose(maps, truth))
    assert whole.metrics == parts.metrics
    assert whole.per_image.equals(parts.per_image)


# What must not matter


def test_monotone_changes_keep_what_only_ranks_count_for():
    maps, truth = to_pixels(smooth_maps(20, 24), 24), truth_from(blobs(20, 24))
    plain = measure(maps, truth, Choice()).metrics
    for change in (np.sqrt, lambda map: map**3, np.expm1):
        changed = measure(change(maps.astype(np.float64)), truth, Choice()).metrics
        assert changed["pxap"] == pytest.approx(plain["pxap"], abs=1e-4)  # rounding may make values equal
        assert changed["pointing"] == plain["pointing"]


def test_scale_and_offset_change_nothing():
    maps, truth = smooth_maps(20, 24), truth_from(blobs(20, 24))
    plain, changed = (measure(m, truth, choose(m, truth)).metrics for m in (maps, 37 * maps - 5))
    assert changed == pytest.approx(plain, abs=1e-5)


def test_shifting_maps_and_truth_together_changes_nothing():
    maps, masks = np.zeros((10, 30, 30)), np.zeros((10, 30, 30), dtype=bool)
    maps[:, 3:19, 2:18] = to_pixels(smooth_maps(10, 16), 16)
    masks[:, 3:19, 2:18] = blobs(10, 16)
    parts = np.random.default_rng(0).uniform(2, 18, (10, 2, 2))
    results = []
    for dx, dy in ((0, 0), (9, 4), (-2, 11)):
        truth = truth_from(np.roll(masks, (dy, dx), (1, 2)), parts=parts + (dx, dy), names=("a", "b"))
        moved = np.roll(maps, (dy, dx), (1, 2))
        results.append(measure(moved, truth, choose(moved, truth)).metrics)
    assert results[0] == results[1] == results[2]


def test_raw_and_resized_maps_are_the_same():
    maps, truth = smooth_maps(12, 6, sigma=1.0), truth_from(blobs(12, 24))
    for form in (to_pixels(maps, 24), torch.from_numpy(maps)):
        other = measure(form, truth, choose(form, truth))
        assert other.metrics == measure(maps, truth, choose(maps, truth)).metrics


# Defined where there is little to go by


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan])
def test_a_constant_map_is_worth_what_chance_is(value):
    masks = np.array([box_map(10, 0, 0, 10, 6), box_map(10, 0, 0, 2, 2)]) > 0
    parts = np.array([[[1.0, 1.0]], [[9.0, 9.0]]])
    truth = truth_from(masks, parts=parts, names=("eye",))
    maps = np.full((2, 5, 5), value)
    chosen = choose(maps, truth)
    assert set(chosen.thresholds.values()) == {0.0}
    metrics = measure(maps, truth, chosen).metrics
    assert metrics["pointing"] == metrics["energy"] == metrics["iou"] == pytest.approx((0.6 + 0.04) / 2)
    assert metrics["pxap"] == pytest.approx(64 / 200)  # how many of all pixels lie on objects
    assert metrics["box_acc_30"] == metrics["box_acc_50"] == metrics["corloc"] == 0.5
    assert metrics["box_acc_70"] == 0
    assert metrics["part_hit"] == metrics["part_area"] == 1
    assert metrics["constant"] == 2
    above = measure(maps, truth, at(0.01)).metrics  # nothing is left
    assert above["iou"] == above["box_acc"] == above["corloc"] == above["part_hit"] == 0


def test_images_without_an_object_are_left_out_and_counted():
    masks, maps = blobs(6, 16), smooth_maps(6, 16)
    masks[2] = False
    truth, rest = truth_from(masks), [0, 1, 3, 4, 5]
    found, chosen = measure(maps, truth, at(0.4)), choose(maps, truth)
    expected = measure(maps[rest], truth_from(masks[rest]), at(0.4))
    assert {**expected.metrics, "excluded": 1} == found.metrics
    assert found.metrics["images"] == 5 and (chosen.images, chosen.excluded) == (5, 1)
    assert found.per_image["image"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.per_image.drop(columns="image").isna().all(axis=1).tolist() == [i == 2 for i in range(6)]


def test_objects_of_one_pixel():
    mask = box_map(9, 8, 0, 9, 1)
    map = box_map(9, 8, 0, 9, 1)
    map[0, 7] = 0.4
    truth = truth_from([mask])
    found = measure(map[None], truth, choose(map[None], truth)).metrics
    assert found["box_acc"] == found["pointing"] == found["pxap"] == 1
    assert found["energy"] == pytest.approx(1 / 1.4)


def test_boxes_without_masks():
    maps, masks = smooth_maps(8, 16), blobs(8, 16)
    with_masks = truth_from(masks, parts=np.full((8, 1, 2), 5.0), names=("eye",))
    truth = Truth(None, with_masks.boxes, with_masks.parts, ("eye",), 16, "annotated by boxes")
    chosen = choose(maps, truth)
    assert set(chosen.thresholds) == {"box_30", "box_50", "box_70", "corloc"}
    found = measure(maps, truth, chosen)
    assert found.unavailable == dict.fromkeys(("iou", "pxap"), "no masks: annotated by boxes")
    both = measure(maps, with_masks, choose(maps, with_masks))
    for name in ("box_acc", "max_box_acc", "corloc"):
        assert found.metrics[name] == both.metrics[name]
    filled = np.array([box_map(16, *box[0].astype(int)) for box in truth.boxes]) > 0
    inside = measure(maps, truth_from(filled), Choice()).metrics
    assert found.metrics["pointing"] == inside["pointing"] and found.metrics["energy"] == inside["energy"]
    # The parts' region is that of corloc.
    cut = to_pixels(maps, 16) >= np.float32(chosen.thresholds["corloc"])
    assert found.metrics["part_hit"] == cut[:, 5, 5].mean()
    assert found.metrics["part_area"] == pytest.approx(cut.mean())
    assert found.per_image["iou"].isna().all() and found.per_image["box_iou"].notna().all()


def test_neither_masks_nor_boxes():
    maps = smooth_maps(4, 16)
    for truth in (Truth(None, None, None, (), 16), Truth(None, None, np.full((4, 1, 2), 5.0), ("eye",), 16)):
        assert not truth.known
        chosen = choose(maps, truth)
        assert chosen == Choice(excluded=4)
        found = measure(maps, truth, chosen)
        assert found.metrics == {"images": 0, "excluded": 4, "constant": 0}
        assert {"box_acc", "max_box_acc", "corloc", "pxap", "iou", "pointing", "part_hit"} <= set(
            found.unavailable
        )
        assert found.unavailable["pxap"] == "no masks"
        assert found.unavailable["pointing"] == "neither masks nor boxes"
        assert len(found.per_image) == 4


def test_no_object_anywhere_and_no_images():
    truth = truth_from(np.zeros((3, 8, 8)))
    found = measure(smooth_maps(3, 8), truth, choose(smooth_maps(3, 8), truth))
    assert found.unavailable["pointing"] == "none of the images has an object"
    assert found.metrics["excluded"] == 3
    none = Truth(np.zeros((0, 8, 8), bool), [], None, (), 8)
    assert measure(np.zeros((0, 4, 4)), none, Choice()).unavailable["iou"] == "there are no images"


def test_without_held_out_truth_what_needs_no_threshold_remains():
    maps, truth = smooth_maps(4, 16), truth_from(blobs(4, 16))
    found = measure(maps, truth, Choice())
    assert set(found.metrics) - {"images", "excluded", "constant"} == {
        "max_box_acc",
        "pxap",
        "pointing",
        "energy",
    }
    assert "no threshold" in found.unavailable["box_acc"] and "no threshold" in found.unavailable["iou"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"masks": np.zeros((2, 8, 8))}, "bool"),
        ({"masks": np.zeros((2, 8, 9), bool)}, "bool"),
        ({"boxes": [np.zeros((0, 4))]}, "equally many"),
        ({"boxes": [np.array([[0, 0, 9, 2]])] * 2}, "image 0"),
        ({"boxes": [np.zeros((0, 4)), np.array([[3, 0, 3, 2]])]}, "image 1"),
        ({"parts": np.zeros((2, 3, 2))}, "0 names"),
    ],
)
def test_impossible_truth_is_refused(fields, message):
    whole = {"masks": np.ones((2, 8, 8), bool), "boxes": None, "parts": None, "part_names": (), "size": 8}
    with pytest.raises(CVSAError, match=message):
        Truth(**{**whole, **fields})


def test_maps_of_other_images_are_refused():
    truth = truth_from(blobs(4, 8))
    with pytest.raises(CVSAError, match="3 maps for 4 images"):
        choose(smooth_maps(3, 8), truth)
    with pytest.raises(CVSAError, match="5 maps for 4 images"):
        measure(smooth_maps(5, 8), truth, Choice())


# References


def test_references_behave_as_they_must():
    held, truth = truth_from(blobs(60, 24, seed=3)), truth_from(blobs(80, 24, seed=4))
    sources = references(held, 80, 24, seed=5)
    assert list(sources) == ["ref_centre", "ref_whole", "ref_random"]
    choices = references(held, 60, 24, seed=6)
    results = {name: measure(m, truth, choose(choices[name], held)).metrics for name, m in sources.items()}
    share = truth.masks.mean()
    whole = results["ref_whole"]
    assert whole["iou"] == whole["pointing"] == whole["energy"] == pytest.approx(share)
    assert whole["pxap"] == pytest.approx(share) and whole["constant"] == 80
    areas = np.array([np.prod(box[0, 2:] - box[0, :2]) for box in truth.boxes]) / 24**2
    assert whole["box_acc"] == pytest.approx(np.mean([(areas >= d).mean() for d in (0.3, 0.5, 0.7)]))
    assert results["ref_random"]["pxap"] == pytest.approx(share, abs=0.03)
    assert results["ref_random"]["pointing"] == pytest.approx(share, abs=0.15)
    # No map can do worse than the whole image where thresholds are chosen on the measured images.
    assert all(one["max_box_acc"] >= whole["max_box_acc"] for one in results.values())


def test_the_centred_box_has_the_mean_size():
    truth = Truth(None, [np.array([[0.0, 0, 4, 2]]), np.array([[1.0, 1, 3, 7], [0, 0, 6, 1]])], None, (), 8)
    map = references(truth, 2, 16)["ref_centre"]  # mean width 4, height 3, at twice the size
    assert map.shape == (2, 16, 16)
    np.testing.assert_array_equal(map[1], box_map(16, 4, 5, 12, 11))
    assert "ref_centre" not in references(Truth(None, None, None, (), 8), 2, 16)


def test_random_maps_depend_on_seed_and_image_alone():
    truth = Truth(None, None, None, (), 8)
    first = references(truth, 5, 16, seed=1, grid=3)["ref_random"]
    np.testing.assert_array_equal(references(truth, 3, 16, seed=1, grid=3)["ref_random"], first[:3])
    assert len(np.unique(first.reshape(5, -1)[:, :9], axis=0)) == 5
    assert not np.array_equal(references(truth, 5, 16, seed=2, grid=3)["ref_random"], first)


# Truth of banks


def bank_of(maps, description, **extras):
    """A bank with these saliency maps (N, R, R), uint8."""
    from cvsa.saliency.boxes import maps_to_boxes

    maps = np.asarray(maps, dtype=np.uint8)
    boxes, found = maps_to_boxes(maps)
    maps = np.where(found.numpy()[:, None, None], maps, np.uint8(255))  # as BankWriter does
    images = torch.from_numpy(np.repeat(maps[:, None], 4, axis=1))
    labels = torch.zeros(len(maps), dtype=torch.int64)
    return ImageBank(images, boxes, labels, ["a"], found=found, extras=extras, description=description)


def test_drawn_birds_have_exact_masks_boxes_and_parts():
    from cvsa.config import DataConfig
    from cvsa.data.datasets import load_splits

    counts = {"train_images": 20, "val_images": 20, "test_images": 20}
    for error in ("exact", "dilated:1.5"):
        config = DataConfig(
            dataset="synthbirds", bank_size=32, num_classes=10, saliency_error=error, **counts
        )
        banks = load_splits(config)
        truth = truth_of(banks["val"])
        np.testing.assert_array_equal(truth.masks, banks["val"].images[:, 3].numpy() >= 128)
        np.testing.assert_array_equal(np.concatenate(truth.boxes), banks["val"].boxes.numpy())
        assert list(truth.part_names) == ["beak", "crown", "eye", "wing", "tail"]
        np.testing.assert_array_equal(truth.parts, banks["val"].extras["parts"])
        train = truth_of(banks["train"])
        assert train.known == (error == "exact") and ("degraded" in train.reason) == (error != "exact")
    few = truth_of(banks["val"], torch.tensor([7, 3]))
    assert len(few) == 2 and few.size == 32
    np.testing.assert_array_equal(few.masks[1], truth.masks[3])
    np.testing.assert_array_equal(few.parts[0], truth.parts[7])
    perfect = measure(few.masks.astype(float), few, at(0.5)).metrics
    assert perfect["box_acc"] == perfect["pxap"] == perfect["part_hit"] == 1


def test_masks_of_photographs_may_show_several_objects():
    map = box_map(20, 0, 0, 10, 10, 255) + box_map(20, 15, 15, 19, 19, 255)
    map[0, 18] = 255  # a speck
    empty, grey = np.zeros((20, 20)), box_map(20, 5, 5, 9, 9, 127)
    truth = truth_of(bank_of([map, empty, grey], {"saliency": "masks"}))
    np.testing.assert_array_equal(truth.boxes[0], [[0, 0, 10, 10], [15, 15, 19, 19]])
    assert truth.masks.sum(axis=(1, 2)).tolist() == [117, 0, 0]  # the speck is in the mask
    assert truth.present.tolist() == [True, False, False]


def test_boxes_of_photographs():
    map = box_map(20, 0, 0, 10, 10, 255) + box_map(20, 15, 15, 16, 16, 255)
    truth = truth_of(bank_of([map, np.zeros((20, 20))], {"saliency": "boxes"}))
    assert truth.masks is None and truth.known and "boxes" in truth.reason
    np.testing.assert_array_equal(truth.boxes[0], [[0, 0, 10, 10], [15, 15, 16, 16]])
    assert len(truth.boxes[1]) == 0


@pytest.mark.parametrize(
    "description",
    [
        {"saliency": "predicted"},
        {"saliency": "none"},
        {"saliency": "parts"},
        {"saliency": "classical-3-0123456789ab"},
        {"saliency": "masks", "saliency_error": "dilated"},
        {"dataset": "synthbirds"},  # a folder of that name
        {"dataset": "synthbirds", "object_size": "medium", "saliency": "classical"},
        {},
    ],
)
def test_what_was_not_annotated_is_no_truth(description):
    truth = truth_of(bank_of([box_map(8, 1, 1, 5, 5, 255)], description))
    assert not truth.known and truth.masks is None and truth.boxes is None and truth.reason


def test_photographs_on_disk(photographs):
    from cvsa.config import DataConfig
    from cvsa.data.datasets import load_splits

    config = DataConfig(dataset="folder", root=photographs, bank_size=32)
    bank = load_splits(config)["test"]
    truth = truth_of(bank)
    np.testing.assert_array_equal(np.concatenate(truth.boxes), bank.boxes.numpy())
    assert truth.masks.any(axis=(1, 2)).all()
