"""The experiments of a preset as a graph of runs, from ``workflow/grid.yaml``; workflow and report use it.

Every node is one papermill command: a notebook, its parameters, the folder its record goes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from cvsa.config import KINDS, PretrainConfig, RunConfig, resolve
from cvsa.errors import CVSAError
from cvsa.methods.catalogue import Line, find_row, plain_row, slug

MODELS = {kind: model for model, kind in KINDS.items()}
# The paper's metric for both tables, and probes of the first; a block may ask for other evaluations.
EVALUATIONS = {"second_stage_only": ("finetune", "probe"), "dual_stage": ("finetune",)}
# libyaml's parser where it is there: it takes a tenth of the time, and reports read the grid for every set.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Run:
    """One node: a notebook with parameters.

    Attributes:
        kind: "pretrain", "finetune", "probe" or "evaluate"; also the notebook's name.
        name: folder name, readable and unique within the kind: "byol-cvsa-s0", "dual-byol-cvsa-s0",
            "byol-ss-s0-swap_scale0.08", "byol-cvsa-s0-saliency_error-dilated-0.5".
        parameters: what is given to the notebook, apart from out and the run it starts from.
        parent: name of the run it starts from, or None.
        parent_kind: of that run: "pretrain", or "finetune" for an evaluation that looks at its classifier.
        wave: the less, the sooner it is made, of this preset and of its parts.
    """

    kind: str
    name: str
    parameters: dict[str, Any]
    parent: str | None = None
    parent_kind: str = "pretrain"
    wave: int = 1

    @property
    def preset(self) -> str:
        """The preset it belongs to."""
        return str(self.parameters["preset"])

    @cached_property
    def config(self) -> RunConfig:
        """The resolved configuration (without the parent's run id): the node reruns when it changes."""
        return resolve(MODELS[self.kind], **self.parameters)


@dataclass(frozen=True)
class Ablation:
    """Runs of some rows with one parameter varied.

    Attributes:
        vary: name of a parameter of the pre-training, or else of the evaluations.
        values: what it takes; the preset's own value shares the runs of a table that has them.
        rows, seeds: of the runs.
        evaluate: the evaluations each run gets.
        wave: of its runs.
    """

    vary: str
    values: list[Any]
    rows: list[str]
    seeds: list[int]
    evaluate: list[str]
    wave: int = 1


@dataclass
class Grid:
    """All runs of a preset.

    Attributes:
        tables: table of the catalogue -> its lines (stage-1 row, stage-2 row) that this preset runs.
        ablations: name -> what varies.
        runs: by their waves.
        parts: presets that are made together with this one: the same rows on other images, another network.
    """

    preset: str
    tables: dict[str, list[Line]] = field(default_factory=dict)
    ablations: dict[str, Ablation] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    def find(self, kind: str, name: str) -> Run:
        """The run of that kind and name."""
        return next(run for run in self.runs if (run.kind, run.name) == (kind, name))

    def add(self, run: Run) -> None:
        """Add a run, or let the one that is there come as early: lines share what they start from."""
        for place, known in enumerate(self.runs):
            if (known.kind, known.name) == (run.kind, run.name):
                self.runs[place] = replace(known, wave=min(known.wave, run.wave))
                return
        self.runs.append(run)


def load_grid(path: Path, preset: str) -> Grid:
    """Read one preset's experiments.

    Raises:
        CVSAError: no such file or preset; a part that no preset has; an unknown row.
    """
    if not path.is_file():
        raise CVSAError(f"No experiment grid at {path}. Run this inside a checkout of the companion.")
    presets = yaml.load(path.read_text(), Loader=LOADER)
    if preset not in presets:
        raise CVSAError(f"Preset {preset!r} has no experiments in {path}. There are: {', '.join(presets)}.")
    entry, known = presets[preset], (*EVALUATIONS, "ablations", "parts")
    if unknown := [name for name in entry if name not in known]:
        raise CVSAError(
            f"Preset {preset!r} in {path}: unknown part {unknown[0]!r}; there are {', '.join(known)}."
        )
    grid = Grid(preset, parts=entry.get("parts", []))
    for table, evaluations in EVALUATIONS.items():
        for block in entry.get(table, []):
            lines = [_line(table, name) for name in block["rows"]]
            grid.tables.setdefault(table, []).extend(lines)
            for seed in block["seeds"]:
                for line in lines:
                    _add_line(grid, line, seed, block.get("evaluate", evaluations), block.get("wave", 1))
    for name, given in entry.get("ablations", {}).items():
        grid.ablations[name] = Ablation(**given)
        _add_ablation(grid, grid.ablations[name])
    grid.runs.sort(key=lambda run: run.wave)  # stable: within a wave as they were added
    return grid


def load_grids(path: Path, preset: str) -> list[Grid]:
    """A preset's experiments and those of its parts.

    Raises:
        CVSAError: see :func:`load_grid`.
    """
    grid = load_grid(path, preset)
    return [grid, *(load_grid(path, part) for part in grid.parts)]


def _line(table: str, name: str) -> Line:
    """ "BYOL+CVSA" -> its base's plain row first, then itself; "BYOL (stage 1)" -> no second stage."""
    if table == "second_stage_only":
        return None, find_row(name)[0]
    if name.endswith("(stage 1)"):
        return find_row(name.removesuffix("(stage 1)").strip())[0], None
    row, entry = find_row(name)
    return plain_row(entry.base), row


def line_name(line: Line, seed: int) -> str:
    """Folder name of a table line's runs: "byol-s0", "stage1-byol-s0", "dual-byol-cvsa-s0"."""
    stage1, stage2 = line
    prefix = "" if stage1 is None else "stage1-" if stage2 is None else "dual-"
    return f"{prefix}{slug(stage2 or stage1 or '')}-s{seed}"


def varied_name(name: str, vary: str, value: Any) -> str:
    """Folder name of a table line's run with one parameter changed; no colons, which not every disk takes."""
    return f"{name}-{vary}-{value.replace(':', '-')}" if isinstance(value, str) else f"{name}-{vary}{value}"


def _add_line(grid: Grid, line: Line, seed: int, evaluations: Sequence[str], wave: int) -> None:
    stage1, stage2 = line
    shared = {"preset": grid.preset, "seed": seed}
    parent = None
    for row, stage, name in (
        (stage1, 1, line_name((stage1, None), seed)),
        (stage2, 2, line_name(line, seed)),
    ):
        if row is not None and find_row(row)[1].base != "none":
            given = {"row": row, **shared, **({"stage": 1} if stage == 1 else {})}
            grid.add(Run("pretrain", name, given, parent, wave=wave))
            parent = name
    given = {"row": stage2 or stage1, **shared}
    _add_evaluations(grid, line_name(line, seed), given, parent, evaluations, wave)


def _add_evaluations(
    grid: Grid, name: str, given: dict[str, Any], parent: str | None, evaluations: Sequence[str], wave: int
) -> None:
    """Evaluations of one network; one that looks at a classifier takes that of the fine-tuning beside it."""
    for kind in evaluations:
        if kind == "evaluate" and "finetune" in evaluations:
            grid.add(Run(kind, name, given, name, "finetune", wave))
        else:
            grid.add(Run(kind, name, given, parent, wave=wave))


def _add_ablation(grid: Grid, ablation: Ablation) -> None:
    if ablation.vary not in PretrainConfig.model_fields:
        _vary_evaluations(grid, ablation)
        return
    for seed in ablation.seeds:
        for value in ablation.values:
            for row in (find_row(name)[0] for name in ablation.rows):
                given = {"row": row, "preset": grid.preset, "seed": seed}
                name, varied = line_name((None, row), seed), {}
                in_a_table = any((run.kind, run.name) == ("pretrain", name) for run in grid.runs)
                if not in_a_table or value != getattr(resolve(PretrainConfig, **given), ablation.vary):
                    name, varied = varied_name(name, ablation.vary, value), {ablation.vary: value}
                grid.add(Run("pretrain", name, given | varied, wave=ablation.wave))
                _add_evaluations(grid, name, given, name, ablation.evaluate, ablation.wave)


def _vary_evaluations(grid: Grid, ablation: Ablation) -> None:
    """The networks of a table, evaluated once more with another value; the preset's own value is there."""
    for seed in ablation.seeds:
        for row, entry in map(find_row, ablation.rows):
            shared, name = {"row": row, "preset": grid.preset, "seed": seed}, line_name((None, row), seed)
            parent = None if entry.base == "none" else name
            for kind in ablation.evaluate:
                if ablation.vary not in MODELS[kind].model_fields:
                    raise CVSAError(
                        f"{ablation.vary!r} in the experiment grid is no parameter of {kind!r} runs."
                    )
                usual = grid.find(kind, name)
                for value in ablation.values:
                    if value != getattr(usual.config, ablation.vary):
                        given, varied = (
                            {**shared, ablation.vary: value},
                            varied_name(name, ablation.vary, value),
                        )
                        start = name if usual.parent_kind == "finetune" else parent
                        grid.add(Run(kind, varied, given, start, usual.parent_kind, ablation.wave))
