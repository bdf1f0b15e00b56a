"""Records of runs that are too long to repeat in a build: copied to ``results/`` and committed."""

from __future__ import annotations

import shutil
from pathlib import Path

from cvsa.config import DRAWN, PretrainConfig
from cvsa.errors import CVSAError
from cvsa.grid import load_grid
from cvsa.records import RECORD, read_record
from cvsa.report.photographs import keep_photographs
from cvsa.report.pictures import METHOD_ROW
from cvsa.report.training_maps import keep_maps


def keep(preset: str, root: Path, partial: bool = False) -> int:
    """Copy the record of every run of a preset and the CSV files it names; look at photographs once more.

    Weights stay behind: they are large, and photographs' terms may forbid to pass them on.

    Args:
        preset: an entry of ``workflow/grid.yaml``.
        root: a checkout of the companion.
        partial: copy what is finished; of the others what was kept before stays. What is drawn from all of a
            preset's runs at once (photographs, maps) waits for all of them.

    Returns:
        How many runs were copied.

    Raises:
        CVSAError: a run is damaged, or missing where all are asked for; nothing is copied then. None is
            finished.
    """
    grid = load_grid(root / "workflow" / "grid.yaml", preset)
    made, kept = root / "book" / "results" / preset, root / "results" / preset
    names: dict[Path, list[str]] = {}
    for run in grid.runs:
        folder = Path(run.kind) / run.name
        if not (made / folder / RECORD).is_file():
            if partial:
                continue
            raise CVSAError(
                f"{made / folder} is not finished. Run `cvsa reproduce --preset {preset} --no-report` first, "
                "or keep what is finished with --partial."
            )
        names[folder] = [*read_record(made / folder).files, RECORD]
    if not names:
        raise CVSAError(f"No run in {made} is finished. Run `cvsa reproduce --preset {preset}` first.")
    for folder, files in names.items():
        (kept / folder).mkdir(parents=True, exist_ok=True)
        for old in (kept / folder).glob("*.csv"):
            old.unlink()
        for name in files:
            shutil.copyfile(made / folder / name, kept / folder / name)
    if len(names) == len(grid.runs):
        _look_at_photographs(made, kept, [run.name for run in grid.runs if run.kind == "pretrain"])
        keep_maps(grid, made, kept)
    return len(names)


def _look_at_photographs(made: Path, kept: Path, names: list[str]) -> None:
    for name in names:
        record = read_record(made / "pretrain" / name)
        if record.config["dataset"] not in DRAWN and record.row == METHOD_ROW:
            keep_photographs(kept, made / "pretrain" / name, PretrainConfig(**record.config))
            return
