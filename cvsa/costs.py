"""What runs will cost: from committed records of the same network and size, scaled by arithmetic."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from cvsa.config import DRAWN, KINDS, PRESETS, FinetuneConfig, PretrainConfig, ProbeConfig, RunConfig, resolve
from cvsa.methods.catalogue import ROWS, TABLES, find_base, find_row
from cvsa.records import Record, find_records

# What a notebook costs before it computes: interpreter, kernel, imports.
START_SECONDS = 8
PER_IMAGE = {"finetune": 3.0, "probe": 1.0, "evaluate": 5.0}


def passes(config: RunConfig, images: int | None = None) -> float:
    """Forward passes of one image through the backbone that a run makes, a backward pass counted as two.

    Drawing, augmenting and testing are not counted.

    Args:
        config: of the run.
        images: training images, where the configuration does not tell them (photographs).
    """
    kind = KINDS[type(config)]
    per_image = find_base(config.base).cost if isinstance(config, PretrainConfig) else PER_IMAGE[kind]
    seen = (images or config.train_images) * getattr(config, "label_fraction", 1.0)
    return float(per_image * seen * (1 if kind in ("probe", "evaluate") else config.epochs))


def share_of_labels(record: Record) -> float:
    """The share of the labels that a fine-tuning used, in units of what its preset gives; else 1."""
    return float(record.config.get("label_fraction", 1.0)) / _own_share(record.kind, record.preset)


@cache
def _own_share(kind: str, preset: str) -> float:
    tuned = kind == "finetune" and preset in PRESETS
    return resolve(FinetuneConfig, preset=preset).label_fraction if tuned else 1.0


def seconds(config: RunConfig, records: Iterable[Record]) -> float | None:
    """Seconds of computing a run should take; None where no record of its kind, network and data tells.

    A record of the same row is trusted before one of another row, whose step is scaled by arithmetic.
    """
    alike = [record for record in records if _comparable(record, config)]
    if not alike:
        return None
    nearest = min(alike, key=lambda record: (record.row != config.row, record.started))
    images = None if config.dataset in DRAWN else training_images(config, alike)
    names = ("row", "preset", "train_images", "epochs", *(("base",) if nearest.kind == "pretrain" else ()))
    before = resolve(type(config), **{name: nearest.config[name] for name in names})
    return nearest.seconds * passes(config, images) / passes(before, images)


def _comparable(record: Record, config: RunConfig) -> bool:
    def data(fields: dict[str, Any]) -> tuple[Any, ...]:
        photographs = None if fields["dataset"] in DRAWN else (fields["dataset"], fields["root"])
        return fields["backbone"], fields["image_size"], photographs

    return record.kind == KINDS[type(config)] and data(record.config) == data(config.model_dump(mode="json"))


def training_images(config: RunConfig, records: Iterable[Record]) -> int | None:
    """Training images of a run: as configured, or, of photographs, as a record of the same folder counts."""
    if config.dataset in DRAWN:
        return config.train_images
    data = config.model_dump(mode="json", include={"dataset", "root"})
    same = (r for r in records if {name: r.config[name] for name in data} == data)
    return next((r.counts["train_images"] for r in same), None)


def table_lines(table: str, preset: str, committed: Path = Path("results")) -> list[str]:
    """What a table of the paper needs, one line each, with the cost of one seed in a preset.

    Raises:
        CVSAError: unknown preset.
    """
    records = [record for _, record in find_records(committed)]
    lines = [
        f"{'stage 1':<10} {'stage 2':<12} {'forward passes':>15} {'minutes':>8}  (one seed, preset {preset})"
    ]
    first_stages: dict[str, RunConfig] = {}
    total, known = 0.0, True
    for stage1, stage2 in TABLES[table]:
        configs: list[RunConfig] = []
        if stage1:
            first_stages[stage1] = resolve(PretrainConfig, row=stage1, preset=preset, stage=1)
        if stage2 and find_row(stage2)[1].base != "none":
            configs.append(resolve(PretrainConfig, row=stage2, preset=preset))
        row = stage2 or stage1 or next(iter(ROWS))
        configs += [
            resolve(FinetuneConfig, row=row, preset=preset),
            resolve(ProbeConfig, row=row, preset=preset),
        ]
        text, minutes = _line(configs, records)
        lines.append(f"{stage1 or '-':<10} {stage2 or '-':<12} {text}")
        total, known = total + (minutes or 0.0), known and minutes is not None
    for row, config in first_stages.items():
        text, minutes = _line([config], records)
        lines.append(f"{row:<10} {'(shared)':<12} {text}  first stage on {config.dataset}, trained once")
        total, known = total + (minutes or 0.0), known and minutes is not None
    lines.append(f"about {total:.0f} minutes of computing on one thread, from committed records" if known else
                 "no committed record tells how fast this network trains; time one run first")  # fmt: skip
    return lines


def _line(configs: list[RunConfig], records: list[Record]) -> tuple[str, float | None]:
    images = [training_images(config, records) for config in configs]
    count = "?" if None in images else f"{sum(map(passes, configs, images)):,.0f}"
    each = [seconds(config, records) for config in configs]
    if None in each:
        return f"{count:>15} {'?':>8}", None
    minutes = sum(START_SECONDS + float(value or 0.0) for value in each) / 60
    return f"{count:>15} {minutes:>8.1f}", minutes


def estimate(configs: Iterable[RunConfig], committed: Path = Path("results")) -> float | None:
    """Seconds that runs take one after the other; None if one of them cannot be told."""
    records = [record for _, record in find_records(committed)]
    each = [seconds(config, records) for config in configs]
    if None in each:
        return None
    return sum(START_SECONDS + float(value or 0.0) for value in each)
