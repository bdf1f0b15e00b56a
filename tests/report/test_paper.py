"""The paper's tables, the sweep and the costs, on records with known numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests_support import example_record

from cvsa.methods.catalogue import TABLES, find_base
from cvsa.records import Record
from cvsa.report import paper
from cvsa.report.page import Page

Runs = list[tuple[Path, Record]]


def runs(*records: Record) -> Runs:
    return [(Path(f"run{number}"), record) for number, record in enumerate(records)]


def finetuned(
    row: str, share: float, *, seed: int = 0, first: str | None = None, second: bool = True
) -> Record:
    """A fine-tuning of a row, after a first stage of another or without; or of a first stage alone."""
    stages = {
        "stage1": f"{first} on synthscenes" if first else None,
        "stage2": row if second and row != "Random" else None,
    }
    return example_record(row=row, seed=seed, metrics={"test_accuracy": share}, **stages)


def table(folder: Path, name: str) -> dict[str, dict[str, str]]:
    """A Markdown table: first cell (or the first two, joined) -> heading -> cell, without emphasis."""
    head, _, *rows = (folder / "tables" / f"{name}.md").read_text().strip().splitlines()
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *rows)]
    named = 2 if split[0][1] == "stage 2" else 1
    found = {
        " → ".join(cells[:named]): dict(zip(split[0][named:], cells[named:], strict=True))
        for cells in split[1:]
    }
    assert len(found) == len(rows)
    return found


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path)


OURS, LONGER = "SynthBirds,<br>this build", "SynthBirds,<br>longer run"
CUB, CARS = "CUB-<br>200-2011<br><small>reported</small>", "Stanford-<br>Cars<br><small>reported</small>"


def test_table_1_puts_ours_beside_theirs(page: Page, tmp_path: Path) -> None:
    live = runs(finetuned("BYOL", 0.4), finetuned("BYOL", 0.6, seed=1), finetuned("BYOL+SS", 0.7),
                finetuned("Random", 0.2))  # fmt: skip
    paper.both_tables(page, live, runs(finetuned("BYOL", 0.9)))
    found = table(tmp_path, "table_1")
    authors = [row for _, row in TABLES["second_stage_only"]]
    assert list(found) == [*authors, "MoCo.v2+SS", "BYOL+SS"]
    assert list(found["BYOL"]) == [OURS, LONGER, CUB, *[h for h in found["BYOL"] if "reported" in h][1:]]
    assert found["BYOL"][OURS].startswith("**50.0**<br>[") and "40.0, 60.0" in found["BYOL"][OURS]
    assert found["BYOL"][LONGER].startswith("**90.0**") and found["BYOL"][CUB] == "64.85"
    assert found["Random"][OURS].startswith("**20.0**") and found["Random"][CARS] == "70.51"
    assert found["LooC"][OURS] == "–" and found["LooC"][CUB] == "66.42"
    assert found["BYOL+SS"][OURS].startswith("**70.0**") and found["BYOL+SS"][CUB] == "–"


def test_table_2_keeps_the_stages_apart(page: Page, tmp_path: Path) -> None:
    live = runs(
        finetuned("BYOL", 0.1),  # second stage only: no part of this table
        finetuned("BYOL", 0.3, first="BYOL", second=False),
        finetuned("BYOL", 0.5, first="BYOL"),
        finetuned("BYOL+CVSA", 0.7, first="BYOL"),
    )
    paper.both_tables(page, live, runs(finetuned("BYOL", 0.9)))
    found = table(tmp_path, "table_2")
    assert list(found) == [f"{first} → {second or '–'}" for first, second in TABLES["dual_stage"]]
    assert LONGER not in found["BYOL → –"], "a column without a single run"
    shown = {line: found[line][OURS][2:6] for line in ("BYOL → –", "BYOL → BYOL", "BYOL → BYOL+CVSA")}
    assert shown == {"BYOL → –": "30.0", "BYOL → BYOL": "50.0", "BYOL → BYOL+CVSA": "70.0"}
    assert found["BYOL → –"][CUB] == "68.55" and found["BYOL → BYOL"][CUB] == "68.01"
    assert found["MoCo.v2 → –"][CUB] == "68.47" and found["MoCo.v2 → MoCo.v2"][CUB] == "67.60"
    assert found["BYOL → BYOL+DiLo"][OURS] == "–" and found["BYOL → BYOL+CVSA"][CARS] == "87.13"
    assert table(tmp_path, "table_1")["BYOL"][OURS].startswith("**10.0**"), "a dual-stage run in table 1"


def test_a_second_stage_is_compared_with_its_first_stage_alone(page: Page, tmp_path: Path) -> None:
    shares = {None: 0.5, "BYOL": 0.25, "BYOL+CVSA": 0.75}
    live: Runs = [(tmp_path / "other", finetuned("BYOL", 0.1))]
    for row, share in shares.items():
        folder = tmp_path / f"run-{row}"
        folder.mkdir()
        right = ["1" if image < 40 * share else "0" for image in range(40)]
        lines = [f"test,{image},1,{answer}" for image, answer in enumerate(right)]
        (folder / "predictions.csv").write_text("\n".join(["split,image,label,predicted", *lines]))
        live.append((folder, finetuned(row or "BYOL", share, first="BYOL", second=row is not None)))
    paper.second_stages(page, live, runs(finetuned("BYOL", 0.9)))
    text = (tmp_path / "tables" / "contrasts_dual.md").read_text()
    assert "| BYOL | BYOL | -25.0 | – | [-40.0" in text and "change, this build" in text
    assert "| BYOL | BYOL+CVSA | +25.0 | – |" in text and "images only" in text


def test_what_sets_the_longer_run_apart_is_told_from_records() -> None:
    def trained(row: str, lr: float, epochs: int, code: str = "a") -> Record:
        return example_record(
            kind="pretrain", row=row, metrics={"loss": 1.0}, config={"lr": lr, "epochs": epochs},
            code={"hash": code},
        )  # fmt: skip

    same = paper.recipe_differences(runs(trained("BYOL", 0.1, 1)), runs(trained("BYOL", 0.1, 9)))
    assert same == ["It differs from this build in its length only."]
    live = runs(trained("BYOL", 0.1, 1), trained("MoCo.v2", 0.3, 1), trained("LooC", 0.1, 1))
    long = runs(trained("BYOL", 0.1, 9, "b"), trained("MoCo.v2", 0.1, 9))
    assert paper.recipe_differences(live, long) == [
        "`lr` 0.1 there, 0.3 here: MoCo.v2.",
        "Made by an earlier state of the code that shapes results: BYOL.",
        "Not part of the longer run: LooC.",
    ]


def test_no_longer_run_means_no_column(page: Page, tmp_path: Path) -> None:
    paper.both_tables(page, runs(finetuned("BYOL", 0.4)), [])
    assert LONGER not in table(tmp_path, "table_1")["BYOL"]
    assert OURS not in table(tmp_path, "table_2")["BYOL → –"]


def swept(row: str, shares: dict[float, float]) -> list[Record]:
    """A pre-training and its probe for every rate."""
    records = []
    for lr, share in shares.items():
        number = f"{row}{lr}".encode().hex()[-12:].rjust(12, "0")
        records.append(
            example_record(kind="pretrain", row=row, run_id=number, config={"lr": lr}, metrics={"loss": 1.0})
        )
        records.append(
            example_record(kind="probe", row=row, parents=[number], metrics={"linear_test": share})
        )
    return records


def test_the_sweep_takes_the_best_rate_and_of_equals_the_lower(page: Page, tmp_path: Path) -> None:
    records = runs(
        *swept("BYOL", {0.3: 0.5, 0.1: 0.6, 0.01: 0.2}), *swept("Rel-Loc", {0.3: 0.4, 0.1: 0.4, 0.01: 0.1})
    )
    assert paper.chosen_rates(records) == {"byol": 0.1, "rel_loc": 0.1}
    paper.sweep(page, records)
    found = table(tmp_path, "sweep")
    assert list(found) == ["Rel-Loc", "BYOL"]
    assert found["BYOL"] == {"lr 0.01": "20.0", "lr 0.1": "**60.0**", "lr 0.3": "50.0"}
    assert found["Rel-Loc"] == {"lr 0.01": "10.0", "lr 0.1": "**40.0**", "lr 0.3": "40.0"}
    assert page.numbers["sweep.runs"]["text"] == "6"


def trained(row: str, speed: float, **fields: Any) -> Record:
    return example_record(kind="pretrain", row=row, images_per_second=speed, metrics={"loss": 1.0}, **fields)


def test_costs_are_relative_to_byol(page: Page, tmp_path: Path) -> None:
    records = runs(trained("MoCo.v2", 180), trained("BYOL", 90), trained("BYOL", 100), trained("BYOL", 5000),
                   trained("LooC", 50), finetuned("BYOL", 0.5))  # fmt: skip
    paper.costs(page, records)
    found = table(tmp_path, "costs")
    assert list(found) == ["MoCo.v2", "LooC", "BYOL"]
    assert [found[row]["measured"] for row in found] == ["0.56", "2.00", "1.00"]  # by the median
    assert [found[row]["by arithmetic"] for row in found] == ["0.50", "0.75", "1.00"]
    assert (found["LooC"]["with gradient"], found["LooC"]["without"]) == ("1", "3")
    assert find_base("byol").cost == 8
