"""Records of runs that are too long to repeat in a build: copied to ``results/`` and committed."""

from __future__ import annotations

import shutil
from pathlib import Path

from cvsa.config import DRAWN, PretrainConfig
from cvsa.errors import CVSAError
from cvsa.grid import load_grid
from cvsa.records import HISTORY, PREDICTIONS, RECORD, read_record
from cvsa.report.photographs import keep_photographs
from cvsa.report.pictures import METHOD_ROW
from cvsa.report.training_maps import keep_maps


def keep(preset: str, root: Path) -> int:
    """Copy record, history and predictions of every run of a preset; look at photographs once more.

    Weights stay behind: they are large, and photographs' terms may forbid to pass them on.

    Args:
        preset: an entry of ``workflow/grid.yaml`` whose runs are all finished.
        root: a checkout of the companion.

    Returns:
        How many runs were copied.

    Raises:
        CVSAError: a run is missing; nothing is copied then.
    """
    grid = load_grid(root / "workflow" / "grid.yaml", preset)
    made, kept = root / "book" / "results" / preset, root / "results" / preset
    for run in grid.runs:
        if not (made / run.kind / run.name / RECORD).is_file():
            raise CVSAError(
                f"{made / run.kind / run.name} is not finished. "
                f"Run `cvsa reproduce --preset {preset} --no-report` first."
            )
    for run in grid.runs:
        target = kept / run.kind / run.name
        target.mkdir(parents=True, exist_ok=True)
        for name in (HISTORY, PREDICTIONS, RECORD):
            source = made / run.kind / run.name / name
            if source.is_file():
                shutil.copyfile(source, target / name)
    _look_at_photographs(made, kept, [run.name for run in grid.runs if run.kind == "pretrain"])
    keep_maps(grid, made, kept)
    return len(grid.runs)


def _look_at_photographs(made: Path, kept: Path, names: list[str]) -> None:
    for name in names:
        record = read_record(made / "pretrain" / name)
        if record.config["dataset"] not in DRAWN and record.row == METHOD_ROW:
            keep_photographs(kept, made / "pretrain" / name, PretrainConfig(**record.config))
            return
