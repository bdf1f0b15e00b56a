"""The graph of runs, and what reruns when something changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests_support import example_record

from cvsa.config import PRESETS
from cvsa.errors import CVSAError
from cvsa.grid import Run, load_grid, run_name
from cvsa.records import write_record
from cvsa.reproduce import START_SECONDS, _estimate, _explain, steps_done

ROOT = Path(__file__).parents[1]
GRID = ROOT / "workflow" / "grid.yaml"


@pytest.mark.parametrize("preset", ["tiny", "long"])
def test_every_run_of_the_grid_has_a_valid_configuration(preset: str) -> None:
    grid = load_grid(GRID, preset)
    assert preset in PRESETS
    assert len({(run.kind, run.name) for run in grid.runs}) == len(grid.runs)
    for run in grid.runs:
        assert run.config.preset == preset
        if run.parent:
            assert grid.find("pretrain", run.parent)
    assert not [run for run in grid.runs if run.kind == "pretrain" and run.config.row == "Random"]


def test_the_ablation_shares_the_runs_at_the_default_scale() -> None:
    grid = load_grid(GRID, "tiny")
    for row in grid.scale_ablation["rows"]:
        names = {run_name(row, 0, scale) for scale in grid.scale_ablation["scales"]}
        assert run_name(row, 0) in names and len(names) == len(grid.scale_ablation["scales"])
        assert names <= {run.name for run in grid.runs if run.kind == "pretrain"}
    scaled = next(run for run in grid.runs if run.name.endswith("scale0.08") and run.kind == "pretrain")
    assert scaled.config.model_dump()["swap_scale"] == 0.08


def test_unknown_rows_and_presets_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("tiny: {rows: [BYOLL], seeds: [0]}")
    with pytest.raises(CVSAError, match="Did you mean 'BYOL'"):
        load_grid(path, "tiny")
    with pytest.raises(CVSAError, match="no experiments"):
        load_grid(path, "small")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the workflow reads, with a grid of three runs and a papermill that writes at once."""
    for part in ("cvsa", "workflow", "notebooks"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "workflow" / "grid.yaml").write_text("tiny: {rows: [BYOL, BYOL+SS], seeds: [0]}")
    write_record(example_record(), tmp_path / "template")
    stub = tmp_path / "bin" / "papermill"
    stub.parent.mkdir()
    stub.write_text(
        "#!/bin/sh\n"
        'while [ $# -gt 0 ]; do case "$1" in *.ipynb) notebook="$1";; esac; last="$1"; shift; done\n'
        'mkdir -p "$last"; cp template/record.json "$last/record.json"\n'
        ': > "$last/weights.safetensors"; : > "$notebook"\n'
        'echo "$last" >> ran.txt\n'
    )
    stub.chmod(0o755)
    return tmp_path


def snakemake(folder: Path) -> list[str]:
    """Run everything but the report; the runs that were made, sorted."""
    (folder / "ran.txt").unlink(missing_ok=True)
    targets = [
        f"book/results/tiny/{kind}/{row}-s0/record.json"
        for kind in ("finetune", "probe")
        for row in ("byol", "byol-ss")
    ]
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        "workflow/Snakefile",
        "--cores",
        "1",
        "--quiet",
        "all",
        "--",
        *targets,
    ]
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    ran = folder / "ran.txt"
    return (
        sorted(line.removeprefix("book/results/tiny/") for line in ran.read_text().splitlines())
        if ran.exists()
        else []
    )


def test_only_what_changed_reruns(checkout: Path) -> None:
    everything = sorted(
        f"{kind}/{row}-s0" for kind in ("pretrain", "finetune", "probe") for row in ("byol", "byol-ss")
    )
    assert snakemake(checkout) == everything
    assert snakemake(checkout) == []

    swap = checkout / "cvsa" / "views" / "swap.py"
    os.utime(swap)  # touched, not changed
    assert snakemake(checkout) == []

    catalogue = checkout / "cvsa" / "methods" / "catalogue.py"
    before = catalogue.read_text()
    catalogue.write_text(
        before.replace(
            '"BYOL+SS": Row("byol", "saliency_swap", 0.0', '"BYOL+SS": Row("byol", "saliency_swap", 0.5'
        )
    )
    assert catalogue.read_text() != before
    assert snakemake(checkout) == [name for name in everything if "byol-ss" in name]

    swap.write_text(swap.read_text() + "\n# changed\n")
    assert snakemake(checkout) == everything


def test_the_estimate_scales_committed_runs_and_says_nothing_without_them(tmp_path: Path) -> None:
    run = Run("finetune", "random-s0", {"row": "Random", "preset": "tiny"})
    assert _estimate([run], tmp_path) is None
    half = {"epochs": run.config.epochs * 2, "dataset": "synthbirds"}
    write_record(example_record(row="Random", seconds=100.0, config=half), tmp_path / "a")
    assert _estimate([run, run], tmp_path) == pytest.approx(2 * (START_SECONDS + 50.0))


def test_failures_are_named_with_the_line_the_notebook_ended_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed, fine = tmp_path / "failed", tmp_path / "fine"
    failed.mkdir()
    (failed / "log.txt").write_text("Traceback\n...\nCVSAError: Unknown row 'x'.\n\n")
    write_record(example_record(), fine)
    (fine / "log.txt").write_text("KeyError: 1\n")
    _explain([failed, fine], tmp_path / "snakemake.log")
    told = capsys.readouterr().err
    assert "failed: " + str(failed) in told and "Unknown row 'x'" in told and str(fine) not in told


def test_progress_is_read_from_the_workflows_log() -> None:
    planned = "Job stats:\njob    count\n-----  -----\nall        1\ntotal     46\n"
    assert steps_done("Nothing to be done") == (0, 0)
    assert steps_done(planned) == (0, 46)
    assert steps_done(planned + "1 of 46 steps (2%) done\nmore\n12 of 46 steps (26%) done\n") == (12, 46)
