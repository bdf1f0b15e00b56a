"""What the book says about where networks look, from evaluations with known numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests_support import example_record

from cvsa.records import Record
from cvsa.report.evaluated import evaluations
from cvsa.report.localization import (
    contrasts,
    draw,
    findings,
    per_image,
    source_table,
    summary,
    with_gain,
)
from cvsa.report.localization_figures import MAIN, SOURCES, by_source, dot_plots, parts
from cvsa.report.page import Page

IMAGES = 200
# row -> (mask IoU, energy, whether it has the alignment module)
ROWS = {
    "Random": (0.30, 0.30, False),
    "MoCo.v2": (0.30, 0.32, False),
    "MoCo.v2+SS": (0.34, 0.35, False),
    "BYOL": (0.30, 0.40, False),
    "BYOL+SS": (0.40, 0.45, False),
    "BYOL+CVSA": (0.50, 0.20, True),
}
REFERENCES = {"ref_centre": 0.45, "ref_whole": 0.25, "ref_random": 0.2, "ref_detector": 0.8}
Runs = list[tuple[Path, Record]]


def measured(iou: float, energy: float) -> dict[str, float]:
    shares = dict.fromkeys(("box_acc", "box_acc_30", "box_acc_50", "box_acc_70", "max_box_acc"), iou)
    shares |= {"corloc": iou, "pxap": iou + 0.1, "pointing": 0.5, "iou": iou, "energy": energy}
    shares |= {"part_hit": 0.6, "part_area": 0.7, "threshold_iou": 0.25, "images": IMAGES, "constant": 0}
    return shares | {f"part_hit_{part}": 0.6 for part in ("beak", "crown", "eye", "wing", "tail")}


def make(root: Path, seeds: tuple[int, ...] = (0, 1), rows: tuple[str, ...] = tuple(ROWS)) -> Runs:
    """Evaluations of some rows; a seed adds 0.01 to everything of its run, equally in all rows."""
    runs: Runs = []
    for number, (row, seed) in enumerate((row, seed) for row in rows for seed in seeds):
        iou, energy, aligned = ROWS[row]
        sources = [
            "cam_finetuned",
            "cam_probe",
            "similarity",
            "norm",
            *(["attention_self"] if aligned else []),
        ]
        metrics, frames = {}, []
        for source in [*sources, *REFERENCES]:
            level = REFERENCES.get(source)
            found = measured(level or iou + 0.01 * seed, level or energy + 0.01 * seed)
            metrics |= {f"localization.{source}.{name}": value for name, value in found.items()}
            wave = 0.05 * np.sin(np.arange(IMAGES) + len(source))
            frames.append(pd.DataFrame({
                "source": source, "image": np.arange(IMAGES), "iou": found["iou"] + wave,
                "pointing": np.arange(IMAGES) % 2, "energy": found["energy"] + wave, "box_iou": 0.5,
            }))  # fmt: skip
        metrics |= {"boxes.iou": iou, "boxes.over_50": iou, "boxes.mean_box_iou": 0.42}
        folder = root / f"{row}-{seed}"
        folder.mkdir(parents=True)
        pd.concat(frames).to_csv(folder / "localization.csv", index=False)
        record = example_record(
            row=row, seed=seed, run_id=f"{number:012x}", metrics=metrics, kind="evaluate",
            stage2=None if row == "Random" else row, parents=["f" * 12],
        )  # fmt: skip
        runs.append((folder, record))
    return runs


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    return with_gain(evaluations(make(tmp_path)))


def found(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    images = per_image()
    return {source: contrasts(table, source, images) for source in SOURCES}


def test_rows_and_references_stand_in_one_table(table: pd.DataFrame) -> None:
    shown = source_table(table, "cam_finetuned", MAIN).set_index("row")
    assert list(shown.index) == [
        "supervised<br><small>(no pre-training)</small>", "MoCo.v2", "BYOL", "BYOL+CVSA",
        "MoCo.v2+SS", "BYOL+SS",  "*centred box*", "*whole image*", "*random map*", "*saliency detector*",
    ]  # fmt: skip
    assert shown.loc["BYOL", "mask<br>IoU"].startswith("**30.5**")
    assert "30.0, 31.0" in shown.loc["BYOL", "mask<br>IoU"]
    assert shown.loc["*centred box*", "mask<br>IoU"] == "45.0"
    # Hitting six parts of ten with seven tenths of the picture is worse than chance.
    assert shown.loc["BYOL", "parts<br>over chance"].startswith("**-10.0**")
    assert "untrained" in set(source_table(table, "norm", MAIN)["row"])


def test_a_map_that_a_row_does_not_have_leaves_it_out(table: pd.DataFrame) -> None:
    rows = source_table(table, "attention_self", MAIN)["row"].tolist()
    assert rows[0] == "BYOL+CVSA" and all(row.startswith("*") for row in rows[1:])
    assert source_table(table, "vit", MAIN)["row"].tolist() == rows[1:]


def test_attention_stands_beside_its_own_mean_map(tmp_path: Path) -> None:
    runs = []
    for folder, record in make(tmp_path, rows=("BYOL", "BYOL+CVSA")):
        still = {
            name.replace("attention_self", "attention_self_fixed"): value + 0.1
            for name, value in record.metrics.items()
            if "attention_self" in name
        }
        fixed = {"localization.attention_self.fixed": 0.94} if still else {}
        runs.append((folder, record.model_copy(update={"metrics": record.metrics | still | fixed})))
    table = with_gain(evaluations(runs))
    rows = source_table(table, "attention_self", MAIN)["row"].tolist()
    assert rows[:3] == ["BYOL+CVSA", "*its mean map,<br>BYOL+CVSA*", "*centred box*"]
    told = findings(table, found(table))
    assert (
        "Same in all images, in percent of the maps' variance: attention, image itself (BYOL+CVSA 94)."
        in told
    )
    line = next(line for line in told if "minus its own mean map" in line)
    assert line.startswith("BYOL+CVSA, attention, image itself, minus") and "mask IoU -10.0" in line


def test_without_references_and_metrics_there_are_dashes(tmp_path: Path) -> None:
    _, record = make(tmp_path, (0,), ("BYOL",))[0]
    some = {k: v for k, v in record.metrics.items() if k == "localization.norm.pointing"}
    table = with_gain(evaluations([(tmp_path, record.model_copy(update={"metrics": some}))]))
    line = source_table(table, "norm", MAIN).iloc[0]
    assert line["pointing<br>game"].startswith("**50.0**") and line["mask<br>IoU"] == "–"
    assert set(source_table(table, "similarity", MAIN).iloc[0]) == {"–"}


def test_differences_are_judged_over_seeds_and_over_images(table: pd.DataFrame) -> None:
    part = found(table)["cam_finetuned"].set_index(["row", "against", "metric"])
    iou = part.loc[("BYOL+CVSA", "BYOL", "mask IoU")]
    assert iou["difference"] == pytest.approx(0.2) and iou["separated"] == "yes"
    assert iou["image_low"] == pytest.approx(0.2) and iou["image_high"] == pytest.approx(0.2)
    assert part.loc[("BYOL+CVSA", "BYOL", "pointing game"), "separated"] == "no"
    assert np.isnan(part.loc[("BYOL+CVSA", "BYOL", "PxAP"), "image_low"])
    assert {(row, against) for row, against, _ in part.index} == {
        ("BYOL+CVSA", "BYOL"), ("BYOL+SS", "BYOL"), ("BYOL+CVSA", "BYOL+SS"), ("MoCo.v2+SS", "MoCo.v2"),
        ("BYOL+CVSA", "Random"),
    }  # fmt: skip


def test_one_seed_separates_over_images_only(tmp_path: Path) -> None:
    table = with_gain(evaluations(make(tmp_path, (0,))))
    part = found(table)["norm"].set_index(["row", "against", "metric"])
    assert part.loc[("BYOL+CVSA", "BYOL", "mask IoU"), "separated"] == "images only"
    assert part.loc[("BYOL+CVSA", "BYOL", "PxAP"), "separated"] == "no"  # not kept per image
    assert summary(found(table)).set_index("map").loc["feature norm", "mask<br>IoU"] == "*+20.0*"


def test_findings_say_by_what_more_and_by_what_less(table: pd.DataFrame) -> None:
    told = findings(table, found(table))
    line = next(line for line in told if line.startswith("**Grad-CAM, fine-tuned**"))
    assert line == (
        "**Grad-CAM, fine-tuned**: BYOL+CVSA looks at the bird more than BYOL by BoxAcc (+20.0), PxAP "
        "(+20.0) and mask IoU (+20.0) over seeds. BYOL+CVSA looks at the bird less than BYOL by energy "
        "inside (-20.0) over seeds. Not settled: pointing game (+0.0) and parts over chance (+0.0)."
    )
    assert any(
        line.startswith("BYOL+CVSA against BYOL+SS, thus what the alignment adds, of 24") for line in told
    )
    centre = [line for line in told if line.startswith("Above the centred box")]
    assert "(45.0) by mask IoU, in every seed: Grad-CAM, fine-tuned (BYOL+CVSA);" in centre[3]
    below = (
        "Below it in every seed, Grad-CAM, fine-tuned: supervised, MoCo.v2, BYOL, BYOL+CVSA and MoCo.v2+SS."
    )
    assert centre[4].endswith(f"in every seed: nothing. {below}")
    assert any(
        line.startswith("BYOL+CVSA against supervised, thus what all of it gives, of 6") for line in told
    )
    assert not any(line.startswith("Maps of one value") for line in told)
    missing = "Grad-CAM, centred similarity, attention, same class, mean attention, class token (ViT)."
    assert told[-1] == f"Not measured in these runs: {missing}"


def test_figures_have_every_seed_and_the_references(table: pd.DataFrame) -> None:
    figure = dot_plots(table, "cam_finetuned")
    assert [axis.get_title() for axis in figure.axes] == [
        "BoxAcc",
        "mask IoU",
        "pointing game",
        "energy inside",
    ]
    for axis in figure.axes:
        assert sum(len(dots.get_offsets()) for dots in axis.collections) == 2 * len(ROWS)
        assert len([line for line in axis.lines if line.get_color() == "black"]) == len(REFERENCES)
    assert len(by_source(table).axes[0].get_yticks()) == 5
    assert [label.get_text() for label in parts(table).axes[0].get_yticklabels()][0] == "beak"
    figure.canvas.draw()


def test_everything_is_drawn(tmp_path: Path) -> None:
    page = Page(tmp_path / "book")
    draw(page, make(tmp_path / "runs"))
    for source in SOURCES:
        for suffix in ("", "_more", "_contrasts"):
            assert (page.folder / "tables" / f"localization_{source}{suffix}.md").stat().st_size
    assert page.numbers["localization.images"]["text"] == str(IMAGES)
    assert page.numbers["localization.cam_finetuned.iou.BYOL+CVSA"]["text"] == "50.5 %"
    assert page.numbers["localization.vit.iou.BYOL"]["text"] == "–"
    json.dumps(page.numbers)


def test_ablations_and_other_kinds_stay_out(tmp_path: Path) -> None:
    (folder, record), *_ = make(tmp_path, (0,), ("BYOL",))
    trained = example_record(
        kind="pretrain", run_id="e" * 12, config={"swap_scale": 0.08}, metrics={"loss": 1.0}
    )
    other = record.model_copy(update={"run_id": "d" * 12, "parents": ["e" * 12]})
    table = evaluations([(folder, record), (folder, trained), (folder, other)])
    assert set(table["run_id"]) == {record.run_id}
    assert evaluations([(folder, trained)]).empty and evaluations([]).empty


def test_without_evaluations_everything_is_a_dash(tmp_path: Path) -> None:
    page = Page(tmp_path)
    draw(page, [])
    assert {number["text"] for key, number in page.numbers.items() if ".iou" in key} == {"–"}
    told = (tmp_path / "text" / "localization.md").read_text()
    assert told.count("\n") == 1 and told.startswith("- Not measured in these runs: Grad-CAM, fine-tuned,")
