"""Probes against naive versions and cases with known answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from cvsa.evaluation.probe import fit_linear, knn_accuracy, linear_probe, probe
from cvsa.records import read_record


def blobs(count: int, classes: int, spread: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, 8, generator=torch.Generator().manual_seed(99)) * 3
    labels = torch.arange(count) % classes
    return centres[labels] + spread * torch.randn(count, 8, generator=generator), labels


def test_knn_equals_a_naive_loop() -> None:
    train, test = blobs(60, 4, 4.0, 0), blobs(30, 4, 4.0, 1)
    k, temperature, hits = 7, 0.3, 0
    for query, label in zip(*test, strict=True):
        cosines = [
            (float(F.cosine_similarity(query, key, dim=0)), int(y)) for key, y in zip(*train, strict=True)
        ]
        votes = [0.0] * 4
        for cosine, y in sorted(cosines, reverse=True)[:k]:
            votes[y] += math.exp(cosine / temperature)
        hits += votes.index(max(votes)) == int(label)
    assert 0 < hits < 30
    assert knn_accuracy(train, test, 4, k, temperature) == pytest.approx(hits / 30)


def test_knn_takes_more_neighbours_than_there_are() -> None:
    assert 0 <= knn_accuracy(blobs(10, 2, 1.0, 0), blobs(10, 2, 1.0, 1), 2, 50, 0.07) <= 1


def test_linear_fit_reaches_the_optimum_of_its_objective() -> None:
    x, y = blobs(50, 3, 3.0, 0)
    weight, bias = fit_linear(x.double(), y, 3, l2=0.1, iterations=500)
    weight.requires_grad_(True)
    bias.requires_grad_(True)
    loss = F.cross_entropy(x.double() @ weight.T + bias, y) + 0.05 * weight.square().sum()
    gradients = torch.autograd.grad(loss, (weight, bias))
    assert max(float(g.abs().max()) for g in gradients) < 1e-4


def test_linear_probe_reads_what_is_there_and_nothing_else() -> None:
    train, val, test = blobs(200, 4, 0.5, 0), blobs(60, 4, 0.5, 1), blobs(200, 4, 0.5, 2)
    assert linear_probe(train, val, {"test": test}, 4)["test"] > 0.98
    shuffled = test[1][torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    assert linear_probe(train, val, {"test": (test[0], shuffled)}, 4)["test"] < 0.4


def test_constant_features_do_not_break_the_probe() -> None:
    x = torch.ones(40, 8)
    y = torch.arange(40) % 4
    assert linear_probe((x, y), (x, y), {"test": (x, y)}, 4)["test"] == pytest.approx(0.25)


def test_probe_records_class_and_habitat(trained: Path, tmp_path: Path) -> None:
    record = probe(tmp_path, pretrained=trained)
    assert set(record.metrics) == {
        "linear_val",
        "linear_test",
        "linear_test_swapped",
        "knn_val",
        "knn_test",
        "knn_test_swapped",
        "habitat_linear",
        "habitat_chance",
    }
    assert record.parents == [read_record(trained).run_id] and record.row == "BYOL+CVSA"
    assert all(0 <= value <= 1 for value in record.metrics.values())
    assert probe(tmp_path, pretrained=trained) == record


def test_random_features_need_no_parent(small: dict[str, Any], tmp_path: Path) -> None:
    fields = {
        name: small[name] for name in ("bank_size", "image_size", "train_images", "val_images", "test_images")
    }
    record = probe(tmp_path, row="Random", **fields)
    assert record.parents == [] and record.row == "Random"
