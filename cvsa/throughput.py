"""How fast a machine trains: seconds of a step, on made-up images, as small sealed JSON files.

A step is that of :func:`cvsa.training.loop.fit`: views, losses, backward pass, optimiser, momentum copies.
The backbone alone, forward and backward, is measured between the rows' steps, so that a machine whose load
changes is as slow for all of them. Costs on other data sets follow by arithmetic (:mod:`cvsa.costs`). [O]
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from cvsa.config import PretrainConfig, resolve
from cvsa.errors import CVSAError
from cvsa.methods.catalogue import find_base
from cvsa.provenance import code_hash, commit, hardware, library_versions, lock_hash, peak_memory_mib
from cvsa.records.sealed import Sealed, read_all_sealed, read_sealed, write_sealed
from cvsa.steps import row_step
from cvsa.training.pretrain import initialise
from cvsa.training.runtime import Runtime
from cvsa.training.stopwatch import Stopwatch

FOLDER = Path("results/compute")
TOLD = "Throughput", "Measure it again."
NAME = r"^[a-z0-9][a-z0-9-]*$"
WARM_UP = 2  # steps that are not counted: compilation, memory, caches
FEWEST = 3  # counted steps that make a pace
WITH_BACKWARD = 3  # passes of a forward and a backward, as in cvsa.costs


class Timing(BaseModel):
    """Steps of one thing.

    Attributes:
        passes: forward passes through the backbone that an image costs by arithmetic, a backward being two.
        seconds: of every counted step, in order.
        processor: seconds of the processor in each; less than seconds times threads where others ran too.
    """

    model_config = ConfigDict(extra="forbid")

    passes: float = Field(gt=0)
    seconds: list[float] = Field(min_length=1)
    processor: list[float] = Field(min_length=1)


class Throughput(Sealed):
    """One measurement on one machine.

    ``network`` is the backbone alone, forward and backward; ``rows`` are whole steps, by row. ``code`` has
    the version, the commit and per row the hash of the files that shape it; ``digest`` seals all the rest.

    What a step takes is, on a CPU, its processor's seconds over its threads: a machine that others use as
    well is then not taken for a slower one. On a GPU it is the clock's.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    name: str = Field(pattern=NAME)
    preset: str
    backbone: str
    image_size: int
    batch_size: int = Field(ge=2)
    network: Timing
    rows: dict[str, Timing] = Field(min_length=1)
    code: dict[str, Any]
    lock: str | None
    libraries: dict[str, str]
    hardware: dict[str, Any]
    started: datetime
    seconds: float = Field(ge=0)
    peak_memory_mib: float = Field(ge=0)
    energy_joules: float | None = Field(None, ge=0)

    def steps(self, row: str | None = None) -> list[float]:
        """Seconds of every step of a row, or of the backbone, forward and backward."""
        timing = self.rows[row] if row else self.network
        return _undisturbed(timing, self.hardware["device"], self.hardware["threads"])

    def rate(self, row: str | None = None) -> float:
        """Images per second of the median step."""
        return self.batch_size / statistics.median(self.steps(row))

    def overhead(self, row: str) -> float:
        """A row's step against what its passes alone would take; 1 where all else is free."""
        return self.rate() * self.network.passes / (self.rate(row) * self.rows[row].passes)

    @property
    def share(self) -> float:
        """How much of its threads' time the measurement got: 1 where nothing else ran."""
        return _share([self.network, *self.rows.values()], self.hardware["threads"])

    def lines(self) -> list[str]:
        """What was measured, for people."""
        told = [
            f"{self.backbone} at {self.image_size} px, batch {self.batch_size}: "
            f"{self.rate():.3g} images/s forward and backward"
        ]
        for row in self.rows:
            steps = sorted(self.steps(row))
            told.append(
                f"{row:<13} {self.rate(row):.3g} images/s; a step {statistics.median(steps):.3g} s "
                f"({steps[0]:.3g} to {steps[-1]:.3g}), {self.overhead(row):.2f} of its passes"
            )
        if self.hardware["device"] == "cpu" and self.share < 0.95:
            told.append(
                f"Others used this machine: the steps got {100 * self.share:.0f} % of the time; "
                "all seconds are those of the processor."
            )
        return told


@dataclass(frozen=True)
class Pace:
    """Steps of one row on this machine, measured for a moment and not kept.

    Attributes:
        config: of the row, with network, image size and batch.
        timing: of its steps.
        device: "cpu", "cuda" or "cuda:N".
        threads: of torch, while it was measured.
        memory_mib: peak of the process, or allocated on the GPU by this measurement.
    """

    config: PretrainConfig
    timing: Timing
    device: str
    threads: int
    memory_mib: float

    @property
    def rate(self) -> float:
        """Images per second of the median step, told as :class:`Throughput` does."""
        return self.config.batch_size / statistics.median(
            _undisturbed(self.timing, self.device, self.threads)
        )

    @property
    def share(self) -> float:
        """How much of its threads' time the measurement got; on a GPU always 1."""
        return _share([self.timing], self.threads) if self.device == "cpu" else 1.0


def pace(config: PretrainConfig, seconds: float) -> Pace:
    """Time steps of one row for so many seconds, at least three, on images of noise; nothing is written.

    Setting up and two steps that are not counted (they compile) come before and take what they take.

    Raises:
        CVSAError: no such device.
        torch.OutOfMemoryError, MemoryError: this network, image size and batch do not fit.
    """
    runtime = Runtime.of(config)
    if runtime.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(runtime.device)
    step = row_step(config, runtime)
    passed = [_timed(step, runtime.device) for _ in range(WARM_UP)]
    end = time.perf_counter() + seconds
    while len(passed) < WARM_UP + FEWEST or time.perf_counter() < end:
        passed.append(_timed(step, runtime.device))
    timing = _timing(find_base(config.base).cost, passed)
    memory = round(peak_memory_mib(runtime.device), 1)
    return Pace(config, timing, str(runtime.device), torch.get_num_threads(), memory)


def measure(
    preset: str = "paper",
    rows: Sequence[str] = ("BYOL",),
    *,
    steps: int = 5,
    batch_size: int | None = None,
    device: str = "auto",
    name: str | None = None,
    folder: Path = FOLDER,
) -> tuple[Path, Throughput]:
    """Time steps of rows at a preset, all in turn, and write the result as ``folder/NAME.json``.

    Args:
        preset: size of network, images and heads; its data set is not needed, images are noise.
        rows: of the catalogue, with something to pre-train; all are in memory together.
        steps: counted steps of each, after two that are not.
        batch_size: images per step; None: the preset's own for each row's base, which must then agree.
        device: auto, cpu, cuda or cuda:N.
        name: of the file; None: made of preset, machine and batch.
        folder: where it goes.

    Returns:
        The file and what is in it.

    Raises:
        CVSAError: unknown preset or row; rows of different batches; no such device; a file of that name is
            there; too little memory.
    """
    if not rows:
        raise CVSAError("No row to measure: give at least one, see `cvsa rows`.")
    given = {"preset": preset, "device": device, "batch_size": batch_size}
    resolved = [resolve(PretrainConfig, row=row, **given) for row in rows]
    configs = {config.row: config for config in resolved}
    first = resolved[0]
    if len({config.batch_size for config in resolved}) > 1:
        raise CVSAError("These rows have different batches in this preset: give batch_size, or measure one.")
    runtime = Runtime.of(first)
    machine = hardware(runtime.device, runtime.bf16)
    path = folder / f"{name or _name(preset, machine, first.batch_size)}.json"
    if not re.fullmatch(NAME, path.stem) or path.parent != folder:
        raise CVSAError(f"Parameter name = {name!r}: small letters, digits and hyphens only.")
    if path.exists():
        raise CVSAError(f"{path} is there already. Choose another name, or delete that file.")
    watch = Stopwatch(runtime.device)
    try:
        timed = {row: row_step(config, runtime) for row, config in configs.items()}
        timed = {"": _network_step(first, runtime), **timed}
        passed: dict[str, list[tuple[float, float]]] = {key: [] for key in timed}
        for _ in range(WARM_UP + steps):
            for key, step in timed.items():
                passed[key].append(_timed(step, runtime.device))
    except (torch.OutOfMemoryError, MemoryError):
        raise CVSAError(
            f"Too little memory for {len(rows)} row(s) at batch_size {first.batch_size}. "
            "Lower batch_size, or measure one row at a time."
        ) from None
    measured = Throughput(
        name=path.stem, preset=preset, backbone=first.backbone, image_size=first.image_size,
        batch_size=first.batch_size, network=_timing(WITH_BACKWARD, passed[""]),
        rows={row: _timing(find_base(config.base).cost, passed[row]) for row, config in configs.items()},
        code={
            **commit(), "dirty": any(commit(config)["dirty"] for config in configs.values()),
            "hashes": {row: code_hash(config) for row, config in configs.items()},
        },
        lock=lock_hash(), libraries=library_versions(), hardware=machine, started=watch.started,
        seconds=round(watch.seconds, 2), peak_memory_mib=round(peak_memory_mib(runtime.device), 1),
        energy_joules=watch.energy(),
    )  # fmt: skip
    write_sealed(measured, path)
    return path, read_throughput(path)


def read_throughput(path: Path) -> Throughput:
    """Read and check one file.

    Raises:
        CVSAError: no such file; it is truncated, edited or of another schema.
    """
    return read_sealed(Throughput, path, *TOLD)


def read_all(folder: Path) -> list[Throughput]:
    """Every measurement in a folder, by name; none where there is no folder.

    Raises:
        CVSAError: see :func:`read_throughput`.
    """
    return read_all_sealed(Throughput, folder, *TOLD)


def _name(preset: str, machine: dict[str, Any], batch: int) -> str:
    place = machine.get("gpu") or f"{machine['cpu']} {machine['threads']}t"
    return re.sub(r"[^a-z0-9]+", "-", f"{preset} {place} b{batch}".lower()).strip("-")


def _network_step(config: PretrainConfig, runtime: Runtime) -> Callable[[], None]:
    """Forward and backward of the backbone alone, without views, heads and optimiser."""
    network = initialise(config, runtime).encoder.train()
    shape = (config.batch_size, 3, config.image_size, config.image_size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(config.seed))
    images = images.to(runtime.device, memory_format=torch.channels_last)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        with runtime.autocast():
            features: Tensor = network.pool(network(images))
        features.float().square().mean().backward()

    return step


def _timed(step: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Seconds of a step, by the clock and of the processor; a GPU is waited for on both sides."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    clock, processor = time.perf_counter(), time.process_time()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - clock, time.process_time() - processor


def _undisturbed(timing: Timing, device: str, threads: int) -> list[float]:
    """Seconds of each step: on a CPU those of the processor over its threads, on a GPU the clock's."""
    return timing.seconds if device != "cpu" else [seconds / threads for seconds in timing.processor]


def _share(timings: Sequence[Timing], threads: int) -> float:
    """Processor's seconds over the clock's of all threads, at most 1."""
    taken, passed = (sum(map(sum, each)) for each in
                     ([t.processor for t in timings], [t.seconds for t in timings]))  # fmt: skip
    return min(1.0, taken / (passed * threads))


def _timing(passes: float, passed: Sequence[tuple[float, float]]) -> Timing:
    clock, processor = zip(*((round(c, 6), round(p, 6)) for c, p in passed[WARM_UP:]), strict=True)
    return Timing(passes=passes, seconds=list(clock), processor=list(processor))
