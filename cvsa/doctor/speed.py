"""What a machine makes of training steps, and what to give to the commands there: batch, runs at a time."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from cvsa.config import PretrainConfig, resolve
from cvsa.doctor.finding import GIB, Finding, Looks, gib
from cvsa.doctor.machine import Machine
from cvsa.records import Record, collect
from cvsa.throughput import Pace, pace

ROW = "BYOL+CVSA"
UNTOLD_MIB = 1500.0  # memory of a run, where no record tells
CONTEXT = GIB  # what CUDA itself takes on a GPU, in each process, with some air
BUSY = 0.8  # share of the time that a measurement should get


def largest_batch(attempt: Callable[[int], Pace], most: int) -> Pace | None:
    """Steps with the preset's own batch or, if memory does not take it, the largest power of two below.

    Args:
        attempt: makes some steps with such a batch; may run out of memory.
        most: the preset's own batch.

    Returns:
        What was measured; None if not even two images fit.
    """
    size = most
    while size >= 2:
        try:
            return attempt(size)
        except (torch.OutOfMemoryError, MemoryError):
            pass
        gc.collect()  # what the failed step held
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size = 1 << ((size - 1).bit_length() - 1)
    return None


def runs_at_once(cores: int, free: int | None, each: float, gpu: tuple[int, float] | None = None) -> Finding:
    """As many runs as there are cores, if memory has room for them; at least one.

    Args:
        cores: usable ones.
        free: bytes of memory, None if not told.
        each: bytes a run takes.
        gpu: bytes free on the GPU, and bytes a run takes there.
    """
    limits = {f"{cores} usable core{'s' if cores > 1 else ''}": cores}
    if free is not None:
        limits[f"{gib(free)} of free memory, at {gib(each)} a run"] = int(free / each)
    if gpu:
        limits[f"{gib(gpu[0])} of free GPU memory, at {gib(gpu[1])} a run"] = int(gpu[0] / gpu[1])
    why, jobs = min(limits.items(), key=lambda limit: limit[1])
    facts = {"jobs": max(1, jobs), "limits": limits}
    return Finding("ok", f"cvsa reproduce --jobs {max(1, jobs)} ({why})", facts=facts)


@contextmanager
def one_thread() -> Iterator[None]:
    """As each run of `cvsa reproduce` has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Speed:
    """Measurements on a machine, and proposals.

    Args:
        machine: already looked at.
        root: a checkout; elsewhere there are no records.

    Attributes:
        tiny, paper: steps at these presets; None: not measured, or not enough memory.
        jobs: runs at a time; told after the proposals were made.
    """

    def __init__(self, machine: Machine, root: Path) -> None:
        self.machine, self.root = machine, root
        self.tiny: Pace | None = None
        self.paper: Pace | None = None
        self.jobs = 1

    @cached_property
    def records(self) -> list[Record]:
        """Those that are committed and valid."""
        return [record for _, record in collect(self.root / "results").runs]

    def looks(self, seconds: float) -> Looks:
        """The measurements, of so many counted seconds all together."""
        on_gpu = bool(self.machine.gpu.names)
        each = seconds / 3 if on_gpu else seconds
        yield "tiny", partial(self._tiny, each)
        if on_gpu:
            yield "ResNet-18", partial(self._resnet18, each)
            yield "paper", partial(self._paper, each)

    def _tiny(self, seconds: float) -> Finding:
        self.tiny, finding = _steps(resolve(PretrainConfig, row=ROW, preset="tiny"), seconds)
        return finding

    def _resnet18(self, seconds: float) -> Finding:
        size = {"image_size": 128, "bank_size": 128}
        return _steps(resolve(PretrainConfig, row=ROW, preset="tiny", backbone="resnet18", **size), seconds)[
            1
        ]

    def _paper(self, seconds: float) -> Finding:
        self.paper, finding = _steps(resolve(PretrainConfig, row=ROW, preset="paper"), seconds)
        return finding

    def proposals(self) -> Looks:
        """What to give to the commands."""
        yield "batch size", self._batch
        yield "runs at a time", self._jobs
        yield "start with", self._start

    def _batch(self) -> Finding:
        own = {name: resolve(PretrainConfig, row=ROW, preset=name).batch_size for name in ("tiny", "paper")}
        measured = {"tiny": self.tiny, "paper": self.paper}
        facts = {name: one.config.batch_size if one else own[name] for name, one in measured.items()}
        told = []
        for name, one in measured.items():
            fits = (
                "not tried here"
                if one is None
                else "fits"
                if facts[name] == own[name]
                else "the most that fits"
            )
            told.append(f"{name} {facts[name]} ({fits})")
        smaller = [f"-p batch_size {facts[name]} in place of {own[name]} for {name}"
                   for name in own if facts[name] != own[name]]  # fmt: skip
        return Finding("ok", ", ".join(told), "; ".join(smaller), facts)

    def _jobs(self) -> Finding:
        most = max((record.peak_memory_mib for record in self.records), default=UNTOLD_MIB)
        gpu = None
        if self.machine.gpu.names:
            own = self.tiny.memory_mib if self.tiny else UNTOLD_MIB
            gpu = (self.machine.gpu.free, own * 2**20 + CONTEXT)
        finding = runs_at_once(self.machine.cores, self.machine.free, most * 2**20, gpu)
        self.jobs = finding.facts["jobs"]
        return finding

    def _start(self) -> Finding:
        told = "preset tiny: `make book`, or `cvsa reproduce --preset tiny`"
        if self.paper is not None:
            told += "; then single notebooks of preset paper, which fits on this GPU"
        return Finding("ok", told, facts={"preset": "tiny"})


def _steps(config: PretrainConfig, seconds: float) -> tuple[Pace | None, Finding]:
    """Steps of a row with the batch that fits; not enough memory even for two images is a warning."""

    def attempt(size: int) -> Pace:
        return pace(config.model_copy(update={"batch_size": size}), seconds)

    what = f"{config.row}, {config.backbone} at {config.image_size} px"
    with one_thread():
        found = largest_batch(attempt, config.batch_size)
    if found is None:
        return None, Finding("warn", f"{what}: not enough memory for a step of two images")
    config, steps = found.config, len(found.timing.seconds)
    told = f"{found.rate:.3g} images/s on {found.device}: {what}, batch {config.batch_size}"
    facts: dict[str, Any] = {
        "row": config.row, "backbone": config.backbone, "image_size": config.image_size,
        "batch_size": config.batch_size, "device": found.device, "threads": found.threads,
        "steps": steps, "images_per_second": round(found.rate, 2), "share": round(found.share, 3),
        "memory_mib": found.memory_mib,
    }  # fmt: skip
    if found.share >= BUSY:
        return found, Finding("ok", told, facts=facts)
    told += f"; others took {100 * (1 - found.share):.0f} % of the time"
    return found, Finding(
        "warn", told, "not counted: times below are for a machine with nothing else to do", facts
    )
