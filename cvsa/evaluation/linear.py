"""Linear probes of frozen features: in closed form, and by the published recipe of gradient descent.

The closed form is ridge regression on one-hot labels, where one eigendecomposition serves every L2 strength;
the recipe is much slower. Both return weights for the features as they are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cvsa.errors import CVSAError

Pair = tuple[Tensor, Tensor]

# L2 strengths tried, as shares of the features' total variance; the validation split chooses.
STRENGTHS = tuple(10.0**power for power in range(-7, 2))
CHUNK = 1024  # images, or features, that are held in double precision at a time

# The recipe of MoCo's linear evaluation (He et al., CVPR 2020).
SGD_RATE, SGD_MOMENTUM, SGD_BATCH = 30.0, 0.9, 256
SGD_EPOCHS, SGD_STEPS = 100, (60, 80)  # the rate is divided by ten after these


@dataclass(frozen=True)
class Linear:
    """A linear classifier of raw (not standardised) features.

    Attributes:
        weight: (K, D) float32.
        bias: (K,) float32.
        strength: the L2 strength that was chosen, see ``STRENGTHS``; None where there is none.
        seconds: it took to fit.
    """

    weight: Tensor
    bias: Tensor
    strength: float | None
    seconds: float

    def logits(self, features: Tensor) -> Tensor:
        """Features (N, D) -> scores of the classes (N, K); the largest is the prediction."""
        return features @ self.weight.T + self.bias

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Top-1 in [0, 1] on features (N, D) with labels (N,)."""
        check(features, labels, "tested")
        return float((self.logits(features).argmax(1) == labels).double().mean())


def ridge(x: Tensor, y: Tensor, strengths: Sequence[float]) -> list[Pair]:
    """Ridge regression of standardised inputs, for all L2 strengths from one eigendecomposition.

    With X (N, P) standardised and Y (N, Q) centred, minimises |X W - Y|^2 + strength N P |W|^2. The penalty
    counts in N P because |X|^2 = N P: a strength means the same for few and many, images and inputs.
    Where P <= N, X'X = V S V' and W = V (S + penalty)^-1 V' X'Y; else XX' = U S U' and
    W = X' U (S + penalty)^-1 U' Y, the same solution from the smaller matrix. In double precision.

    Args:
        x: inputs (N, P); one that is constant is not scaled.
        y: targets (N, Q), on the same device.
        strengths: each above 0.

    Returns:
        For each strength weight (Q, P) and bias (Q,), float32, that act on the inputs as they are.
    """
    count, width = x.shape
    y = y.double()
    centre = y.mean(0)
    y = y - centre
    mean = torch.cat([part.double().mean(0) for part in x.split(CHUNK, dim=1)])
    std = torch.cat([part.double().std(0, correction=0) for part in x.split(CHUNK, dim=1)])
    std = torch.where(std > 1e-6 * mean.abs(), std, 1.0)

    def columns() -> Iterator[Tensor]:
        for some in torch.arange(width, device=x.device).split(CHUNK):
            yield (x[:, some].double() - mean[some]) / std[some]  # (N, B)

    gram = x.new_zeros((min(x.shape),) * 2, dtype=torch.float64)
    if width <= count:
        target = y.new_zeros(width, y.shape[1])  # X'Y
        for rows, targets in zip(x.split(CHUNK), y.split(CHUNK), strict=True):
            part = (rows.double() - mean) / std  # (B, P)
            gram.addmm_(part.T, part)
            target.addmm_(part.T, targets)
    else:
        target = y
        for part in columns():
            gram.addmm_(part, part.T)
    energies, vectors = torch.linalg.eigh(gram)
    moments = vectors.T @ target  # (R, Q)
    penalties = count * width * torch.tensor(strengths, dtype=torch.float64, device=x.device)
    scaled = moments[:, None] / (energies.clamp_min(0)[:, None] + penalties)[..., None]  # (R, strengths, Q)
    solved = vectors @ scaled.flatten(1)
    if width > count:
        solved = torch.cat([part.T @ solved for part in columns()])
    weights = (solved / std[:, None]).T.unflatten(0, (len(strengths), -1))  # (strengths, Q, P)
    return [(weight.float(), (centre - weight @ mean).float()) for weight in weights]


def closed_form(train: Pair, val: Pair, classes: int, strengths: tuple[float, ...] = STRENGTHS) -> Linear:
    """Ridge regression on one-hot labels; the validation split chooses the L2 strength.

    Of strengths that are equally accurate the largest is taken.

    Args:
        train, val: features (N, D) and labels (N,) in [0, classes), on one device.
        classes: number of classes K, at least 2.
        strengths: L2 strengths tried, see ``ridge``.

    Raises:
        CVSAError: fewer than two classes; no images; features that are not finite; labels out of range.
    """
    started = time.perf_counter()
    for pair, name in ((train, "training"), (val, "validation")):
        check(*pair, name, classes)
    strengths = tuple(sorted(strengths, reverse=True))
    solved = ridge(train[0], F.one_hot(train[1], classes), strengths)
    models = [Linear(*model, strength, 0.0) for model, strength in zip(solved, strengths, strict=True)]
    best = max(models, key=lambda model: model.accuracy(*val))
    return Linear(best.weight, best.bias, best.strength, time.perf_counter() - started)


def sgd(
    train: Pair, classes: int, *, seed: int = 0, epochs: int = SGD_EPOCHS, rate: float = SGD_RATE
) -> Linear:
    """The published recipe: softmax cross-entropy by SGD, rate 30, momentum 0.9, no decay, batches of 256.

    100 epochs, the rate divided by ten after 60 and 80 (of fewer, in proportion); the weights after the last
    step, nothing is chosen. Weights start at N(0, 0.01), biases at 0.
    As published, each epoch sees new random crops; here it sees the features of whole images, extracted
    once [O]. The rate was found for features of a certain length: ours are divided by one number, so that
    their mean square length is 1 [O], and the weights are given back for the features as they are.

    Args:
        train: features (N, D) and labels (N,) in [0, classes).
        classes: number of classes K, at least 2.
        seed: of initialisation and order.
        epochs: passes over the images.
        rate: first learning rate.

    Raises:
        CVSAError: fewer than two classes; no images; features that are not finite; labels out of range.
    """
    started = time.perf_counter()
    check(*train, "training", classes)
    length = float(train[0].double().square().sum(1).mean().sqrt()) or 1.0
    features, labels = train[0].float() / length, train[1]
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, features.shape[1], generator=generator).mul_(0.01).to(features.device)
    bias = torch.zeros(classes, device=features.device)
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.SGD(parameters, lr=rate, momentum=SGD_MOMENTUM)
    milestones = [round(epochs * step / SGD_EPOCHS) for step in SGD_STEPS]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
    for _ in range(epochs):
        for index in torch.randperm(len(labels), generator=generator).to(labels.device).split(SGD_BATCH):
            optimizer.zero_grad()
            F.cross_entropy(F.linear(features[index], weight, bias), labels[index]).backward()
            optimizer.step()
        schedule.step()
    return Linear(weight.detach() / length, bias.detach(), None, time.perf_counter() - started)


def check(features: Tensor, labels: Tensor, what: str, classes: int | None = None) -> None:
    """Refuse what no protocol can use.

    Args:
        features: (N, ...).
        labels: (N, ...).
        what: names the images in the message, as in "training".
        classes: number of classes, where labels are classes in [0, classes).

    Raises:
        CVSAError: no images; counts that differ; features that are not finite; fewer than two classes; labels
            out of range.
    """
    if len(features) != len(labels) or not len(features):
        raise CVSAError(
            f"There are {len(features)} features and {len(labels)} labels of {what} images; "
            "give one label per image, and at least one image."
        )
    finite = torch.isfinite(features.flatten(1)).all(1)
    if not finite.all():
        raise CVSAError(
            f"Features of {int((~finite).sum())} of {len(features)} {what} images are "
            "not finite; the network has diverged or its weights are damaged. Train it again."
        )
    if classes is None:
        return
    if classes < 2:
        raise CVSAError(f"A linear probe needs at least 2 classes; these data have {classes}.")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise CVSAError(
            f"Labels of {what} images are {int(labels.min())} to {int(labels.max())}; "
            f"with {classes} classes they are 0 to {classes - 1}."
        )
