"""What the book says about backgrounds, from evaluations with known numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests_support import example_record

from cvsa.records import Record
from cvsa.report import background
from cvsa.report.background import (
    accuracy_table,
    contrasts,
    draw,
    findings,
    per_image,
    probes_table,
    summary,
    with_drawn,
)
from cvsa.report.background_figures import CAUSES, CLASSIFIERS, CONDITIONS, causal, conditions, gaps, texture
from cvsa.report.evaluated import evaluations
from cvsa.report.page import Page

IMAGES = 200
# row -> accuracy with its own habitat, with another, share of decisions that another habitat changes
ROWS = {
    "Random": (0.60, 0.40, 0.30),
    "MoCo.v2": (0.50, 0.40, 0.30),
    "MoCo.v2+SS": (0.50, 0.45, 0.20),
    "BYOL": (0.70, 0.30, 0.50),
    "BYOL+SS": (0.60, 0.40, 0.30),
    "BYOL+CVSA": (0.60, 0.50, 0.10),
}
Runs = list[tuple[Path, Record]]


def measured(own: float, other: float, flips: float, classifier: str) -> dict[str, float]:
    accuracy = dict(zip(CONDITIONS, (own, own, other, 0.5, 0.45, own - other), strict=True))
    background = accuracy | {
        "gap": own - other, "chance": 0.1, "background_ceiling": 0.4, "follows": flips, "follows_chance": 0.2,
    }  # fmt: skip
    found = {f"background.{classifier}.{name}": value for name, value in background.items()}
    for factor, cause in enumerate(CAUSES, start=1):
        found[f"causal.{classifier}.{cause}.distance"] = 0.3 * factor
        found[f"causal.{classifier}.{cause}.flip"] = flips if cause == "background" else 0.1 * factor
    cues = {"grey": 0.3, "silhouette": 0.2, "shuffled": 0.25, "silhouette_ceiling": 0.6}
    cues |= {"surface": 0.6, "shape": 0.3, "neither": 0.1, "surface_chance": 0.2}
    return found | {f"texture.{classifier}.{name}": value for name, value in cues.items()}


def decisions(share: float) -> np.ndarray:
    """Class 1 for this share of the images, class 0 for the others; all images are of class 1."""
    return (np.arange(IMAGES) < round(IMAGES * share)).astype(int)


def make(root: Path, seeds: tuple[int, ...] = (0, 1), rows: tuple[str, ...] = tuple(ROWS)) -> Runs:
    """Evaluations of some rows; accuracies are higher by 0.02 a seed, equally in all rows."""
    runs: Runs = []
    for number, (row, seed) in enumerate((row, seed) for row in rows for seed in seeds):
        own, other, flips = ROWS[row]
        metrics: dict[str, float] = {"linear.class_closed": own, "linear.habitat_closed": flips}
        metrics |= {
            "linear.class_chance": 0.1,
            "linear.habitat_chance": 0.22,
            "retrieval.recall_at_1": 0.4,
            "retrieval.map_at_r": 0.1,
        }
        metrics |= {"fewshot.5way1shot": 0.3, "fewshot.5way5shot": 0.5}
        scenes, causes = [], []
        known = {"image": np.arange(IMAGES), "label": 1}
        for classifier in CLASSIFIERS:
            found = measured(own + 0.02 * seed, other + 0.02 * seed, flips, classifier)
            metrics |= found
            told = {name: decisions(found[f"background.{classifier}.{name}"]) for name in CONDITIONS}
            scenes.append(pd.DataFrame({**known, **told, "classifier": classifier}))
            told = {"predicted": 1, "background_predicted": decisions(1 - flips)}
            causes.append(pd.DataFrame({**known, **told, "classifier": classifier}))
        folder = root / f"{row}-{seed}"
        folder.mkdir(parents=True)
        pd.concat(scenes).to_csv(folder / "background.csv", index=False)
        pd.concat(causes).to_csv(folder / "causal.csv", index=False)
        stage2 = None if row == "Random" else row
        record = example_record(
            row=row, seed=seed, run_id=f"{number:012x}", metrics=metrics, kind="evaluate", stage2=stage2
        )
        runs.append((folder, record))
    return runs


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    return with_drawn(evaluations(make(tmp_path)))


def found(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    images = per_image()
    return {classifier: contrasts(table, classifier, images) for classifier in CLASSIFIERS}


def test_accuracies_stand_beside_what_the_most_frequent_class_and_the_habitat_reach(
    table: pd.DataFrame,
) -> None:
    shown = accuracy_table(table, "finetuned").set_index("row")
    assert shown.loc["BYOL", "gap"].startswith("**+40.0**")
    assert shown.loc["BYOL", "own<br>habitat"].startswith("**71.0**")
    assert shown.loc[background.MOST, ["own<br>habitat", "gap"]].tolist() == ["10.0", "+0.0"]
    known = shown.loc["*knowing the habitat only*"]
    assert known["own<br>habitat"] == known["habitat<br>alone"] == "40.0" and known["gap"] == "–"
    assert "untrained" in set(accuracy_table(table, "probe")["row"])
    probes = probes_table(table).set_index("row")
    assert probes.loc["*most frequent class, or habitat*"].tolist() == ["10.0", "22.0"]


def test_gaps_are_compared_over_seeds_and_over_images(table: pd.DataFrame) -> None:
    part = found(table)["finetuned"].set_index(["row", "against", "metric"])
    gap = part.loc[("BYOL+CVSA", "BYOL", "gap")]
    assert gap["difference"] == pytest.approx(-0.3) and gap["separated"] == "yes"
    assert gap["image_low"] < -0.3 < gap["image_high"] < 0
    flips = part.loc[("BYOL+CVSA", "BYOL", "decisions flipped by the habitat")]
    assert flips["difference"] == pytest.approx(-0.4) and flips["image_low"] < -0.4 < flips["image_high"]
    assert np.isnan(part.loc[("BYOL+CVSA", "BYOL", "errors drawn by the habitat"), "image_low"])
    line = summary(found(table)).set_index("classifier").loc["fine-tuned"]
    assert line["gap"] == "**-30.0**"


def test_findings_call_a_smaller_gap_less_dependence(table: pd.DataFrame) -> None:
    told = findings(table, found(table))
    lost = "supervised 20.0, BYOL 40.0, BYOL+SS 20.0 and BYOL+CVSA 10.0."
    assert any(line.startswith("**Fine-tuned**: Points lost") and line.endswith(lost) for line in told)
    less = next(line for line in told if "depends less on the background" in line)
    assert "by gap (-30.0), errors drawn by the habitat (-40.0), right by habitat alone (-30.0) and" in less
    assert "depends more" not in less
    right = next(line for line in told if "is right more often" in line)
    assert "other habitat (+20.0)" in right and "less often than BYOL: as in training (-10.0)" in right
    assert told[-1].startswith("**Frozen features**: habitats read") and "gives 22.0." in told[-1]
    assert "BYOL+CVSA minus BYOL: -40.0 points" in told[-1] and "excludes zero." in told[-1]


def test_figures_show_what_was_measured(table: pd.DataFrame) -> None:
    figure = conditions(table, "finetuned")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(CONDITIONS.values())
    assert [axis.get_title() for axis in gaps(table).axes] == list(CLASSIFIERS.values())
    bars = texture(table).axes[0].patches
    assert sum(bar.get_width() for bar in bars) == pytest.approx(100 * len(ROWS))
    graph = causal(table, "probe")
    assert [axis.get_title() for axis in graph.axes] == ["BYOL", "BYOL+CVSA"]
    assert "Z 0.60\nY 50 %" in [text.get_text() for text in graph.axes[0].texts]
    graph.canvas.draw()


def test_everything_is_drawn(tmp_path: Path) -> None:
    page = Page(tmp_path / "book")
    draw(page, make(tmp_path / "runs"))
    assert page.numbers["background.finetuned.gap.BYOL"]["text"] == "40.0 %"
    assert page.numbers["causal.probe.background.flip.BYOL+CVSA"]["text"] == "10.0 %"
    assert (page.folder / "text" / "background.md").read_text().count("\n") > 10


def test_what_was_not_measured_is_a_dash(tmp_path: Path) -> None:
    _, record = make(tmp_path / "runs", (0,), ("BYOL",))[0]
    alone = {"background.probe.original": 0.5}
    page = Page(tmp_path / "book")
    draw(page, [(tmp_path, record.model_copy(update={"metrics": alone}))])
    tables = {path.stem: path.read_text() for path in (page.folder / "tables").iterdir()}
    assert tables["background_finetuned"].splitlines()[2] == "| – | – | – | – | – | – | – |"
    assert "**50.0**" in tables["background_probe"]
    assert page.numbers["background.finetuned.gap.BYOL"]["text"] == "–"
    draw(page, [])
    assert (page.folder / "text" / "background.md").read_text() == "- Not measured in these runs.\n"
    assert (page.folder / "tables" / "background_probe.md").read_text().splitlines()[2].count("–") == 7
