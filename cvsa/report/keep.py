"""Records of runs that are too long to repeat in a build: copied to ``results/`` and committed."""

from __future__ import annotations

import shutil
from pathlib import Path

from cvsa.config import DRAWN, PretrainConfig
from cvsa.errors import CVSAError
from cvsa.grid import Grid, load_grids
from cvsa.records import RECORD, read_record
from cvsa.report.photographs import keep_photographs
from cvsa.report.pictures import METHOD_ROW
from cvsa.report.training_maps import keep_maps
from cvsa.reproduce import results_of


def keep(preset: str, root: Path, partial: bool = False) -> dict[str, int]:
    """Copy records of a preset and its parts and the files they name; look at photographs once more.

    Weights stay behind: they are large, and photographs' terms may forbid to pass them on.

    Args:
        preset: an entry of ``workflow/grid.yaml``.
        root: a checkout of the companion.
        partial: copy what is finished; of the others what was kept before stays. What is drawn from all of a
            preset's runs at once (photographs, maps) waits for all of them.

    Returns:
        Preset or part -> how many of its runs were copied; those without any are left out.

    Raises:
        CVSAError: a run is damaged, or missing where all are asked for; nothing is copied then. None is
            finished.
    """
    grids = load_grids(root / "workflow" / "grid.yaml", preset)
    found = {grid.preset: _finished(grid, root, partial) for grid in grids}
    if not any(found.values()):
        made = results_of(preset, root)
        raise CVSAError(f"No run in {made} is finished. Run `cvsa reproduce --preset {preset}` first.")
    for grid in grids:
        if found[grid.preset]:
            _copy(grid, found[grid.preset], results_of(grid.preset, root), root / "results" / grid.preset)
    return {name: len(names) for name, names in found.items() if names}


def _finished(grid: Grid, root: Path, partial: bool) -> dict[Path, list[str]]:
    """Folder below the preset's -> the files to copy."""
    made, names = results_of(grid.preset, root), {}
    for run in grid.runs:
        folder = Path(run.kind) / run.name
        if (made / folder / RECORD).is_file():
            names[folder] = [*read_record(made / folder).files, RECORD]
        elif not partial:
            raise CVSAError(
                f"{made / folder} is not finished. Run `cvsa reproduce --preset {grid.preset} --no-report` "
                "first, or keep what is finished with --partial."
            )
    return names


def _copy(grid: Grid, names: dict[Path, list[str]], made: Path, kept: Path) -> None:
    for folder, files in names.items():
        (kept / folder).mkdir(parents=True, exist_ok=True)
        for old in (kept / folder).glob("*.csv"):
            old.unlink()
        for name in files:
            shutil.copyfile(made / folder / name, kept / folder / name)
    if len(names) == len(grid.runs):
        _look_at_photographs(made, kept, [run.name for run in grid.runs if run.kind == "pretrain"])
        keep_maps(grid, made, kept)


def _look_at_photographs(made: Path, kept: Path, names: list[str]) -> None:
    for name in names:
        record = read_record(made / "pretrain" / name)
        if record.config["dataset"] not in DRAWN and record.row == METHOD_ROW:
            keep_photographs(kept, made / "pretrain" / name, PretrainConfig(**record.config))
            return
