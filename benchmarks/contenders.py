"""What trains: our own step, its ceiling, and the peers, each started and stopped as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.images import PREFETCH, Batches, Loader, Pictures, release
from benchmarks.lightly_models import lightly_step
from cvsa.config import PretrainConfig
from cvsa.data.bank import ImageBank
from cvsa.steps import row_step, row_views
from cvsa.training.runtime import Runtime
from cvsa.views import Views

WARM_UP = 2

Step = Callable[[], None]


@dataclass
class Ours:
    """Our own step on a bank, or, with ``fixed``, on views that are made once: its ceiling.

    Attributes:
        config: of the row.
        runtime: device and precision.
        bank: the images, on the device.
        fixed: whether every step sees the same views.
        warm_up: steps that are not counted.
    """

    config: PretrainConfig
    runtime: Runtime
    bank: ImageBank
    fixed: bool = False
    warm_up: int = WARM_UP

    _views: Callable[[], tuple[Views, ...]] | None = None
    _step: Step | None = None

    def open(self, threads: int, workers: int) -> None:
        """Make the view generator; nothing here has workers."""
        torch.set_num_threads(threads)
        make = row_views(self.config, self.runtime, self.bank)
        if self.fixed:
            once = make()
            make = lambda: once  # noqa: E731
        self._views = make

    def train(self) -> None:
        """Make network and optimiser."""
        self._step = row_step(self.config, self.runtime, self._views)

    def step(self) -> None:
        """One training step."""
        assert self._step is not None
        self._step()

    def feed(self) -> None:
        """The views of a step."""
        assert self._views is not None
        self._views()

    def stop(self) -> None:
        """Forget all of it."""
        self._views = self._step = None
        release()


@dataclass
class Peer:
    """A peer's views from a DataLoader, for our own method or for lightly's.

    Attributes:
        config: of the row.
        runtime: device and precision.
        dataset: makes the views.
        lightly: whether lightly's method trains too, not ours.
        warm_up: steps that are not counted: also those whose views waited when the clock was started.
    """

    config: PretrainConfig
    runtime: Runtime
    dataset: Pictures | Batches
    lightly: bool = False
    warm_up: int = WARM_UP

    _loader: Loader | None = None
    _step: Step | None = None

    def open(self, threads: int, workers: int) -> None:
        """Start the workers."""
        torch.set_num_threads(threads)
        self.warm_up = WARM_UP + PREFETCH * workers
        self._loader = Loader(self.dataset, self.config.batch_size, workers, self.runtime.device)

    def train(self) -> None:
        """Make network and optimiser."""
        if self.lightly:
            self._step = lightly_step(self.config, self.runtime, self._next)
        else:
            self._step = row_step(self.config, self.runtime, self._pair)

    def _next(self) -> Any:
        assert self._loader is not None
        return next(self._loader)

    def _pair(self) -> tuple[Views, ...]:
        views = self._next()
        mask = views[0].new_ones(1, 1, 1, 1).expand(len(views[0]), -1, *views[0].shape[2:])
        return tuple(Views(images, mask) for images in views)

    def step(self) -> None:
        """One training step."""
        assert self._step is not None
        self._step()

    def feed(self) -> None:
        """The views of a step, on the device."""
        self._next()

    def stop(self) -> None:
        """Stop the workers and forget the rest."""
        if self._loader is not None:
            self._loader.close()
        self._loader = self._step = None
        release()
