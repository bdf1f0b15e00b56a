from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.methods import build_method
from cvsa.methods.heads import Queue
from cvsa.methods.moco import info_nce


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_loss_equals_the_naive_one() -> None:
    q, k, queue, temperature = unit(5, 8), unit(5, 8, seed=1), unit(11, 8, seed=2), 0.2
    total = 0.0
    for a, b in zip(q, k, strict=True):
        positive = math.exp(float(a @ b) / temperature)
        total += -math.log(positive / (positive + sum(math.exp(float(a @ n) / temperature) for n in queue)))
    assert float(info_nce(q, k, queue, temperature)) == pytest.approx(total / 5, rel=1e-5)


def test_negatives_of_a_query_alone_count_for_it_only() -> None:
    q, k, queue, own = unit(5, 8), unit(5, 8, seed=1), unit(11, 8, seed=2), unit(10, 8, seed=3).view(5, 2, 8)
    apart = [info_nce(q[i : i + 1], k[i : i + 1], torch.cat([queue, own[i]]), 0.2) for i in range(5)]
    torch.testing.assert_close(info_nce(q, k, queue, 0.2, own), torch.stack(apart).mean())


def test_loss_agrees_with_lightly() -> None:
    from lightly.loss import NTXentLoss

    q, k, queue = unit(6, 8), unit(6, 8, seed=1), unit(12, 8, seed=2)
    peer = NTXentLoss(temperature=0.2, memory_bank_size=(12, 8))
    for keys in queue.split(6):
        peer(q.clone().requires_grad_(), keys)  # fills its bank
    torch.testing.assert_close(info_nce(q, k, queue, 0.2), peer(q, k))


def test_no_better_than_chance_without_information() -> None:
    q = unit(4, 8)
    assert float(info_nce(q, q[:1].expand(4, 8), q[:1].expand(9, 8), 0.2)) == pytest.approx(
        math.log(10), rel=1e-5
    )


@pytest.mark.parametrize(("size", "batch"), [(12, 4), (10, 4), (5, 4), (4, 4), (3, 4), (3, 8), (1, 2)])
def test_queue_is_first_in_first_out_and_wraps_around(size: int, batch: int) -> None:
    queue = Queue(size, 2)
    expected = [tuple(row) for row in queue.keys.tolist()]  # oldest first
    for n in range(7):
        keys = torch.arange(batch).float()[:, None] + torch.tensor([100.0 * n, 0.5])
        queue.enqueue(keys)
        expected = [*expected, *(tuple(row) for row in keys.tolist())][-size:]
        in_order = queue.keys.roll(-int(queue.pointer), dims=0)
        assert [tuple(row) for row in in_order.tolist()] == expected


def test_the_queue_takes_the_keys_after_the_step_and_only_in_training(configure, views) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="moco_v2"))
    keys = method.key(method.target_encoder(views[1].images), views[1])
    before = method.queue.keys.clone()
    method(views)
    assert torch.equal(method.queue.keys, before)
    method.after_step(0.5)
    assert torch.equal(method.queue.keys[:8], keys) and torch.equal(method.queue.keys[8:], before[8:])
    torch.testing.assert_close(method.queue.keys.norm(dim=1), torch.ones(24))
    after = method.queue.keys.clone()
    method.after_step(0.5)  # nothing new to take
    method.eval()(views)
    method.after_step(0.5)
    assert torch.equal(method.queue.keys, after)


def test_query_is_the_first_view_and_key_the_second(configure, views) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="moco_v2"))
    q = F.normalize(method.projector(method.encoder(views[0].images).mean((2, 3))), dim=1)
    k = F.normalize(method.target_projector(method.target_encoder(views[1].images).mean((2, 3))), dim=1)
    torch.testing.assert_close(method(views)["contrastive"], info_nce(q, k, method.queue.keys, 0.2))


def test_momentum_stays(configure) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="moco_v2", ema_momentum=0.9))
    assert [method.momentum(t) for t in (0.0, 0.5, 1.0)] == [0.9, 0.9, 0.9]


def test_another_number_of_views_is_told(configure, views) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CVSAError, match=r"^MoCoV2 takes 2 views \(query, key\), got 3: choose"):
        build_method(configure(base="moco_v2"))((*views, views[0]))
