from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvsa.methods import build_method
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
def test_queue_is_first_in_first_out_and_wraps_around(configure, size: int, batch: int) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="moco_v2", queue_size=size, projector_dim=2))
    expected = [tuple(row) for row in method.queue.tolist()]  # oldest first
    for n in range(7):
        keys = torch.arange(batch).float()[:, None] + torch.tensor([100.0 * n, 0.5])
        method.enqueue(keys)
        expected = [*expected, *(tuple(row) for row in keys.tolist())][-size:]
        in_order = method.queue.roll(-int(method.pointer), dims=0)
        assert [tuple(row) for row in in_order.tolist()] == expected


def test_the_queue_takes_the_keys_after_the_step_and_only_in_training(configure, views) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="moco_v2"))
    before = method.queue.clone()
    method(views)
    assert torch.equal(method.queue, before)
    keys = method._keys.clone()
    method.after_step(0.5)
    assert torch.equal(method.queue[:8], keys) and torch.equal(method.queue[8:], before[8:])
    torch.testing.assert_close(method.queue.norm(dim=1), torch.ones(24))
    after = method.queue.clone()
    method.after_step(0.5)  # nothing new to take
    method.eval()(views)
    method.after_step(0.5)
    assert torch.equal(method.queue, after)


def test_query_is_the_first_view_and_key_the_second(configure, views) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="moco_v2"))
    q = F.normalize(method.projector(method.encoder(views[0].images).mean((2, 3))), dim=1)
    k = F.normalize(method.target_projector(method.target_encoder(views[1].images).mean((2, 3))), dim=1)
    torch.testing.assert_close(method(views)["contrastive"], info_nce(q, k, method.queue, 0.2))


def test_momentum_stays(configure) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="moco_v2", ema_momentum=0.9))
    assert [method.momentum(t) for t in (0.0, 0.5, 1.0)] == [0.9, 0.9, 0.9]


def test_resumes_from_its_state_exactly(configure, views) -> None:  # type: ignore[no-untyped-def]
    """Queue, pointer and copies are all the state there is: a reloaded method goes on bit for bit."""

    def steps(method, count: int) -> list[float]:  # type: ignore[no-untyped-def]
        optimiser = torch.optim.SGD(method.parameters(), lr=0.1)
        history = []
        for n in range(count):
            losses = method(views)
            optimiser.zero_grad()
            sum(losses.values()).backward()
            optimiser.step()
            method.after_step(n / count)
            history.append(float(losses["contrastive"].detach()))
        return history

    first = build_method(configure(base="moco_v2", align_weight=1.0, queue_size=20))
    steps(first, 2)
    state = copy.deepcopy(first.state_dict())
    second = build_method(configure(base="moco_v2", align_weight=1.0, queue_size=20, seed=1))
    second.load_state_dict(state)
    assert steps(first, 3) == steps(second, 3)
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
