"""Optimisers and the schedule."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cvsa.config import PretrainConfig, resolve
from cvsa.training.optim import build_optimizer, learning_rate, parameter_groups


def test_schedule_rises_then_follows_half_a_cosine_to_zero() -> None:
    rates = [learning_rate(step, peak=0.4, steps=100, warmup_steps=10) for step in range(100)]
    assert rates[:10] == pytest.approx([0.04 * (k + 1) for k in range(10)])
    assert max(rates) == pytest.approx(0.4)
    assert rates[55] == pytest.approx(0.4 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert 0 < rates[-1] < 0.4 * 1e-3


def test_no_warmup_starts_at_the_peak() -> None:
    assert learning_rate(0, peak=1.0, steps=10, warmup_steps=0) == 1.0


def test_biases_and_norms_have_no_weight_decay() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    frozen = nn.Linear(2, 2).requires_grad_(False)
    decayed, plain = parameter_groups(nn.ModuleList([module, frozen]), 0.1)
    assert {tuple(p.shape) for p in decayed["params"]} == {(4, 3, 3, 3), (2, 4)}
    assert sum(p.numel() for p in plain["params"]) == 4 + 4 + 4 + 2
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_every_optimiser_lowers_a_convex_loss(name: str) -> None:
    module = nn.Linear(5, 1, bias=False)  # LARS adapts no biases, and lr 10 would be too much for one
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 5, generator=generator)
    y = x @ torch.arange(5.0)[:, None]
    optimizer = build_optimizer(
        module,
        resolve(PretrainConfig, optimizer=name, lr=0.05 if name != "lars" else 10.0, weight_decay=1e-4),
    )
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = (module(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_lars_adapts_weights_but_not_biases() -> None:
    # With the trust ratio a step's length does not depend on the size of the gradient; without it, it does.
    moved = {}
    for scale in (1.0, 100.0):
        module = nn.Linear(4, 4)
        with torch.no_grad():
            module.weight.fill_(1.0)
            module.bias.fill_(1.0)
        optimizer = build_optimizer(
            module, resolve(PretrainConfig, optimizer="lars", lr=0.1, weight_decay=1e-6)
        )
        (scale * module(torch.ones(1, 4)).sum()).backward()
        optimizer.step()
        moved[scale] = ((1 - module.weight).abs().max().item(), (1 - module.bias).abs().max().item())
    assert moved[100.0][0] == pytest.approx(moved[1.0][0], rel=1e-3)
    assert moved[100.0][1] == pytest.approx(100 * moved[1.0][1], rel=1e-3)
