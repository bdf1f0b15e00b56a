"""Two runs, or two sets, side by side: on records with known differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tests_support import example_record

from cvsa.config import KINDS, resolve
from cvsa.errors import CVSAError
from cvsa.records import Record, read_record, write_record
from cvsa.report.compare import Comparison, compare, run_comparison, show, signed
from cvsa.report.compare_match import load, match
from cvsa.report.compare_runs import sparkline

MODELS = {kind: model for model, kind in KINDS.items()}
CODE = {
    "hash": "a" * 12,
    "commit": "c" * 40,
    "files": {"cvsa/views/crop.py": "1" * 12, "cvsa/io/paths.py": "2" * 12},
}


def make_run(
    folder: Path, kind: str = "finetune", parent: Record | None = None, hits: np.ndarray | None = None,
    record: dict[str, Any] | None = None, **given: Any,
) -> Record:  # fmt: skip
    """A run with a history, and predictions that are right where ``hits`` is."""
    started = {"parent": parent.run_id, "pretrained": f"x/pretrain/{parent.row}"} if parent else {}
    config = resolve(MODELS[kind], **{"row": "BYOL", **given, **started})
    folder.mkdir(parents=True)
    losses = [1.0, 0.5, 0.25] if config.seed == 0 else [1.0, 0.6, 0.3]
    pd.DataFrame({"epoch": [1, 2, 3], "loss": losses}).to_csv(folder / "history.csv", index=False)
    metrics = {"loss": losses[-1]} if kind == "pretrain" else {"test_accuracy": 0.5}
    if hits is not None:
        metrics["test_accuracy"] = float(hits.mean())
        predicted = np.where(hits, 1, 0)
        table = {"split": "test", "image": range(len(hits)), "label": 1, "predicted": predicted}
        pd.DataFrame(table).to_csv(folder / "predictions.csv", index=False)
    fields = {
        "kind": kind, "run_id": config.identity(), "row": config.row, "preset": config.preset,
        "seed": config.seed, "config": config.model_dump(mode="json"), "metrics": metrics, "code": CODE,
        "parents": [parent.run_id] if parent else [],
        "data_fingerprints": {"train": "f" * 64, "test": "e" * 64},
    }  # fmt: skip
    return write_record(example_record(**fields | (record or {})), folder)


def text_of(comparison: Comparison) -> str:
    return "\n".join(comparison.lines())


def loud(comparison: Comparison) -> list[str]:
    return [notice.text for notice in comparison.notices if notice.loud]


def test_two_runs_in_all_that_differs(tmp_path: Path) -> None:
    made = {
        "code": {**CODE, "files": {**CODE["files"], "cvsa/views/crop.py": "9" * 12}},
        "libraries": {"torch": "3"},
    }
    make_run(tmp_path / "a", "pretrain", epochs=20)
    make_run(tmp_path / "b", "pretrain", epochs=40, seed=1, record=made)
    comparison = compare(tmp_path / "a", tmp_path / "b")
    tables = {section.title: section.table for section in comparison.sections}
    assert tables["Configuration"].to_numpy().tolist() == [["seed", "0", "1"], ["epochs", "20", "40"]]
    assert tables["Code, libraries, machine"].to_numpy().tolist() == [
        ["cvsa/views/crop.py", "1" * 12, "9" * 12], ["torch", "2", "3"],
    ]  # fmt: skip
    assert tables["Final metrics"].to_numpy().tolist() == [["loss", "0.25", "0.3", "+0.0500"]]
    curve = tables["Curves"].iloc[0]
    assert (curve["A, last"], curve["B, last"], curve["A"], len(curve["B"])) == ("0.25", "0.3", "█▃▁", 3)
    assert loud(comparison) == []


def test_image_by_image(tmp_path: Path) -> None:
    a = np.arange(100) < 60
    b = (np.arange(100) < 50) | (np.arange(100) >= 70)  # 10 lost, 30 won
    make_run(tmp_path / "a", hits=a)
    make_run(tmp_path / "b", hits=b, seed=1)
    section = next(
        s for s in compare(tmp_path / "a", tmp_path / "b").sections if s.title == "The same images"
    )
    line = section.table.iloc[0]
    assert (line["images"], line["B − A"], line["only A right"], line["only B right"]) == (
        100,
        "+0.2000",
        10,
        30,
    )
    assert float(line["McNemar p"]) == pytest.approx(stats.binomtest(10, 40).pvalue, rel=0.01)
    low, high = (float(part) for part in line["95 % interval"].strip("[]").split(", "))
    assert 0 < low < 0.2 < high < 0.4


def test_other_test_images_are_not_compared_image_by_image(tmp_path: Path) -> None:
    hits = np.arange(10) < 5
    make_run(tmp_path / "a", hits=hits)
    make_run(tmp_path / "b", hits=hits, seed=1, record={"data_fingerprints": {"test": "0" * 64}})
    comparison = compare(tmp_path / "a", tmp_path / "b")
    assert any(
        "NOT THE SAME DATA in test, though the configurations ask for the same" in t for t in loud(comparison)
    )
    assert "test: not the same images, so not compared image by image." in text_of(comparison)


def test_the_same_configuration_is_said_whatever_came_out(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b")
    assert "Same configuration, and results equal to the last digit." in text_of(
        compare(tmp_path / "a", tmp_path / "b")
    )
    other = {"metrics": {"test_accuracy": 0.5 + 1e-12}, "libraries": {"torch": "3"}}
    make_run(tmp_path / "c", record=other)
    (said,) = loud(compare(tmp_path / "a", tmp_path / "c"))
    assert said == "SAME CONFIGURATION, DIFFERENT RESULTS. What differs: libraries (torch)."
    make_run(tmp_path / "d", record={"metrics": {"test_accuracy": 0.7}})
    (said,) = loud(compare(tmp_path / "a", tmp_path / "d"))
    assert said.endswith("Nothing that is recorded explains it.")
    make_run(tmp_path / "e", record={"metrics": {"test_accuracy": 0.5, "new": 1.0}})
    assert "equal to the last digit, in the metrics that both have" in text_of(
        compare(tmp_path / "a", tmp_path / "e")
    )


def test_the_pre_training_of_a_run_counts(tmp_path: Path) -> None:
    for name, epochs in (("a", 20), ("b", 40)):
        parent = make_run(tmp_path / name / "pretrain" / "BYOL", "pretrain", epochs=epochs)
        make_run(tmp_path / name / "finetune" / "BYOL", parent=parent)
    table = compare(tmp_path / "a/finetune/BYOL", tmp_path / "b/finetune/BYOL").sections[0].table
    assert ["pretrain.epochs", "20", "40"] in table.to_numpy().tolist()


def make_set(root: Path, gain: float = 0.0, seeds: tuple[int, ...] = (0, 1, 2), **given: Any) -> None:
    """Pre-trainings and fine-tunings of BYOL, and of BYOL+SS at two scales."""
    for row, scale in (("BYOL", None), ("BYOL+SS", 0.5), ("BYOL+SS", 0.08)):
        for seed in seeds:
            own = {"row": row, "seed": seed, "swap_scale": scale}
            name = f"{row}-{seed}-{scale}"
            parent = make_run(root / "pretrain" / name, "pretrain", **own, **given)
            accuracy = 0.5 + 0.1 * seed + gain * (1 + 0.1 * seed)
            record = {"metrics": {"test_accuracy": accuracy, "train_accuracy": 1.0}}
            make_run(root / "finetune" / name, parent=parent, row=row, seed=seed, record=record)


def test_two_sets_are_paired_by_what_varies(tmp_path: Path) -> None:
    make_set(tmp_path / "a", epochs=20)
    make_set(tmp_path / "b", gain=0.1, seeds=(0, 1), epochs=40)
    make_run(tmp_path / "b" / "pretrain" / "simclr", "pretrain", row="SimCLR", epochs=40)
    comparison = compare(tmp_path / "a", tmp_path / "b")
    sections = {section.title: section for section in comparison.sections}
    assert sections["Experiments"].sentences == ["In both: 12 runs. Only in A: 6. Only in B: 1."]
    alone = sections["Experiments"].table
    assert ["pretrain", "SimCLR", "–", "–", "0"] in alone.to_numpy().tolist()
    assert set(alone["experiment"]) == {
        "SimCLR",
        "BYOL",
        "BYOL+SS, swap_scale 0.5",
        "BYOL+SS, swap_scale 0.08",
    }
    assert sections["Configuration"].table.to_numpy().tolist() == [["epochs", "20", "40", "all pretrain"]]
    table = sections["finetune.top1: fine-tuned"].table
    assert table["experiment"].tolist() == ["BYOL", "BYOL+SS, swap_scale 0.08", "BYOL+SS, swap_scale 0.5"]
    line = table.iloc[0]
    assert (line["seeds"], line["A"], line["B"], line["B − A"]) == (2, "0.55", "0.655", "+0.1050")
    low, high = stats.t.interval(0.95, 1, 0.105, stats.sem([0.1, 0.11]))
    assert line["interval"] == f"[{signed(low)}, {signed(high)}]"
    assert float(line["detectable"]) > 0.01 and line["p"] != "–"
    assert any(section.folded and "Other metrics" in section.title for section in comparison.sections)
    assert "train_accuracy" not in text_of(comparison)
    assert "finetune.train_accuracy" in text_of(compare(tmp_path / "a", tmp_path / "b", ["finetune.train*"]))
    with pytest.raises(CVSAError, match="No metric is called nothing"):
        compare(tmp_path / "a", tmp_path / "b", ["nothing"])


def test_sets_with_the_same_configurations(tmp_path: Path) -> None:
    make_set(tmp_path / "a")
    make_set(tmp_path / "b")
    said = text_of(compare(tmp_path / "a", tmp_path / "b"))
    assert "18 of 18 pairs have the same configuration, and all metrics that both have are equal" in " ".join(
        said.split()
    )
    folder = tmp_path / "b" / "finetune" / "BYOL-0-None"
    write_record(read_record(folder).model_copy(update={"metrics": {"test_accuracy": 0.9}}), folder)
    (said,) = loud(compare(tmp_path / "a", tmp_path / "b"))
    assert said.startswith("SAME CONFIGURATION, DIFFERENT RESULTS in 1 pairs: finetune/BYOL-0-None")


def test_other_data_within_and_between_sets(tmp_path: Path) -> None:
    make_set(tmp_path / "a")
    make_set(tmp_path / "b")
    folder = tmp_path / "b" / "finetune" / "BYOL-1-None"
    other = {"train": "f" * 64, "test": "0" * 64}
    write_record(read_record(folder).model_copy(update={"data_fingerprints": other}), folder)
    within, between = loud(compare(tmp_path / "a", tmp_path / "b"))
    assert within == (
        "OTHER DATA within B: the test images of finetune/BYOL-1-None are not those of the other 17 runs on "
        "this data."
    )
    assert between.startswith("NOT THE SAME DATA in 1 of 18 pairs (test), though 1 of them ask for the same")


@pytest.mark.parametrize("damage", ["truncated", "nan", "digit", "no history"])
def test_damaged_records_are_refused_or_left_out_by_name(tmp_path: Path, damage: str) -> None:
    make_set(tmp_path / "a", seeds=(0,))
    make_set(tmp_path / "b", seeds=(0,))
    folder = tmp_path / "b" / "pretrain" / "BYOL-0-None"
    path, text = folder / "record.json", (folder / "record.json").read_text()
    if damage == "no history":
        (folder / "history.csv").unlink()
    else:
        other = {
            "truncated": text[:200],
            "nan": text.replace("0.25", "NaN"),
            "digit": text.replace("0.25", "0.26"),
        }
        assert other[damage] != text
        path.write_text(other[damage])
    with pytest.raises(CVSAError, match="BYOL-0-None"):
        compare(tmp_path / "a" / "pretrain" / "BYOL-0-None", folder)
    comparison = compare(tmp_path / "a", tmp_path / "b")
    assert loud(comparison)[0].startswith("LEFT OUT of B: ") and "BYOL-0-None" in loud(comparison)[0]
    assert "In both: 5 runs. Only in A: 1. Only in B: 0." in text_of(comparison)


def test_what_cannot_be_compared_is_one_line(tmp_path: Path) -> None:
    make_run(tmp_path / "set" / "a", "pretrain")
    make_run(tmp_path / "set" / "b")
    (tmp_path / "empty").mkdir()
    run = tmp_path / "set" / "a"
    for other, words in (
        (tmp_path / "nowhere", "is not there"), (tmp_path / "empty", "no finished run"),
        (tmp_path / "set", "is one run and"), (tmp_path / "set" / "b", "is a pretrain run and"),
    ):  # fmt: skip
        with pytest.raises(CVSAError, match=words) as refused:
            compare(run, other)
        assert "\n" not in str(refused.value)
    with pytest.raises(CVSAError, match="must end in .html"):
        run_comparison(run, run, tmp_path / "page.pdf")


def test_runs_that_only_their_folders_tell_apart(tmp_path: Path) -> None:
    """Fine-tunings whose pre-trainings are not in the set, and differ in what is not known."""
    for name, scale in (("x", 0.5), ("y", 0.08)):
        parent = make_run(tmp_path / "gone" / name, "pretrain", row="BYOL+SS", swap_scale=scale)
        make_run(tmp_path / "a" / name, parent=parent, row="BYOL+SS")
        make_run(tmp_path / "b" / name, parent=parent, row="BYOL+SS")
    sets = [load([(f, read_record(f)) for f in sorted((tmp_path / name).iterdir())]) for name in "ab"]
    keyed = match(*sets)
    assert set(keyed[0]) == set(keyed[1]) and {folder for *_, folder in keyed[0]} == {"x", "y"}


def test_the_page_holds_everything(tmp_path: Path) -> None:
    make_set(tmp_path / "a<b>", seeds=(0, 1))
    make_set(tmp_path / "b", gain=0.1, seeds=(0, 1), epochs=40)
    lines = run_comparison(tmp_path / "a<b>", tmp_path / "b", tmp_path / "out" / "sets.html")
    assert lines[-1] == f"Page: {tmp_path / 'out' / 'sets.html'}"
    page = (tmp_path / "out" / "sets.html").read_text()
    assert "a<b>" not in page and "a&lt;b&gt;" in page
    assert "finetune.train_accuracy" in page  # what the text leaves out
    assert page.count("<svg role=") == 1 and "<strong>Measured:</strong>" in page
    run = ("finetune", "BYOL-0-None")
    run_comparison(tmp_path.joinpath("a<b>", *run), tmp_path.joinpath("b", *run), tmp_path / "runs.html")
    for text in (page, (tmp_path / "runs.html").read_text()):
        assert "{{" not in text and "<script" not in text
        for word in ("src=", "http-equiv", "@import", "url(http", 'href="http'):
            assert word not in text
    # Figures use the same ids; inside one page each has its own.
    ids = [part.split('"')[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_numbers_in_cells() -> None:
    assert [show(v) for v in (None, float("nan"), 0.5, 1e-6, 12345.0, "x")] == [
        "–",
        "–",
        "0.5",
        "1e-06",
        "1.234e+04",
        "x",
    ]
    assert [signed(v) for v in (None, 0.0, 0.05, -1e-7)] == ["–", "0", "+0.0500", "-1.0e-07"]
    history = pd.DataFrame({"loss": [1.0, float("nan"), 0.0], "flat": 2.0, "empty": float("nan")})
    assert [sparkline(history, name) for name in ("loss", "flat", "empty", "none")] == ["█▁", "▁▁▁", "–", "–"]
    assert len(sparkline(pd.DataFrame({"loss": np.arange(1000.0)}), "loss")) == 20
