"""Small parts the methods share: heads, the momentum copy, the queue, losses kept out of autocast."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cvsa.methods.world import world

P = ParamSpec("P")


def mlp(inputs: int, hidden: int, outputs: int, *, norm: bool) -> nn.Sequential:
    """Linear - (BatchNorm) - ReLU - Linear, (B, inputs) -> (B, outputs); BYOL norms, MoCo v2 does not."""
    middle: list[nn.Module] = [nn.BatchNorm1d(hidden)] if norm else []
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=not norm), *middle, nn.ReLU(True), nn.Linear(hidden, outputs)
    )


def conv_mlp(inputs: int, hidden: int, outputs: int, depth: int = 2) -> nn.Sequential:
    """1x1 convolutions, (B, inputs, H, W) -> (B, outputs, H, W), with BatchNorm - ReLU between them [O].

    Args:
        depth: how many, at least 1; one alone is linear.
    """
    layers: list[nn.Module] = []
    for _ in range(depth - 1):
        layers += [nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(True)]
        inputs = hidden
    return nn.Sequential(*layers, nn.Conv2d(inputs, outputs, 1))


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

    def restart(self) -> None:
        """Be equal to the online module again, buffers included: it was given other weights."""
        self.module.load_state_dict(self._online[0].state_dict())

    @torch.no_grad()
    def update(self, momentum: float) -> None:
        """One step of the average; ``momentum`` in [0, 1], 1 leaves the copy as it is."""
        ours, theirs = list(self.module.parameters()), [p.detach() for p in self._online[0].parameters()]
        get_ema_multi_avg_fn(momentum)(ours, theirs, None)


class Queue(nn.Module):
    """The latest keys, for negatives: a ring of K unit vectors, first in first out; random at the start.

    A forward pass leaves its keys with :meth:`remember`; they enter at :meth:`advance`, after the step, and
    in training mode only. So a loss never meets the keys of its own batch among its negatives.

    Args:
        size: K, keys kept.
        dim: d, length of a key.
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))  # (K, d)
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))  # the oldest key's place
        self._waiting: Tensor | None = None

    def remember(self, keys: Tensor) -> None:
        """Hold the keys (B, d) of this forward pass until :meth:`advance`; dropped in eval mode.

        Of all processes that share a run, in the order of their rows: all hold the same queue.
        """
        self._waiting = world().gather(keys.detach()) if self.training else None

    def advance(self) -> None:
        """Take the keys held, if any."""
        if self._waiting is not None:
            self.enqueue(self._waiting)
            self._waiting = None

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replace the oldest keys by these (B, d); any B, the ring closes on itself."""
        size = len(self.keys)
        keys = keys[-size:]  # of more keys than places the last stay
        places = (self.pointer + torch.arange(len(keys), device=keys.device)) % size  # (B,)
        self.keys[places] = keys.to(self.keys.dtype)
        self.pointer.copy_((self.pointer + len(keys)) % size)  # on the device: no wait for its value


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
