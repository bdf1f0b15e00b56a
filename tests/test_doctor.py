"""The doctor as a whole: in order, as it goes, with estimates that are arithmetic on records."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from tests_support import SMALL, example_record

from cvsa import costs
from cvsa.cli import main
from cvsa.config import FinetuneConfig, PretrainConfig, resolve
from cvsa.doctor import Finding, checks, examine, installation, machine, speed
from cvsa.doctor.finding import GIB
from cvsa.doctor.installation import Pair
from cvsa.doctor.machine import Gpu, judge_cores
from cvsa.doctor.speed import largest_batch, runs_at_once
from cvsa.doctor.times import as_made_here, pools, preset_time, row_time
from cvsa.limits import Memory
from cvsa.records import write_record
from cvsa.throughput import Pace, Timing, pace

ROOT = Path(__file__).parents[1]
NMS = "RuntimeError: operator torchvision::nms does not exist"


def made(rate: float, share: float = 1.0, **fields: Any) -> Pace:
    """A measurement of so many images per second."""
    config = resolve(PretrainConfig, row="BYOL+CVSA", preset="tiny", **fields)
    clock = config.batch_size / rate
    timing = Timing(passes=8, seconds=[clock / share] * 3, processor=[clock] * 3)
    return Pace(config, timing, "cpu", 1, 1000.0)


def test_a_pace_is_measured_for_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = resolve(PretrainConfig, row="BYOL+CVSA", preset="tiny", **SMALL, device="cpu")
    least, longer = pace(config, 0.0), pace(config, 0.3)
    assert len(least.timing.seconds) == 3
    assert len(longer.timing.seconds) >= 3 and sum(longer.timing.seconds) > 0.25
    assert least.rate > 0 and 0 < least.share <= 1 and least.device == "cpu"
    assert not list(tmp_path.iterdir())
    assert (made(200.0, 0.5).rate, made(200.0, 0.5).share) == (pytest.approx(200), pytest.approx(0.5))


@pytest.mark.parametrize(
    ("most", "room", "tried"),
    [(256, 999, [256]), (256, 70, [256, 128, 64]), (50, 20, [50, 32, 16]), (8, 1, [8, 4, 2])],
)
def test_the_batch_is_halved_until_it_fits(most: int, room: int, tried: list[int]) -> None:
    sizes = []

    def attempt(size: int) -> Pace:
        sizes.append(size)
        if size > room:
            raise torch.OutOfMemoryError("CUDA out of memory") if size % 3 else MemoryError
        return made(1.0, batch_size=size)

    found = largest_batch(attempt, most)
    assert sizes == tried
    assert (found.config.batch_size if found else None) == (tried[-1] if room > 1 else None)


def test_other_errors_than_memory_are_not_hidden() -> None:
    def attempt(size: int) -> Pace:
        raise RuntimeError("no kernel image")

    with pytest.raises(RuntimeError, match="no kernel image"):
        largest_batch(attempt, 8)


def test_runs_at_once() -> None:
    def jobs(*given: Any) -> int:
        found: int = runs_at_once(*given).facts["jobs"]
        return found

    assert jobs(8, None, GIB) == jobs(8, 64 * GIB, GIB) == 8
    assert jobs(8, 5 * GIB, 1.5 * GIB) == 3
    assert jobs(8, GIB, 2 * GIB) == 1
    assert jobs(8, 64 * GIB, GIB, (10 * GIB, 4 * GIB)) == 2
    assert "5.0 GiB of free memory" in runs_at_once(8, 5 * GIB, 1.5 * GIB).text


def records(rate: float = 100.0, cpu: str = "a CPU", seconds: float = 60.0) -> list[Any]:
    """A pre-training and a fine-tuning of tiny; the latter takes half as long."""
    train = resolve(PretrainConfig, row="BYOL+CVSA", preset="tiny")
    tune = resolve(FinetuneConfig, row="BYOL+CVSA", preset="tiny")
    given = {"row": "BYOL+CVSA", "hardware": {"cpu": cpu, "device": "cpu"}, "images_per_second": rate}
    return [
        example_record(kind="pretrain", config=train.model_dump(mode="json"), seconds=seconds, **given),
        example_record(kind="finetune", config=tune.model_dump(mode="json"), seconds=seconds / 2, **given),
    ]


def test_pools_are_of_the_same_row_network_size_and_machine() -> None:
    config = made(1.0).config
    known = [*records(50.0, "another"), *records(100.0), *records(300.0), *records(110.0)]
    assert [(pool.machine[0], pool.rate, pool.count) for pool in pools(config, known)] == [
        ("a CPU", 110.0, 3), ("another", 50.0, 1),
    ]  # fmt: skip
    for change in ({"image_size": 64}, {"backbone": "resnet18"}, {"row": "BYOL"}):
        assert pools(config.model_copy(update=change), known) == []


def test_each_record_is_scaled_by_its_own_machine() -> None:
    # The same run, told by a fast machine, a slow one, and one that only fine-tuned.
    known = [*records(100.0), *records(100.0), *records(50.0, "another", 120.0), records(1.0, "a third")[1]]
    here = as_made_here(known, pools(made(1.0).config, known), 200.0)
    assert [record.seconds for record in here] == [30, 15, 30, 15, 30, 15, 15]


def test_a_presets_time_by_hand() -> None:
    train = [resolve(PretrainConfig, row="BYOL+CVSA", preset="tiny", seed=seed) for seed in (0, 1)]
    tune = resolve(FinetuneConfig, preset="tiny")
    found = preset_time([*train, tune], records(), at_once=2)
    assert found.facts == {"runs": 3, "untold": 0, "seconds": (2 * (60 + 8) + 30 + 8) / 2, "absent": []}
    assert found.text == "about 87 s for 3 runs"
    other = train[0].model_copy(update={"backbone": "vit_slim"})
    assert preset_time([*train, other], records(), 1).facts["untold"] == 1
    assert "2 of 3 runs" in preset_time([*train, other], records(), 1).text
    assert preset_time([other], records(), 1).text == "1 runs; no record tells how long they take"


def test_photographs_that_are_not_here_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve(PretrainConfig, preset="pets3")
    monkeypatch.delenv("CVSA_DATA", raising=False)
    assert "needs photographs in $CVSA_DATA/pets3" in preset_time([config], [], 1).text
    monkeypatch.setenv("CVSA_DATA", str(tmp_path))
    assert "needs photographs" in preset_time([config], [], 1).text
    (tmp_path / "pets3").mkdir()
    assert "needs photographs" not in preset_time([config], [], 1).text


def test_a_rows_time_by_hand() -> None:
    config = resolve(PretrainConfig, row="BYOL+CVSA", preset="paper")
    images = round(5994 * 0.9)
    found = row_time(config, 100.0, "measured now")
    assert found.facts["seconds"] == pytest.approx(images * 200 / 100, abs=1) and "3.0 h" in found.text
    unknown = row_time(config, None)
    assert "not measured" in unknown.text and "cvsa throughput" in unknown.advice
    assert unknown.facts["passes"] == costs.passes(config, images)


def named(report: Any, name: str) -> Finding:
    (found,) = [check.finding for check in report.checks if check.name == name]
    return found


GRID = """
tiny:
  second_stage_only:
    - {rows: [BYOL+CVSA], seeds: [0, 1, 2], evaluate: [finetune]}
small_cpu:
  second_stage_only:
    - {rows: [BYOL+CVSA], seeds: [0], evaluate: [finetune, probe]}
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a grid and two records, on a machine of four cores without a GPU."""
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "grid.yaml").write_text(GRID)
    for record in records():
        write_record(record, tmp_path / "results" / "tiny" / record.kind / "one")
    monkeypatch.setattr(machine, "look_at_gpu", lambda: Gpu(reason="none"))
    monkeypatch.setattr(machine, "memory", lambda: Memory(64 * GIB, 64 * GIB))
    monkeypatch.setattr(machine, "judge_cores", lambda *given: judge_cores("a CPU", 4, 4, None))
    return tmp_path


def test_times_are_the_recorded_ones_over_the_speed(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = examine(None, lambda text: None, checkout)
    assert named(report, "runs at a time").facts["jobs"] == 4
    assert named(report, "tiny").facts["seconds"] == pytest.approx(3 * (60 + 30 + 2 * 8) / 4, abs=0.1)
    assert "not measured" in named(report, "compared").text
    monkeypatch.setattr(speed, "pace", lambda config, seconds: made(400.0))
    report = examine(1.0, lambda text: None, checkout)
    assert named(report, "compared").facts["pools"][0]["scale"] == 4
    assert (report.checks[-4].name, report.checks[-4].section) == ("compared", "Time, estimated")
    # Four times as fast, but a start is a start.
    (timed,) = [c.finding for c in report.checks if c.name == "tiny" and c.section.startswith("Time")]
    assert timed.facts["seconds"] == pytest.approx(3 * (15 + 7.5 + 2 * 8) / 4, abs=0.1)
    assert named(report, "small_cpu").facts == {  # six and four times the images; no record of a probe
        "runs": 3, "untold": 1, "seconds": pytest.approx((90 + 30 + 2 * 8) / 4, abs=0.1), "absent": [],
    }  # fmt: skip
    assert "not tried here" in named(report, "batch size").text
    assert "not measured here" in named(report, "paper, one row").text


def test_every_preset_of_the_grid_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "look_at_gpu", lambda: Gpu(reason="none"))
    report = examine(None, lambda text: None, ROOT)
    told = {c.name: c.finding for c in report.checks if c.section.startswith("Time")}
    grid = yaml.safe_load((ROOT / "workflow" / "grid.yaml").read_text())
    assert set(told) == {"compared", *grid, "paper, one row"}
    facts = {name: told[name].facts for name in grid}
    assert facts["tiny"]["seconds"] > 0 and not facts["tiny"]["untold"]
    # Of a network that no committed run has nothing can be told.
    assert all((each["seconds"] > 0) == (each["untold"] < each["runs"]) for each in facts.values())


def test_a_gpu_is_measured_at_three_sizes_and_shared(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(config: PretrainConfig, seconds: float) -> Pace:
        asked.append((config.backbone, config.image_size, config.batch_size, seconds))
        if config.batch_size > 64:
            raise torch.OutOfMemoryError
        return replace(made(400.0), config=config, device="cuda", memory_mib=1024.0)

    asked: list[tuple[str, int, int, float]] = []
    monkeypatch.setattr(machine, "look_at_gpu", lambda: Gpu(["A GPU"], 16 * GIB, 7 * GIB, "12.4"))
    monkeypatch.setattr(speed, "pace", measure)
    report = examine(9.0, lambda text: None, checkout)
    assert asked == [
        ("resnet_slim", 48, 50, 3.0), ("resnet18", 128, 50, 3.0),
        ("resnet50", 224, 256, 3.0), ("resnet50", 224, 128, 3.0), ("resnet50", 224, 64, 3.0),
    ]  # fmt: skip
    batch = named(report, "batch size")
    assert batch.facts == {"tiny": 50, "paper": 64} and "-p batch_size 64 in place of 256" in batch.advice
    assert named(report, "runs at a time").facts["jobs"] == 3  # 7 GiB free, each takes 1 and the context 1
    (timed,) = [c.finding for c in report.checks if c.name == "tiny" and c.section.startswith("Time")]
    # 50 images in 50 / 400 s here and in 50 / 100 s in the records; runs share the GPU.
    assert timed.facts["seconds"] == pytest.approx(3 * (15 + 7.5 + 2 * 8), abs=0.1)
    assert "measured now" in named(report, "paper, one row").text


def test_json_for_programs_with_a_real_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "look_at_gpu", lambda: Gpu(reason="none"))  # one size is enough
    torch.set_num_threads(2)
    try:
        result = CliRunner().invoke(main, ["doctor", "--seconds", "0", "--json"])
        assert torch.get_num_threads() == 2  # one while it measures, as every run has
    finally:
        torch.set_num_threads(1)
    told = json.loads(result.stdout)
    assert result.exit_code == told["status"] == 0
    found = {(check["section"], check["name"]): check for check in told["checks"]}
    assert all({"mark", "text", "advice", "facts"} <= set(check) for check in found.values())
    measured = found["Speed", "tiny"]["facts"]
    assert (measured["row"], measured["image_size"], measured["threads"]) == ("BYOL+CVSA", 48, 1)
    assert measured["images_per_second"] > 0 and measured["steps"] == 3
    assert "in a checkout" in found["Time, estimated", "compared"]["text"]
    assert not list(tmp_path.iterdir())


def test_a_broken_torch_fails_and_the_rest_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        installation, "look_at_pair", lambda: Pair("2.6.0", "0.20.1", "==2.5.1", "", error=NMS)
    )
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    (broken,) = [number for number, line in enumerate(lines) if " fail " in line]
    assert "torch, torchvision" in lines[broken] and "nms does not exist" in lines[broken]
    assert lines[broken + 1].strip().startswith('-> pip install "torch==2.6.0" "torchvision>=0.21,<0.22"')
    assert any(line.startswith("  memory") for line in lines) and "Proposals" not in lines
    assert lines[-1].startswith("1 of ") and "Speed, proposals, time" in lines


def test_each_check_is_named_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        assert said[-1].strip() == "first"
        raise OSError("a disk\nis gone")

    said: list[str] = []
    looks = [("Some", iter([("first", broken), ("second", lambda: Finding("warn", "low", "do this"))]))]
    monkeypatch.setattr(checks, "_sections", lambda seconds, root: looks)
    report = examine(None, said.append)
    lines = "".join(said).splitlines()
    told = [" ".join(line.split()) for line in lines[1:4]]
    assert told == ["first fail OSError: a disk is gone", "second warn low", "-> do this"]
    assert report.status == 1 and lines[-1].startswith("1 of 2 checks failed")
    report = replace(report, checks=report.checks[1:])
    assert report.status == 0 and "1 of 1 checks warn" in report.summary()


def test_torch_is_not_imported_before_it_is_checked() -> None:
    code = (
        "import sys, cvsa.cli, cvsa.doctor; sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
