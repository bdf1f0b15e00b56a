"""The registry of detectors, and what all of them share."""

import numpy as np
import pytest
from PIL import Image

from cvsa.errors import CVSAError
from cvsa.saliency.detectors import DEFAULT, DETECTORS, find_detector, parts_to_map, shrink, stretch


def test_default_is_there_and_keeps_its_parameters() -> None:
    detector = find_detector(DEFAULT, regions=100)
    assert detector.name == DEFAULT == "classical"
    assert detector.parameters["regions"] == 100 and detector.version


@pytest.mark.parametrize("name", [name for name in DETECTORS if name != "vit"])
def test_every_name_leads_to_a_detector_of_that_name(name: str) -> None:
    detector = find_detector(name)
    assert detector.name == name and detector.side >= 64


def test_unknown_names_and_parameters_are_refused() -> None:
    with pytest.raises(CVSAError, match="Did you mean 'classical'.*u2net"):
        find_detector("Clasical")
    with pytest.raises(CVSAError, match="'classical' does not take.*sise"):
        find_detector("classical", sise=3)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_other_arrays_than_images_are_refused(image: np.ndarray) -> None:
    for name in ("classical", "u2net"):
        with pytest.raises(CVSAError, match=r"\(H, W, 3\) uint8"):
            find_detector(name)(image)


def test_shrinking_and_stretching() -> None:
    assert shrink(Image.new("RGB", (200, 100)), 50).size == (50, 25)
    assert shrink(Image.new("RGB", (2000, 1)), 50).size == (50, 1)
    assert shrink(Image.new("RGB", (20, 10)), 50).size == (20, 10)
    map = np.array([[0, 1], [0, 1]])
    assert stretch(map, (2, 4)).tolist() == [[0, 0.25, 0.75, 1]] * 2


def test_parts_give_their_widened_box() -> None:
    parts = np.array([[10, 12], [18, 16], [0, 0]])
    map = parts_to_map(parts, np.array([True, True, False]), (40, 30), margin=0.25)
    assert map.shape == (30, 40) and map.dtype == np.uint8
    rows, columns = np.nonzero(map == 255)
    # The longer side is 8, so each side is widened by 2.
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (8, 10, 20, 18)
    assert len(rows) == 12 * 8 and map.sum() == 255 * len(rows)


def test_parts_at_the_edge_alone_or_hidden() -> None:
    corner = parts_to_map(np.array([[40.0, 30.0]]), np.array([True]), (40, 30))
    assert corner[29, 39] == 255 and corner.sum() <= 4 * 255
    assert not parts_to_map(np.array([[4, 4]]), np.array([False]), (8, 8)).any()
    # A hidden part may have any coordinates, as in CUB's table.
    assert parts_to_map(np.array([[4, 4], [-1, -1]]), np.array([True, False]), (8, 8)).any()


@pytest.mark.parametrize(
    ("parts", "visible", "margin"),
    [
        ([[1, 2, 3]], [True], 0.1),
        ([[1, 2]], [True, True], 0.1),
        ([[1, 2]], [True], -1),
        ([[9, 2]], [True], 0),
    ],
)
def test_impossible_parts_are_refused(parts: list, visible: list, margin: float) -> None:
    with pytest.raises(CVSAError):
        parts_to_map(np.array(parts), np.array(visible), (8, 8), margin)
