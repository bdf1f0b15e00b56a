"""Arrows of the causal picture: encoders that read one cause alone have known sensitivities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cvsa.data.birds import SynthBirds
from cvsa.errors import CVSAError
from cvsa.evaluation.causal import ARROWS, _choices, causal_pairs, sensitivities

COUNT = 40


@pytest.fixture(scope="module")
def birds() -> SynthBirds:
    return SynthBirds(num_images=COUNT, image_size=32, seed=2, split="test")


@pytest.fixture(scope="module")
def pairs(birds) -> dict[str, Tensor]:
    return causal_pairs(birds, np.arange(COUNT), 0)


def knows(birds: SynthBirds, pairs: dict[str, Tensor], what: str):
    """Features that hold the habitat or the class and nothing else, one-hot; by looking the picture up."""
    habitat, other, label = _choices(birds, 0)
    truth = {name: habitat if what == "habitat" else birds.labels for name in pairs}
    truth["background" if what == "habitat" else "texture"] = other if what == "habitat" else label
    table = {
        image.numpy().tobytes(): int(truth[name][i])
        for name, images in pairs.items()
        for i, image in enumerate(images)
    }

    def embed(images: Tensor) -> Tensor:
        found = [table[image.numpy().tobytes()] for image in (images * 255).round().to(torch.uint8)]
        return torch.eye(10)[found]

    return embed


def test_what_reads_the_habitat_alone(birds, pairs):
    embed = knows(birds, pairs, "habitat")
    found = sensitivities(embed, embed, birds, batch=16)
    metrics, frame = found.metrics, found.per_image
    unlike = (frame["habitat"].to_numpy() != frame["habitat"].to_numpy()[frame["partner"]]).mean()
    assert metrics["style.distance"] == metrics["texture.distance"] == metrics["style.flip"] == 0
    assert metrics["random.flip"] == unlike and metrics["random.distance"] == pytest.approx(unlike)
    assert metrics["background.distance"] == pytest.approx(1 / unlike)
    assert metrics["background.flip"] == 1 and metrics["texture.flip"] == 0
    assert found.counts == {"images": COUNT} and not found.unavailable


def test_what_reads_the_bird_alone(birds, pairs):
    embed = knows(birds, pairs, "class")
    metrics = sensitivities(embed, embed, birds).metrics
    assert metrics["style.distance"] == metrics["background.distance"] == metrics["background.flip"] == 0
    assert metrics["texture.flip"] == metrics["texture.follows"] == metrics["accuracy"] == 1
    assert metrics["texture.distance"] > 1 and metrics["chance"] == 0.1


def test_pairs_differ_in_one_cause(birds, pairs):
    habitat, other, label = _choices(birds, 0)
    assert (habitat != other).all() and (label != birds.labels).all()
    assert torch.equal(pairs["original"], birds.draw(range(COUNT), habitat=habitat).images)
    assert torch.equal(pairs["background"], birds.draw(range(COUNT), habitat=other).images)
    masks = birds.draw(range(COUNT)).masks
    inside = (masks > 0).expand_as(pairs["original"])
    assert torch.equal(pairs["original"][inside], pairs["background"][inside])
    corners = (..., slice(0, 2), slice(0, 2))
    assert torch.equal(pairs["original"][corners], pairs["texture"][corners])
    for name in ARROWS:
        assert (pairs[name] != pairs["original"]).flatten(1).any(dim=1).all(), name


def test_seeds_and_subsets(birds, pairs):
    part = causal_pairs(birds, np.array([30, 4]), 0)
    other = causal_pairs(birds, np.array([30, 4]), 1)
    for name, images in part.items():
        assert torch.equal(images, pairs[name][[30, 4]]) and not torch.equal(images, other[name])
    embed = knows(birds, pairs, "habitat")
    drawn, given = (
        sensitivities(embed, embed, birds),
        sensitivities(embed, embed, birds, pairs=pairs, batch=7),
    )
    assert drawn.metrics == given.metrics and drawn.per_image.equals(given.per_image)
    few = sensitivities(embed, embed, birds, torch.tensor([30, 4, 9]))
    assert few.per_image["image"].tolist() == [30, 4, 9]
    assert set(few.per_image["partner"]) == {30, 4, 9}
    assert (few.per_image["partner"] != few.per_image["image"]).all()


def test_distance_is_that_of_the_features(birds, pairs):
    def embed(images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))

    frame = sensitivities(embed, None, birds).per_image
    features = {name: images.double().mean(dim=(2, 3)).numpy() for name, images in pairs.items()}
    for name in ARROWS:
        for i in (0, 7, 31):
            a, b = features["original"][i], features[name][i]
            cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
            assert frame[f"{name}_distance"][i] == pytest.approx(1 - cosine, abs=1e-5)


def test_without_a_classifier_and_without_features(birds):
    found = sensitivities(lambda x: torch.ones(len(x), 4), None, birds)
    assert found.metrics == {"random.distance": 0}
    assert found.unavailable["style.distance"] == "all pictures have the same features"
    assert found.unavailable["background.flip"] == found.unavailable["chance"] == "needs a classifier"


@pytest.mark.parametrize("index", [[], [3], [0, COUNT], [0.5, 1.0]])
def test_bad_index_is_refused(birds, index):
    with pytest.raises(CVSAError, match="index"):
        sensitivities(lambda x: x.flatten(1), None, birds, index)
