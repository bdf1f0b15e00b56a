"""The registry of detectors, and what all of them share."""

from typing import get_args

import numpy as np
import pytest
from PIL import Image

from cvsa.config import DataConfig
from cvsa.errors import CVSAError
from cvsa.saliency.detectors import DEFAULT, DETECTORS, find_detector, shrink, stretch


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


def test_configuration_knows_the_detectors() -> None:
    kinds = get_args(DataConfig.model_fields["saliency"].annotation)
    assert set(DETECTORS) == set(kinds) - {"auto", "masks", "boxes", "parts", "predicted", "none"}
