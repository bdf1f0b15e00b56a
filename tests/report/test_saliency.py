"""Tables, curve and findings on saliency, from records with known numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests_support import SMALL, example_record

from cvsa.config import PretrainConfig, resolve
from cvsa.errors import CVSAError
from cvsa.evaluation.comparison import Comparison, Line, drawn_birds
from cvsa.grid import load_grid
from cvsa.records import find_records, write_record
from cvsa.report.saliency import (
    contrasts_with_exact,
    detector_findings,
    detector_table,
    findings,
    runs_table,
    slopes,
    training_table,
)
from cvsa.report.saliency_figures import curve, example_maps
from cvsa.report.training_maps import (
    Trained,
    TrainingMaps,
    condition_of,
    fields_of,
    keep_maps,
    measure,
    read_maps,
    write_maps,
)
from cvsa.saliency.quality import Quality
from cvsa.training.pretrain import pretrain

# condition -> box IoU of its maps and accuracy; "" is the row without saliency
KNOWN = {
    "": (1.0, 0.30),
    "exact": (1.0, 0.50),
    "box": (1.0, 0.50),
    "dilated:1.0": (0.7, 0.41),
    "classical": (0.8, 0.44),
}


def quality(name: str, iou: float, box_iou: float) -> Quality:
    return Quality(name, 10, iou, iou, 0.5, box_iou, 1.0, 0, None)


def make(root: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> TrainingMaps:
    """Runs of every condition, their accuracy 0.1 higher a seed; and the record of their maps."""
    runs, number = [], 0
    for condition, (box_iou, accuracy) in KNOWN.items():
        row = "BYOL+CVSA" if condition else "BYOL"
        fields = fields_of(condition) if condition else {}
        for seed in seeds:
            config = resolve(PretrainConfig, row=row, seed=seed, **fields).model_dump(mode="json")
            run_id, number = f"{number:012x}", number + 3
            value = accuracy + 0.1 * seed + (0.001 * seed if condition == "classical" else 0)
            shared: dict[str, Any] = {"row": row, "seed": seed, "stage2": row}
            write_record(
                example_record(
                    kind="pretrain", run_id=run_id, config=config, metrics={"loss": 1.0}, **shared
                ),
                root / "pretrain" / run_id,
            )
            for offset, (kind, metrics) in enumerate(
                (
                    ("finetune", {"test_accuracy": value}),
                    ("probe", {"knn_test": value / 2, "linear_test": value / 4}),
                ),
                start=1,
            ):
                child, folder = f"{number - 3 + offset:012x}", root / kind / run_id
                write_record(
                    example_record(kind=kind, run_id=child, parents=[run_id], metrics=metrics, **shared),
                    folder,
                )
                hits = np.arange(1000) < round(1000 * value)
                pd.DataFrame(
                    {"split": "test", "image": range(1000), "label": 1, "predicted": hits.astype(int)}
                ).to_csv(folder / "predictions.csv", index=False)
            looks = {"rectangle": box_iou - 0.5, "object": box_iou - 0.6} if condition else {}
            runs.append(Trained(
                run_id=run_id, row=row, seed=seed, condition=condition, fingerprint="f",
                quality=quality(condition, 0.5 * box_iou, box_iou), **looks,
            ))  # fmt: skip
    return TrainingMaps(
        runs=runs, validation_fingerprint="v", code={}, libraries={}, started=datetime(2026, 1, 1, tzinfo=UTC)
    )


@pytest.fixture
def maps(tmp_path: Path) -> TrainingMaps:
    return make(tmp_path)


@pytest.fixture
def runs(tmp_path: Path, maps: TrainingMaps) -> pd.DataFrame:
    return runs_table(find_records(tmp_path), maps)


@pytest.mark.parametrize("condition", ["exact", "dilated:0.5", "random_box", "classical", "vit"])
def test_conditions_and_fields_are_inverse(condition: str) -> None:
    config = resolve(PretrainConfig, row="BYOL+CVSA", **fields_of(condition))
    assert condition_of(config.model_dump()) == condition
    assert condition_of(resolve(PretrainConfig, row="BYOL").model_dump()) == ""
    both = resolve(PretrainConfig, saliency="classical", saliency_error="box").model_dump()
    assert condition_of(both) == "classical, box"
    with pytest.raises(CVSAError, match="Did you mean 'dilated'"):
        fields_of("dilatd:0.5")


def test_every_seed_is_shown_and_conditions_are_ordered_by_their_boxes(
    runs: pd.DataFrame, maps: TrainingMaps
) -> None:
    table = training_table(runs, maps)
    assert table["maps"].tolist() == ["BYOL, no saliency", "exact", "box", "classical", "dilated:1.0"]
    line = table.set_index("maps").loc["dilated:1.0"]
    assert (line["IoU"], line["box IoU"]) == ("35.0", "70.0")
    assert line["fine-tuned"].startswith("**51.0**") and "41.0, 51.0,<br>61.0" in line["fine-tuned"]
    assert line["attention:<br>paste,<br>object"] == "+0.20<br>+0.10"
    assert table.iloc[0]["IoU"] == "–" and table.iloc[0]["attention:<br>paste,<br>object"] == "–<br>–"


def test_contrasts_are_with_exact_masks_and_leave_out_what_equals_them(runs: pd.DataFrame) -> None:
    contrasts = contrasts_with_exact(runs)
    assert set(contrasts["against"]) == {"exact"}
    assert set(contrasts["row"]) == {"BYOL", "classical", "dilated:1.0"} and len(contrasts) == 9
    line = contrasts[(contrasts["row"] == "dilated:1.0") & (contrasts["metric"] == "fine-tuned")].iloc[0]
    assert line["difference"] == pytest.approx(-0.09) and line["separated"] == "yes"


def test_findings_say_what_the_records_say(runs: pd.DataFrame, maps: TrainingMaps) -> None:
    assert slopes(runs, "finetune.test_accuracy")[0] == pytest.approx(0.3, abs=0.01)
    told = findings(runs, maps, contrasts_with_exact(runs))
    assert told[0].startswith("Of 9 differences from exact masks, 9 separate over the 3 seeds, 0 only")
    assert any(
        "Fine-tuned: +3.0 points for each 0.1 of box IoU" in line and "excludes zero" in line for line in told
    )
    assert any("to the last digit" in line and line.endswith("box.") for line in told)
    assert "the most after training with exact maps (+0.40), the least with dilated:1.0 (+0.10)" in told[-1]


def test_an_attention_that_is_the_same_everywhere_is_named(maps: TrainingMaps, runs: pd.DataFrame) -> None:
    dead = [
        run.model_copy(update={"object": 0.0}) if run.condition == "dilated:1.0" else run for run in maps.runs
    ]
    told = findings(runs, maps.model_copy(update={"runs": dead}), contrasts_with_exact(runs))
    assert told[-1].startswith("No more attention on the bird") and told[-1].endswith("with: dilated:1.0.")


def test_one_seed_gives_no_intervals(tmp_path: Path) -> None:
    maps = make(tmp_path / "one", (0,))
    runs = runs_table(find_records(tmp_path / "one"), maps)
    told = findings(runs, maps, contrasts_with_exact(runs))
    assert told[0].startswith("Of 9 differences from exact masks, 0 separate")
    assert not any("for each 0.1" in line for line in told)


def test_the_curve_has_every_seed_and_a_line_for_no_saliency(runs: pd.DataFrame) -> None:
    figure = curve(runs)
    assert [axis.get_title() for axis in figure.axes] == ["fine-tuned", "kNN", "linear probe"]
    for axis in figure.axes:
        assert sum(len(dots.get_offsets()) for dots in axis.collections) == 4 * 3
    means = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    assert sorted(round(float(line.get_ydata()[0]), 1) for line in means) == [51.0, 54.1, 60.0, 60.0]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["exact", "box", "classical", "dilated:1.0", "BYOL, no saliency"]
    figure.canvas.draw()


def test_a_run_without_measured_maps_is_refused(tmp_path: Path, maps: TrainingMaps) -> None:
    with pytest.raises(CVSAError, match="lacks run"):
        runs_table(find_records(tmp_path), maps.model_copy(update={"runs": maps.runs[1:]}))


def test_detectors_that_did_not_run_are_told() -> None:
    lines = [
        Line(detector="good", source="detector", quality=quality("good", 0.8, 0.9), images_per_second=40.2),
        Line(detector="far", source="detector", not_run="connect to the internet once"),
        Line(detector="extra", source="detector", not_run="needs an optional library"),
        Line(detector="kept", source="stored", quality=quality("kept", 0.7, 0.7)),
        Line(detector="box", source="reference", quality=quality("box", 0.4, 0.6)),
    ]
    comparison = Comparison(
        data="x", description={}, fingerprint="f", lines=lines, code={}, libraries={}, hardware={},
        started=datetime(2026, 1, 1, tzinfo=UTC), seconds=1.0,
    )  # fmt: skip
    table = detector_table(comparison)
    cells = table["IoU"].str.replace("<br>", " ").str.replace("</?small>", "", regex=True)
    assert cells.tolist()[:3] == [
        "80.0", "not run: weights need the internet", "not run: library not installed",
    ]  # fmt: skip
    assert table["detector"].tolist()[3].startswith("kept") and table.iloc[1]["failed"] == "–"
    told = detector_findings(comparison)
    assert told[0].startswith("good on 10 images: IoU 80.0 against 40.0 of the box")
    assert "40 images a second" in told[0] and told[-1].endswith("far, extra.")


def test_maps_side_by_side_have_a_row_each() -> None:
    figure = example_maps(drawn_birds(2, 32), ["classical"], ["random_box"])
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert titles == ["image", "exact", "classical", "random\nbox"]
    assert len(figure.axes[0].images) == 4 * 2


def test_maps_and_attention_are_measured_against_exact_masks(tmp_path: Path) -> None:
    conditions = ("exact", "dilated:1.0")
    for condition in conditions:
        fields = {**SMALL, "epochs": 2, **fields_of(condition)}
        pretrain(resolve(PretrainConfig, row="BYOL+CVSA", **fields), tmp_path / condition)
    pretrain(resolve(PretrainConfig, row="BYOL", **{**SMALL, "epochs": 2}), tmp_path / "byol")
    found = measure(tmp_path / name for name in (*conditions, "byol"))
    exact, dilated, byol = found.runs
    assert exact.quality.iou == exact.quality.box_iou == 1 and byol.fingerprint == exact.fingerprint
    assert dilated.quality.iou == pytest.approx(0.5, abs=0.02) and dilated.condition == "dilated:1.0"
    assert exact.object is not None and -1 <= exact.object <= 1 and byol.object is None
    write_maps(found, tmp_path)
    assert read_maps(tmp_path) == found
    (tmp_path / "maps.json").write_text("{}")
    with pytest.raises(CVSAError, match="maps.json is not valid"):
        read_maps(tmp_path)


def test_only_presets_that_vary_saliency_have_their_maps_measured(tmp_path: Path) -> None:
    grid = load_grid(Path(__file__).parents[2] / "workflow" / "grid.yaml", "tiny")
    keep_maps(grid, tmp_path, tmp_path)
    assert not list(tmp_path.iterdir())
