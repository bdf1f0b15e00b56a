"""Tables from records, on runs with known numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests_support import example_record

from cvsa.errors import CVSAError
from cvsa.records import find_records, write_record
from cvsa.report import tables
from cvsa.report.keep import keep
from cvsa.report.page import interval, markdown, percent, points


def make_runs(root: Path, accuracy: dict[tuple[str, int], float]) -> None:
    """Fine-tuning records with predictions: row, seed -> accuracy on 100 test images."""
    for number, ((row, seed), share) in enumerate(accuracy.items()):
        folder = root / f"{row}-{seed}"
        record = example_record(
            row=row,
            seed=seed,
            run_id=f"{number:012x}",
            metrics={"test_accuracy": share},
        )
        write_record(record, folder)
        hits = np.arange(100) < round(100 * share)
        predictions = pd.DataFrame(
            {"split": "test", "image": range(100), "label": 1, "predicted": np.where(hits, 1, 0)}
        )
        predictions.to_csv(folder / "predictions.csv", index=False)


def load(root: Path) -> pd.DataFrame:
    return tables.long_table(find_records(root))


def test_rows_are_summarised_with_every_seed(tmp_path: Path) -> None:
    make_runs(tmp_path, {("BYOL", 0): 0.4, ("BYOL", 1): 0.6, ("BYOL+SS", 0): 0.7})
    summary = tables.by_row(load(tmp_path), "finetune.test_accuracy")
    assert list(summary.index) == ["BYOL", "BYOL+SS"]
    assert summary.loc["BYOL", "mean"] == pytest.approx(0.5) and summary.loc["BYOL", "seeds"] == [0.4, 0.6]
    assert np.isnan(summary.loc["BYOL+SS", "low"])


def test_differences_pair_seeds_and_images(tmp_path: Path) -> None:
    make_runs(tmp_path, {("BYOL", 0): 0.40, ("BYOL", 1): 0.60, ("BYOL+SS", 0): 0.501, ("BYOL+SS", 1): 0.70})
    table = tables.differences(load(tmp_path), "finetune.test_accuracy").set_index(["row", "against"])
    line = table.loc[("BYOL+SS", "BYOL")]
    assert line["difference"] == pytest.approx(0.1005)
    assert (
        line["low"] > 0 and line["separated"] == "yes"
    )  # the seeds agree, though each row's own spread is wide
    assert 0 < line["image_low"] < 0.1 < line["image_high"]


def test_top1_of_birds_is_compared_on_the_images_like_those_of_training(tmp_path: Path) -> None:
    """Rows are right on other images of each split: intervals and McNemar's test must read the same one."""
    right = {"val": (60, 80), "test": (10, 90), "test_swapped": (50, 20)}  # of 100 images: BYOL, BYOL+SS
    for place, row in enumerate(("BYOL", "BYOL+SS")):
        for seed in (0, 1):
            folder = tmp_path / f"{row}-{seed}"
            metrics = {f"{split}_accuracy": counts[place] / 100 for split, counts in right.items()}
            run_id = f"{2 * seed + place:012x}"
            write_record(example_record(row=row, seed=seed, run_id=run_id, metrics=metrics), folder)
            lines = [
                pd.DataFrame({"split": split, "image": range(100), "label": 1,
                              "predicted": (np.arange(100) < counts[place]).astype(int)})
                for split, counts in right.items()
            ]  # fmt: skip
            pd.concat(lines).to_csv(folder / "predictions.csv", index=False)
    table = load(tmp_path)
    found = {metric: tables.differences(table, metric).iloc[0]
             for metric in (tables.TOP1, *(f"finetune.{split}_accuracy" for split in right))}  # fmt: skip
    shown = ["difference", "image_low", "image_high"]
    top1, val = found[tables.TOP1], found["finetune.val_accuracy"]
    assert top1[shown].tolist() == val[shown].tolist() and top1["mcnemar"] == val["mcnemar"]
    assert top1["mcnemar"] == pytest.approx([2 * 0.5**20] * 2)  # 20 images right by one row only
    others = [found[f"finetune.{split}_accuracy"] for split in ("test", "test_swapped")]
    assert all(top1["image_low"] != other["image_low"] for other in others)


def test_one_seed_never_separates_over_seeds(tmp_path: Path) -> None:
    make_runs(tmp_path, {("BYOL", 0): 0.2, ("BYOL+SS", 0): 0.9})
    assert tables.differences(load(tmp_path), "finetune.test_accuracy")["separated"].tolist() == [
        "images only"
    ]


def test_reported_numbers_are_the_authors() -> None:
    reported = tables.reported_results()
    assert (reported["table"] == "second_stage_only").sum() == 40
    cell = reported.query(
        "method == 'BYOL+CVSA' and dataset == 'CUB-200-2011' and table == 'second_stage_only'"
    )
    assert cell["top1_percent"].tolist() == [66.88]
    lines, baselines = tables.reported_scale_ablation()
    assert baselines == {"MoCo.v2": 61.52, "BYOL": 63.54}
    assert set(lines["row"]) == {"MoCo.v2+SS", "BYOL+SS", "BYOL+CVSA"} and len(lines) == 24


def test_ablation_runs_stay_out_of_the_main_table(tmp_path: Path) -> None:
    for number, scale in enumerate((0.5, 0.08)):
        parent = example_record(
            kind="pretrain", run_id=f"{number:012d}", config={"swap_scale": scale}, metrics={"loss": 1.0}
        )
        write_record(parent, tmp_path / f"p{number}")
        child = example_record(run_id=f"{number + 7:012d}", parents=[parent.run_id])
        write_record(child, tmp_path / f"f{number}")
    table = load(tmp_path)
    assert sorted(table["scale"].unique()) == [0.08, 0.5]
    main = tables.main_runs(table)
    assert set(main["scale"]) == {0.5} and main["run_id"].nunique() == 2


def test_few_labels_and_what_looks_at_their_classifier_stay_out_of_the_main_table(tmp_path: Path) -> None:
    few = example_record(run_id="1" * 12, config={"label_fraction": 0.1})
    looked = {"kind": "evaluate", "metrics": {"linear.class_closed": 0.4}}
    write_record(few, tmp_path / "few")
    write_record(
        example_record(run_id="2" * 12, config={"classifier": few.run_id}, **looked), tmp_path / "looked"
    )
    write_record(example_record(run_id="3" * 12, config={"label_fraction": 1.0}), tmp_path / "all")
    write_record(
        example_record(run_id="4" * 12, config={"classifier": "3" * 12}, **looked), tmp_path / "kept"
    )
    table = load(tmp_path)
    assert set(tables.second_stages(table)["labels"]) == {0.1, 1.0}
    assert set(tables.main_runs(table)["run_id"]) == {"3" * 12, "4" * 12}


def test_formats() -> None:
    assert (percent(0.1234), points(0.0123), points(-0.02)) == ("12.3", "+1.2", "-2.0")
    assert interval(float("nan"), 1, points) == "–"
    assert markdown(pd.DataFrame({"a": ["x|y"], "b": [1]})) == "| a | b |\n|:---|---:|\n| x\\|y | 1 |"


def test_keep_refuses_an_unfinished_preset_and_copies_nothing(tmp_path: Path) -> None:
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "grid.yaml").write_text(
        "tiny: {second_stage_only: [{rows: [Random], seeds: [0]}]}"
    )
    with pytest.raises(CVSAError, match="not finished"):
        keep("tiny", tmp_path)
    assert not (tmp_path / "results").exists()
    for kind in ("finetune", "probe"):
        write_record(
            example_record(kind=kind, row="Random"),
            tmp_path / "book" / "results" / "tiny" / kind / "random-s0",
        )
    (tmp_path / "book/results/tiny/probe/random-s0/weights.safetensors").write_text("large")
    assert keep("tiny", tmp_path) == {"tiny": 2}
    kept = {
        path.relative_to(tmp_path / "results").as_posix()
        for path in (tmp_path / "results").rglob("*")
        if path.is_file()
    }
    assert kept == {"tiny/finetune/random-s0/record.json", "tiny/probe/random-s0/record.json"}


def test_part_of_a_preset_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "grid.yaml").write_text(
        "tiny: {second_stage_only: [{rows: [Random], seeds: [0]}]}"
    )
    with pytest.raises(CVSAError, match="No run .* is finished"):
        keep("tiny", tmp_path, partial=True)
    before = tmp_path / "results" / "tiny" / "probe" / "random-s0"
    write_record(example_record(kind="probe", row="Random"), before)
    folder = tmp_path / "book" / "results" / "tiny" / "finetune" / "random-s0"
    write_record(example_record(kind="finetune", row="Random"), folder)
    assert keep("tiny", tmp_path, partial=True) == {"tiny": 1}
    assert (before / "record.json").is_file()
    assert (tmp_path / "results" / "tiny" / "finetune" / "random-s0" / "record.json").is_file()
