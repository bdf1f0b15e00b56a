"""What contrastive learning sees: curves, tables and sentences, from records with known numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from tests_support import example_record, papermill

from cvsa.config import PretrainConfig, ProbeConfig, resolve
from cvsa.data.datasets import load_splits
from cvsa.errors import CVSAError
from cvsa.evaluation.pilot import view_curves, write_views
from cvsa.records import find_records, write_record
from cvsa.report import pilot, pilot_views
from cvsa.report.page import Page
from cvsa.report.pilot import (
    CLASS,
    DIALS,
    HABITAT,
    LOOKS,
    READS,
    TRAINED,
    along_dials,
    between_rows,
    changes,
    curves,
    dial_table,
    draw_runs,
    findings,
    judged,
    reads,
    references,
    runs_table,
)
from cvsa.report.pilot_figures import pair_sheet
from cvsa.views import ViewSettings

SHORTCUT, CROP, TRAINING = DIALS
BASE = resolve(PretrainConfig, preset="pilot", row="BYOL").model_dump()
BIASES, SCALES, EPOCHS = (0.1, 0.8, 1.0), (0.08, 0.2), (5, 20)


def settings() -> list[tuple[str, dict[str, Any]]]:
    """Row and what differs from the preset, each combination once."""
    found = []
    for row in ("BYOL", "BYOL+CVSA"):
        varied = [{"habitat_bias": bias} for bias in BIASES] + [{"epochs": epochs} for epochs in EPOCHS]
        varied += [{"crop_scale": scale} for scale in SCALES] if row == "BYOL" else []
        for change in varied:
            usual = all(BASE[name] == value for name, value in change.items())
            if (row, {} if usual else change) not in found:
                found.append((row, {} if usual else change))
    return found


def make(folder: Path, seeds: tuple[int, ...] = (0, 1), evaluated: bool = True) -> None:
    """The class falls by 0.3 along the shortcut and rises by 0.01 an epoch; CVSA is 0.1 better everywhere."""
    number = 0
    for row, change in settings():
        for seed in seeds:
            config = resolve(PretrainConfig, preset="pilot", row=row, seed=seed, **change)
            shared: dict[str, Any] = {"row": row, "seed": seed, "stage2": row, "preset": "pilot"}
            better = 0.1 if row == "BYOL+CVSA" else 0.0
            value = 0.5 - 0.3 * config.habitat_bias + 0.01 * config.epochs + better + 0.01 * seed
            probed = {
                "linear_test": value, "linear_test_swapped": value / 2, "linear_val": 0.6,
                "habitat_chance": 0.12, "habitat_linear": 0.3 + 0.5 * config.habitat_bias + 0.02 * seed,
            }  # fmt: skip
            looked = {
                "localization.similarity.pointing": 0.4 + better, "localization.norm.energy": 0.3,
                "localization.ref_centre.pointing": 0.7, "localization.ref_centre.energy": 0.33,
            }  # fmt: skip
            name, trained = f"{row}-{seed}-{number}", f"{number:012x}"
            kinds = [("pretrain", {"loss": 1.0}), ("probe", probed)]
            for kind, metrics in [*kinds, ("evaluate", looked)] if evaluated else kinds:
                known = config.model_dump(mode="json") if kind == "pretrain" else {}
                record = example_record(
                    kind=kind, run_id=f"{number:012x}", config=known, metrics=metrics,
                    parents=[] if kind == "pretrain" else [trained], **shared,
                )  # fmt: skip
                write_record(record, folder / kind / name)
                number += 1


def make_untrained(folder: Path, seeds: tuple[int, ...] = (0, 1)) -> None:
    """Networks without training: the habitat is read as well everywhere, the class not at all."""
    for number, (seed, bias) in enumerate((seed, bias) for seed in seeds for bias in BIASES):
        config = resolve(ProbeConfig, preset="pilot", row="Random", seed=seed, habitat_bias=bias)
        metrics = {"linear_test": 0.1, "habitat_linear": 0.3 + 0.01 * seed, "habitat_chance": 0.12}
        record = example_record(
            kind="probe", run_id=f"{number + 900:012x}", row="Random", seed=seed, preset="pilot",
            config=config.model_dump(mode="json"), metrics=metrics,
        )  # fmt: skip
        write_record(record, folder / "probe" / f"random-{number}")


@pytest.fixture
def runs(tmp_path: Path) -> pd.DataFrame:
    make(tmp_path)
    return along_dials(runs_table(find_records(tmp_path)), BASE)


def test_a_dial_has_the_runs_that_differ_in_nothing_else(runs: pd.DataFrame) -> None:
    chosen = runs[runs["metric"] == CLASS]
    found = {
        (sweep, row): sorted(part["at"].unique()) for (sweep, row), part in chosen.groupby(["sweep", "row"])
    }
    assert found == {
        ("shortcut", "BYOL"): [0.1, 0.8, 1.0], ("shortcut", "BYOL+CVSA"): [0.1, 0.8, 1.0],
        ("training", "BYOL"): [5, 20], ("training", "BYOL+CVSA"): [5, 20], ("crop", "BYOL"): [0.08, 0.2],
    }  # fmt: skip
    assert len(chosen[(chosen["sweep"] == "crop")]) == 2 * 2


def test_changes_are_paired_over_seeds_and_told_with_their_interval(runs: pd.DataFrame) -> None:
    line = changes(runs, READS, SHORTCUT).query("metric == 'class, no habitat' and row == 'BYOL'").iloc[0]
    assert (line["low_at"], line["high_at"], line["steps"]) == (0.1, 1.0, "down")
    assert line["each"] == pytest.approx([-0.27, -0.27])
    told = findings(runs, READS, SHORTCUT)
    assert told[0].startswith(
        "Class, no habitat, BYOL: 67.5 % at habitat_bias 0.1, 40.5 % at 1; -27.0 points, interval"
    )
    assert told[0].endswith("which excludes zero; down at every step in every seed.")
    other = between_rows(runs, READS, SHORTCUT).set_index("metric").loc["class, no habitat"]
    assert (other["least"], other["most"]) == pytest.approx((0.1, 0.1))
    between = "Class, no habitat, BYOL+CVSA against BYOL: +10.0 points, interval over seeds"
    assert any(line.startswith(between) for line in told)
    assert not any("against" in line for line in findings(runs, READS, CROP))


@pytest.mark.parametrize(
    ("each", "words", "excludes"),
    [
        ([0.1, 0.105], "which excludes zero", True),
        ([0.1, -0.05], "which does not exclude zero", False),
        ([0.1], "+10.0 points in one seed", False),
    ],
)
def test_the_verdict_is_that_of_the_t_interval(each: list[float], words: str, excludes: bool) -> None:
    told, found = judged(each)
    assert words in told and found is excludes


def test_the_habitat_is_judged_against_guessing_where_the_class_tells_least(runs: pd.DataFrame) -> None:
    told = reads(runs)
    assert told[0].startswith("BYOL at habitat_bias 0.1") and "36.0 %, guessed in 12.0 %" in told[0]
    # Two seeds: 23 and 25 points above guessing.
    assert "+24.0 points" in told[0] and told[0].endswith("The habitat is in the features.")
    assert "over the 2 seeds" in told[-1]


def test_references_are_what_guessing_and_the_class_alone_give(runs: pd.DataFrame) -> None:
    habitat = references(runs, SHORTCUT, HABITAT)
    assert habitat["guessing"].tolist() == [0.12] * 3
    assert habitat["the class alone"].tolist() == pytest.approx([0.1, 0.8, 1.0])
    assert references(runs, CROP, HABITAT)["the class alone"].tolist() == [0.8, 0.8]
    assert references(runs, TRAINING, CLASS)["guessing"].tolist() == [0.1, 0.1]
    assert references(runs, SHORTCUT, TRAINED)["the habitat alone"].tolist() == pytest.approx([0.1, 0.8, 1.0])
    many = references(runs.assign(classes=200.0), TRAINING, TRAINED)
    assert list(many) == ["guessing"] and many["guessing"].tolist() == [0.005, 0.005]
    assert references(runs.assign(classes=np.nan), TRAINING, TRAINED) == {}  # photographs
    pointing, energy, box = LOOKS
    assert references(runs, CROP, pointing)["centred box"].tolist() == [0.7, 0.7]
    assert references(runs, CROP, energy)["centred box"].tolist() == [0.33, 0.33]
    assert references(runs, CROP, box) == {}


def test_curves_show_every_seed_the_means_and_the_references(runs: pd.DataFrame) -> None:
    figure = curves(runs, [(SHORTCUT, CLASS, "class"), (SHORTCUT, HABITAT, "habitat")])
    left, right = figure.axes
    assert sum(len(dots.get_offsets()) for dots in left.collections) == 2 * 3 * 2
    assert (len(left.lines), len(right.lines)) == (2 + 1, 2 + 2)
    assert np.asarray(left.lines[0].get_ydata()) == pytest.approx([67.5, 46.5, 40.5])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["BYOL", "BYOL+CVSA", "guessing", "the class alone"]
    figure.canvas.draw()


def test_the_table_has_every_seed_and_a_dash_for_what_is_missing(runs: pd.DataFrame) -> None:
    table = dial_table(runs, READS, CROP)
    assert table["row"].tolist() == ["BYOL,<br>crop_scale<br>0.08", "BYOL,<br>crop_scale<br>0.2"]
    assert "46.0, 47.0" in table["class,<br>no<br>habitat"].iloc[0]
    looked = dial_table(runs, LOOKS, CROP)
    assert looked.iloc[0, 1].startswith("**40.0**") and looked.iloc[0, 3] == "–"


@pytest.mark.parametrize("evaluated", [True, False])
def test_the_page_is_whole_with_and_without_evaluations(evaluated: bool, tmp_path: Path) -> None:
    make(tmp_path / "pilot", evaluated=evaluated)
    page = Page(tmp_path / "book")
    draw_runs(page, tmp_path / "pilot")
    dials = [f"pilot_{dial.name}" for dial in DIALS]
    wanted = {f"figures/{name}.svg" for name in (*dials, "pilot_looks")} | {"text/pilot_reads.md"}
    for name in dials:
        wanted |= {f"{kind}/{name}{end}.md" for kind in ("tables", "text") for end in ("", "_looks")}
        wanted.add(f"text/{name}_all.md")
    made = {path.relative_to(page.folder).as_posix() for path in page.folder.rglob("*") if path.is_file()}
    assert made == wanted
    text = (page.folder / "text" / "pilot_shortcut_looks.md").read_text()
    assert ("Similarity: peak on the bird" in text) is evaluated
    assert page.numbers["pilot.seeds"]["text"] == "2" and page.numbers["pilot.trained"]["text"] == "18"


def test_one_seed_is_told_as_one(tmp_path: Path) -> None:
    make(tmp_path, seeds=(0,))
    runs = along_dials(runs_table(find_records(tmp_path)), BASE)
    assert all("in one seed" in line for line in findings(runs, READS, SHORTCUT))
    assert ", 0 have an interval" in reads(runs)[-1] and reads(runs)[0].endswith("One seed settles nothing.")


def test_an_untrained_network_is_the_measure_of_what_was_learnt(tmp_path: Path) -> None:
    make(tmp_path)
    make_untrained(tmp_path)
    runs = along_dials(runs_table(find_records(tmp_path)), BASE)
    untrained = runs[(runs["row"] == "Random") & (runs["metric"] == HABITAT)]
    values = {sweep: sorted(part["at"].unique()) for sweep, part in untrained.groupby("sweep")}
    assert values == {"shortcut": [0.1, 0.8, 1.0], "crop": [0.08, 0.2], "training": [5, 20]}
    told = reads(runs)
    # 35 and 37 against 30 and 31.
    assert told[1].startswith("BYOL against Random, which is not trained at all: +5.5 points")
    assert any(line.startswith("Random at habitat_bias 0.1") for line in told)
    assert any("BYOL against Random" in line for line in findings(runs, READS, SHORTCUT))
    assert not any("Random" in line for line in findings(runs, READS, TRAINING))
    assert len(dial_table(runs, READS, CROP)) == 2  # it has no crops
    figure = curves(runs, [(TRAINING, HABITAT, "habitat")])
    assert [text.get_text() for text in figure.legends[0].get_texts()][:3] == ["BYOL", "BYOL+CVSA", "Random"]


def test_only_what_is_separated_is_told_and_the_rest_is_counted(runs: pd.DataFrame) -> None:
    told = findings(runs, READS, SHORTCUT, separated=True)
    everything = findings(runs, READS, SHORTCUT)
    assert all("which excludes zero" in line for line in told[:-1])
    assert told[-1].startswith(f"Of {len(everything)} changes") and len(told) - 1 < len(everything)


def test_no_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CVSAError, match="No committed records"):
        draw_runs(Page(tmp_path), tmp_path)


def test_views_of_drawn_birds_and_of_photographs_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"train_images": 40, "val_images": 2, "test_images": 2}
    config = resolve(PretrainConfig, preset="pilot", row="BYOL", **few)
    monkeypatch.setattr(pilot_views, "resolve", lambda *_, **given: resolve(*_, **few, **given))
    monkeypatch.setattr(pilot_views, "FEW", few)
    monkeypatch.setattr(pilot_views, "SHEET", {"bank_size": 48, "object_size": 0.05, **few})
    monkeypatch.setattr(pilot_views, "SIZES", (0.05, 0.3))
    bank = load_splits(config)["train"]
    write_views(view_curves(bank, "photographs", [0.2, 0.5], repeats=1), tmp_path / "pilot")
    page = Page(tmp_path / "book")
    pilot_views.draw(page, tmp_path / "pilot")
    names = {path.name for path in (tmp_path / "book" / "figures").iterdir()}
    assert names == {"pilot_views.svg", "pilot_sizes.svg", "pilot_pairs.png", "pilot_empty.png"}
    lines = (tmp_path / "book" / "tables" / "pilot_views.md").read_text().splitlines()
    assert len(lines) == 2 + 3 + 3 + 2  # the published scale was not measured on photographs
    told = (tmp_path / "book" / "text" / "pilot_views.md").read_text()
    assert told.count("\n") == 3 and "Photographs (40): the object covers" in told
    small, large = (page.numbers[f"pilot.views.{key}crop.common_empty"]["text"] for key in ("small.", ""))
    assert float(small.split()[0]) > float(large.split()[0])


def test_the_sheet_shows_overlaps_without_any_bird() -> None:
    few = {"train_images": 60, "val_images": 2, "test_images": 2, "bank_size": 32, "object_size": 0.05}
    bank = load_splits(resolve(PretrainConfig, preset="pilot", row="BYOL", **few))["train"]
    figure = pair_sheet(bank, ViewSettings(32, crop_scale=0.08), seed=0, empty=True, count=2)
    (axis,) = figure.axes
    assert len(axis.images) == 5 * 2 and len(axis.patches) == 2 * 2 * 2
    titles = [text.get_text().replace("\n", " ") for text in axis.texts]
    assert titles == ["reference, two crops", "crop, view 1", "crop, view 2", "swap, view 1", "swap, view 2"]


def test_everything_is_drawn_by_one_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: list[str] = []
    monkeypatch.setattr(pilot_views, "draw", lambda *_: called.append("views"))
    monkeypatch.setattr(pilot, "draw_runs", lambda *_: called.append("runs"))
    pilot.draw(Page(tmp_path), tmp_path)
    assert called == ["views", "runs"]


NOTEBOOK = "pilot.ipynb"


def outputs(notebook: Path) -> list[dict[str, Any]]:
    cells = [cell for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code"]
    return [output for cell in cells for output in cell.outputs]


def test_the_notebook_trains_along_a_dial_and_tells_what_is_read(tmp_path: Path) -> None:
    yaml = "{rows: [Random, BYOL], habitat_biases: [0.1, 1.0], crop_scales: [], epochs: [2], scales: []}"
    size = {"train_images": 50, "val_images": 20, "test_images": 20, "bank_size": 32, "image_size": 32}
    result = papermill(NOTEBOOK, tmp_path / "a.ipynb", yaml, out=tmp_path / "runs", **size)
    assert result.returncode == 0, result.stderr[-2000:]
    names = {path.name for path in (tmp_path / "runs" / "probe").iterdir()}
    assert names == {f"{row}-s0{end}" for row in ("byol", "random") for end in ("", "-habitat_bias1.0")}
    shown = outputs(tmp_path / "a.ipynb")
    assert sum("image/png" in output.get("data", {}) for output in shown) == 2  # pairs of views, curves
    told = "".join(output.get("text", "") for output in shown)
    assert "Habitat, BYOL" in told and "in one seed" in told


def test_the_notebook_measures_the_views_of_a_folder(photographs: Path, tmp_path: Path) -> None:
    given = {"dataset": "folder", "root": photographs, "repeats": 2, "bank_size": 32, "image_size": 32}
    result = papermill(
        NOTEBOOK, tmp_path / "a.ipynb", "{rows: [], scales: [0.08, 0.5]}", out=tmp_path / "out", **given
    )
    assert result.returncode == 0, result.stderr[-2000:]
    (found,) = (tmp_path / "out").iterdir()
    assert found.name == f"views-{photographs.name}.csv"
    curves = pd.read_csv(found)
    assert set(curves["scale"]) == {0.08, 0.5} and curves["value"].between(0, 1).all()
