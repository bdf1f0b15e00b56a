"""Probes of frozen features: a linear classifier and weighted nearest neighbours, for class and for habitat.

A habitat that can be read from the features means the encoder has stored the background; the class is what it
should have stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cvsa.config import ProbeConfig
from cvsa.data.datasets import load_splits
from cvsa.evaluation.features import extract_features, starting_backbone
from cvsa.lineage import resolve_run
from cvsa.records import Record, finished, make_record, write_record
from cvsa.training.runtime import Runtime
from cvsa.training.stopwatch import Stopwatch

# L2 strengths tried; the validation split chooses.
L2_GRID = (1e-4, 1e-3, 1e-2, 1e-1)


def fit_linear(
    features: Tensor, labels: Tensor, classes: int, l2: float, iterations: int = 100
) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression by full-batch L-BFGS: mean cross-entropy + l2/2 |W|^2.

    Args:
        features: (N, D), standardised by the caller.
        labels: (N,) in [0, classes).
        classes: number of classes K.
        l2: strength of the penalty on the weights (not on the bias).
        iterations: L-BFGS iterations at most.

    Returns:
        Weight (K, D) and bias (K,).
    """
    weight = torch.zeros(classes, features.shape[1], dtype=features.dtype, requires_grad=True)
    bias = torch.zeros(classes, dtype=features.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(features @ weight.T + bias, labels) + 0.5 * l2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()


def linear_probe(
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    tests: dict[str, tuple[Tensor, Tensor]],
    classes: int,
) -> dict[str, float]:
    """Accuracy of a linear classifier on frozen features, its L2 strength chosen on the validation split.

    Args:
        train, val: features (N, D) and labels (N,).
        tests: name -> features and labels; only the chosen classifier sees them.
        classes: number of classes.

    Returns:
        name -> top-1 in [0, 1].
    """
    mean, std = train[0].mean(0), train[0].std(0).clamp_min(1e-6)

    def accuracy(model: tuple[Tensor, Tensor], data: tuple[Tensor, Tensor]) -> float:
        return float((((data[0] - mean) / std @ model[0].T + model[1]).argmax(1) == data[1]).double().mean())

    models = [fit_linear((train[0] - mean) / std, train[1], classes, l2) for l2 in L2_GRID]
    best = max(models, key=lambda model: accuracy(model, val))
    return {name: accuracy(best, data) for name, data in tests.items()}


def knn_accuracy(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int, k: int, temperature: float
) -> float:
    """Top-1 of the weighted k nearest neighbours by cosine (Wu et al., 2018): votes exp(cos / temperature).

    Args:
        train, test: features (N, D) and labels (N,).
        classes: number of classes.
        k: neighbours, at most the number of training images.
        temperature: of the weights, above 0.

    Returns:
        Top-1 in [0, 1].
    """
    keys, hits = F.normalize(train[0], dim=1), 0
    for queries, labels in zip(test[0].split(1024), test[1].split(1024), strict=True):
        similarity, nearest = (F.normalize(queries, dim=1) @ keys.T).topk(min(k, len(keys)), dim=1)  # (B, k)
        votes = torch.zeros(len(queries), classes).scatter_add_(
            1, train[1][nearest], (similarity / temperature).exp()
        )
        hits += int((votes.argmax(1) == labels).sum())
    return hits / len(test[1])


def probe(out: Path, **given: Any) -> Record:
    """Probe a pre-trained (or random) backbone: class on every test split, habitat on the validation split.

    Args:
        out: folder of this run.
        **given: fields of ``ProbeConfig``; data, backbone and seed come from ``pretrained`` when given.

    Raises:
        CVSAError: see ``resolve_run``; or ``out`` holds another run.
    """
    config, parent = resolve_run(ProbeConfig, **given)
    done = finished(config, out)
    if done:
        return done
    runtime = Runtime.of(config)
    watch = Stopwatch(runtime.device)
    splits = load_splits(config)
    backbone = starting_backbone(config, runtime)
    features = {
        name: extract_features(backbone, bank, config.image_size, runtime) for name, bank in splits.items()
    }
    extracted = watch.seconds
    data = {name: (features[name], bank.labels.cpu()) for name, bank in splits.items()}
    # The validation split is reported too: recipes are chosen by it.
    tests = {name: pair for name, pair in data.items() if name != "train"}
    classes = len(splits["train"].classes)
    metrics = {
        f"linear_{name}": value
        for name, value in linear_probe(data["train"], data["val"], tests, classes).items()
    }
    metrics |= {
        f"knn_{name}": knn_accuracy(data["train"], pair, classes, config.knn_k, config.knn_temperature)
        for name, pair in tests.items()
    }
    if "habitat" in splits["train"].extras:
        metrics |= _habitat_probe(
            {n: (features[n], torch.as_tensor(splits[n].extras["habitat"]).long()) for n in ("train", "val")}
        )
    record = make_record(
        config,
        parent=parent,
        watch=watch,
        runtime=runtime,
        banks=splits,
        metrics=metrics,
        counts={f"{name}_images": len(bank) for name, bank in splits.items()},
        images_per_second=round(sum(map(len, splits.values())) / extracted, 1),
    )
    return write_record(record, out)


def _habitat_probe(data: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Accuracy of the habitat's linear probe, and of always guessing the most frequent habitat."""
    # Test images show no habitat: half of the validation split chooses the strength, the other half tests.
    habitats, half = int(data["train"][1].max()) + 1, len(data["val"][1]) // 2
    chosen, tested = (
        (data["val"][0][part], data["val"][1][part]) for part in (slice(half), slice(half, None))
    )
    read = linear_probe(data["train"], chosen, {"habitat": tested}, habitats)["habitat"]
    return {"habitat_linear": read, "habitat_chance": float(tested[1].bincount().max()) / len(tested[1])}
