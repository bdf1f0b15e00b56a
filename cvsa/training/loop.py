"""The training loop: epochs, schedule, history, checkpoints. It knows no method."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from cvsa.config import RunConfig
from cvsa.data.bank import ImageBank
from cvsa.errors import CVSAError
from cvsa.methods.world import world
from cvsa.provenance import code_hash
from cvsa.records import HISTORY, atomic_write
from cvsa.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from cvsa.training.optim import learning_rate, set_learning_rate
from cvsa.training.runtime import Runtime, progress_bar
from cvsa.training.step import Totals, TrainStep

# A checkpoint costs some tens of milliseconds: at most one per this many seconds, at the end of an epoch.
CHECKPOINT_SECONDS = 10.0


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

    Where several processes share the run (`cvsa.methods.world`), each draws the same images and the same
    random numbers and makes the whole batch before it takes its rows, so that a run does not depend on how
    many there are. What that costs: views are made N times over. The first writes, and any number may resume
    what another number began.

    Args:
        module: a :class:`cvsa.training.step.Trainable` network on the run's device.
        make_batch: image indices (B,) int64 on the CPU and the run's generator -> whatever ``module`` takes.
        bank: the training images; each epoch visits them in a new order and drops the last partial batch.
        config: epochs, batch_size, optimiser, rates, seed.
        runtime: device and precision.
        folder: where checkpoint and history are written.
        what: label of the progress bar.

    Returns:
        The history (one row per epoch: losses, diagnostics, gradient norm, learning rate, seconds) and the
        images per second over the training steps, of all processes together.

    Raises:
        CVSAError: fewer images than one batch; a batch that the processes cannot share; a loss that is no
            longer finite.
    """
    if len(bank) < config.batch_size:
        raise CVSAError(
            f"Too small a data set for the batch: {len(bank)} training images, batch_size "
            f"{config.batch_size}. Lower batch_size or add images."
        )
    here = world()
    if config.batch_size % here.size:
        raise CVSAError(
            f"A batch of {config.batch_size} images cannot be shared by gpus {here.size}: give batch_size a "
            f"multiple of it, not above the {len(bank)} training images, or set gpus 1."
        )
    train_step = TrainStep(module, config, runtime)
    optimizer = train_step.optimizer
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
            totals = Totals(runtime.device)
            for number, index in enumerate(bank.batches(config.batch_size, order)):
                step = epoch * per_epoch + number
                rate = learning_rate(step, peak=config.lr, steps=steps, warmup_steps=warmup_steps)
                set_learning_rate(optimizer, rate)
                batch = make_batch(index, views)
                totals.add(train_step(batch, (step + 1) / steps))
                bar.update(config.batch_size)
            row = totals.means(per_epoch)
            epoch += 1
            elapsed = time.monotonic() - started
            seconds += elapsed
            rows.append({"epoch": epoch, **row, "learning_rate": rate, "seconds": round(elapsed, 3)})
            bar.set_postfix({k: f"{row[k]:.3f}" for k in train_step.losses}, refresh=False)
            if not all(torch.isfinite(torch.tensor(list(row.values())))):
                raise CVSAError(f"Training diverged in epoch {epoch}: {row}. Lower lr (now {config.lr}).")
            if here.first and time.monotonic() - saved > CHECKPOINT_SECONDS and epoch < config.epochs:
                save_checkpoint(folder, _state(module, optimizer, order, views, config, epoch, seconds, rows))
                saved = time.monotonic()
    history = pd.DataFrame(rows)
    if here.first:
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
