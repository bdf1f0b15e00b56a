"""The experiments of a preset as a graph of runs, from ``workflow/grid.yaml``; workflow and report use it.

Every node is one papermill command: a notebook, its parameters, the folder its record goes to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from cvsa.config import FinetuneConfig, PretrainConfig, ProbeConfig, RunConfig, resolve
from cvsa.errors import CVSAError
from cvsa.methods.catalogue import find_row, slug


@dataclass(frozen=True)
class Run:
    """One node: a notebook with parameters.

    Attributes:
        kind: "pretrain", "finetune" or "probe"; also the notebook's name.
        name: folder name, readable and unique within the kind: "byol-cvsa-s0", "byol-ss-s0-scale0.08".
        parameters: what is given to the notebook, apart from out and pretrained.
        parent: name of the pre-training run it starts from, or None.
    """

    kind: str
    name: str
    parameters: dict[str, Any]
    parent: str | None = None

    @cached_property
    def config(self) -> RunConfig:
        """The resolved configuration (without the parent's run id): the node reruns when it changes."""
        models: dict[str, type[RunConfig]] = {
            "pretrain": PretrainConfig,
            "finetune": FinetuneConfig,
            "probe": ProbeConfig,
        }
        return resolve(models[self.kind], **self.parameters)


@dataclass
class Grid:
    """All runs of a preset."""

    preset: str
    rows: list[str]
    seeds: list[int]
    runs: list[Run] = field(default_factory=list)
    scale_ablation: dict[str, Any] = field(default_factory=dict)

    def find(self, kind: str, name: str) -> Run:
        """The run of that kind and name."""
        return next(run for run in self.runs if (run.kind, run.name) == (kind, name))


def load_grid(path: Path, preset: str) -> Grid:
    """Read one preset's experiments.

    Raises:
        CVSAError: no such file or preset; an unknown row.
    """
    if not path.is_file():
        raise CVSAError(f"No experiment grid at {path}. Run this inside a checkout of the companion.")
    presets = yaml.safe_load(path.read_text())
    if preset not in presets:
        raise CVSAError(f"Preset {preset!r} has no experiments in {path}. There are: {', '.join(presets)}.")
    entry = presets[preset]
    grid = Grid(
        preset,
        [find_row(name)[0] for name in entry["rows"]],
        entry["seeds"],
        scale_ablation=entry.get("scale_ablation", {}),
    )
    for seed in grid.seeds:
        for row in grid.rows:
            _add(grid, row, seed)
    ablation = grid.scale_ablation
    for seed in ablation.get("seeds", []):
        for scale in ablation["scales"]:
            for row in ablation["rows"]:
                _add(grid, find_row(row)[0], seed, scale)
    return grid


def run_name(row: str, seed: int, scale: float | None = None) -> str:
    """Folder name of a run; the default scale adds nothing, so the ablation shares the main table's runs."""
    default = PretrainConfig.model_fields["swap_scale"].default
    return f"{slug(row)}-s{seed}" + ("" if scale in (None, default) else f"-scale{scale:g}")


def _add(grid: Grid, row: str, seed: int, scale: float | None = None) -> None:
    name = run_name(row, seed, scale)
    if any(run.name == name for run in grid.runs):
        return
    shared = {"row": row, "preset": grid.preset, "seed": seed}
    trains = find_row(row)[1].base != "none"
    if trains:
        own_scale = {} if name == run_name(row, seed) else {"swap_scale": scale}
        grid.runs.append(Run("pretrain", name, {**shared, **own_scale}))
    parent = name if trains else None
    # The ablation reports the paper's metric only.
    kinds = ("finetune", "probe") if name == run_name(row, seed) else ("finetune",)
    grid.runs += [Run(kind, name, shared, parent) for kind in kinds]
