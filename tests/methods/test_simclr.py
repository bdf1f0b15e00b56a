from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from methods_support import crop, early_and_late, nearest_neighbour_accuracy, scenes, train
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.methods import build_method
from cvsa.methods.simclr import nt_xent


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_loss_equals_the_naive_one(batch: int) -> None:
    z1, z2, temperature = draw(batch, 8), draw(batch, 8, seed=1), 0.3
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    total = 0.0
    for i in range(2 * batch):
        positive = math.exp(float(z[i] @ z[(i + batch) % (2 * batch)]) / temperature)
        others = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in range(2 * batch) if k != i)
        total += -math.log(positive / others)
    assert float(nt_xent(z1, z2, temperature)) == pytest.approx(total / (2 * batch), rel=1e-5, abs=1e-6)


def test_loss_agrees_with_lightly() -> None:
    from lightly.loss import NTXentLoss

    z1, z2 = draw(16, 32), draw(16, 32, seed=1)
    torch.testing.assert_close(nt_xent(z1, z2, 0.2), NTXentLoss(temperature=0.2)(z1, z2))


def test_gradcheck() -> None:
    z1, z2 = draw(3, 4).double().requires_grad_(), draw(3, 4, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.5), (z1, z2))


def test_both_views_pass_the_encoder_as_one_batch(configure, views) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="simclr"))
    sizes: list[int] = []
    method.encoder.register_forward_hook(lambda m, x, y: sizes.append(len(x[0])))
    losses = method(views)
    assert sizes == [16]
    z1, z2 = method.projector(method.encoder(torch.cat([v.images for v in views])).mean((2, 3))).chunk(2)
    torch.testing.assert_close(losses["contrastive"], nt_xent(z1, z2, 0.2))
    assert set(method.diagnostics) == {"embedding_std"}


def test_the_alignment_sees_each_view_as_query_once(configure, views) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="simclr", align_weight=1.0))
    losses = method(views)
    assert set(losses) == set(method.weights) == {"contrastive", "alignment"}
    maps = method.encoder(torch.cat([v.images for v in views])).chunk(2)
    both = [method.alignment(maps[i], maps[1 - i], views[i].masks)[0] for i in (0, 1)]
    torch.testing.assert_close(losses["alignment"], both[0] + both[1])


def test_no_gradient_passes_through_the_alignments_key(configure, views) -> None:  # type: ignore[no-untyped-def]
    """Of a single direction: only the query view's images get a gradient from L_Align."""
    method = build_method(configure(base="simclr", align_weight=1.0)).eval()
    images = [v.images.clone().requires_grad_() for v in views]
    maps = [method.encoder(x) for x in images]
    method.alignment(maps[0], maps[1].detach(), views[0].masks)[0].backward()
    assert images[0].grad is not None and images[1].grad is None
    method.train()
    method.zero_grad()
    sum(method(views).values()).backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is None) == ("target" in name), name


def test_only_the_alignments_copy_follows_and_by_the_constant_momentum(configure) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="simclr", align_weight=1.0))
    before = method.alignment.target_g_conv.module[0].weight.clone()
    with torch.no_grad():
        method.alignment.g_conv[0].weight.add_(1)
    method.after_step(0.7)
    torch.testing.assert_close(method.alignment.target_g_conv.module[0].weight, before + 0.1)
    assert [method.momentum(t) for t in (0.0, 1.0)] == [0.9, 0.9]
    assert not [
        name for name, _ in build_method(configure(base="simclr")).named_parameters() if "target" in name
    ]


def test_attention_of_the_first_view(configure, views) -> None:  # type: ignore[no-untyped-def]
    a = build_method(configure(base="simclr", align_weight=1.0)).eval().attention(views)
    assert a.shape == (8, 1, 4, 4) and float(a.min()) > 0 and float(a.max()) < 1


def test_another_number_of_views_is_told(configure, views) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CVSAError, match=r"^SimCLR takes 2 views \(query, key\), got 1"):
        build_method(configure(base="simclr"))(views[:1])


def test_learns(configure) -> None:  # type: ignore[no-untyped-def]
    method, generator = build_method(configure(base="simclr")), torch.Generator().manual_seed(1)

    def views():  # type: ignore[no-untyped-def]
        images, masks, _ = scenes(24, generator)
        return crop(images, masks, generator), crop(images, masks, generator)

    early, late = early_and_late(train(method, views, 50)["contrastive"])
    assert late < 0.8 * early
    assert nearest_neighbour_accuracy(method) > 0.4  # chance 0.25
