"""Measurements of speed: sealed JSON files in ``results/benchmarks``, one per setting and machine.

They are written by the package ``benchmarks`` of a checkout. Nothing here needs torch. [O]
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cvsa.methods.catalogue import ROWS
from cvsa.records.sealed import Sealed, read_all_sealed, read_sealed, write_sealed
from cvsa.report.speed_numbers import ratios, spread

FOLDER = Path("results/benchmarks")
TOLD = "Benchmark", "Restore it, or measure it again."
SECTIONS = ("ceiling", "ours", "peers", "parts", "views", "growth")
"""What a measurement may consist of."""
CVSA = "cvsa"
PARTS = ("gather", "geometry", "photometric", "forward", "backward", "optimiser", "momentum")
"""Parts of a step, in order; the first three make the views."""
AXES = {
    "batch": "images per step", "image": "side of the images, px", "bank": "images in the bank",
    "map": "side of the feature map",
}  # fmt: skip
"""What a step's cost is measured against."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Phase(_Part):
    """Steps that were timed, one after the other, with the device at rest before and after.

    Attributes:
        round: from 0.
        steps: how many.
        seconds: by the clock.
        processor: seconds of the processor, of this process without its workers.
    """

    round: int = Field(ge=0)
    steps: int = Field(ge=1)
    seconds: float = Field(gt=0)
    processor: float = Field(ge=0)


class Trial(_Part):
    """A short try of one way to use the processor, before the rounds.

    Attributes:
        threads: of torch.
        workers: processes that load images; 0: none beside the one that trains.
        rate: images/s.
    """

    threads: int = Field(ge=1)
    workers: int = Field(ge=0)
    rate: float = Field(gt=0)


class Work(_Part):
    """Something that was timed in every round.

    Attributes:
        library: whose views: cvsa, lightly, torchvision, kornia; lightly's method is its own too.
        row: of the catalogue; a peer's is the row it stands beside.
        images: where they come from: "fixed" (views made once), "bank", "files" (PNG), "memory" (decoded).
        batch: references of a step.
        threads, workers: as :class:`Trial`.
        rounds: what was timed.
    """

    library: str
    row: str
    images: Literal["fixed", "bank", "files", "memory"]
    batch: int = Field(ge=1)
    threads: int = Field(default=1, ge=1)
    workers: int = Field(default=0, ge=0)
    rounds: list[Phase] = Field(default_factory=list)

    def rates(self) -> dict[int, float]:
        """Round -> images/s: references of a step, however many views they have."""
        return rates(self.rounds, self.batch)


class Contender(Work):
    """Whole training steps.

    Attributes:
        role: "ceiling" trains on fixed views, "ours" and "peer" make theirs.
        search: what was tried to find its threads and workers.
        feed: its views alone, without training, with the same threads and workers.
    """

    role: Literal["ceiling", "ours", "peer"]
    search: list[Trial] = Field(default_factory=list)
    feed: list[Phase] = Field(default_factory=list)

    @property
    def key(self) -> str:
        """ "peer: lightly BYOL, files"."""
        return f"{self.role}: {self.library} {self.row}, {self.images}"

    def feed_rates(self) -> dict[int, float]:
        """Round -> images/s of the views alone."""
        return rates(self.feed, self.batch)


class PartTimes(_Part):
    """Milliseconds of a step's parts, the device at rest between them.

    Attributes:
        row: of the catalogue.
        threads: of torch.
        rounds: per round, the mean over its steps: part -> milliseconds.
    """

    row: str
    threads: int = Field(ge=1)
    rounds: list[dict[str, float]] = Field(default_factory=list)

    def median(self, part: str) -> float:
        """Milliseconds of a part, the median of the rounds."""
        return statistics.median(each[part] for each in self.rounds)


class Point(_Part):
    """A step at one size, in a process of its own.

    Attributes:
        axis: name in AXES.
        value: the size.
        what: of which step; "alignment" is the loss of one direction alone, forward and backward.
        threads: of torch.
        seconds: of a step, the median of each process.
        memory_mib: peak of each process, above what it held after a step at the least size.
    """

    axis: Literal["batch", "image", "bank", "map"]
    value: int = Field(ge=1)
    what: str
    threads: int = Field(ge=1)
    seconds: list[float] = Field(default_factory=list)
    memory_mib: list[float] = Field(default_factory=list)


class Speed(_Part, Sealed):
    """One setting, measured on one machine.

    Attributes:
        asked: sections that were asked for; ``complete`` is False where it was interrupted before their end.
        left_out: what could not be measured, and why.
        load_average: of the machine when it began.
        digest: seals all the rest.
    """

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    setting: str
    about: str
    backbone: str
    image_size: int
    bank_size: int
    bank_images: int
    batch_size: int = Field(ge=2)
    asked: list[str]
    asked_rounds: int = Field(ge=1)
    asked_seconds: float = Field(gt=0)
    complete: bool = False
    left_out: dict[str, str] = Field(default_factory=dict)
    contenders: list[Contender] = Field(default_factory=list)
    views: list[Work] = Field(default_factory=list)
    parts: list[PartTimes] = Field(default_factory=list)
    growth: list[Point] = Field(default_factory=list)
    code: dict[str, Any]
    lock: str | None
    libraries: dict[str, str]
    hardware: dict[str, Any]
    load_average: float | None
    started: datetime
    seconds: float = Field(default=0.0, ge=0)

    @property
    def on_gpu(self) -> bool:
        """Whether it ran on a GPU."""
        return str(self.hardware["device"]).startswith("cuda")

    def measured(self, role: str, row: str | None = None) -> list[Contender]:
        """Contenders of a role, and of a row, that were timed at least once, in order."""
        return [c for c in self.contenders if c.role == role and row in (None, c.row) and c.rounds]

    def ours(self, row: str) -> Contender | None:
        """Our own step of a row."""
        return next(iter(self.measured("ours", row)), None)

    def ceiling(self, row: str) -> Contender | None:
        """The ceiling of a row: that of the row with the same model and loss, whatever its views."""
        return next((c for c in self.measured("ceiling") if _model(c.row) == _model(row)), None)

    @property
    def share(self) -> float | None:
        """How much of the processor's time phases on one thread got: 1 where nothing else ran.

        None on a GPU, and where there was no such phase.
        """
        phases = [
            phase
            for work in [*self.contenders, *self.views]
            if work.threads == 1 and work.workers == 0
            for phase in work.rounds
        ]
        if self.on_gpu or not phases:
            return None
        return min(1.0, sum(p.processor for p in phases) / sum(p.seconds for p in phases))

    def lines(self) -> list[str]:
        """What was measured, for people."""
        told = [f"{self.setting}: {self.about}"]
        for each in self.contenders:
            if each.rounds:
                used = f"{each.threads} thread(s), {each.workers} worker(s)"
                line = f"  {each.key:<36} {spread(each.rates().values()).words()} images/s, {used}"
                ours = self.ours(each.row) if each.role == "peer" else None
                shared = ratios(ours.rates(), each.rates()) if ours else []
                told.append(line + (f"; ours {spread(shared).words('.2f')} times" if shared else ""))
        told += [f"  left out: {name}: {why}" for name, why in self.left_out.items()]
        if not self.complete:
            told.append("  partial: interrupted before its end")
        if self.share is not None and self.share < 0.95:
            told.append(
                f"  others used this machine: it got {100 * self.share:.0f} % of the processor's time, so "
                "these numbers tell little; measure again when it is quiet"
            )
        return told


def rates(phases: Iterable[Phase], batch: int) -> dict[int, float]:
    """Round -> references per second."""
    return {phase.round: phase.steps * batch / phase.seconds for phase in phases}


def _model(row: str) -> tuple[str, bool]:
    known = ROWS[row]
    return known.base, known.align_weight > 0


def write_speed(speed: Speed, path: Path) -> None:
    """Seal a measurement and write it, atomically."""
    write_sealed(speed, path)


def read_speed(path: Path) -> Speed:
    """Read and check one file.

    Raises:
        CVSAError: no such file; it is truncated, edited or of another schema.
    """
    return read_sealed(Speed, path, *TOLD)


def read_speeds(folder: Path) -> list[Speed]:
    """Every measurement in a folder, by name; none where there is no folder.

    Raises:
        CVSAError: see :func:`read_speed`.
    """
    return read_all_sealed(Speed, folder, *TOLD)
