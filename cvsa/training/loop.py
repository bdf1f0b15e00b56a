"""The training loop. It knows no method: a module turns a batch into losses, and updates itself after."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Tensor, nn

from cvsa.config import RunConfig
from cvsa.data.bank import ImageBank
from cvsa.errors import CVSAError
from cvsa.provenance import code_hash
from cvsa.records import HISTORY, atomic_write
from cvsa.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from cvsa.training.optim import build_optimizer, learning_rate, set_learning_rate
from cvsa.training.runtime import Runtime, progress_bar

# A checkpoint costs some tens of milliseconds: at most one per this many seconds, at the end of an epoch.
CHECKPOINT_SECONDS = 10.0


class Trainable(Protocol):
    """What the loop asks of a module."""

    weights: dict[str, float]
    diagnostics: dict[str, Tensor]

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        """Unweighted scalar losses of a batch."""
        ...

    def after_step(self, progress: float) -> None:
        """Update what the optimiser does not: EMA copy, queue. ``progress`` is the share of training done."""
        ...


def fit(
    module: nn.Module,
    make_batch: Callable[[Tensor, torch.Generator], Any],
    bank: ImageBank,
    config: RunConfig,
    runtime: Runtime,
    folder: Path,
    what: str,
) -> tuple[pd.DataFrame, float]:
    """Train for ``config.epochs`` passes; resume from ``folder``'s checkpoint if it is this run's.

    Args:
        module: a ``Trainable`` network on the run's device.
        make_batch: image indices (B,) int64 and the run's generator -> whatever ``module`` takes.
        bank: the training images; each epoch visits them in a new order and drops the last partial batch.
        config: epochs, batch_size, optimiser, rates, seed.
        runtime: device and precision.
        folder: where checkpoint and history are written.
        what: label of the progress bar.

    Returns:
        The history (one row per epoch: losses, diagnostics, gradient norm, learning rate, seconds) and the
        images per second over the training steps.

    Raises:
        CVSAError: fewer images than one batch; a loss that is no longer finite.
    """
    if len(bank) < config.batch_size:
        raise CVSAError(
            f"Too small a data set for the batch: {len(bank)} training images, batch_size "
            f"{config.batch_size}. Lower batch_size or add images."
        )
    trainable: Trainable = module  # type: ignore[assignment]
    optimizer = build_optimizer(module, config)
    # Sampling and views draw from generators of their own, so that neither depends on how the other is
    # written; both on the CPU, so that they draw the same on every device.
    order = torch.Generator().manual_seed(config.seed)
    views = torch.Generator().manual_seed(config.seed)
    epoch, seconds, rows = 0, 0.0, []
    state = load_checkpoint(folder, config.identity(), code_hash(config))
    if state:
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        order.set_state(state["order"])
        views.set_state(state["views"])
        torch.set_rng_state(state["torch"])
        epoch, seconds, rows = state["epoch"], state["seconds"], state["rows"]

    per_epoch = len(bank) // config.batch_size
    steps, warmup_steps = config.epochs * per_epoch, round(config.warmup_epochs * per_epoch)
    module.train()
    saved = time.monotonic()
    with progress_bar(steps * config.batch_size, epoch * per_epoch * config.batch_size, what, "img") as bar:
        while epoch < config.epochs:
            started = time.monotonic()
            totals: dict[str, Tensor] = {}
            for number, index in enumerate(bank.batches(config.batch_size, order)):
                step = epoch * per_epoch + number
                rate = learning_rate(step, peak=config.lr, steps=steps, warmup_steps=warmup_steps)
                set_learning_rate(optimizer, rate)
                batch = make_batch(index.to(runtime.device), views)
                with runtime.autocast():
                    losses = trainable(batch)
                    loss = torch.stack(
                        [trainable.weights[name] * value for name, value in losses.items()]
                    ).sum()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                norm = torch.nn.utils.get_total_norm(
                    [p.grad for p in module.parameters() if p.grad is not None]
                )
                optimizer.step()
                trainable.after_step((step + 1) / steps)
                # Summed on the device: reading a value here would make a GPU wait at every step.
                for name, value in {
                    "loss": loss,
                    **losses,
                    **trainable.diagnostics,
                    "gradient_norm": norm,
                }.items():
                    totals[name] = (
                        totals.get(name, torch.zeros((), device=runtime.device)) + value.detach().float()
                    )
                bar.update(config.batch_size)
            row = {name: float(total) / per_epoch for name, total in totals.items()}
            epoch += 1
            elapsed = time.monotonic() - started
            seconds += elapsed
            rows.append({"epoch": epoch, **row, "learning_rate": rate, "seconds": round(elapsed, 3)})
            bar.set_postfix({k: f"{row[k]:.3f}" for k in losses}, refresh=False)
            if not all(torch.isfinite(torch.tensor(list(row.values())))):
                raise CVSAError(f"Training diverged in epoch {epoch}: {row}. Lower lr (now {config.lr}).")
            if time.monotonic() - saved > CHECKPOINT_SECONDS and epoch < config.epochs:
                save_checkpoint(folder, _state(module, optimizer, order, views, config, epoch, seconds, rows))
                saved = time.monotonic()
    history = pd.DataFrame(rows)
    atomic_write(folder / HISTORY, history.to_csv(index=False))
    return history, config.epochs * per_epoch * config.batch_size / max(seconds, 1e-9)


def _state(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    order: torch.Generator,
    views: torch.Generator,
    config: RunConfig,
    epoch: int,
    seconds: float,
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "run_id": config.identity(),
        "code": code_hash(config),
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "order": order.get_state(),
        "views": views.get_state(),
        "torch": torch.get_rng_state(),
        "epoch": epoch,
        "seconds": seconds,
        "rows": rows,
    }


def forget_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a finished run: its weights and record are written."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
