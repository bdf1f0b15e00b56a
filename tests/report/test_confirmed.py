"""What was explored beside what a plan gave, on sets of runs with known numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from cvsa.report import confirmed
from cvsa.report.evidence import RunSet
from cvsa.report.measures import MEASURES
from cvsa.report.tables import TOP1

SWAPPED, PLAIN = (metric for metric in MEASURES if metric != TOP1)
BASE = [0.50, 0.51, 0.52]
GAINS = {  # what BYOL+SS gains over BYOL, when explored and by plan
    TOP1: ([0.05, 0.06, 0.05], [0.01, -0.01, 0.02]),
    SWAPPED: ([0.05, 0.06, 0.05], [0.02, 0.03, 0.02]),
    PLAIN: ([0.05, -0.06, 0.05], [-0.02, -0.03, -0.02]),
}


def run_set(name: str, number: int, first_seed: int, a_class: float) -> RunSet:
    lines = [
        {"kind": "finetune", "row": row, "seed": first_seed + place, "metric": metric,
         "value": BASE[place] + (gains[number][place] if row == "BYOL+SS" else 0.0),
         "run_id": f"{name}-{row}-{place}", "folder": Path("nowhere")}
        for metric, gains in GAINS.items() for row in ("BYOL", "BYOL+SS") for place in range(3)
    ]  # fmt: skip
    return RunSet(name, False, pd.DataFrame(lines), a_class=a_class, planned=name == "confirm")


@pytest.fixture
def sets() -> list[RunSet]:
    return [
        run_set("small_cpu", 1, 0, 80),
        replace(run_set("small_cpu", 0, 0, 30), few=True, whole=False),
        run_set("ablations", 0, 0, 30),
        run_set("confirm", 1, 5, 30),
    ]


def test_a_plan_stands_beside_the_runs_it_confirms_with_as_many_labels(sets: list[RunSet]) -> None:
    ((explored, planned),) = confirmed.twins(sets)
    assert (explored.name, explored.a_class, planned.name) == ("small_cpu", 30, "confirm")
    assert confirmed.twins(sets[2:]) == [] and confirmed.twins(sets[:3]) == []


def test_the_table_has_both_by_every_measure(sets: list[RunSet]) -> None:
    table = confirmed.table(confirmed.twins(sets))
    assert table["difference"].tolist() == ["BYOL+SS<br>− BYOL"] and table.shape[1] == 1 + 2 * len(MEASURES)
    line = table.iloc[0]
    assert line["habitats of<br>others,<br>explored"].startswith("**+5.3**<br>[")
    assert line["habitats of<br>others,<br>by plan"].startswith("**+2.3**<br>[")
    assert "+2.0, +3.0" in line["habitats of<br>others,<br>by plan"]
    assert confirmed.table([]).empty


def test_what_held_is_counted(sets: list[RunSet]) -> None:
    what, *told = confirmed.sentences(confirmed.twins(sets))
    assert "with 30 labels a class, seeds 0 to 2" in what and "seeds 5 to 7" in what
    trained, others, plain = told
    assert trained.startswith("Habitats as in training: 1 of 1 differences were apart over seeds")
    welch = stats.ttest_ind(*GAINS[TOP1], equal_var=False).pvalue
    assert f"on the other, 0; open, 1: BYOL+SS − BYOL +5.3, then +0.7 (p {welch:.3f}). Apart" in trained
    assert "on the same side, 1: BYOL+SS − BYOL +5.3, then +2.3 (p" in others and "plan only: 0" in others
    assert "0 of 1 differences" in plain and "plan only: 1: BYOL+SS − BYOL +1.3, then -2.3" in plain
    assert "No planned runs" in confirmed.sentences([])[0]
