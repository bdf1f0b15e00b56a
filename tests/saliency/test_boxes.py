"""Saliency map -> box, against a flood fill written from the definition."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from cvsa.errors import CVSAError
from cvsa.saliency import map_to_box, maps_to_boxes


def naive_box(binary: np.ndarray) -> tuple[int, int, int, int] | None:
    """Box of the largest 8-connected component by flood fill; the first in reading order wins a tie."""
    height, width = binary.shape
    seen = np.zeros_like(binary)
    best: list[tuple[int, int]] = []
    for start in zip(*np.nonzero(binary), strict=True):
        if seen[start]:
            continue
        seen[start] = True
        stack, component = [start], []
        while stack:
            y, x = stack.pop()
            component.append((y, x))
            for v in range(max(0, y - 1), min(height, y + 2)):
                for u in range(max(0, x - 1), min(width, x + 2)):
                    if binary[v, u] and not seen[v, u]:
                        seen[v, u] = True
                        stack.append((v, u))
        if len(component) > len(best):
            best = component
    if not best:
        return None
    ys, xs = zip(*best, strict=True)
    return min(xs), min(ys), max(xs) + 1, max(ys) + 1


@pytest.mark.parametrize("density", [0.0, 0.02, 0.2, 0.4, 0.9, 1.0])
def test_agrees_with_flood_fill(density: float) -> None:
    rng = np.random.default_rng(int(density * 100))
    binary = rng.random((30, 13, 17)) < density
    # Salient pixels in [0.5, 1], the others below.
    maps = np.where(binary, rng.uniform(0.5, 1, binary.shape), rng.uniform(0, 0.499, binary.shape))
    boxes, found = maps_to_boxes(torch.from_numpy(maps).float())
    assert boxes.dtype == torch.float32 and found.dtype == torch.bool
    for one, box, hit in zip(binary, boxes.tolist(), found.tolist(), strict=True):
        expected = naive_box(one)
        assert hit == (expected is not None)
        assert tuple(box) == (expected or (0, 0, 17, 13))


def test_kinds_of_input_agree() -> None:
    maps = np.random.default_rng(1).integers(0, 256, (20, 9, 9), dtype=np.uint8)
    expected, _ = maps_to_boxes(maps)
    for same in (maps / 255, maps >= 127.5, torch.from_numpy(maps), torch.from_numpy(maps).double() / 255):
        assert torch.equal(maps_to_boxes(same)[0], expected)
    assert torch.equal(torch.stack([map_to_box(one) for one in maps]), expected)


def test_threshold_is_inclusive_and_a_parameter() -> None:
    map = torch.zeros(8, 8)
    map[2, 3], map[5:7, 5:7] = 0.5, 0.3
    assert map_to_box(map).tolist() == [3, 2, 4, 3]
    assert map_to_box(map, threshold=0.25).tolist() == [5, 5, 7, 7]
    assert map_to_box(map, threshold=0.6).tolist() == [0, 0, 8, 8]


def test_diagonal_neighbours_belong_together() -> None:
    assert map_to_box(torch.eye(6)).tolist() == [0, 0, 6, 6]


def test_degenerate_maps() -> None:
    corner = torch.zeros(5, 7)
    corner[4, 6] = 1
    boxes, found = maps_to_boxes(torch.stack([torch.zeros(5, 7), torch.ones(5, 7), corner]))
    assert boxes.tolist() == [[0, 0, 7, 5], [0, 0, 7, 5], [6, 4, 7, 5]]
    assert found.tolist() == [False, True, True]
    boxes, found = maps_to_boxes(torch.zeros(0, 5, 7))
    assert boxes.shape == (0, 4) and found.shape == (0,)


@pytest.mark.parametrize(
    ("maps", "word"),
    [
        (torch.zeros(4, 4), "shape"),
        (torch.full((1, 4, 4), 255.0), r"\[0, 1\]"),
        (torch.full((1, 4, 4), -0.1), r"\[0, 1\]"),
        (torch.full((1, 4, 4), float("nan")), r"\[0, 1\]"),
    ],
)
def test_bad_maps_are_refused(maps: torch.Tensor, word: str) -> None:
    with pytest.raises(CVSAError, match=word):
        maps_to_boxes(maps)


def test_bad_threshold_is_refused() -> None:
    with pytest.raises(CVSAError, match="threshold"):
        map_to_box(torch.zeros(4, 4), threshold=0.0)


def iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    return common / ((a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - common)


@pytest.mark.skipif("CVSA_DATA" not in os.environ, reason="photographs are not part of the repository")
def test_predicted_masks_of_photographs_against_truth() -> None:
    """The detector's published agreement with the true masks of these photographs is an IoU of 0.736."""
    from PIL import Image

    root = Path(os.environ["CVSA_DATA"]) / "pets3"
    with np.load(root / "pred_masks_csnet.npz") as stored:
        paths, bits = stored["paths"].tolist(), stored["bits"]
    predicted = np.unpackbits(bits, axis=1).reshape(-1, 128, 128).astype(bool)
    truth, overlap = [], []
    for path, mask in zip(paths, predicted, strict=True):
        with Image.open((root / "masks" / path).with_suffix(".png")) as image:
            true = np.asarray(image.convert("L")) > 127
        # Each on its own grid: the predicted mask in pixels of the photograph, the box in those of 128 x 128.
        mask = np.asarray(Image.fromarray(mask).resize(true.shape[::-1], Image.Resampling.NEAREST))
        overlap.append((mask & true).sum() / (mask | true).sum())
        truth.append(map_to_box(true) * torch.tensor([128 / true.shape[1], 128 / true.shape[0]] * 2))
    boxes, found = maps_to_boxes(predicted)
    assert np.mean(overlap) == pytest.approx(0.736, abs=0.01)
    assert found.float().mean() > 0.98
    agreement = iou(boxes, torch.stack(truth))
    assert agreement.mean() > 0.7 and (agreement > 0.5).float().mean() > 0.85
