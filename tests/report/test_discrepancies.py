"""The log of silent points: valid, in step with configuration and grid; and what it says of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests_support import example_record

from cvsa.config import PretrainConfig, resolve
from cvsa.errors import CVSAError
from cvsa.grid import Ablation, load_grid
from cvsa.records import Runs
from cvsa.report.ablations_study import FINETUNED, compare, study, usual_of
from cvsa.report.discrepancies import Point, draw, load_log, outcome, shown_parameter
from cvsa.report.page import Page
from cvsa.report.sources import Sources

ROOT = Path(__file__).parents[2]
GRID = ROOT / "workflow" / "grid.yaml"
POINT = {"id": "weight", "question": "Which weight?", "reading": "1", "why": "It is the sum.", "mark": "[A]",
         "parameters": ["align_weight"], "ablation": "weight"}  # fmt: skip


TWO = "(fine-tuned, 2 seeds)"


def test_the_log_is_valid_and_every_ablation_of_the_grid_answers_a_point() -> None:
    log = load_log(grid=GRID)
    points = [point for section in log.values() for point in section]
    asked = {point.runs for point in points if point.ablation}
    assert asked >= {("ablations", name) for name in (*load_grid(GRID, "ablations").ablations, "objectives")}


def test_the_page_shows_every_section() -> None:
    page = (ROOT / "book" / "discrepancies.md").read_text(encoding="utf-8")
    for section in load_log():
        assert f"_generated/tables/discrepancies_{section}.md" in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parameters": ["align_wieght"]}, "point 'weight': parameters: parameter 'align_wieght'"),
        ({"parameters": ["probe.align_weight"]}, "no such field"),
        ({"parameters": ["cvsa.views.swap.saliency_swap(rate)"]}, "no such function or no such parameter"),
        ({"ablation": "height"}, "ablation 'height' is not in"),
        ({"ablation": None}, "give either ablation or not_ablated"),
        ({"not_ablated": "too dear"}, "give either ablation or not_ablated"),
        ({"mark": "[X]"}, "point 'weight': mark"),
        ({"why": "no full stop"}, "why"),
        ({"reading": 0.5}, "reading"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_mistake_in_the_log_is_one_line_that_names_the_point(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "log.yaml"
    path.write_text(yaml.safe_dump({"swap": [{**POINT, **changes}]}))
    with pytest.raises(CVSAError) as error:
        load_log(path, GRID)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"), [("a: [", "no valid YAML"), ("- a", "a mapping"), ("a: [1]", "point '1'")]
)
def test_what_is_no_log_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "log.yaml").write_text(text)
    with pytest.raises(CVSAError, match=words):
        load_log(tmp_path / "log.yaml")


def test_two_points_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "log.yaml").write_text(yaml.safe_dump({"swap": [POINT], "training": [POINT]}))
    with pytest.raises(CVSAError, match="'weight' is there 2 times"):
        load_log(tmp_path / "log.yaml")


def test_parameters_are_shown_with_what_they_belong_to() -> None:
    assert shown_parameter("swap_area") == "`swap_area`"
    assert shown_parameter("finetune.crop_scale") == "`crop_scale` of fine-tuning"
    assert shown_parameter("cvsa.views.swap.saliency_swap(ratio)") == "`ratio` of `saliency_swap`"


def runs(values: tuple[float, ...]) -> Runs:
    """Weight 0.3 with those accuracies by seed, and 1 with 0.7 at every seed."""
    found: Runs = []
    for number, (weight, seed) in enumerate((w, s) for w in (0.3, 1.0) for s in range(len(values))):
        config = resolve(PretrainConfig, row="BYOL+CVSA", preset="tiny", seed=seed, align_weight=weight)
        shared: dict[str, Any] = {"row": "BYOL+CVSA", "seed": seed}
        trained, value = f"{2 * number:012x}", values[seed] if weight == 0.3 else 0.7
        one = example_record(kind="pretrain", run_id=trained, config=config.model_dump(mode="json"), **shared)
        two = example_record(run_id=f"{2 * number + 1:012x}", parents=[trained],
                             metrics={"test_accuracy": value}, **shared)  # fmt: skip
        found += [(Path("a"), one), (Path("b"), two)]
    return found


@pytest.mark.parametrize(
    ("values", "words", "separated"),
    [
        ((0.6, 0.8), f"**no difference separates** {TWO}; the difference: 0.3 against 1: +0.0 points", False),
        ((0.6, 0.6001), f"**separates** {TWO}; 0.3 against 1: -10.0 points, [-10.1, -9.9]", True),
        ((0.7, 0.7), "**equal** to the last digit (fine-tuned, 2 seeds)", False),
        ((0.6,), "**one seed** settles nothing (fine-tuned); largest: 0.3 against 1: -10.0 points", False),
        ((), "not tested: its runs are not at hand", False),
    ],
)  # fmt: skip
def test_the_last_column_is_computed_from_the_runs(
    values: tuple[float, ...], words: str, separated: bool
) -> None:
    ablation = Ablation("align_weight", [0.3, 1.0], ["BYOL+CVSA"], list(range(len(values))), ["finetune"])
    found = study("weight", ablation, runs(values), usual_of("tiny"))
    told = outcome(Point(**POINT), found, compare([found], FINETUNED))
    assert told.text.startswith(words) and told.separated is separated and told.tested is bool(values)


def test_a_point_without_runs_gives_its_reason() -> None:
    point = Point(**{**POINT, "ablation": None, "not_ablated": "too dear"})
    assert outcome(point, None, compare([], FINETUNED)).text == "not tested: too dear"


def test_the_page_is_drawn_and_names_what_is_not_at_hand(tmp_path: Path) -> None:
    page = Page(tmp_path)
    draw(page, Sources(ROOT, "tiny", load_grid(GRID, "tiny"), []))
    log = load_log()
    for section, points in log.items():
        lines = (tmp_path / "tables" / f"discrepancies_{section}.md").read_text().splitlines()
        assert len(lines) == 2 + len(points) and all(line.count(" | ") == 3 for line in lines[2:])
    told = (tmp_path / "text" / "discrepancies.md").read_text()
    assert (
        f"{sum(map(len, log.values()))} points" in told
        and "Meant to be varied, and not at hand: area" in told
    )
