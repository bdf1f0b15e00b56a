"""The chapter of results: which committed set it draws from, and what it says of a partial or no set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests_support import example_record

from cvsa.config import PretrainConfig, resolve
from cvsa.grid import Grid
from cvsa.records import Record, Runs
from cvsa.report import results
from cvsa.report.evidence import main_runs
from cvsa.report.page import Page
from cvsa.report.sections import LIVE, SECTIONS
from cvsa.report.sources import EVIDENCE, Sources

FIRST, LAST = EVIDENCE
ROWS = {"Random": 0.30, "BYOL": 0.50, "BYOL+SS": 0.60, "BYOL+CVSA": 0.70}  # fine-tuned accuracy of seed 0
GRID = """
small:
  ablations:
    weight: {vary: align_weight, values: [1.0, 3.0], rows: [BYOL+CVSA], seeds: [0], evaluate: [finetune]}
    scale: {vary: swap_scale, values: [0.08, 0.5], rows: [BYOL+CVSA], seeds: [0], evaluate: [finetune]}
"""


def make(
    root: Path, kinds: tuple[str, ...] = ("pretrain", "finetune", "probe"), seeds: tuple[int, ...] = (0, 1)
) -> Runs:
    """Runs of some kinds; every seed adds 0.01 to the accuracies of all rows alike."""
    runs: Runs = []

    def add(kind: str, row: str, seed: int, **fields: Any) -> Record:
        run_id = f"{len(runs):012x}"
        record = example_record(kind=kind, row=row, seed=seed, run_id=run_id, **fields)
        folder = root / run_id
        folder.mkdir(parents=True)
        if kind == "finetune":
            hits = "".join(f"val,{i},1,0\ntest,{i},1,1\n" for i in range(4))
            (folder / "predictions.csv").write_text(f"split,image,label,predicted\n{hits}")
        runs.append((folder, record))
        return record

    for row, share in ROWS.items():
        for seed in seeds:
            start = []
            if row != "Random":
                start = [add("pretrain", row, seed, config={"epochs": 7}, metrics={"loss": 1.0}).run_id]
            if "finetune" in kinds:
                add("finetune", row, seed, parents=start, metrics={"test_accuracy": share + 0.01 * seed})
            if "probe" in kinds:
                read = {"linear_test": share / 2, "habitat_linear": 0.9, "habitat_chance": 0.12}
                add("probe", row, seed, parents=start, config={"num_classes": 50}, metrics=read)
    return [pair for pair in runs if pair[1].kind in kinds]


def table(folder: Path, name: str) -> dict[str, list[str]]:
    """A Markdown table: first cell -> the others."""
    _, _, *lines = (folder / "tables" / f"{name}.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in cells}


@pytest.mark.parametrize(
    ("committed", "chosen"),
    [((FIRST, LAST), FIRST), ((LAST,), LAST), (("pilot",), None), ((), None)],
)
def test_the_first_set_with_records_carries_the_evidence(
    tmp_path: Path, committed: tuple[str, ...], chosen: str | None
) -> None:
    sets = {name: [(tmp_path / name, example_record())] for name in committed}
    sources = Sources(tmp_path, "tiny", Grid("tiny"), [], {**sets, "other": []})
    assert sources.main_set == chosen
    assert sources.main == (sets[chosen] if chosen else [])


def test_chapters_of_evidence_draw_from_committed_runs_alone() -> None:
    sets = {section.name: section.sets for section in SECTIONS}
    assert sets["main"] == sets["localization"] == sets["background"] == EVIDENCE
    assert sets["live"] == (LIVE,)
    drawn = [section.name for section in SECTIONS if section.may_draw("tables/results_main.md")]
    assert drawn == ["main"]


def test_rows_numbers_and_figures_of_a_set(tmp_path: Path) -> None:
    page = Page(tmp_path / "book")
    results.measured(page, "main", make(tmp_path / "runs"))
    found = table(page.folder, "results_main")
    assert list(found) == ["Random", "BYOL", "BYOL+CVSA", "BYOL+SS"]
    assert found["BYOL"][0].startswith("**50.5**<br>[") and found["BYOL"][0].endswith("50.0, 51.0</small>")
    assert found["BYOL"][2] == "–", "kNN was not measured"
    told = {key: number["text"] for key, number in page.numbers.items()}
    assert told["main.epochs"] == "7" and told["main.seeds"] == "2"
    assert told["main.chance_class"] == "2.0 %" and told["main.chance_habitat"] == "12.0 %"
    assert told["main.linear.BYOL+CVSA"] == "35.0 %" and told["main.finetuned.Random"] == "30.5 %"
    figures = {key for key in page.drawn if key.startswith("figures")}
    assert figures == {"figures/probes_main.svg", "figures/finetune_main.svg"}
    assert len(page.drawn["figures/finetune_main.svg"].runs) == 2 * len(ROWS)


def test_differences_of_a_set(tmp_path: Path) -> None:
    page = Page(tmp_path / "book")
    results.contrasts(page, "main", make(tmp_path / "runs"))
    told = (page.folder / "text" / "findings_main.md").read_text()
    lines = (page.folder / "tables" / "contrasts_main.md").read_text().splitlines()[2:]
    assert told.startswith(f"- Of {len(lines)} differences, ")
    assert "- Fine-tuned, BYOL+SS against BYOL: +10.0 points; separates" in told
    assert {line.split(" | ")[0] for line in lines} > {"| linear probe", "| habitat,<br>linear probe"}
    assert "| kNN" not in "".join(lines)


@pytest.mark.parametrize("kinds", [(), ("pretrain",), ("finetune",), ("pretrain", "finetune"), ("probe",)])
def test_what_a_set_lacks_is_a_dash(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    page, runs = Page(tmp_path / "book"), make(tmp_path / "runs", kinds, seeds=(3,))
    results.measured(page, "main", runs)
    results.contrasts(page, "main", runs)
    told = {key: number["text"] for key, number in page.numbers.items()}
    assert (told["main.linear.BYOL"] == "–") == ("probe" not in kinds)
    assert (told["main.finetuned.BYOL"] == "–") == ("finetune" not in kinds)
    assert (told["main.chance_class"] == "–") == ("probe" not in kinds)
    assert (told["main.epochs"] == "–") == ("pretrain" not in kinds)
    measured = {"finetune", "probe"} & set(kinds)
    assert list(table(page.folder, "results_main")) == (
        ["Random", "BYOL", "BYOL+CVSA", "BYOL+SS"] if measured else ["–"]
    )
    findings = (page.folder / "text" / "findings_main.md").read_text()
    assert (
        findings.startswith("- Of ") if measured else findings == "- No two rows to compare were measured.\n"
    )


def test_what_the_main_set_varies_stays_out(tmp_path: Path) -> None:
    usual = resolve(PretrainConfig, row="BYOL+CVSA", preset="small").model_dump(mode="json")
    records = []
    for number, changed in enumerate(({}, {"align_weight": 3.0}, {"swap_scale": 0.08})):
        trained = f"{number:011x}a"
        shared: dict[str, Any] = {"row": "BYOL+CVSA", "preset": "small"}
        records += [
            example_record(
                kind="pretrain", run_id=trained, config={**usual, **changed}, metrics={"loss": 1.0}, **shared
            ),
            example_record(run_id=f"{number:011x}b", parents=[trained], config={}, **shared),
        ]
    runs = [(tmp_path, record) for record in records]
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "grid.yaml").write_text(GRID)
    sources = Sources(tmp_path, "tiny", Grid("tiny"), [], {"small": runs})
    assert main_runs(sources) == [*runs[:2], *runs[4:]]
    results.measured(Page(tmp_path), "main", main_runs(sources))
    assert table(tmp_path, "results_main")["BYOL+CVSA"][0].endswith("one seed</small>")


def test_first_stages_do_not_tell_the_epochs(tmp_path: Path) -> None:
    stage = {"kind": "pretrain", "metrics": {"loss": 1.0}, "stage1": "BYOL on synthscenes"}
    first = example_record(**stage, run_id="e" * 12, config={"epochs": 99})
    page = Page(tmp_path / "book")
    results.measured(page, "main", [(tmp_path, first), *make(tmp_path / "runs")])
    assert page.numbers["main.epochs"]["text"] == "7"
