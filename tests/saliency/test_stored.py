"""From boxes, masks and parts to maps, against a loop over pixels."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvsa.errors import CVSAError
from cvsa.saliency.stored import REACH, Box, corner_box, from_boxes, from_masks, from_parts


def test_several_boxes_add_up() -> None:
    boxes = {"a.jpg": [corner_box("t", 2, 3, 9, 7), corner_box("t", 20.4, 1, 25.6, 4)]}
    found = np.asarray(from_boxes(boxes, Path("t")).read("a.jpg", (30, 10)))
    expected = np.zeros((10, 30), dtype=bool)
    expected[3:7, 2:9] = expected[1:4, 20:26] = True
    assert np.array_equal(found == 255, expected) and np.array_equal(found == 0, ~expected)


def test_box_over_the_edge_is_clipped_and_noted() -> None:
    saliency = from_boxes({"a": [Box(-5, 2, 12, 30, "t")], "b": [Box(-0.5, 0, 10.5, 8, "t")]}, Path("t"))
    found = np.asarray(saliency.read("a", (10, 8)))
    assert (found[2:] == 255).all() and not found[:2].any()
    saliency.read("b", (10, 8))  # half a pixel is rounding
    assert saliency.clipped == {"a"}


@pytest.mark.parametrize("box", [(10, 0, 12, 4), (0, 8, 5, 9), (-7, 1, 0, 4), (1, -3, 4, 0)])
def test_box_outside_its_image_is_named(box: tuple[float, ...]) -> None:
    saliency = from_boxes({"a.jpg": [Box(*box, "table, line 7")]}, Path("t"))
    with pytest.raises(CVSAError, match="table, line 7: the box of 'a.jpg' lies outside its 10 x 8 image"):
        saliency.read("a.jpg", (10, 8))


@pytest.mark.parametrize(
    ("corners", "message"),
    [((5, 1, 2, 4), "size -3 x 3"), ((5, 1, 5, 4), "size 0 x 3"), ((1, 2, "x", 4), "should be numbers"),
     ((1, 2, float("nan"), 4), "should be numbers"), ((1, 2, None, 4), "should be numbers")],
)  # fmt: skip
def test_bad_box_is_named(corners: tuple[object, ...], message: str) -> None:
    with pytest.raises(CVSAError, match=f"^table, line 7: .*{message}"):
        corner_box("table, line 7", *corners)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_parts_are_widened_to_their_hull(count: int) -> None:
    rng = np.random.default_rng(count)
    points = rng.uniform((20, 15), (70, 45), (count, 2))
    found = np.asarray(from_parts({"a": [tuple(p) for p in points]}, Path("t")).read("a", (90, 60))) > 0
    reach = max(REACH * np.ptp(points, axis=0).max(), 0.02 * 60)
    distance = distances(points, 90, 60)
    clear = np.abs(distance - reach) > 2  # the width of a drawn line is whole
    assert np.array_equal(found[clear], distance[clear] < reach)


def distances(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Distance of each pixel to the hull of points: the nearest of all edges, 0 inside any triangle."""
    at = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(float)

    def turn(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        return (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (
            r[..., 0] - p[..., 0]
        )

    best = np.full((height, width), np.inf)
    for a, b in itertools.product(points, points):
        edge = b - a
        share = np.clip((at - a) @ edge / max(edge @ edge, 1e-9), 0, 1)
        best = np.minimum(best, np.hypot(*np.moveaxis(at - a - share[..., None] * edge, -1, 0)))
    for a, b, c in itertools.combinations(points, 3):
        turns = np.stack([turn(a, b, at), turn(b, c, at), turn(c, a, at)])
        best[(turns > 0).all(axis=0) | (turns < 0).all(axis=0)] = 0
    return best


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "LA"])
def test_grey_masks_of_every_mode(tmp_path: Path, mode: str) -> None:
    values = np.zeros((8, 10), dtype=np.uint8)
    values[2:5, 3:9] = 255
    Image.fromarray(values).convert(mode).save(tmp_path / "m.png")
    found = from_masks(lambda path: tmp_path / "m.png").read("a.jpg", (10, 8))
    assert np.array_equal(np.asarray(found) >= 128, values > 0)


def test_damaged_mask_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"its mask .*m\.png cannot be read"):
        from_masks(lambda path: tmp_path / "m.png").read("a.jpg", (10, 8))
