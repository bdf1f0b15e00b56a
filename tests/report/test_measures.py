"""How far measures can be trusted, on sets of runs with known numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tests_support import example_record

from cvsa.report import measures, tables
from cvsa.report.claims import claims
from cvsa.report.evidence import RunSet, judge
from cvsa.report.measures import MEASURES
from cvsa.report.page import heading
from cvsa.report.tables import TOP1

SWAPPED, PLAIN = (metric for metric in MEASURES if metric != TOP1)
SHARES = {
    "BYOL": {TOP1: [0.50, 0.52, 0.51, 0.53], PLAIN: [0.40, 0.60, 0.30, 0.70], SWAPPED: [0.95] * 4},
    "BYOL+SS": {TOP1: [0.55, 0.56, 0.57, 0.50], PLAIN: [0.35, 0.50, 0.25, 0.65], SWAPPED: [0.96] * 4},
    "Random": {TOP1: [0.40, 0.41, 0.42, 0.43], PLAIN: [0.30, 0.65, 0.20, 0.60], SWAPPED: [0.94, 0.95] * 2},
    "SimCLR": {TOP1: [0.90, 0.80], PLAIN: [0.90, 0.80], SWAPPED: [0.97] * 2},  # too few seeds to count
}


def run_set(shares: dict[str, dict[str, list[float]]] = SHARES, name: str = "small_cpu") -> RunSet:
    lines = [
        {"kind": "finetune", "row": row, "seed": seed, "metric": metric, "value": value,
         "run_id": f"{row}-{seed}", "folder": Path("nowhere") / f"{row}-{seed}"}
        for row, given in shares.items() for metric, values in given.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    return RunSet(name, False, pd.DataFrame(lines))


def test_f_with_two_rows_would_be_the_square_of_the_paired_t(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger's test and F agree: blocks are pairs where there are two rows."""
    two = {row: {metric: SHARES[row][metric] for metric in (TOP1, PLAIN)} for row in ("BYOL", "BYOL+SS")}
    monkeypatch.setattr(measures, "ENOUGH", 2)
    told = {each.metric: each for each in measures.reliability([run_set(two)])}
    for metric in (TOP1, PLAIN):
        paired = stats.ttest_rel(two["BYOL"][metric], two["BYOL+SS"][metric])
        assert told[metric].f == pytest.approx(paired.statistic**2)
        assert told[metric].p == pytest.approx(paired.pvalue)


def test_f_takes_out_what_all_rows_of_a_seed_share() -> None:
    told = {each.metric: each for each in measures.reliability([run_set()])}
    each = told[TOP1]
    assert (each.rows, each.seeds, each.best) == (3, 4, pytest.approx(0.545))
    shifts = np.array([0.3, -0.2, 0.1, 0.0])
    moved = {row: {m: list(np.array(v) + shifts[: len(v)]) for m, v in given.items()}
             for row, given in SHARES.items()}  # fmt: skip
    again = {each.metric: each for each in measures.reliability([run_set(moved)])}[TOP1]
    assert again.f == pytest.approx(each.f) and again.within == pytest.approx(each.within)
    assert told[PLAIN].f < each.f
    (sentence,) = measures.on_reliability([told[TOP1], told[PLAIN]])
    assert sentence.startswith("Committed `small_cpu`, 3 rows: habitats as in training F = ")
    assert f"a plain backdrop F = {told[PLAIN].f:.1f} (p {told[PLAIN].p:.3f})" in sentence


def test_sets_of_few_seeds_tell_nothing_and_say_so() -> None:
    single = {row: {metric: values[:2] for metric, values in given.items()} for row, given in SHARES.items()}
    told = measures.reliability([run_set(single)])
    assert not told
    assert "3 seeds" in measures.on_reliability(told)[0]
    assert measures.reliability_table(told).iloc[0].tolist() == ["–", "–"]
    assert "No set" in measures.on_luck([run_set(single)])[0]


def test_pairs_of_seeds_that_show_the_other_sign_are_counted() -> None:
    lines = measures.on_luck([run_set()])
    # Differences +5, +4, +6, -3: no pair has a negative mean.
    assert len(lines) == 1 and "0 of 6 for BYOL+SS − BYOL (+3.0)" in lines[0]
    swayed = {**SHARES, "BYOL+SS": {**SHARES["BYOL+SS"], TOP1: [0.55, 0.56, 0.57, 0.45]}}
    # +5, +4, +6, -8: the three pairs with the last seed.
    assert "3 of 6 for BYOL+SS − BYOL (+1.8)" in measures.on_luck([run_set(swayed)])[0]


def test_a_claim_is_told_by_every_measure() -> None:
    runs, claim = run_set(), claims()[0]
    found = measures.by_measure(runs)
    assert list(found) == list(MEASURES) and list(found[TOP1]) == ["C1", "C2", "C3", "C4", "C5", "C6"]
    means = {metric: each["C1"].tested[0][1].mean for metric, each in found.items()}
    assert means == {TOP1: pytest.approx(0.03), PLAIN: pytest.approx(-0.0625), SWAPPED: pytest.approx(0.01)}
    usual = judge(runs, claims())[0]
    assert found[TOP1]["C1"].verdict == usual.verdict
    corrected = [each.p_adjusted for each in found[TOP1]["C1"].evidence]
    assert corrected == pytest.approx([each.p_adjusted for each in usual.evidence], nan_ok=True)
    said = measures.otherwise(claim, usual)
    assert "a plain backdrop" in said and "-6.2" in said and "+3.0" not in said
    looks = next(each for each in claims() if each.key == "C7")
    assert measures.otherwise(looks, judge(runs, [looks])[0]) == ""
    table = measures.verdicts_table({"C1": runs, "C7": runs})
    assert len(table) == 1 and "committed `small_cpu`" in table["claim"][0]
    assert "+3.0" in table["habitats as<br>in training"][0] and "-6.2" in table["a plain<br>backdrop"][0]
    assert measures.verdicts_table({}).iloc[0].tolist() == ["–"] * 4


def test_claims_that_another_measure_judges_otherwise_are_named() -> None:
    apart = {"BYOL": {**SHARES["BYOL"], SWAPPED: [0.95, 0.94, 0.95, 0.94]},
             "BYOL+SS": {**SHARES["BYOL+SS"], SWAPPED: [0.97, 0.96, 0.97, 0.96]}}  # fmt: skip
    (told,) = measures.on_verdicts([run_set(apart)])
    assert "1 of 1 by habitats of others: C1 (same direction, not inconclusive)" in told
    assert "1 of 1 by a plain backdrop: C1 (not reproduced, not inconclusive)" in told
    same = {row: {metric: given[TOP1] for metric in MEASURES} for row, given in SHARES.items()}
    (alike,) = measures.on_verdicts([run_set(same)])
    assert alike.endswith(": 0 of 1 by habitats of others; 0 of 1 by a plain backdrop.")
    assert measures.on_verdicts([]) == ["No set of runs tests a claim."]


def test_top1_is_on_images_like_those_of_training() -> None:
    birds = example_record(metrics={"test_accuracy": 0.5, "test_swapped_accuracy": 0.7, "val_accuracy": 0.9})
    photographs = example_record(metrics={"test_accuracy": 0.5, "val_accuracy": 0.9})
    assert tables.metrics_of(birds)[TOP1] == 0.9 and tables.metrics_of(photographs)[TOP1] == 0.5
    assert TOP1 not in tables.metrics_of(example_record(kind="probe", metrics={"linear_test": 0.1}))


def test_few_labels_have_a_column_each() -> None:
    given = {"Random": (0.2, 0.8), "MoCo.v2": (0.25, 0.8), "MoCo.v2+SS": (0.35, 0.9)}
    lines = [
        {"row": row, "seed": seed, "labels": share, "metric": TOP1, "value": value + seed / 100,
         "run_id": "r", "folder": Path()}
        for row, values in given.items() for share, value in zip((0.1, 1.0), values, strict=True)
        for seed in (0, 1)
    ]  # fmt: skip
    told = measures.labels_table(pd.DataFrame(lines), 80.0, 50).set_index("row")
    assert told.loc["guessing, %"].tolist() == ["2.0", "2.0"]
    assert told.loc["MoCo.v2<br>− Random", "8 labels<br>a class"].startswith("**+5.0**<br>[+5.0")
    assert list(told.columns) == ["8 labels<br>a class", "80 labels<br>a class"]
    assert told.loc["Random, %"].tolist() == ["20.5", "80.5"]
    assert told.loc["MoCo.v2+SS<br>− MoCo.v2", "8 labels<br>a class"].startswith("**+10.0**<br>[+10.0")
    assert list(told.index)[1:] == [
        "Random, %",
        "MoCo.v2<br>− Random",
        "MoCo.v2+SS<br>− Random",
        "MoCo.v2+SS<br>− MoCo.v2",
    ]  # what no row measured has no line
    assert measures.labels_table(pd.DataFrame(columns=[*lines[0]]), 80.0, 50).empty
    said = measures.on_labels(pd.DataFrame(lines), 80.0)
    assert said[0].startswith("With 8 labels a class 1 of 1 differences") and "MoCo.v2 +10.0" in said[0]
    assert len(said) == 2 and measures.on_labels(pd.DataFrame(columns=[*lines[0]]), 80.0) == []


def test_gains_are_paired_with_no_pre_training() -> None:
    shared = {"metric": "probe.knn_test", "run_id": "r", "folder": Path()}
    lines = [
        {**shared, "row": row, "seed": seed, "value": value}
        for row, values in {"Random": [0.1, 0.2], "BYOL": [0.3, 0.2], "BYOL+SS": [0.4]}.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    told = measures.gains_table(pd.DataFrame(lines)).set_index("row")
    assert list(told.index) == ["BYOL", "BYOL+SS"]
    knn = heading(measures.GAINS["probe.knn_test"])
    assert told.loc["BYOL", knn].startswith("**+10.0**<br>[") and "+20.0, +0.0" in told.loc["BYOL", knn]
    assert told.loc["BYOL+SS", knn] == "**+30.0**<br><small>one seed</small>"
    assert told.loc["BYOL", heading(measures.GAINS[TOP1])] == "–"
