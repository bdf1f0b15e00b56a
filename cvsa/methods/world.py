r"""Processes that share every training step: each takes its rows of the batch, all hold the same weights.

Let L_r be the scalar that process r of N computes. Gradients are averaged over the processes, and what
:meth:`World.gather` and :meth:`World.total` exchange is differentiated too, so what is minimised is

    L = 1/N (L_1 + ... + L_N).

A mean over rows is therefore written as ever: its mean over the process's own rows. A loss that compares rows
with each other (SimCLR's negatives), or divides by a count of them, gathers what it needs first; every
process then computes all of L, and the mean of N equal values is that value, with its gradient.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

Batch = TypeVar("Batch")


@dataclasses.dataclass(frozen=True)
class World:
    """The processes that share a run, as one of them sees it. Alone, everything returns what it was given.

    Attributes:
        rank: of this process, in [0, size).
        size: N, how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def share(self, batch: Batch) -> Batch:
        """This process's rows of a batch: of B rows those from rank B/N to (rank + 1) B/N.

        Args:
            batch: tensors with first axis B, a multiple of N; or tuples, lists and dataclasses (``Views``) of
                them, with None where something is missing.
        """
        return batch if self.size == 1 else self._rows(batch)

    def _rows(self, part: Any) -> Any:
        if isinstance(part, Tensor):
            return part.chunk(self.size)[self.rank]
        if isinstance(part, tuple | list):
            return type(part)(self._rows(each) for each in part)
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            fields = {f.name: self._rows(getattr(part, f.name)) for f in dataclasses.fields(part)}
            return dataclasses.replace(part, **fields)
        return part

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (b, ...) of all processes, in the order of ranks, (N b, ...); differentiable, twice too.

        The sum over processes of what each has among zeros, which is exact. What is gathered here is small:
        embeddings, keys, attention.
        """
        if self.size == 1:
            return rows
        before = rows.new_zeros(self.rank * len(rows), *rows.shape[1:])
        after = rows.new_zeros((self.size - 1 - self.rank) * len(rows), *rows.shape[1:])
        return self.total(torch.cat([before, rows, after]))

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes, elementwise; differentiable."""
        return value if self.size == 1 else _Total.apply(value)

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all processes, elementwise; for scalars that are reported."""
        return value if self.size == 1 else self.total(value) / self.size


class _Total(torch.autograd.Function):
    """Every process's L_r depends on every process's value, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Total.apply(gradients[0])


_world = World()


def world() -> World:
    """The processes this one shares its run with; a world of its own unless it has joined one."""
    return _world


def join(rank: int, size: int, meeting: Path, cuda: bool) -> World:
    """Meet the other processes of a run on this machine; returns when all are there.

    Args:
        rank: of this process.
        size: how many there are.
        meeting: a file that does not exist yet, the same for all.
        cuda: GPU number ``rank`` is this process's, and GPUs exchange by NCCL; else processes do, by gloo.
    """
    global _world
    import torch.distributed as dist

    if cuda:
        torch.cuda.set_device(rank)
    # One machine's processes have no need of its network, where gloo would look up the machine's name.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=meeting.absolute().as_uri(),
        rank=rank,
        world_size=size,
        # Whoever starts the processes ends them all when one fails, so that none waits for a dead one. The
        # first may take long over something that the others wait for: a checkpoint on a slow disk.
        timeout=timedelta(hours=2),
        device_id=torch.device("cuda", rank) if cuda else None,
    )
    _world = World(rank, size)
    return _world


def part() -> None:
    """Close the connection; all processes do so together, when nothing is left to exchange.

    Rank and size stay known: the first process goes on by itself, and its record says how many took part.
    """
    if _world.size > 1:
        torch.distributed.destroy_process_group()
