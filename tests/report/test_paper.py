"""The sweep and the costs, on records with known numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests_support import example_record

from cvsa.methods.catalogue import find_base
from cvsa.records import Record
from cvsa.report import paper
from cvsa.report.page import Page

Runs = list[tuple[Path, Record]]


def runs(*records: Record) -> Runs:
    return [(Path(f"run{number}"), record) for number, record in enumerate(records)]


def table(folder: Path, name: str) -> dict[str, dict[str, str]]:
    """A Markdown table: first cell -> heading -> cell, without emphasis."""
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
                   trained("LooC", 50), example_record())  # fmt: skip
    paper.costs(page, records)
    found = table(tmp_path, "costs")
    assert list(found) == ["MoCo.v2", "LooC", "BYOL"]
    assert [found[row]["measured"] for row in found] == ["0.56", "2.00", "1.00"]  # by the median
    assert [found[row]["by arithmetic"] for row in found] == ["0.50", "0.75", "1.00"]
    assert (found["LooC"]["with gradient"], found["LooC"]["without"]) == ("1", "3")
    assert find_base("byol").cost == 8
