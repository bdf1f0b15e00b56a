"""Where the time of a step goes: its parts in milliseconds, the device at rest between them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from benchmarks.contenders import WARM_UP, Step
from benchmarks.images import release
from benchmarks.rounds import Clock, Rounds
from cvsa.config import PretrainConfig
from cvsa.data.bank import ImageBank
from cvsa.errors import one_line
from cvsa.report.speed_records import PARTS, PartTimes
from cvsa.steps import row_step
from cvsa.training.pretrain import build_views
from cvsa.training.runtime import Runtime
from cvsa.views import Views
from cvsa.views.photometric import Changes, Photometric


class Watch:
    """Adds up the seconds of each part.

    Args:
        clock: where time comes from; the device is waited for whenever it is read.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget what was timed."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._last = self._within = 0.0

    def begin(self) -> None:
        """A step begins."""
        self._last, self._within = self._now(), 0.0

    def mark(self, part: str) -> None:
        """A part has ended; of the views, what was timed within is told apart, and the rest is geometry."""
        now = self._now()
        own = now - self._last - (self._within if part == "views" else 0.0)
        self.seconds["geometry" if part == "views" else part] += own
        self._last = now

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """Time a part of the views."""
        began = self._now()
        yield
        passed = self._now() - began
        self.seconds[part] += passed
        self._within += passed

    def milliseconds(self, steps: int) -> dict[str, float]:
        """Part -> its mean over so many steps."""
        return {part: round(1000 * seconds / steps, 6) for part, seconds in self.seconds.items()}

    def _now(self) -> float:
        self.clock.wait()
        return self.clock.now()


@dataclass(frozen=True)
class TimedRecipe(Photometric):
    """A recipe whose time is taken."""

    watch: Watch | None = None

    def draw(self, batch: int, generator: torch.Generator) -> Changes:
        assert self.watch is not None
        with self.watch.within("photometric"):
            return super().draw(batch, generator)

    def apply(self, images: Tensor, changes: Changes, *, reuse: bool = False) -> Tensor:
        assert self.watch is not None
        with self.watch.within("photometric"):
            return super().apply(images, changes, reuse=reuse)


def instrumented(config: PretrainConfig, runtime: Runtime, bank: ImageBank, watch: Watch) -> Step:
    """A row's step, the same as :func:`cvsa.steps.row_step` makes, with a watch on its parts.

    Args:
        config: of the row.
        runtime: device and precision.
        bank: the images, on the device.
        watch: is told.
    """
    generator = torch.Generator().manual_seed(config.seed)
    timed = copy.copy(bank)
    setattr(timed, "gather", _timed(bank.gather, watch))  # noqa: B010 (a method of this copy alone)
    views = build_views(config, timed)
    first, second = (
        TimedRecipe(**{each.name: getattr(recipe, each.name) for each in fields(recipe)}, watch=watch)
        for recipe in views.recipes
    )
    views.recipes = (first, second)

    def make() -> tuple[Views, ...]:
        watch.begin()
        index = torch.randint(len(timed), (config.batch_size,), generator=generator)
        return views(index, generator)

    return row_step(config, runtime, make, watch.mark)


def _timed(gather: Callable[[Tensor], Tensor], watch: Watch) -> Callable[[Tensor], Tensor]:
    def timed(index: Tensor) -> Tensor:
        with watch.within("gather"):
            return gather(index)

    return timed


def time_parts(
    parts: list[PartTimes], configs: dict[str, PretrainConfig], runtime: Runtime, bank: ImageBank,
    rounds: Rounds,
) -> None:  # fmt: skip
    """Time the parts of every row's step in every round.

    Args:
        parts: where the times go, one per row.
        configs: row -> its configuration.
        runtime: device and precision.
        bank: the images, on the device.
        rounds: how many, how long, by which clock.
    """
    for number in range(rounds.count):
        for each in parts:
            name = f"parts: {each.row}"
            if name in rounds.left_out:
                continue
            watch = Watch(rounds.clock)
            torch.set_num_threads(each.threads)
            try:
                step = instrumented(configs[each.row], runtime, bank, watch)
                for _ in range(WARM_UP):
                    step()
                watch.reset()
                phase = rounds.clock.timed(step, rounds.seconds, number)
                each.rounds.append(watch.milliseconds(phase.steps))
            except Exception as error:  # too little memory, say: the rest can still be measured
                rounds.left_out[name] = one_line(f"{type(error).__name__}: {error}")[:300]
            finally:
                step = None  # type: ignore[assignment]
                release()
            rounds.ended(f"round {number + 1}: {name}")
