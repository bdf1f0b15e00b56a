"""One training step, the same wherever steps are made or timed. It knows no method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cvsa.config import RunConfig
from cvsa.methods.world import world
from cvsa.training.optim import build_optimizer
from cvsa.training.runtime import Runtime
from cvsa.training.shared import connect


class Trainable(Protocol):
    """What a step asks of a module."""

    weights: dict[str, float]
    diagnostics: dict[str, Tensor]

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        """Unweighted scalar losses of a batch."""
        ...

    def after_step(self, progress: float) -> None:
        """Update what the optimiser does not: EMA copy, queue. ``progress`` is the share of training done."""
        ...


class TrainStep:
    """Forward, backward, optimiser, and what the module updates by itself.

    Nothing in a step reads a value back from the device, so a GPU never waits for the CPU.

    Where several processes share the run, each is given the whole batch and takes its rows of it.

    Args:
        module: a ``Trainable`` network on the run's device.
        config: optimiser, rates, and whether to compile.
        runtime: device and precision.
        mark: is told the part that has just ended: forward, backward, optimiser, momentum; for benchmarks.

    Attributes:
        losses: names of the losses of the last step.
        optimizer: of the module's weights that train.
    """

    def __init__(
        self,
        module: nn.Module,
        config: RunConfig,
        runtime: Runtime,
        mark: Callable[[str], None] | None = None,
    ) -> None:
        self.module: Trainable = module  # type: ignore[assignment]
        self._losses = connect(module, runtime.compiled)
        runtime.prepare(module)
        self.runtime = runtime
        self.optimizer = build_optimizer(module, config)
        self.losses: list[str] = []
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._ended = mark or (lambda part: None)

    def __call__(self, batch: Any, progress: float) -> dict[str, Tensor]:
        """Make a step.

        Args:
            batch: whatever the module takes.
            progress: share of training done after this step, in (0, 1].

        Returns:
            "loss", the module's losses and diagnostics and "gradient_norm": scalars on the device, detached;
            losses are those of this process's rows.
        """
        with self.runtime.autocast():
            losses = self._losses(world().share(batch))
            loss = torch.stack([self.module.weights[name] * value for name, value in losses.items()]).sum()
        self._ended("forward")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._ended("backward")
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        self.optimizer.step()
        self._ended("optimiser")
        self.module.after_step(progress)
        self._ended("momentum")
        self.losses = list(losses)
        told = {"loss": loss, **losses, **self.module.diagnostics, "gradient_norm": norm}
        return {name: value.detach() for name, value in told.items()}


class Totals:
    """Sums of scalars, step after step, kept on the device: reading one would make a GPU wait.

    Args:
        device: where the scalars are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}

    def add(self, scalars: dict[str, Tensor]) -> None:
        """Add the scalars of a step; the same names in every step."""
        if not self._sums:
            self._sums = {name: torch.zeros((), device=self._device) for name in scalars}
        for name, value in scalars.items():
            self._sums[name] += value.float()

    def means(self, steps: int) -> dict[str, float]:
        """Name -> sum / steps, the mean over all processes; waits for the device once."""
        means = world().mean(torch.stack([*self._sums.values()]) / steps)
        return dict(zip(self._sums, means.tolist(), strict=True))
