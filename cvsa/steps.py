"""Steps to be timed: a row's, as the training loop makes them, on any images or on views from elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cvsa.config import PretrainConfig
from cvsa.data.bank import ImageBank
from cvsa.training.pretrain import build_views, initialise
from cvsa.training.runtime import Runtime
from cvsa.training.step import TrainStep
from cvsa.views import Views


def row_step(
    config: PretrainConfig,
    runtime: Runtime,
    make_batch: Callable[[], tuple[Views, ...]] | None = None,
    mark: Callable[[str], None] | None = None,
) -> Callable[[], None]:
    """One step of a row, as the training loop makes it.

    Args:
        config: of the row.
        runtime: device and precision.
        make_batch: the views of each step, on the device; None: :func:`row_views`.
        mark: is told the part that has just ended: views, forward, backward, optimiser, momentum.
    """
    make, method = make_batch or row_views(config, runtime), initialise(config, runtime).train()
    train_step, ended = TrainStep(method, config, runtime, mark), mark or (lambda part: None)

    def step() -> None:
        batch = make()
        ended("views")
        train_step(batch, 0.5)

    return step


def row_views(
    config: PretrainConfig, runtime: Runtime, bank: ImageBank | None = None
) -> Callable[[], tuple[Views, ...]]:
    """What makes the views of a row's steps, of references drawn at random.

    Args:
        config: of the row.
        runtime: device and precision.
        bank: the images, on any device; None: images of noise with a box in the middle.
    """
    generator = torch.Generator().manual_seed(config.seed)
    if bank is None:
        bank = noise(max(64, 2 * config.batch_size), config.bank_size, generator)
    bank = bank.to(runtime.device)
    views = build_views(config, bank)

    def make() -> tuple[Views, ...]:
        index = torch.randint(len(bank), (config.batch_size,), generator=generator)
        return views(index, generator)

    return make


def noise(count: int, size: int, generator: torch.Generator) -> ImageBank:
    """A bank of images of noise (count, 4, size, size), each with a box in the middle."""
    images = torch.randint(0, 256, (count, 4, size, size), generator=generator, dtype=torch.uint8)
    low, high = size // 4, size - size // 4
    images[:, 3] = 0
    images[:, 3, low:high, low:high] = 255
    boxes = torch.tensor([[low, low, high, high]]).repeat(count, 1)
    return ImageBank(images, boxes, torch.zeros(count, dtype=torch.int64), ["noise"])
