"""Small parts the methods share: heads, the momentum copy, losses kept out of autocast."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

P = ParamSpec("P")


def mlp(inputs: int, hidden: int, outputs: int, *, norm: bool) -> nn.Sequential:
    """Linear - (BatchNorm) - ReLU - Linear, (B, inputs) -> (B, outputs); BYOL norms, MoCo v2 does not."""
    middle: list[nn.Module] = [nn.BatchNorm1d(hidden)] if norm else []
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=not norm), *middle, nn.ReLU(True), nn.Linear(hidden, outputs)
    )


def conv_mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """1x1 conv - BatchNorm - ReLU - 1x1 conv [O], (B, inputs, H, W) -> (B, outputs, H, W)."""
    return nn.Sequential(
        nn.Conv2d(inputs, hidden, 1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(True),
        nn.Conv2d(hidden, outputs, 1),
    )


class MomentumCopy(nn.Module):
    """An exponential moving average of a module's parameters, called without gradient.

    theta' <- m theta' + (1 - m) theta. Running statistics of BatchNorm are not averaged: the copy sees its
    own batches and keeps its own, as in the published BYOL and MoCo.

    Args:
        online: the module followed; the copy starts equal to it.
    """

    def __init__(self, online: nn.Module) -> None:
        super().__init__()
        self._online = (online,)  # in a tuple, so that the online module is no child of its own copy
        self.module = copy.deepcopy(online).requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)

    @torch.no_grad()
    def update(self, momentum: float) -> None:
        """One step of the average; ``momentum`` in [0, 1], 1 leaves the copy as it is."""
        ours, theirs = list(self.module.parameters()), [p.detach() for p in self._online[0].parameters()]
        get_ema_multi_avg_fn(momentum)(ours, theirs, None)


def full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Run a loss outside autocast, its inputs raised to float32: bf16 is too coarse for small differences."""

    @functools.wraps(loss)
    def outside_autocast(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = next(a.device.type for a in args if isinstance(a, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*map(raised, args), **{k: raised(v) for k, v in kwargs.items()})

    return outside_autocast


def raised(value: Any) -> Any:
    """A half-precision tensor in float32; anything else as it is."""
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value
