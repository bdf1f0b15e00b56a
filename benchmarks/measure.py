"""One setting, measured on this machine: what was measured so far is always on disk."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.entries import LIBRARIES, Stage, missing
from benchmarks.growth import REPEATS, points, time_growth
from benchmarks.images import decoded, write_png
from benchmarks.parts import time_parts
from benchmarks.rounds import TRIAL_SHARE, Clock, Rounds
from benchmarks.settings import CEILINGS, GROWS, IN_PARTS, OURS, Setting
from cvsa.data.datasets import load_splits
from cvsa.errors import CVSAError
from cvsa.limits import cores
from cvsa.provenance import code_hash, commit, hardware, library_versions, lock_hash
from cvsa.report.speed_records import FOLDER, SECTIONS, PartTimes, Point, Speed, read_speed, write_speed
from cvsa.training.runtime import Runtime

# Guesses, for the estimate of the duration alone: what a phase and a process need beside what is timed.
AROUND, AROUND_ON_GPU, PROCESS = 1.5, 8.0, 9.0


@dataclass(frozen=True)
class Options:
    """What a person may choose.

    Attributes:
        rounds: of every contender.
        seconds: of a timed phase.
        asked: names in SECTIONS.
        device: auto, cpu, cuda or cuda:N.
        name: what follows the setting in the file's name; None: the machine.
    """

    rounds: int = 5
    seconds: float = 4.0
    asked: Sequence[str] = SECTIONS
    device: str = "auto"
    name: str | None = None


def runs_here(setting: Setting, device: str) -> bool:
    """Whether this machine, and the device asked for, serve a setting."""
    return not setting.cuda or (device != "cpu" and torch.cuda.is_available())


def place(setting: Setting, options: Options, folder: Path = FOLDER) -> Path:
    """Where a setting's record goes.

    Raises:
        CVSAError: an impossible name; a finished record is there already (a partial one is written anew).
    """
    config = setting.config(OURS[0], options.device)
    machine = hardware(Runtime.of(config).device, False)
    usual = machine.get("gpu") or f"{machine['cpu']} {cores()}t"
    name = options.name or re.sub(r"[^a-z0-9]+", "-", usual.lower()).strip("-")
    path = folder / f"{setting.name}-{name}.json"
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise CVSAError(f"Parameter name = {name!r}: small letters, digits and hyphens only.")
    if path.exists() and read_speed(path).complete:
        raise CVSAError(f"{path} is there already. Choose another --name, or delete that file.")
    return path


def measure(
    setting: Setting, options: Options, folder: Path = FOLDER, say: Callable[[str], None] = print
) -> tuple[Path, Speed]:
    """Measure a setting and write ``folder/SETTING-NAME.json``, again after every phase.

    Args:
        setting: what is measured.
        options: how.
        folder: where the record goes.
        say: is told the estimate, and what is left out.

    Returns:
        The file and what is in it; not ``complete`` where it was interrupted.

    Raises:
        CVSAError: see :func:`place`; no such device; the images cannot be had.
    """
    path = place(setting, options, folder)
    runtime = Runtime.of(setting.config(OURS[0], options.device))
    bank = load_splits(setting.data())["train"]
    threads = torch.get_num_threads()
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        files: list[Path] = []
        if "peers" in options.asked:
            files = write_png(bank, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        stage = Stage(setting, runtime, bank, files, decoded(bank))
        session = Session(stage, options, path)
        for name, why in stage.left_out.items():
            say(f"{setting.name}: without {name}: {why}")
        say(f"{setting.name}: {session.phases} phases, about {max(1, round(session.estimate / 60))} min")
        try:
            session.run()
        except KeyboardInterrupt:
            session.save()
    return path, read_speed(path)


class Session:
    """A measurement under way.

    Args:
        stage: images, device, contenders.
        options: how it is measured.
        path: where it is written.
    """

    def __init__(self, stage: Stage, options: Options, path: Path) -> None:
        self.stage, self.options, self.path = stage, options, path
        setting, asked = stage.setting, options.asked
        self.entries = stage.contenders(asked)
        self.views = stage.views() if "views" in asked else []
        self.parts = [PartTimes(row=row, threads=1) for row in IN_PARTS if "parts" in asked]
        self.growth: list[Point] = points(setting, threads=1) if "growth" in asked else []
        self._began = time.monotonic()
        self.record = _empty(stage, options, path.stem)
        self.record.contenders = [entry.work for entry in self.entries]  # type: ignore[misc]
        self.record.views = [entry.work for entry in self.views]
        self.record.parts, self.record.growth = self.parts, self.growth
        self.rounds = Rounds(_clock(stage.runtime), options.rounds, options.seconds,
                             self.record.left_out, self._ended)  # fmt: skip
        self.bar: tqdm[Any] | None = None

    @property
    def phases(self) -> int:
        """How many steps of progress there are."""
        searched = sum(len(entry.grid) for entry in self.entries if len(entry.grid) > 1)
        each_round = len(self.entries) + len(self.views) + len(self.parts)
        return searched + self.options.rounds * each_round + self._processes

    @property
    def _processes(self) -> int:
        return len(self.growth) * min(self.options.rounds, REPEATS)

    @property
    def estimate(self) -> float:
        """Seconds it may take, roughly."""
        seconds, around = self.options.seconds, AROUND_ON_GPU if self.stage.cuda else AROUND
        searched = sum(len(entry.grid) for entry in self.entries if len(entry.grid) > 1)
        feeding = [entry for entry in self.entries if entry.work.images != "fixed"]
        timed = (len(self.entries) + len(self.views) + len(self.parts)) * (seconds + around)
        timed += len(feeding) * seconds * TRIAL_SHARE
        tried = searched * (seconds * TRIAL_SHARE + around)
        return self.options.rounds * timed + tried + self._processes * (PROCESS + seconds / 2)

    def run(self) -> None:
        """Measure all of it, and say so in the record."""
        with tqdm(
            total=self.phases, unit="phase", desc=self.stage.setting.name, dynamic_ncols=True
        ) as self.bar:
            self._run()
        self.record.complete = True
        self.save()

    def _run(self) -> None:
        self.save()
        self.rounds.search(self.entries)
        self._share_threads()
        self.rounds.run(self.entries)
        self.rounds.run(self.views)
        configs = {each.row: self.stage.config(each.row) for each in self.parts}
        time_parts(self.parts, configs, self.stage.runtime, self.stage.bank, self.rounds)
        time_growth(self.growth, self.stage.setting, str(self.stage.runtime.device), self.rounds)

    def save(self) -> None:
        """Write what there is."""
        self.record.seconds = round(time.monotonic() - self._began, 1)
        write_speed(self.record, self.path)

    def _share_threads(self) -> None:
        """Parts and growth use as many threads as our own step of that row was quickest with."""
        quickest = {c.row: c.threads for c in self.record.contenders if c.role == "ours" and c.search}
        for part in self.parts:
            part.threads = quickest.get(part.row, part.threads)
        for point in self.growth:
            point.threads = quickest.get(GROWS, point.threads)

    def _ended(self, what: str) -> None:
        if self.bar is not None:
            self.bar.set_postfix_str(what, refresh=False)
            self.bar.update()
        self.save()


def _clock(runtime: Runtime) -> Clock:
    if runtime.device.type == "cuda":
        return Clock(wait=lambda: torch.cuda.synchronize(runtime.device))
    return Clock()


def _empty(stage: Stage, options: Options, name: str) -> Speed:
    """The record before anything was measured."""
    setting, runtime = stage.setting, stage.runtime
    configs = {row: stage.config(row) for row in dict.fromkeys([*OURS, *CEILINGS])}
    first = configs[OURS[0]]
    told = commit()
    libraries = library_versions()
    libraries |= {lib: metadata.version(lib) for lib in LIBRARIES if lib not in missing()}
    machine: dict[str, Any] = {
        **hardware(runtime.device, runtime.bf16), "threads": cores(),
        "openmp": {key: value for key, value in sorted(os.environ.items()) if key.startswith("OMP_")},
    }  # fmt: skip
    return Speed(
        name=name, setting=setting.name, about=setting.about, backbone=first.backbone,
        image_size=first.image_size, bank_size=stage.bank.resolution, bank_images=len(stage.bank),
        batch_size=first.batch_size, asked=[part for part in SECTIONS if part in options.asked],
        asked_rounds=options.rounds, asked_seconds=options.seconds, left_out=dict(stage.left_out),
        code={
            **told, "dirty": any(commit(config)["dirty"] for config in configs.values()),
            "hashes": {row: code_hash(config) for row, config in configs.items()},
        },
        lock=lock_hash(), libraries=libraries, hardware=machine,
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        started=datetime.now(UTC),
    )  # fmt: skip
