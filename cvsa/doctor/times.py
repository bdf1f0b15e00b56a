"""What each preset will take on a machine: an estimate.

The seconds are those of committed records (:mod:`cvsa.costs`), scaled by how fast this machine makes the
same steps as the one that made the record.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from cvsa import costs
from cvsa.config import DRAWN, PretrainConfig, RunConfig, resolve
from cvsa.data.sets import find_set
from cvsa.doctor.finding import Finding, Looks
from cvsa.doctor.speed import ROW, Speed
from cvsa.duration import duration
from cvsa.errors import CVSAError
from cvsa.grid import load_grid
from cvsa.methods.catalogue import find_base
from cvsa.records import Record
from cvsa.throughput import FOLDER, Throughput, read_all

GRID = Path("workflow/grid.yaml")
Kind = tuple[Any, ...]  # of machine


@dataclass(frozen=True)
class Pool:
    """Committed runs of one kind of machine, whose steps were measured here too.

    Attributes:
        machine: processor or GPU, precision and threads.
        rate: their images per second, the median.
        count: how many.
    """

    machine: Kind
    rate: float
    count: int


def machine_of(record: Record) -> Kind:
    """What tells whether two records were made equally fast, as far as they tell."""
    hardware = record.hardware
    return tuple(
        hardware.get(name) for name in ("gpu" if "gpu" in hardware else "cpu", "precision", "threads")
    )


def pools(config: PretrainConfig, records: Sequence[Record]) -> list[Pool]:
    """Records of the same row, network and image size, by machine, the largest pool first."""
    rates: dict[Kind, list[float]] = {}
    for record in records:
        same = (record.kind, record.row) == ("pretrain", config.row) and all(
            record.config[name] == getattr(config, name) for name in ("backbone", "image_size")
        )
        if same and record.images_per_second > 0:
            rates.setdefault(machine_of(record), []).append(record.images_per_second)
    found = [Pool(machine, statistics.median(each), len(each)) for machine, each in rates.items()]
    return sorted(found, key=lambda pool: -pool.count)


def as_made_here(records: Sequence[Record], known: Sequence[Pool], rate: float) -> list[Record]:
    """Records with the seconds they would have taken here.

    Args:
        records: of any machines; those of a machine that no pool tells of are scaled as the largest pool.
        known: at least one.
        rate: images per second of the pools' steps on this machine.
    """
    usual = {pool.machine: pool.rate for pool in known}
    return [
        record.model_copy(
            update={"seconds": record.seconds * usual.get(machine_of(record), known[0].rate) / rate}
        )
        for record in records
    ]


def preset_time(configs: Sequence[RunConfig], records: Sequence[Record], at_once: int) -> Finding:
    """What a preset's runs will take here, from nothing.

    Args:
        configs: of all its runs.
        records: that tell what such runs take here.
        at_once: runs that go on at a time without slowing each other down.
    """
    alike: dict[str, float | None] = {}  # seeds cost the same
    each = []
    for config in configs:
        key = config.model_copy(update={"seed": 0}).identity()
        if key not in alike:
            alike[key] = costs.seconds(config, records)
        each.append(alike[key])
    known = [seconds + costs.START_SECONDS for seconds in each if seconds is not None]
    untold, seconds = len(each) - len(known), sum(known) / at_once
    absent = sorted({str(config.root) for config in configs if _absent(config)})
    facts = {"runs": len(each), "untold": untold, "seconds": round(seconds, 1), "absent": absent}
    told = f"about {duration(seconds)} for {len(each)} runs"
    if untold:
        told = (
            f"about {duration(seconds)} for {len(known)} of {len(each)} runs; no record tells of the others"
        )
    if not known:
        told = f"{len(each)} runs; no record tells how long they take"
    told += f"; needs photographs in {', '.join(absent)}" if absent else ""
    return Finding("ok", told, facts=facts)


def _absent(config: RunConfig) -> bool:
    try:
        return config.folder is not None and not config.folder.is_dir()
    except CVSAError:  # its environment variable is not set
        return True


def row_time(config: PretrainConfig, rate: float | None, source: str = "") -> Finding:
    """What one row's pre-training takes.

    Args:
        config: of the row.
        rate: images per second of its steps on this machine; None: not measured.
        source: how that was measured.
    """
    images = config.train_images
    if config.dataset not in DRAWN:
        images = round(find_set(config.dataset).card.splits["train"] * (1 - config.val_fraction))
    passes = costs.passes(config, images)
    told = f"{config.row} on {config.dataset}, {config.epochs} epochs"
    facts = {"row": config.row, "images": images, "passes": passes, "rate": rate, "seconds": None}
    if rate is None:
        advice = f'cvsa throughput --preset {config.preset} --row "{config.row}" --batch 8'
        return Finding("ok", f"{told}, {passes:.2g} forward passes: not measured here", advice, facts)
    seconds = passes / (rate * find_base(config.base).cost)
    facts["seconds"] = round(seconds)
    return Finding("ok", f"about {duration(seconds)} for {told} ({rate:.3g} images/s, {source})", facts=facts)


class Times:
    """The estimates, after the measurements and proposals."""

    def __init__(self, speed: Speed) -> None:
        self.speed, self.records = speed, speed.records

    def looks(self) -> Looks:
        """Each preset of the grid, and one row of the preset that has no grid."""
        yield "compared", self._compare
        if (self.speed.root / GRID).is_file():
            for preset in yaml.safe_load((self.speed.root / GRID).read_text()):
                yield preset, partial(self._preset, preset)
        yield "paper, one row", self._paper

    def _compare(self) -> Finding:
        tiny = self.speed.tiny
        if not self.records:
            return Finding("ok", "no committed records to tell times by; in a checkout there are")
        known = pools(tiny.config, self.records) if tiny else []
        if tiny is None or not known:
            return Finding("ok", "not measured: times are those of the machines that made the records")
        self.records = as_made_here(self.records, known, tiny.rate)
        each = [f"{tiny.rate / one.rate:.2f} x {one.count} runs on {one.machine[0]}" for one in known]
        facts = {"pools": [{**asdict(one), "scale": round(tiny.rate / one.rate, 3)} for one in known]}
        return Finding("ok", f"its images/s against committed runs: {', '.join(each)}", facts=facts)

    def _preset(self, preset: str) -> Finding:
        configs = [run.config for run in load_grid(self.speed.root / GRID, preset).runs]
        # Runs on one GPU share it: they take the sum, however many go on at a time.
        at_once = 1 if self.speed.machine.gpu.names else self.speed.jobs
        return preset_time(configs, self.records, at_once)

    def _paper(self) -> Finding:
        config, measured = resolve(PretrainConfig, row=ROW, preset="paper"), self.speed.paper
        if measured is not None:
            return row_time(config, measured.rate, "measured now")
        known = [one for one in read_all(self.speed.root / FOLDER) if self._of_here(one, config)]
        if known:
            return row_time(config, known[-1].rate(ROW), f"measured in {FOLDER / known[-1].name}.json")
        return row_time(config, None)

    def _of_here(self, one: Throughput, config: PretrainConfig) -> bool:
        """Whether a committed measurement is of this row, and of a processor or GPU of this name."""
        names, gpu = self.speed.machine.gpu.names, one.hardware.get("gpu")
        device = gpu == names[0] if names else gpu is None and one.hardware["cpu"] == self.speed.machine.cpu
        of = (one.preset, one.backbone, one.image_size)
        return device and config.row in one.rows and of == (config.preset, config.backbone, config.image_size)
