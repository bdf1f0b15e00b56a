"""The classical detector: its steps against naive versions, and what it finds in drawn birds."""

import heapq

import numpy as np
import pytest
import torch

from cvsa.data.birds import SynthBirds
from cvsa.errors import CVSAError
from cvsa.saliency import classical
from cvsa.saliency.classical import Classical, lab, segment, superpixels
from cvsa.saliency.quality import compare


def square_on_grey(height: int = 60, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.integers(100, 120, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), dtype=bool)
    mask[height // 4 : 3 * height // 4, width // 3 : 2 * width // 3] = True
    image[mask] = (200, 40, 40)
    return image, mask


def test_lab_of_known_colours() -> None:
    # Published values for sRGB under D65.
    colours = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]], dtype=np.uint8)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(lab(colours), expected, atol=0.05)


def test_superpixels_are_those_of_plain_k_means() -> None:
    image = np.random.default_rng(1).uniform(0, 30, (13, 17, 3)).astype(np.float32)
    height, width, regions = 13, 17, 12
    spacing = (height * width / regions) ** 0.5
    rows, columns = round(height / spacing), round(width / spacing)
    label = np.array([[y * rows // height * columns + x * columns // width for x in range(width)]
                      for y in range(height)])  # fmt: skip
    cell = label.copy()
    scale = classical.COMPACTNESS / spacing
    point = np.array([[[*image[y, x], scale * y, scale * x] for x in range(width)] for y in range(height)])
    centres = np.zeros((rows * columns, 5))
    for _ in range(classical.ROUNDS):
        for k in range(rows * columns):
            if (label == k).any():
                centres[k] = point[label == k].mean(0)
        for y in range(height):
            for x in range(width):
                r, c = divmod(int(cell[y, x]), columns)
                near = [j * columns + i for j in range(max(r - 1, 0), min(r + 2, rows))
                        for i in range(max(c - 1, 0), min(c + 2, columns))]  # fmt: skip
                label[y, x] = min(near, key=lambda k: ((point[y, x] - centres[k]) ** 2).sum())
    expected = np.unique(label, return_inverse=True)[1].reshape(height, width)
    assert (superpixels(image, regions) == expected).mean() > 0.99  # single against double precision


def test_graph_describes_its_regions() -> None:
    image = lab(square_on_grey()[0])
    labels, graph = segment(image, 40)
    number = labels.max() + 1
    assert set(labels.ravel()) == set(range(number)) and len(graph.area) == number
    touching = np.zeros((number, number), dtype=bool)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            for v, u in ((y, x + 1), (y + 1, x - 1), (y + 1, x), (y + 1, x + 1)):
                if v < labels.shape[0] and 0 <= u < labels.shape[1] and labels[y, x] != labels[v, u]:
                    touching[labels[y, x], labels[v, u]] = touching[labels[v, u], labels[y, x]] = True
    assert np.array_equal(graph.near, touching)
    frame = np.zeros_like(labels, dtype=bool)
    frame[[0, -1]] = frame[:, [0, -1]] = True
    for k in range(number):
        assert graph.border[k] == (frame & (labels == k)).sum()
        y, x = np.nonzero(labels == k)
        np.testing.assert_allclose(graph.place[k], [(y.mean() + 0.5) / 60, (x.mean() + 0.5) / 80])
        colour = image[labels == k].mean(0) - image[labels == 0].mean(0)
        assert graph.distance[k, 0] == pytest.approx(np.linalg.norm(colour), abs=1e-3)


def test_shortest_paths_are_dijkstras() -> None:
    rng = np.random.default_rng(2)
    links = np.where(rng.random((20, 20)) < 0.2, rng.random((20, 20)), np.inf)
    links = np.minimum(links, links.T)
    np.fill_diagonal(links, 0)
    for start, found in enumerate(classical._shortest(links)):
        length, queue = np.full(20, np.inf), [(0.0, start)]
        while queue:
            so_far, at = heapq.heappop(queue)
            if so_far < length[at]:
                length[at] = so_far
                for to in np.flatnonzero(np.isfinite(links[at])):
                    heapq.heappush(queue, (so_far + links[at, to], int(to)))
        np.testing.assert_allclose(found, length, rtol=1e-5)


def test_finds_a_plain_object_wherever_the_image_is_turned() -> None:
    image, mask = square_on_grey()
    map = Classical()(image)
    assert map.shape == mask.shape and map.dtype == np.float32 and map.min() >= 0 and map.max() <= 1
    assert ((map >= 0.5) & mask).sum() / ((map >= 0.5) | mask).sum() > 0.9
    mirrored = Classical()(np.ascontiguousarray(image[:, ::-1]))[:, ::-1]
    assert ((mirrored >= 0.5) == (map >= 0.5)).mean() > 0.98


def test_an_object_that_touches_the_border_is_found() -> None:
    image, _ = square_on_grey()
    image[30:, 30:50] = (200, 40, 40)
    mask = (image == (200, 40, 40)).all(-1)
    map = Classical()(image) >= 0.5
    assert (map & mask).sum() / (map | mask).sum() > 0.8


def test_nothing_salient_in_a_uniform_or_tiny_image() -> None:
    for shape in ((40, 50, 3), (1, 1, 3), (2, 300, 3), (300, 2, 3)):
        image = np.full(shape, 77, dtype=np.uint8)
        image[: shape[0] // 2] += 1
        map = Classical()(image)
        assert map.shape == shape[:2] and not map.any()


@pytest.mark.parametrize("shape", [(5, 5), (4, 400), (33, 32), (300, 500)])
def test_noise_of_any_shape(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)
    map = Classical()(image)
    assert map.shape == shape and np.isfinite(map).all() and map.min() >= 0 and map.max() <= 1
    assert np.array_equal(map, Classical()(image))


def test_beats_the_references_on_drawn_birds() -> None:
    drawn = SynthBirds(num_classes=10, num_images=24, image_size=64, seed=5).draw(torch.arange(24))
    images = list(np.asarray(drawn.images).transpose(0, 2, 3, 1))
    rows = {
        row.detector: row
        for row in compare({"classical": Classical()}, images, np.asarray(drawn.masks)[:, 0])
    }
    reference = max(row.iou for name, row in rows.items() if name != "classical")
    assert rows["classical"].iou > reference + 0.15 and rows["classical"].iou > 0.65
    assert rows["classical"].boxes_right > 0.85


@pytest.mark.parametrize("given", [{"side": 8}, {"regions": 4}, {"regions": 5000}])
def test_impossible_parameters_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(CVSAError, match="regions"):
        Classical(**given)
