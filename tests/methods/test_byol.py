from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cvsa.methods import build_method
from cvsa.methods.byol import byol_loss


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_loss_is_the_squared_distance_of_unit_vectors() -> None:
    p, t = draw(5, 7), draw(5, 7, seed=1)
    total = 0.0
    for a, b in zip(p.tolist(), t.tolist(), strict=True):
        la, lb = math.hypot(*a), math.hypot(*b)
        total += sum((x / la - y / lb) ** 2 for x, y in zip(a, b, strict=True))
    assert float(byol_loss(p, t)) == pytest.approx(total / 5, rel=1e-5)


def test_loss_agrees_with_lightly() -> None:
    from lightly.loss import NegativeCosineSimilarity

    p, t = draw(16, 32), draw(16, 32, seed=1)
    torch.testing.assert_close(byol_loss(p, t), 2 + 2 * NegativeCosineSimilarity()(p, t))


def test_loss_of_equal_and_of_opposed_vectors() -> None:
    p = draw(4, 8)
    assert float(byol_loss(p, 3 * p)) == pytest.approx(0, abs=1e-6)
    assert float(byol_loss(p, -p)) == pytest.approx(4, abs=1e-6)


def test_is_symmetrised_and_pairs_online_with_momentum_of_the_other_view(configure, views) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure())
    with torch.no_grad():  # make the branches differ
        for p in method.target_encoder.parameters():
            p.mul_(1.1)
    loss = method(views)["contrastive"]
    expected = 0
    for query, key in (views, views[::-1]):
        p = method.predictor(method.projector(method.encoder(query.images).mean((2, 3))))
        t = method.target_projector(method.target_encoder(key.images).mean((2, 3)))
        expected = expected + byol_loss(p, t)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(method(views[::-1])["contrastive"], loss)


def test_each_view_passes_each_encoder_once_and_by_itself(configure, views) -> None:  # type: ignore[no-untyped-def]
    """Also with the alignment: two online and two momentum passes, BatchNorm sees one view at a time."""
    method = build_method(configure(align_weight=1.0))
    seen: list[tuple[str, int]] = []
    method.encoder.register_forward_hook(lambda m, x, y: seen.append(("online", len(x[0]))))
    method.target_encoder.register_forward_hook(lambda m, x, y: seen.append(("momentum", len(x[0]))))
    method(views)
    assert sorted(seen) == [("momentum", 8)] * 2 + [("online", 8)] * 2


def test_momentum_rises_to_one_by_a_cosine(configure) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(ema_momentum=0.9))
    assert [method.momentum(t) for t in (0.0, 0.5, 1.0)] == pytest.approx([0.9, 0.95, 1.0])
