from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from methods_support import early_and_late, scenes, train

from cvsa.errors import CVSAError
from cvsa.methods import SaliencyAlignment, build_method
from cvsa.views import Views

Pair = tuple[Views, Views]


@pytest.fixture
def patches(views: Pair) -> Pair:
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7])
    return replace(views[0], labels=labels), replace(views[1], labels=labels)


def test_loss_and_accuracy_equal_the_naive_ones(configure, patches: Pair) -> None:  # type: ignore[no-untyped-def]
    """Pair by pair; in eval mode pairs do not interact."""
    method = build_method(configure(base="rel_loc")).eval()
    total, right = 0.0, 0
    with torch.no_grad():
        for centre, neighbour, label in zip(
            patches[0].images, patches[1].images, patches[1].labels.tolist(), strict=True
        ):
            both = [method.encoder(x[None]).mean((2, 3)) for x in (centre, neighbour)]
            logits = method.head(torch.cat(both, dim=1))[0].tolist()
            total += -math.log(math.exp(logits[label]) / sum(map(math.exp, logits)))
            right += logits.index(max(logits)) == label
        losses = method(patches)
    assert len(logits) == 8
    assert float(losses["pretext"]) == pytest.approx(total / 8, rel=1e-4)
    assert float(method.diagnostics["pretext_accuracy"]) == pytest.approx(right / 8)
    assert set(losses) == set(method.weights) == {"pretext"}


def test_the_patches_share_one_encoder_each_a_batch_of_its_own(configure, patches: Pair) -> None:  # type: ignore[no-untyped-def]
    method, sizes = build_method(configure(base="rel_loc")), []
    method.encoder.register_forward_hook(lambda m, x, y: sizes.append(len(x[0])))
    method(patches)["pretext"].backward()
    assert sizes == [8, 8]
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert {name.split(".")[0] for name in method.state_dict()} == {"encoder", "head"}


def test_the_order_of_the_patches_matters(configure, patches: Pair) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="rel_loc")).eval()
    assert not torch.allclose(method(patches)["pretext"], method(patches[::-1])["pretext"])


def test_wrong_views_and_an_alignment_are_told(configure, views: Pair, patches: Pair) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="rel_loc"))
    with pytest.raises(CVSAError, match=r"^RelLoc takes 2 views \(centre patch, neighbour patch\), got 1"):
        method(patches[:1])
    with pytest.raises(CVSAError, match="needs views with labels.*neighbouring_patches"):
        method(views)
    with pytest.raises(CVSAError, match="^RelLoc has no pair of views to align"):
        method.attach_alignment(SaliencyAlignment(64), 1.0)


def test_learns(configure) -> None:  # type: ignore[no-untyped-def]
    """Patches of 16 px of scenes lit from above: the light tells the row, the objects some of the rest."""
    method, generator = build_method(configure(base="rel_loc")), torch.Generator().manual_seed(1)

    def views() -> Pair:
        images, labels = scenes(32, generator)[0], torch.randint(8, (32,), generator=generator)
        images = torch.nn.functional.interpolate(images, size=48, mode="bilinear")
        cells = torch.where(labels < 4, labels, labels + 1).tolist()  # of a 3 x 3 grid, row by row
        around = [x[:, c // 3 * 16 :, c % 3 * 16 :][:, :16, :16] for x, c in zip(images, cells, strict=True)]
        ones = torch.ones(32, 1, 16, 16)
        centre = Views(images[:, :, 16:32, 16:32], ones, labels=labels)
        return centre, Views(torch.stack(around), ones, labels=labels)

    history = train(method, views, 70)
    early, late = early_and_late(history["pretext"])
    assert late < 0.8 * early
    assert early_and_late(history["pretext_accuracy"], 15)[1] > 0.22  # chance 0.125
