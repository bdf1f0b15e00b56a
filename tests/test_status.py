"""The state of a preset's experiments, told from what lies in a checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests_support import example_record

from cvsa.errors import CVSAError
from cvsa.grid import load_grid
from cvsa.provenance import commit
from cvsa.records import Record, read_record, write_record
from cvsa.records.schema import Imported
from cvsa.status import Experiment, expected_configs, is_error, status, status_json, status_lines

GRID = """
tiny:
  second_stage_only:
    - {rows: [Random, BYOL], seeds: [0], evaluate: [finetune, probe, evaluate]}
  dual_stage:
    - {rows: [BYOL+CVSA], seeds: [0]}
  ablations:
    shortcut: {vary: habitat_bias, values: [0.1], rows: [BYOL], seeds: [0], evaluate: [probe]}
"""
LIVE = Path("book/results/tiny")


def make_all(root: Path) -> None:
    """Every experiment of the grid, as today's code and configuration would record it; 10 s each."""
    made: dict[tuple[str, str], Record] = {}
    grid = load_grid(root / "workflow" / "grid.yaml", "tiny")
    configs = expected_configs(grid)
    for run in grid.runs:
        parent = made.get((run.parent_kind, run.parent)) if run.parent else None
        parents = (
            []
            if parent is None
            else [*parent.parents[:1], parent.run_id]
            if run.kind == "evaluate"
            else [parent.run_id]
        )
        config = configs[run.kind, run.name].model_copy(
            update={"parent": parents[0], "pretrained": Path("anywhere")} if parents else {}
        )
        record = example_record(
            kind=run.kind, run_id=config.identity(), row=config.row, seed=config.seed,
            config=config.model_dump(mode="json"), parents=parents, code=commit(config), seconds=10.0,
        )  # fmt: skip
        made[run.kind, run.name] = write_record(record, root / LIVE / run.kind / run.name)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "grid.yaml").write_text(GRID)
    make_all(tmp_path)
    return tmp_path


def find(root: Path, kind: str, name: str) -> Experiment:
    return next(one for one in status("tiny", root).experiments if (one.kind, one.name) == (kind, name))


def change(folder: Path, **fields: Any) -> None:
    write_record(read_record(folder).model_copy(update=fields), folder)


def test_a_complete_preset_is_fresh(checkout: Path) -> None:
    told = status("tiny", checkout)
    assert told.counts == {"fresh": len(told.experiments)} and not told.waiting
    lines = told.lines()
    assert (
        "Nothing is left to run" in lines[0]
        and lines[1] == f"  live: {len(told.experiments)} in book/results/tiny"
    )
    order = [run.name for run in load_grid(checkout / "workflow/grid.yaml", "tiny").runs]
    assert [line.split()[2] for line in lines[4:]] == order


def test_an_evaluation_is_expected_with_what_it_inherits(checkout: Path) -> None:
    configs = expected_configs(load_grid(checkout / "workflow" / "grid.yaml", "tiny"))
    assert configs["probe", "byol-s0-habitat_bias0.1"].habitat_bias == 0.1
    # After a second stage its data; the first stage's own images are not what is evaluated.
    assert configs["pretrain", "stage1-byol-s0"].dataset == "synthscenes"
    assert configs["finetune", "dual-byol-cvsa-s0"].dataset == "synthbirds"


def test_another_configuration_names_the_field_and_passes_on(checkout: Path) -> None:
    folder = checkout / LIVE / "pretrain" / "byol-s0"
    change(folder, config={**read_record(folder).config, "epochs": 5})
    one = find(checkout, "pretrain", "byol-s0")
    assert (one.state, one.place) == ("stale", "live")
    assert "epochs is 20 now and was 5" in one.reasons
    assert find(checkout, "probe", "byol-s0").reasons == ["its pre-training byol-s0 is stale"]
    assert find(checkout, "evaluate", "byol-s0").reasons == ["its finetune byol-s0 is stale"]
    assert find(checkout, "probe", "random-s0").state == "fresh"
    assert status("tiny", checkout).seconds_left > 0
    # Its five epochs took 10 s: 20 are expected to take four times as long, and a start.
    assert one.seconds == pytest.approx(4 * 10 + 8)


def test_changed_code_names_the_file(checkout: Path) -> None:
    folder = checkout / LIVE / "pretrain" / "byol-s0"
    code = read_record(folder).code
    change(folder, code={**code, "files": {**code["files"], "cvsa/views/crop.py": "0" * 12}})
    assert find(checkout, "pretrain", "byol-s0").reasons == ["cvsa/views/crop.py was changed"]
    lines = status("tiny", checkout).lines()
    assert "  1 stale because cvsa/views/crop.py was changed" in lines


def test_a_parent_made_anew_by_another_configuration(checkout: Path) -> None:
    change(checkout / LIVE / "probe" / "byol-s0", parents=["0" * 12])
    (reason,) = find(checkout, "probe", "byol-s0").reasons
    assert reason.startswith("its pre-training byol-s0 is another run now")


def test_missing_failed_and_unfinished(checkout: Path) -> None:
    folder = checkout / LIVE / "pretrain" / "byol-s0"
    (folder / "record.json").unlink()
    assert (find(checkout, "pretrain", "byol-s0").state, find(checkout, "probe", "byol-s0").reasons) == (
        "missing", ["its pre-training byol-s0 is missing"],
    )  # fmt: skip
    (folder / "log.txt").write_text("Traceback\nCVSAError: lr must be positive\nsome note\n")
    (checkout / LIVE / "probe" / "byol-s0" / "record.json").unlink()
    failed = find(checkout, "pretrain", "byol-s0")
    assert (failed.state, failed.reasons) == ("failed", ["CVSAError: lr must be positive"])
    assert is_error("error: lr must be positive") and not is_error("BYOL: 10%, terror: 3")
    waiting = find(checkout, "probe", "byol-s0")
    assert (waiting.state, waiting.reasons) == ("missing", ["waits for pre-training byol-s0"])
    assert failed.seconds is not None and failed.seconds > 8
    (folder / "log.txt").write_text("a kernel's warning\n")
    assert find(checkout, "pretrain", "byol-s0").reasons == ["runs now, or was interrupted"]


@pytest.mark.parametrize("damage", ["truncated", "digit", "nan"])
def test_damaged_is_said_with_the_reason(checkout: Path, damage: str) -> None:
    path = checkout / LIVE / "pretrain" / "byol-s0" / "record.json"
    text = path.read_text()
    changed = {
        "truncated": text[:300],
        "digit": text.replace("0.5", "0.6"),
        "nan": text.replace("0.5", "NaN"),
    }
    path.write_text(changed[damage])
    one = find(checkout, "pretrain", "byol-s0")
    assert one.state == "damaged" and one.place == "live" and one.reasons[0]
    assert find(checkout, "finetune", "byol-s0").reasons == ["its pre-training byol-s0 is damaged"]


def test_committed_counts_where_nothing_is_live(checkout: Path) -> None:
    (checkout / "results").mkdir()
    (checkout / LIVE).rename(checkout / "results" / "tiny")
    assert status("tiny", checkout).counts == {"fresh": 12}
    change(
        checkout / "results/tiny/pretrain/byol-s0",
        imported=Imported(file="x.zip", on="2026-01-02T00:00:00Z", digest=None, by="cvsa 0"),
    )
    one = find(checkout, "pretrain", "byol-s0")
    assert (one.state, one.place, one.reasons) == ("imported", "kept", ["imported on 2026-01-02 from x.zip"])
    assert find(checkout, "probe", "byol-s0").state == "fresh"
    make_all(checkout)
    assert find(checkout, "pretrain", "byol-s0").place == "live"


def test_text_fits_and_json_is_whole(checkout: Path) -> None:
    folder = checkout / LIVE / "pretrain" / "byol-s0"
    long = {name: "0" * 12 for name in read_record(folder).code["files"]}
    change(folder, code={**read_record(folder).code, "files": long})
    told = status("tiny", checkout)
    assert all(len(line) <= 110 for line in told.lines())
    assert any(line.endswith("…") for line in told.lines())
    stale = told.lines(["stale"])
    assert all(line.startswith("stale") for line in stale[stale.index("") + 2 :])
    data = json.loads(status_json("tiny", checkout))
    assert data["states"] == told.counts
    entry = next(one for one in data["experiments"] if one["name"] == "byol-s0" and one["kind"] == "pretrain")
    assert len(entry["reasons"]) == len(long)
    with pytest.raises(CVSAError, match="Unknown state 'old'. States: fresh"):
        told.lines(["old"])


def test_parts_are_told_with_their_preset_and_what_stands_for_it(tmp_path: Path) -> None:
    (tmp_path / "workflow").mkdir()
    block = "second_stage_only: [{rows: [Random], seeds: [0], evaluate: [finetune]}]"
    (tmp_path / "workflow" / "grid.yaml").write_text(
        f"small: {{parts: [small_resnet50], {block}}}\n"
        + "".join(f"{name}: {{{block}}}\n" for name in ("small_resnet50", "small_cpu", "confirm"))
    )
    told = status_lines("small", tmp_path, ["missing"])
    heads = [line for line in told if line.startswith("Preset ")]
    assert [head.split()[1] for head in heads] == ["small:", "small_resnet50:", "small_cpu:", "confirm:"]
    assert sum("random-s0" in line for line in told) == 2 and "stands for small" in told[-5]
    data = json.loads(status_json("small", tmp_path))
    assert (data["preset"], [part["preset"] for part in data["parts"]]) == ("small", ["small_resnet50"])
    assert told[-2].startswith("confirm small_cpu again")
    assert not json.loads(status_json("small_cpu", tmp_path))["parts"]


def test_an_unknown_preset_is_one_line(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(CVSAError, match="There are: tiny"):
        status("huge", checkout)
    with pytest.raises(CVSAError, match="checkout"):
        status("tiny", tmp_path / "nowhere")
