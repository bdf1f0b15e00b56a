"""The graph of runs, and what reruns when something changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests_support import example_record

from cvsa.config import PRESETS, PretrainConfig, resolve
from cvsa.costs import START_SECONDS, estimate, passes, table_lines
from cvsa.errors import CVSAError
from cvsa.grid import Run, line_name, load_grid, load_grids
from cvsa.methods.catalogue import TABLES
from cvsa.records import write_record
from cvsa.reproduce import _explain, steps_done

ROOT = Path(__file__).parents[1]
GRID = ROOT / "workflow" / "grid.yaml"


@pytest.mark.parametrize("preset", list(yaml.safe_load(GRID.read_text())))
def test_every_run_of_the_grid_has_a_valid_configuration(preset: str) -> None:
    grid = load_grid(GRID, preset)
    assert preset in PRESETS
    assert len({(run.kind, run.name) for run in grid.runs}) == len(grid.runs)
    for run in grid.runs:
        assert run.config.preset == preset
        if run.parent:
            assert grid.find(run.parent_kind, run.parent)
    assert not [run for run in grid.runs if run.kind == "pretrain" and run.config.row == "Random"]


def test_the_ablation_shares_the_runs_at_the_default_scale() -> None:
    grid = load_grid(GRID, "ablations")
    ablation = grid.ablations["scale"]
    trained = {run.name: run.config.model_dump() for run in grid.runs if run.kind == "pretrain"}
    for row in ablation.rows:
        name = line_name((None, row), 0)
        assert trained[name]["swap_scale"] in ablation.values
        for scale in set(ablation.values) - {trained[name]["swap_scale"]}:
            assert trained[f"{name}-swap_scale{scale}"]["swap_scale"] == scale


def test_an_evaluation_looks_at_the_classifier_where_there_is_one() -> None:
    tiny, pilot = load_grid(GRID, "tiny"), load_grid(GRID, "pilot")
    for run in tiny.runs:
        if run.kind == "evaluate":
            assert (run.parent, run.parent_kind) == (run.name, "finetune")
    varied = pilot.find("evaluate", "byol-s0-epochs5")
    assert (varied.parent, varied.parent_kind) == (varied.name, "pretrain")


def test_shares_of_the_labels_are_tried_on_the_networks_of_a_table() -> None:
    grid = load_grid(GRID, "tiny")
    labels = grid.ablations["labels"]
    named = {run.name: run for run in grid.runs if run.kind == "finetune"}
    for row, parent in (("byol-cvsa", "byol-cvsa-s0"), ("random", None)):
        for share in set(labels.values) - {1.0}:
            run = named[f"{row}-s0-label_fraction{share}"]
            assert run.parent == parent and run.config.model_dump()["label_fraction"] == share
    assert not [name for name in named if name.endswith("label_fraction1.0")]
    assert not [run.name for run in grid.runs if run.kind == "pretrain" and "label_fraction" in run.name]


def test_errors_of_saliency_share_the_runs_with_exact_masks() -> None:
    grid = load_grid(GRID, "saliency")
    trained = {run.name: run.config.model_dump() for run in grid.runs if run.kind == "pretrain"}
    told = {(c["row"], c["saliency"], c["saliency_error"], c["seed"]) for c in trained.values()}
    assert len(told) == len(trained) == 8 * 2
    assert trained["byol-cvsa-s0-saliency_error-dilated-0.5"]["saliency_error"] == "dilated:0.5"
    assert trained["byol-cvsa-s1-saliency-classical"]["saliency"] == "classical"
    assert not [name for name in trained if ":" in name]
    assert {run.name for run in grid.runs if run.kind == "probe"} == set(trained)


def test_first_stages_are_trained_once_and_shared() -> None:
    grid = load_grid(GRID, "tiny")
    first = [run for run in grid.runs if run.kind == "pretrain" and run.parameters.get("stage") == 1]
    assert [run.name for run in first] == ["stage1-byol-s0"]
    assert all(run.config.model_dump()["dataset"] == "synthscenes" for run in first)
    second = [run for run in grid.runs if run.kind == "pretrain" and run.parent]
    assert {run.name for run in second} == {f"dual-{row}-s0" for row in ("byol", "byol-cvsa")}
    assert all(run.parent == f"stage1-byol-s{run.config.seed}" for run in second)
    alone = grid.find("finetune", "stage1-byol-s0")
    assert alone.parent == "stage1-byol-s0" and alone.config.dataset == "synthbirds"


def test_the_sweep_gives_every_base_the_same_effort() -> None:
    runs = [run for run in load_grid(GRID, "sweep").runs if run.kind == "pretrain"]
    efforts: dict[str, list[tuple[float, int]]] = {}
    for run in runs:
        config = run.config.model_dump()
        efforts.setdefault(config["base"], []).append((config["lr"], config["epochs"]))
    assert len(efforts) == 7 and len({tuple(effort) for effort in efforts.values()}) == 1


def test_the_plan_sees_other_birds_and_differs_in_what_it_says_only() -> None:
    seen = {
        (run.config.data_seed, run.config.seed)
        for preset in yaml.safe_load(GRID.read_text()) if preset != "confirm"
        for run in load_grid(GRID, preset).runs
    }  # fmt: skip
    explored = [run for run in load_grid(GRID, "small_cpu").runs if run.config.seed == 0]
    before = {(run.kind, run.name): run.config.model_dump() for run in explored}
    own = {"preset", "seed", "data_seed", "val_images"}
    for run in load_grid(GRID, "confirm").runs:
        config = run.config.model_dump()
        assert (config["data_seed"], config["seed"]) not in seen and config["val_images"] == 2000
        other = before[run.kind, line_name((None, config["row"]), 0)]
        changed = {field for field in config if config[field] != other[field]}
        if run.kind == "finetune":
            assert config["label_fraction"] == 0.375
        if run.kind == "pretrain":
            assert config["swap_scale"] in (0.08, 0.5)
        assert changed <= own | {"parent", "classifier", "label_fraction", "swap_scale"}


def test_unknown_rows_and_presets_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("tiny: {second_stage_only: [{rows: [BYOLL], seeds: [0]}]}")
    with pytest.raises(CVSAError, match="Did you mean 'BYOL'"):
        load_grid(path, "tiny")
    with pytest.raises(CVSAError, match="no experiments"):
        load_grid(path, "small")
    path.write_text("tiny: {parts: [small]}")
    with pytest.raises(CVSAError, match="'small' has no experiments"):
        load_grids(path, "tiny")
    path.write_text("tiny: {rows: [BYOL], seeds: [0]}")
    with pytest.raises(CVSAError, match="unknown part 'rows'; there are second_stage_only, dual_stage"):
        load_grid(path, "tiny")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the workflow reads, with a small grid and a papermill that writes at once."""
    for part in ("cvsa", "workflow", "notebooks"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    evaluated = "{rows: [BYOL], seeds: [0], evaluate: [finetune, evaluate]}"
    first = f"second_stage_only: [{{rows: [BYOL, BYOL+SS, MoCo.v2], seeds: [0]}}, {evaluated}]"
    second = "dual_stage: [{rows: [BYOL+SS], seeds: [0]}]"
    (tmp_path / "workflow" / "grid.yaml").write_text(f"tiny: {{{first}, {second}}}")
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


LINES = ("byol", "byol-ss", "moco-v2", "dual-byol-ss")


def everything() -> list[str]:
    """All runs of the lines above: the second table is fine-tuned only, BYOL's classifier evaluated."""
    runs = [f"{kind}/{row}-s0" for kind in ("pretrain", "finetune") for row in LINES]
    runs += [f"probe/{row}-s0" for row in LINES if "dual" not in row]
    return sorted([*runs, "pretrain/stage1-byol-s0", "evaluate/byol-s0"])


def snakemake(folder: Path) -> list[str]:
    """Run everything but the report; the runs that were made, sorted."""
    (folder / "ran.txt").unlink(missing_ok=True)
    targets = [
        f"book/results/tiny/{run}/record.json" for run in everything() if not run.startswith("pretrain")
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


def test_a_kernel_that_never_answers_is_started_once_more(checkout: Path) -> None:
    stub = checkout / "bin" / "papermill"
    first, works = stub.read_text().split("\n", 1)
    fails = '[ -e silent.txt ] || { touch silent.txt; echo "Kernel didn\'t respond in 60 seconds"; exit 1; }'
    stub.write_text(f"{first}\n{fails}\n{works}")
    assert snakemake(checkout) == everything() and (checkout / "silent.txt").exists()
    stub.write_text(f"{first}\necho again >> tries.txt; exit 1\n")
    (checkout / "book/results/tiny/evaluate/byol-s0/record.json").unlink()
    with pytest.raises(AssertionError):
        snakemake(checkout)
    assert (checkout / "tries.txt").read_text() == "again\n", "what failed of something else is not repeated"


def test_only_what_changed_reruns(checkout: Path) -> None:
    assert snakemake(checkout) == everything()
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
    assert snakemake(checkout) == [name for name in everything() if "byol-ss" in name]

    moco = checkout / "cvsa" / "methods" / "moco.py"
    moco.write_text(moco.read_text() + "\n# a remark changes no number\n")
    assert snakemake(checkout) == []
    moco.write_text(moco.read_text() + "\nCHANGED = True\n")
    assert snakemake(checkout) == [name for name in everything() if "moco-v2" in name]

    swap.write_text(swap.read_text() + "\nCHANGED = True\n")
    assert snakemake(checkout) == everything()


def test_the_estimate_scales_committed_runs_and_says_nothing_without_them(tmp_path: Path) -> None:
    run = Run("finetune", "random-s0", {"row": "Random", "preset": "tiny"})
    assert estimate([run.config], tmp_path) is None
    half = run.config.model_copy(update={"epochs": run.config.epochs * 2}).model_dump(mode="json")
    write_record(example_record(row="Random", seconds=100.0, config=half), tmp_path / "a")
    assert estimate([run.config] * 2, tmp_path) == pytest.approx(2 * (START_SECONDS + 50.0))


def test_the_estimate_scales_another_rows_step_by_arithmetic(tmp_path: Path) -> None:
    byol, moco = (resolve(PretrainConfig, row=row) for row in ("BYOL", "MoCo.v2"))
    known = byol.model_dump(mode="json")
    write_record(example_record(kind="pretrain", row="BYOL", seconds=80.0, config=known), tmp_path / "a")
    # BYOL passes two images with gradient and two without, MoCo v2 one each: twice the work.
    assert estimate([moco], tmp_path) == pytest.approx(START_SECONDS + 40.0)
    assert passes(byol) == 8 * byol.train_images * byol.epochs


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_listed_with_its_cost(table: str) -> None:
    lines = table_lines(table, "tiny", ROOT / "results")
    shown = [line.split()[:2] for line in lines]
    for stage1, stage2 in TABLES[table]:
        assert [stage1 or "-", stage2 or "-"] in shown
    assert "minutes of computing" in lines[-1]
    assert "time one run first" in table_lines(table, "paper", ROOT / "results")[-1]


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
