"""How good the maps were that runs were trained with, and where the trained attention looks. [O]

A run's own record knows its training images only, with the maps it was given. Here both are held against the
exact masks that drawn pictures have: the maps on the training images, the attention on validation images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from cvsa.config import DRAWN, PretrainConfig
from cvsa.data.datasets import load_splits
from cvsa.errors import CVSAError, one_line
from cvsa.grid import Grid
from cvsa.methods.alignment import reduce_mask
from cvsa.methods.catalogue import VIEWS
from cvsa.provenance import commit, library_versions
from cvsa.records import Record, atomic_write, read_record
from cvsa.saliency.degrade import find_degradation
from cvsa.saliency.detectors import DETECTORS
from cvsa.saliency.quality import Quality, rate
from cvsa.training.pretrain import attention_maps, build_views, load_method
from cvsa.training.runtime import Runtime

FILE = "maps.json"
BATCH = 100


class Trained(BaseModel):
    """One pre-training run.

    Attributes:
        condition: see :func:`condition_of`.
        fingerprint: of the training bank, as in the run's record.
        quality: of its maps, against the exact masks.
        rectangle, object: attention of the alignment inside minus outside, mean over validation views: of the
            pasted rectangle, and of the object's own pixels in it; None for runs without an alignment module.
    """

    model_config = ConfigDict(extra="forbid")

    run_id: str
    row: str
    seed: int
    condition: str
    fingerprint: str
    quality: Quality
    rectangle: float | None = None
    object: float | None = None


class TrainingMaps(BaseModel):
    """A record beside those of the runs."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    runs: list[Trained]
    validation_fingerprint: str
    code: dict[str, Any]
    libraries: dict[str, str]
    started: datetime


def condition_of(config: Mapping[str, Any]) -> str:
    """What a pre-training run knew of saliency: "exact", "dilated:0.5", "classical"; "" if it uses none."""
    if not VIEWS[config["view"]].saliency and not config["align_weight"]:
        return ""
    if config["saliency"] == "auto":
        return str(config["saliency_error"])
    error = config["saliency_error"]
    return str(config["saliency"]) + ("" if error == "exact" else f", {error}")


def fields_of(condition: str) -> dict[str, str]:
    """The field of a configuration that a condition stands for: the name of a detector, or of an error.

    Raises:
        CVSAError: neither.
    """
    if condition in DETECTORS:
        return {"saliency": condition}
    find_degradation(condition)
    return {"saliency_error": condition}


def measure(folders: Iterable[Path]) -> TrainingMaps:
    """Judge the maps of finished pre-training runs on drawn pictures, and their attention.

    Args:
        folders: of the runs, with weights.

    Raises:
        CVSAError: a run on photographs, whose exact masks are not known; no runs; a bank that is no longer
            the one a run was trained on.
    """
    started, runs, qualities, validation = datetime.now(UTC), [], {}, ""
    for folder in folders:
        record = read_record(folder)
        config = PretrainConfig(**record.config)
        if config.dataset not in DRAWN:
            raise CVSAError(f"{folder} was trained on photographs; only drawn pictures have exact masks.")
        splits, condition = load_splits(config), condition_of(record.config)
        train, validation = splits["train"], splits["val"].fingerprint
        if train.fingerprint != record.data_fingerprints["train"]:
            raise CVSAError(
                f"{folder} was trained on other images or maps than are drawn now. Train it again."
            )
        if train.fingerprint not in qualities:
            exact = load_splits(config.model_copy(update={"saliency": "auto", "saliency_error": "exact"}))
            maps, masks = (list(bank.images[:, 3].numpy()) for bank in (train, exact["train"]))
            qualities[train.fingerprint] = rate(condition or "exact", maps, masks)
        runs.append(Trained(
            run_id=record.run_id, row=record.row, seed=record.seed, condition=condition,
            fingerprint=train.fingerprint, quality=qualities[train.fingerprint],
            **_attention(folder, record, config) if config.align_weight > 0 else {},
        ))  # fmt: skip
    if not runs:
        raise CVSAError("No finished pre-training runs to judge the maps of.")
    return TrainingMaps(
        runs=runs,
        validation_fingerprint=validation,
        code=commit(),
        libraries=library_versions(),
        started=started,
    )


@torch.no_grad()
def _attention(folder: Path, record: Record, config: PretrainConfig) -> dict[str, float]:
    """Attention inside minus outside, on Saliency Swap views of validation images, which have exact masks."""
    runtime = Runtime.of(config)
    bank, method = load_splits(config)["val"].to(runtime.device), load_method(config, folder, runtime)
    gaps = {}
    for name, view_mask in (("rectangle", "rectangle"), ("object", "saliency")):
        maker = build_views(config.model_copy(update={"view_mask": view_mask}), bank)
        inside = outside = Tensor([0.0, 0.0]).to(runtime.device)  # sums of attention and of weight
        for number, index in enumerate(torch.arange(len(bank), device=runtime.device).split(BATCH)):
            views, attention = attention_maps(method, maker, index, seed=number)
            share = reduce_mask(views.masks, attention)
            inside = inside + torch.stack([(attention * share).sum(), share.sum()])
            outside = outside + torch.stack([(attention * (1 - share)).sum(), (1 - share).sum()])
        gaps[name] = round(float(inside[0] / inside[1] - outside[0] / outside[1]), 4)
    return gaps


def keep_maps(grid: Grid, made: Path, kept: Path) -> None:
    """Judge the maps of a preset whose runs differ in their saliency, while the weights are there."""
    if {"saliency", "saliency_error"} & {ablation.vary for ablation in grid.ablations.values()}:
        names = [run.name for run in grid.runs if run.kind == "pretrain"]
        write_maps(measure(made / "pretrain" / name for name in names), kept)


def write_maps(maps: TrainingMaps, folder: Path) -> None:
    """Write ``maps.json`` into a folder."""
    atomic_write(folder / FILE, maps.model_dump_json(indent=1) + "\n")


def read_maps(folder: Path) -> TrainingMaps:
    """What was written there.

    Raises:
        CVSAError: it is missing or not valid; names the file.
    """
    try:
        return TrainingMaps.model_validate_json((folder / FILE).read_text())
    except FileNotFoundError:
        raise CVSAError(f"No {FILE} in {folder}. Restore it from version control.") from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise CVSAError(f"Record {folder / FILE} is not valid: {one_line(str(error))[:300]}") from None
