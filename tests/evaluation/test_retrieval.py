"""Retrieval: by hand, against naive loops and against peer libraries."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cvsa.errors import CVSAError
from cvsa.evaluation.retrieval import retrieve


def clouds(count: int, classes: int, dim: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    centres = torch.randn(classes, dim, generator=generator)
    return centres[labels] + 1.2 * torch.randn(count, dim, generator=generator), labels


def at_angles(*degrees: float) -> Tensor:
    angle = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angle.cos(), angle.sin()], 1)


def naive(features: Tensor, labels: Tensor, ranks: tuple[int, ...]) -> dict[str, float]:
    """One query at a time, every rank written out."""
    recalled: dict[int, list[bool]] = {k: [] for k in ranks}
    averages = []
    for query in range(len(labels)):
        others = [i for i in range(len(labels)) if i != query]
        cosine = F.cosine_similarity(features[query], features[others])
        ranked = [others[i] for i in cosine.argsort(descending=True)]
        right = [bool(labels[i] == labels[query]) for i in ranked]
        wanted = sum(right)
        if not wanted:
            continue
        for k in ranks:
            recalled[k].append(any(right[:k]))
        averages.append(sum(sum(right[: i + 1]) / (i + 1) for i in range(wanted) if right[i]) / wanted)
    return {
        **{f"recall_at_{k}": sum(hits) / len(hits) for k, hits in recalled.items()},
        "map_at_r": sum(averages) / len(averages),
    }


def test_by_hand() -> None:
    # On a circle: a at 0, 10, 31 degrees, b at 15 and 90.
    features, labels = at_angles(0, 10, 31, 15, 90), torch.tensor([0, 0, 0, 1, 1])
    # Neighbours (classes) of each: 0: a b a b; 10: b a a b; 31: b(15) a a b; 15: a a a b; 90: a b a a.
    # R = 2 for a: 0 -> (1 + 0) / 2, 10 -> (0 + 1/2) / 2, 31 -> (0 + 1/2) / 2; R = 1 for b: 0, 0.
    found = retrieve(features, labels, ranks=(1, 2, 4))
    assert found["map_at_r"] == pytest.approx((1 / 2 + 1 / 4 + 1 / 4 + 0 + 0) / 5)
    assert found["recall_at_1"] == pytest.approx(1 / 5)
    assert found["recall_at_2"] == pytest.approx(4 / 5)
    assert found["recall_at_4"] == 1


def test_an_image_alone_in_its_class_distracts_but_does_not_ask() -> None:
    features, labels = at_angles(0, 10, 4), torch.tensor([3, 3, 8])
    assert retrieve(features, labels, ranks=(1, 2)) == {"recall_at_1": 0, "recall_at_2": 1, "map_at_r": 0}
    # The query itself is never found, however near.
    assert retrieve(features[:2], labels[:2], ranks=(1,)) == {"recall_at_1": 1, "map_at_r": 1}


@pytest.mark.parametrize(("count", "classes"), [(60, 4), (90, 40), (30, 2)])
def test_against_naive_loops_in_any_chunk(count: int, classes: int) -> None:
    features, labels = clouds(count, classes)
    expected = naive(features, labels, (1, 3, 10))
    for chunk in (7, 1024):
        assert retrieve(features, labels, ranks=(1, 3, 10), chunk=chunk) == pytest.approx(expected, abs=1e-9)


def test_only_directions_matter() -> None:
    features, labels = clouds(80, 5)
    lengths = torch.linspace(0.1, 9, 80)[:, None]
    assert retrieve(features * lengths, labels) == pytest.approx(retrieve(features, labels))
    # Names of classes do not matter either.
    assert retrieve(features, 7 * labels - 3) == retrieve(features, labels)


def test_recall_is_torchmetrics_hit_rate_and_not_its_recall() -> None:
    from torchmetrics import retrieval as metrics

    features, labels = clouds(80, 6)
    keys = F.normalize(features, dim=1)
    cosine, others = keys @ keys.T, ~torch.eye(80, dtype=torch.bool)
    target = (labels[:, None] == labels) & others
    asked = torch.arange(80)[:, None].expand(80, 80)
    for k in (1, 5):
        hit, recall = metrics.RetrievalHitRate(top_k=k), metrics.RetrievalRecall(top_k=k)
        values = [
            float(metric(cosine[others], target[others], indexes=asked[others])) for metric in (hit, recall)
        ]
        found = retrieve(features, labels, ranks=(k,))[f"recall_at_{k}"]
        assert found == pytest.approx(values[0]) and values[1] < 0.8 * found


def test_map_at_r_is_pytorch_metric_learnings() -> None:
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    features, labels = clouds(90, 20)
    calculator = AccuracyCalculator(
        include=("mean_average_precision_at_r", "precision_at_1"),
        k="max_bin_count",
        knn_func=CustomKNN(CosineSimilarity()),
        device=torch.device("cpu"),
    )
    expected = calculator.get_accuracy(features, labels)
    found = retrieve(features, labels, ranks=(1,))
    assert found["map_at_r"] == pytest.approx(expected["mean_average_precision_at_r"], abs=1e-6)
    assert found["recall_at_1"] == pytest.approx(expected["precision_at_1"], abs=1e-6)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("alone", ["two images", "20"]),
        ("far", ["k = 1, 20", "1 to 19"]),
        ("zero", ["k = 0"]),
        ("nan", ["1 of 20", "not finite"]),
    ],
)
def test_bad_input_is_one_line(fault: str, words: list[str]) -> None:
    features, labels = clouds(20, 3)
    ranks = {"far": (1, 20), "zero": (0,)}.get(fault, (1,))
    labels = torch.arange(20) if fault == "alone" else labels
    if fault == "nan":
        features[4, 1] = float("nan")
    with pytest.raises(CVSAError) as error:
        retrieve(features, labels, ranks=ranks)
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words)
