"""A preset without notebooks: order, budget, what fails, what goes on, and real runs of the smallest size."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests_support import SMALL

from cvsa import direct
from cvsa.config import FinetuneConfig, PretrainConfig, resolve
from cvsa.direct import SPENT, STOPPED, reproduce_directly, run_directly, summary, to_make
from cvsa.duration import read_seconds
from cvsa.errors import CVSAError
from cvsa.grid import Grid, Run, load_grid, load_grids
from cvsa.records import Record, read_record
from cvsa.single import read_parameters, single

GRID = "tiny: {second_stage_only: [{rows: [Random, BYOL, BYOL+SS], seeds: [0, 1], evaluate: [finetune]}]}\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "grid.yaml").write_text(GRID)
    return tmp_path


@pytest.fixture
def grid(checkout: Path) -> Grid:
    return load_grid(checkout / "workflow" / "grid.yaml", "tiny")


def name(run: Run) -> str:
    return f"{run.kind} {run.name}"


class Script:
    """In place of real runs: a process that sleeps, and what the record of each would be.

    Args:
        seconds: of each process, by name; 0 otherwise.
        fails: names of those that end in an error.
    """

    def __init__(self, seconds: dict[str, float] | None = None, fails: tuple[str, ...] = ()) -> None:
        self.seconds, self.fails, self.begun = seconds or {}, fails, []

    def start(self, runner: Any, run: Run) -> subprocess.Popen[bytes]:
        self.begun.append(name(run))
        folder = runner.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        failing = name(run) in self.fails
        (folder / "log.txt").write_text("CVSAError: no such thing\n" if failing else "")
        code = f"import time, sys; time.sleep({self.seconds.get(name(run), 0)}); sys.exit({int(failing)})"
        return subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Script]:
    def use(cost: float | None = None, **given: Any) -> Script:
        script = Script(**given)
        monkeypatch.setattr(direct._Direct, "_process", lambda runner, run: script.start(runner, run))
        monkeypatch.setattr(direct._Direct, "_seconds", lambda runner, run: cost)
        monkeypatch.setattr(direct, "read_record", lambda folder: None)
        monkeypatch.setattr(direct, "LOOK", 0.01)
        return script

    return use


def test_runs_come_in_the_grids_order_each_after_what_it_starts_from(
    grid: Grid, checkout: Path, scripted: Callable[..., Script]
) -> None:
    script = scripted()
    outcome = run_directly([grid], checkout, jobs=1)
    assert script.begun == [name(run) for run in grid.runs] == [name(run) for run in outcome.made]
    assert (
        not outcome.failed and not outcome.left and summary(outcome) == ["10 run(s) made, 0 failed, 0 left."]
    )
    scripted(seconds={"pretrain byol-s0": 0.5})
    beside = run_directly([grid], checkout, jobs=3)
    order = [name(run) for run in beside.made]
    assert (
        order.index("finetune byol-s0") > order.index("pretrain byol-s0") > order.index("pretrain byol-ss-s0")
    )


def test_a_preset_and_its_parts_are_made_wave_by_wave(
    checkout: Path, scripted: Callable[..., Script], capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkout / "workflow" / "grid.yaml"
    path.write_text(
        """
small:
  parts: [small_resnet50]
  second_stage_only:
    - {rows: [BYOL+DiLo], seeds: [0], evaluate: [], wave: 3}
    - {rows: [BYOL], seeds: [0, 1], evaluate: []}
  ablations:
    scale: {vary: swap_scale, values: [0.2, 0.5], rows: [BYOL+SS], seeds: [0], evaluate: [finetune], wave: 4}
small_resnet50:
  second_stage_only:
    - {rows: [BYOL, BYOL+SS], seeds: [0], evaluate: [finetune], wave: 2}
"""
    )
    grids = load_grids(path, "small")
    script = scripted()
    outcome = run_directly(grids, checkout, jobs=1)
    told = [(run.preset, name(run)) for run in outcome.made]
    assert [each for _, each in told] == script.begun
    assert told[:2] == [("small", "pretrain byol-s0"), ("small", "pretrain byol-s1")]
    assert {preset for preset, _ in told[2:6]} == {"small_resnet50"}
    assert told[6] == ("small", "pretrain byol-dilo-s0")
    assert told[7:] == [
        ("small", f"{kind} byol-ss-s0-swap_scale{scale}") for scale in (0.2, 0.5)
        for kind in ("pretrain", "finetune")
    ]  # fmt: skip
    given: dict[str, Any] = {"jobs": None, "budget": None, "device": "cpu", "dry_run": True}
    reproduce_directly("small", checkout, **given)
    assert capsys.readouterr().out.splitlines()[2].split() == ["small_resnet50", "pretrain", "byol-s0"]


def test_what_starts_from_a_failed_run_is_left(
    grid: Grid, checkout: Path, scripted: Callable[..., Script], capsys: pytest.CaptureFixture[str]
) -> None:
    scripted(fails=("pretrain byol-s0",))
    outcome = run_directly([grid], checkout, jobs=2)
    assert [name(run) for run in outcome.failed] == ["pretrain byol-s0"]
    assert [name(run) for run in outcome.left] == ["finetune byol-s0"] and len(outcome.made) == 8
    assert "byol-s0: CVSAError: no such thing" in capsys.readouterr().err


def test_a_budget_begins_only_what_will_end_within_it(
    grid: Grid, checkout: Path, scripted: Callable[..., Script]
) -> None:
    script = scripted(cost=100.0)
    outcome = run_directly([grid], checkout, jobs=1, budget=50.0)
    assert not script.begun and len(outcome.left) == 10
    assert "would not have ended within the budget" in summary(outcome)[1]
    assert len(run_directly([grid], checkout, jobs=1, budget=500.0).made) == 10


def test_what_still_runs_when_the_budget_is_spent_is_told_to_stop(
    grid: Grid, checkout: Path, scripted: Callable[..., Script]
) -> None:
    scripted(seconds={"pretrain byol-s0": 60.0})
    began = time.monotonic()
    outcome = run_directly([grid], checkout, jobs=1, budget=2.0)
    assert outcome.stopped == SPENT and time.monotonic() - began < 20
    assert [name(run) for run in outcome.left][0] == "pretrain byol-s0"
    assert "goes on from its checkpoint" in summary(outcome)[1]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_processes(
    sent: int, grid: Grid, checkout: Path, scripted: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(seconds={"finetune random-s0": 60.0, "pretrain byol-s0": 60.0})
    begun: list[subprocess.Popen[bytes]] = []
    start = direct._Direct._process

    def remembered(runner: Any, run: Run) -> subprocess.Popen[bytes]:
        begun.append(start(runner, run))
        return begun[-1]

    def interrupted(runner: Any, bar: Any) -> None:
        if len(begun) == 2:
            signal.raise_signal(sent)

    monkeypatch.setattr(direct._Direct, "_process", remembered)
    monkeypatch.setattr(direct._Direct, "_show", interrupted)
    outcome = run_directly([grid], checkout, jobs=2)
    assert outcome.stopped == STOPPED and len(begun) == 2
    assert all(process.poll() is not None for process in begun)


def test_what_runs_take_is_worked_out_once_until_one_of_them_ends(
    grid: Grid, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def seconds(config: Any, records: Any) -> float | None:
        asked.append(config.identity())
        return None

    monkeypatch.setattr(direct.costs, "seconds", seconds)
    runner = direct._Direct([grid], checkout, 1, None, "auto")
    asked.clear()  # the status of all runs asks too
    for _ in range(3):
        assert {runner._seconds(run) for run in grid.runs} == {None}
    kinds = {config.model_copy(update={"seed": 0}).identity() for config in runner.configs.values()}
    assert len(asked) == 2 * len(kinds)  # from what was made here, and from committed records


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("25m", 1500), ("1h30m", 5400), ("0.5h", 1800)])
def test_budgets(text: str, seconds: float) -> None:
    assert read_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "25", "m", "5x", "1h 30m", "0m", "-5m"])
def test_bad_budgets_are_refused(text: str) -> None:
    with pytest.raises(CVSAError, match="no time"):
        read_seconds(text)


# --- real runs ---------------------------------------------------------------------------------


def plain(fields: dict[str, Any]) -> list[str]:
    return [word for key, value in fields.items() for word in ("-p", key, str(value))]


def cvsa(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cvsa", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)


def test_one_run_is_that_of_the_notebook(tmp_path: Path) -> None:
    done = cvsa("run", "pretrain", *plain({**SMALL, "row": "BYOL"}), "--out", "run", cwd=tmp_path)
    assert done.returncode == 0 and "written to run" in done.stdout, done.stderr
    record = read_record(tmp_path / "run")
    assert record.run_id == resolve(PretrainConfig, row="BYOL", **SMALL).identity()
    folder, child = single("probe", {"pretrained": str(tmp_path / "run")}, tmp_path / "probe")
    assert child.parents == [record.run_id] and folder == tmp_path / "probe"
    wrong = cvsa("run", "pretrain", "-p", "epoch", "3", cwd=tmp_path)
    assert wrong.returncode == 2 and wrong.stderr.strip().count("\n") == 0 and "'epochs'" in wrong.stderr


def test_a_parameter_given_twice_is_refused() -> None:
    assert read_parameters([("row", "BYOL"), ("seed", "1")]) == {"row": "BYOL", "seed": "1"}
    with pytest.raises(CVSAError, match="'seed' is given twice"):
        read_parameters([("seed", "1"), ("seed", "2")])


def test_a_preset_is_made_and_then_there_is_nothing_left(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "workflow" / "grid.yaml").write_text(
        "tiny: {second_stage_only: [{rows: [Random, BYOL], seeds: [0], evaluate: [finetune]}]}\n"
    )
    start = direct._Direct._process

    def smaller(runner: Any, run: Run) -> subprocess.Popen[bytes]:
        fields = {"epochs": 1, "batch_size": 20} if run.parent else {**SMALL, "warmup_epochs": 0}
        known = FinetuneConfig.model_fields if run.kind == "finetune" else PretrainConfig.model_fields
        given = {key: value for key, value in fields.items() if key in known}
        return start(
            runner, Run(run.kind, run.name, {**run.parameters, **given, "warmup_epochs": 0}, run.parent)
        )

    monkeypatch.setattr(direct._Direct, "_process", smaller)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given: dict[str, Any] = {"jobs": 2, "budget": None, "device": "cpu", "dry_run": False}
    assert reproduce_directly("tiny", checkout, **given) == 0, logs(checkout)
    assert "3 run(s) made, 0 failed, 0 left." in capsys.readouterr().out
    made: list[Record] = [read_record(folder.parent) for folder in checkout.rglob("record.json")]
    assert sorted(record.kind for record in made) == ["finetune", "finetune", "pretrain"]
    assert all(json.loads((f.parent / "record.json").read_text()) for f in checkout.rglob("log.txt"))


def logs(root: Path) -> str:
    return "\n".join(path.read_text() for path in root.rglob("log.txt"))


def test_committed_runs_are_not_made_again_unless_something_starts_from_them(
    grid: Grid, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class One:
        def __init__(self, run: Run, state: str, place: str | None) -> None:
            self.kind, self.name, self.state, self.place = run.kind, run.name, state, place

    def known(*missing: str) -> Any:
        experiments = [
            One(run, "missing", None) if name(run) in missing else One(run, "fresh", "kept")
            for run in grid.runs
        ]
        return lambda preset, root: type("Status", (), {"experiments": experiments})()

    monkeypatch.setattr(direct, "status", known())
    assert to_make([grid], checkout) == []
    monkeypatch.setattr(direct, "status", known("finetune byol-s1"))
    assert [name(run) for run in to_make([grid], checkout)] == ["pretrain byol-s1", "finetune byol-s1"]
