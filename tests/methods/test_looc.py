from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from methods_support import crop, early_and_late, nearest_neighbour_accuracy, scenes, train

from cvsa.errors import CVSAError
from cvsa.methods import build_method
from cvsa.methods.heads import Queue
from cvsa.views import Views

Four = tuple[Views, Views, Views, Views]


@pytest.fixture
def four() -> Four:
    generator = torch.Generator().manual_seed(0)

    def one() -> Views:
        return Views(torch.rand(6, 3, 32, 32, generator=generator), torch.ones(6, 1, 32, 32))

    return one(), one(), one(), one()


@pytest.fixture
def method(configure: Any) -> Any:
    """With branches, heads and queues that all differ."""
    built = build_method(configure(base="looc", queue_size=7))
    with torch.no_grad():
        for parameter in built.target_encoder.parameters():
            parameter.mul_(1.1)
    return built


def test_loss_equals_the_naive_one(method: Any, four: Four) -> None:
    """Key by key, space by space, as the paper's equation is written."""
    loss = float(method(four)["contrastive"].detach())
    with torch.no_grad():
        query = method.encoder(four[0].images).mean((2, 3))
        keys = [method.target_encoder(v.images).mean((2, 3)) for v in four[1:]]
        total = 0.0
        for b in range(6):
            for i in range(3):
                q = F.normalize(method.projectors[i](query[b]), dim=0)
                k = [F.normalize(method.projectors[i](key[b]), dim=0) for key in keys]  # copies are equal
                score = [math.exp(float(q @ k_j) / 0.2) for k_j in k]
                queue = sum(math.exp(float(q @ n) / 0.2) for n in method.queues[i].keys)
                same_image = score[0] if i == 0 else sum(score)
                total += -math.log(score[i] / (same_image + queue))
    assert loss == pytest.approx(total / (6 * 3), rel=1e-4)


def test_each_queue_takes_its_own_spaces_key_after_the_step(method: Any, four: Four) -> None:
    before = [queue.keys.clone() for queue in method.queues]
    method(four)
    assert all(torch.equal(queue.keys, old) for queue, old in zip(method.queues, before, strict=True))
    keys = [method.target_encoder(v.images).mean((2, 3)) for v in four[1:]]
    expected = [F.normalize(method.target_projectors[i](keys[i]), dim=1) for i in range(3)]
    method.after_step(0.5)
    for queue, new, old in zip(method.queues, expected, before, strict=True):
        torch.testing.assert_close(queue.keys, torch.cat([new, old[6:]]))
    assert sum(isinstance(module, Queue) for module in method.modules()) == 3


def test_gradient_reaches_backbone_and_every_head_but_no_copy(method: Any, four: Four) -> None:
    method(four)["contrastive"].backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is None) == ("target" in name), name


def test_copies_follow_by_the_constant_momentum(method: Any) -> None:
    old = method.target_projectors[2].module[0].weight.clone()
    with torch.no_grad():
        method.projectors[2][0].weight.add_(1)
    method.after_step(0.5)
    torch.testing.assert_close(method.target_projectors[2].module[0].weight, old + 0.1)
    assert [method.momentum(t) for t in (0.0, 1.0)] == [0.9, 0.9]


def test_one_pass_with_gradient_and_three_without(method: Any, four: Four) -> None:
    seen: list[str] = []
    method.encoder.register_forward_hook(lambda m, x, y: seen.append("online"))
    method.target_encoder.register_forward_hook(lambda m, x, y: seen.append("momentum"))
    method(four)
    assert sorted(seen) == ["momentum"] * 3 + ["online"]
    assert set(method.diagnostics) == {"embedding_std"}


def test_the_alignment_looks_in_the_first_key(configure, four: Four) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="looc", align_weight=1.0))
    losses = method(four)
    maps = method.encoder(four[0].images), method.target_encoder(four[1].images)
    torch.testing.assert_close(losses["alignment"], method.alignment(*maps, four[0].masks)[0])


def test_another_number_of_views_is_told(method: Any, four: Four) -> None:
    with pytest.raises(CVSAError, match=r"^LooC takes 4 views \(query, key, .*rotation\), got 2"):
        method(four[:2])


def test_learns_and_the_colour_space_keeps_the_colour(configure) -> None:  # type: ignore[no-untyped-def]
    """There a key that shares the query's colour is nearer than one that shares nothing."""
    method = build_method(configure(base="looc", projector_norm=True, queue_size=64))
    generator = torch.Generator().manual_seed(1)

    def views(count: int = 32) -> Four:
        images, masks, _ = scenes(count, generator)

        def turns() -> list[int]:
            return torch.randint(4, (count,), generator=generator).tolist()

        def tints() -> torch.Tensor:
            return 0.3 + 0.7 * torch.rand(count, 3, 1, 1, generator=generator)

        def view(turn: list[int], tint: torch.Tensor) -> Views:
            made = crop(images, masks, generator)
            turned = [torch.rot90(x, r, (1, 2)) for x, r in zip(made.images, turn, strict=True)]
            return replace(made, images=torch.stack(turned) * tint)

        turn, tint = turns(), tints()
        return view(turn, tint), view(turns(), tints()), view(turns(), tint), view(turn, tints())

    train(method, views, 4, lr=0.0)  # queues of real keys
    early, late = early_and_late(train(method, views, 60)["contrastive"])
    assert late < 0.9 * early
    assert nearest_neighbour_accuracy(method) > 0.35  # chance 0.25
    with torch.no_grad():
        query, *keys = (method.encoder(v.images).mean((2, 3)) for v in views(256))
        q, shares_none, shares_colour = (
            F.normalize(method.projectors[1](x), dim=1) for x in (query, keys[0], keys[1])
        )
    nearer = ((q * shares_colour).sum(1) > (q * shares_none).sum(1)).float().mean()
    assert float(nearer) > 0.92  # chance 0.5, untrained 0.85
