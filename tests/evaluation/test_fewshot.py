"""Few-shot episodes: by hand, against a naive loop over the same draws, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cvsa.errors import CVSAError
from cvsa.evaluation import fewshot
from cvsa.evaluation.fewshot import episodes


def clouds(count: int = 200, classes: int = 8, spread: float = 1.5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = torch.randn(classes, 10, generator=generator)
    return centres[labels] + spread * torch.randn(count, 10, generator=generator) + 4, labels


def test_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two classes on a line through the centre (5, 5): one to the left, one to the right; the last image of
    # the first class lies with the second.
    features = torch.tensor([[3.0, 5.0], [4.0, 5.2], [8.0, 4.9], [7.0, 5.0], [6.0, 5.1], [9.0, 5.0]])
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    drawn = iter([torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([[2, 0, 1], [3, 4, 5]])])
    monkeypatch.setattr(fewshot, "_draw", lambda *_: next(drawn))
    found = episodes(features, labels, ways=2, shots=1, queries=2, count=2, centre=torch.tensor([5.0, 5.0]))
    # First: queries 1, 2 against left: 1 right, 2 wrong; 4, 5 right: 3/4. Second: the first class's only shot
    # lies right, its queries point left, away from both; (8, 4.9) points slightly down, (7, 5) straight on.
    centred = F.normalize(features - 5, dim=1)
    second = [
        (centred[query] @ centred[[2, 3]].T).argmax() == way
        for way, query in ((0, 0), (0, 1), (1, 4), (1, 5))
    ]
    expected = [3 / 4, sum(map(float, second)) / 4]
    mean = sum(expected) / 2
    assert found["2way1shot"] == pytest.approx(mean)
    deviation = sum((value - mean) ** 2 for value in expected) ** 0.5  # n - 1 = 1
    assert found["2way1shot_interval"] == pytest.approx(1.96 * deviation / 2**0.5)


def test_against_a_naive_loop() -> None:
    features, labels = clouds()
    centred = features - features.mean(0)
    members = [(labels == number).nonzero().flatten() for number in range(8)]
    generator, accuracies = torch.Generator().manual_seed(5), []
    for _ in range(70):
        images = fewshot._draw(members, 5, 3 + 4, generator)
        means = [F.normalize(centred[row[:3]], dim=1).mean(0) for row in images]
        right = [
            max(range(5), key=lambda way: float(F.cosine_similarity(centred[query], means[way], dim=0)))
            == way_of
            for way_of, row in enumerate(images)
            for query in row[3:]
        ]
        accuracies.append(sum(right) / len(right))
    found = episodes(features, labels, ways=5, shots=3, queries=4, count=70, seed=5)
    each = torch.tensor(accuracies, dtype=torch.float64)
    assert found["5way3shot"] == pytest.approx(float(each.mean()))
    assert found["5way3shot_interval"] == pytest.approx(1.96 * float(each.std()) / 70**0.5)


def test_draws_are_of_distinct_images_and_classes() -> None:
    _, labels = clouds()
    members = [(labels == number).nonzero().flatten() for number in range(8)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        images = fewshot._draw(members, 5, 25, generator)
        assert len(images.unique()) == 5 * 25
        assert all(len(labels[row].unique()) == 1 for row in images)
        assert len(labels[images[:, 0]].unique()) == 5


def test_chance_perfection_and_what_helps() -> None:
    noise = torch.randn(200, 10, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(200) % 8
    found = episodes(noise, labels, count=200)
    assert abs(found["5way1shot"] - 0.2) < 2 * found["5way1shot_interval"]
    assert episodes(F.one_hot(labels).float(), labels, count=10) == {"5way1shot": 1, "5way1shot_interval": 0}
    features, labels = clouds()
    one, five = (episodes(features, labels, shots=shots)[f"5way{shots}shot"] for shots in (1, 5))
    assert 0.3 < one < five < 0.95


def test_it_repeats_and_every_network_gets_the_same_episodes() -> None:
    features, labels = clouds()
    assert episodes(features, labels, seed=1) == episodes(features, labels, seed=1)
    assert episodes(features, labels, seed=1) != episodes(features, labels, seed=2)
    assert episodes(3 * features, labels, seed=1) == pytest.approx(episodes(features, labels, seed=1))
    # Where the features lie does not matter, for they are centred.
    assert episodes(features + 100, labels, count=50)["5way1shot"] == pytest.approx(
        episodes(features, labels, count=50)["5way1shot"], abs=0.01
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ways": 9}, ["9-way", "8 classes"]),
        ({"ways": 1}, ["1-way"]),
        ({"shots": 0}, ["0-shot"]),
        ({"count": 1}, ["2 episodes"]),
        ({"shots": 11}, ["Class 0 has 25 images", "26"]),
        ({"nan": True}, ["not finite"]),
    ],
)
def test_bad_input_is_one_line(given: dict[str, Any], words: list[str]) -> None:
    features, labels = clouds()
    if given.pop("nan", False):
        features[0, 0] = float("nan")
    with pytest.raises(CVSAError) as error:
        episodes(features, labels, **given)
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words)
