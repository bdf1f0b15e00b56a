"""Linear probes: the closed form against hand, scikit-learn and the other probes; the recipe of SGD."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cvsa.errors import CVSAError
from cvsa.evaluation.linear import STRENGTHS, Linear, closed_form, ridge, sgd
from cvsa.evaluation.probe import linear_probe

Pair = tuple[Tensor, Tensor]


def gaussians(
    count: int, classes: int = 6, dim: int = 24, spread: float = 1.6, seed: int = 0, offset: float = 5.0
) -> Pair:
    """Features of classes around fixed centres, away from zero as pooled activations are."""
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    scale = torch.linspace(0.2, 3, dim)
    noise = spread * torch.randn(count, dim, generator=generator)
    return (centres[labels] + noise) * scale + offset, labels


def test_one_input_by_hand() -> None:
    # x = -1, 1 is standardised already; y = 0, 4 has mean 2. N P = 2, X'X = 2, X'Y = 4.
    x, y = torch.tensor([[-1.0], [1.0]]), torch.tensor([[0.0], [4.0]])
    (weight, bias), (shrunk, _) = ridge(x, y, (1e-9, 1.0))
    assert weight.item() == pytest.approx(2) and bias.item() == pytest.approx(2)
    assert shrunk.item() == pytest.approx(4 / (2 + 2))
    # The same line through inputs of another scale and place.
    ((weight, bias),) = ridge(10 * x + 3, y, (1e-9,))
    assert weight.item() == pytest.approx(0.2) and bias.item() == pytest.approx(2 - 0.6)


@pytest.mark.parametrize("shape", [(50, 8), (8, 50), (20, 20), (1500, 3), (6, 2100)])
def test_both_forms_solve_the_normal_equations(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator) * 3 + 7
    y = torch.randn(shape[0], 2, generator=generator)
    z = x.double()
    z = (z - z.mean(0)) / z.std(0, correction=0)
    for strength, (weight, bias) in zip((1e-3, 1e-1), ridge(x, y, (1e-3, 1e-1)), strict=True):
        system = z.T @ z + strength * x.numel() * torch.eye(shape[1], dtype=torch.float64)
        naive = torch.linalg.solve(system, z.T @ (y.double() - y.double().mean(0)))
        expected = z @ naive + y.double().mean(0)
        torch.testing.assert_close((x @ weight.T + bias).double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(60, 10), (30, 90)])
def test_against_scikit_learn(shape: tuple[int, int]) -> None:
    from sklearn import linear_model

    x, labels = gaussians(shape[0], dim=shape[1])
    z = ((x - x.mean(0)) / x.std(0, correction=0)).double().numpy()
    other = linear_model.RidgeClassifier(alpha=0.01 * x.numel(), solver="cholesky").fit(z, labels.numpy())
    ((weight, bias),) = ridge(x, F.one_hot(labels, 6), (0.01,))
    # Its targets are -1 and 1, ours 0 and 1.
    scores = torch.from_numpy(other.decision_function(z)).float()
    torch.testing.assert_close(2 * (x @ weight.T + bias) - 1, scores, rtol=1e-3, atol=1e-3)


def test_the_strength_is_the_best_on_validation_and_the_largest_of_equals() -> None:
    train, val = gaussians(80, spread=3), gaussians(300, spread=3, seed=1)
    best = closed_form(train, val, 6)
    each = {
        strength: Linear(*model, strength, 0).accuracy(*val)
        for strength, model in zip(STRENGTHS, ridge(train[0], F.one_hot(train[1], 6), STRENGTHS), strict=True)
    }
    assert best.strength == max(s for s, value in each.items() if value == max(each.values()))
    assert best.accuracy(*val) == max(each.values()) and best.seconds > 0
    # Two far points: every strength is right.
    easy = (torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))
    assert closed_form(easy, easy, 2).strength == max(STRENGTHS)


def test_weights_act_on_raw_features() -> None:
    train, val = gaussians(200), gaussians(100, seed=1)
    model = closed_form(train, val, 6)
    assert model.weight.shape == (6, 24) and model.bias.shape == (6,) and model.weight.dtype == torch.float32
    manual = (train[0] @ model.weight.T + model.bias).argmax(1)
    assert model.accuracy(*train) == float((manual == train[1]).double().mean())
    torch.testing.assert_close(model.logits(train[0]), train[0] @ model.weight.T + model.bias)
    # Another unit of a feature changes its weight and nothing else.
    unit = torch.logspace(-2, 2, 24)
    rescaled = closed_form((train[0] * unit, train[1]), (val[0] * unit, val[1]), 6)
    torch.testing.assert_close(rescaled.weight * unit, model.weight, rtol=1e-3, atol=1e-5)


def test_three_probes_agree() -> None:
    train, val, test = (gaussians(count, seed=seed) for seed, count in enumerate((800, 400, 2000)))
    newton = linear_probe(train, val, {"test": test}, 6)["test"]
    closed = closed_form(train, val, 6).accuracy(*test)
    stochastic = sgd(train, 6).accuracy(*test)
    assert 0.4 < newton < 0.97
    # Features of uneven scale are not standardised for the recipe: that costs it a few points here.
    assert abs(closed - newton) < 0.02 and abs(stochastic - newton) < 0.05


def test_sgd_comes_close_to_scikit_learns_unregularised_optimum() -> None:
    from sklearn import linear_model

    train, test = gaussians(800, offset=0), gaussians(2000, seed=2, offset=0)
    other = linear_model.LogisticRegression(C=1e4, max_iter=2000).fit(train[0].numpy(), train[1].numpy())
    assert abs(sgd(train, 6).accuracy(*test) - other.score(test[0].numpy(), test[1].numpy())) < 0.04


def test_sgd_follows_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[float, float, float]] = []
    step = torch.optim.SGD.step

    def spy(self: torch.optim.SGD, *rest: object) -> object:
        group = self.param_groups[0]
        steps.append((group["lr"], group["momentum"], group["weight_decay"]))
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    sgd(gaussians(300), 6)
    # 300 images are two batches of an epoch.
    rates = [rate for rate, _, _ in steps[::2]]
    assert len(steps) == 200 and rates == pytest.approx([30.0] * 60 + [3.0] * 20 + [0.3] * 20)
    assert {(momentum, decay) for _, momentum, decay in steps} == {(0.9, 0)}


def test_sgd_does_not_depend_on_the_features_unit_and_repeats() -> None:
    features, labels = gaussians(300)
    one, two = sgd((features, labels), 6, epochs=3), sgd((64 * features, labels), 6, epochs=3)
    torch.testing.assert_close(one.weight, 64 * two.weight, rtol=1e-3, atol=1e-4)
    assert torch.equal(one.weight, sgd((features, labels), 6, epochs=3).weight)
    assert not torch.equal(one.weight, sgd((features, labels), 6, epochs=3, seed=1).weight)
    again = closed_form((features, labels), (features, labels), 6)
    assert torch.equal(again.weight, closed_form((features, labels), (features, labels), 6).weight)


def test_constant_features_and_absent_classes_are_harmless() -> None:
    features, labels = gaussians(100, classes=3)
    features[:, 0], features[:, 1] = 0.1, 0
    for model in (
        closed_form((features, labels), (features, labels), 5),
        sgd((features, labels), 5, epochs=5),
    ):
        assert torch.isfinite(model.weight).all() and torch.isfinite(model.bias).all()
    assert closed_form((features, labels), (features, labels), 5).accuracy(features, labels) > 0.7
    moved = features.clone()
    moved[:, 0] = 1.0  # a feature that never varied in training tells nothing later either
    model = closed_form((features, labels), (features, labels), 5)
    torch.testing.assert_close(model.logits(moved), model.logits(features), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("probe", ["closed", "sgd"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("classes", ["2 classes", "1"]),
        ("nan", ["2 of 50", "not finite", "training"]),
        ("labels", ["labels", "training", "0 to 2"]),
        ("count", ["50 features", "49 labels"]),
        ("none", ["0 features"]),
    ],
)
def test_bad_input_is_one_line(probe: str, fault: str, words: list[str]) -> None:
    features, labels = gaussians(50)
    train, classes = (features, labels), 6
    if fault == "classes":
        classes = 1
    elif fault == "labels":
        classes = 3
    elif fault == "nan":
        features[3, 2], features[7] = float("nan"), float("inf")
    elif fault == "count":
        train = (features, labels[1:])
    else:
        train = (features[:0], labels[:0])
    with pytest.raises(CVSAError) as error:
        closed_form(train, gaussians(20), classes) if probe == "closed" else sgd(train, classes)
    assert "\n" not in str(error.value)
    assert all(word.lower() in str(error.value).lower() for word in words), str(error.value)
