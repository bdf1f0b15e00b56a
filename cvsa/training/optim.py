"""Optimisers from libraries, and the one schedule all runs share: linear warm-up, then a cosine to zero."""

from __future__ import annotations

import math

import torch
from torch import nn

from cvsa.config import RunConfig


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups: weights with decay; biases, norms and other vectors without (BYOL, appendix; common)."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def build_optimizer(module: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """SGD or LARS (momentum 0.9), or AdamW, over the parameters that train.

    torch's update all weights in one kernel (``fused``). LARS is timm's: it adapts the rate only where weight
    decay applies, so not on biases and norms, as published.
    """
    groups = parameter_groups(module, config.weight_decay)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, fused=True)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=True)
    from timm.optim import Lars

    return Lars(groups, lr=config.lr, momentum=0.9)


def learning_rate(step: int, *, peak: float, steps: int, warmup_steps: int) -> float:
    """Rate at a step in [0, steps): linear to ``peak`` over ``warmup_steps``, then a half cosine to 0."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
