"""How far measures can be trusted, on sets of runs with known numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests_support import example_record

from cvsa.report import measures, tables
from cvsa.report.claims import claims
from cvsa.report.evidence import RunSet, judge
from cvsa.report.measures import MEASURES
from cvsa.report.tables import TOP1

PLAIN, TRAINED = (metric for metric in MEASURES if metric != TOP1)
SHARES = {
    "BYOL": {TOP1: [0.50, 0.51, 0.52, 0.53], PLAIN: [0.40, 0.60, 0.30, 0.70], TRAINED: [0.95] * 4},
    "BYOL+SS": {TOP1: [0.55, 0.56, 0.57, 0.50], PLAIN: [0.35, 0.50, 0.25, 0.65], TRAINED: [0.96] * 4},
    "Random": {TOP1: [0.40, 0.41, 0.42, 0.43], PLAIN: [0.30, 0.50, 0.30, 0.60], TRAINED: [0.94] * 4},
    "SimCLR": {TOP1: [0.90, 0.80], PLAIN: [0.90, 0.80], TRAINED: [0.97] * 2},  # too few seeds to count
}


def run_set(shares: dict[str, dict[str, list[float]]] = SHARES, name: str = "small_cpu") -> RunSet:
    lines = [
        {"kind": "finetune", "row": row, "seed": seed, "metric": metric, "value": value,
         "run_id": f"{row}-{seed}", "folder": Path("nowhere") / f"{row}-{seed}"}
        for row, given in shares.items() for metric, values in given.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    return RunSet(name, False, pd.DataFrame(lines))


def test_f_is_the_mean_square_between_rows_over_that_within() -> None:
    told = {each.metric: each for each in measures.reliability([run_set()])}
    groups = [np.array(given[TOP1]) for given in SHARES.values() if len(given[TOP1]) == 4]
    means = [group.mean() for group in groups]
    between = 4 * sum((mean - np.mean(means)) ** 2 for mean in means) / 2
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / 9
    each = told[TOP1]
    assert each.f == pytest.approx(between / within) and each.within == pytest.approx(within**0.5)
    assert (each.rows, each.trainings, each.best) == (3, 12, pytest.approx(0.545))
    assert told[PLAIN].f < 1 < each.f
    (sentence,) = measures.on_reliability([told[TOP1], told[PLAIN]])
    assert "best by habitats of others (F" in sentence and "then by a plain backdrop (F" in sentence


def test_sets_of_few_seeds_tell_nothing_and_say_so() -> None:
    single = {row: {metric: values[:2] for metric, values in given.items()} for row, given in SHARES.items()}
    told = measures.reliability([run_set(single)])
    assert not told
    assert "3 seeds" in measures.on_reliability(told)[0]
    assert measures.reliability_table(told).iloc[0].tolist() == ["–", "–"]
    assert "No set" in measures.on_luck([run_set(single)])[0]


def test_pairs_of_seeds_that_show_the_other_sign_are_counted() -> None:
    lines = measures.on_luck([run_set()])
    # Differences +5, +5, +5, -3: no pair has a negative mean.
    assert len(lines) == 1 and "0 of 6 for BYOL+SS − BYOL (+3.0)" in lines[0]
    swayed = {**SHARES, "BYOL+SS": {**SHARES["BYOL+SS"], TOP1: [0.55, 0.56, 0.57, 0.45]}}
    # +5, +5, +5, -8: the three pairs with the last seed.
    assert "3 of 6 for BYOL+SS − BYOL (+1.8)" in measures.on_luck([run_set(swayed)])[0]


def test_a_claim_is_told_by_every_measure() -> None:
    runs, claim = run_set(), claims()[0]
    found = measures.by_measure(claim, runs)
    assert list(found) == list(MEASURES)
    means = {metric: each.tested[0][1].mean for metric, each in found.items()}
    assert means == {TOP1: pytest.approx(0.03), PLAIN: pytest.approx(-0.0625), TRAINED: pytest.approx(0.01)}
    (usual,) = judge(runs, [claim])
    assert found[TOP1].verdict == usual.verdict
    said = measures.otherwise(claim, usual)
    assert "a plain backdrop" in said and "-6.2" in said and "+3.0" not in said
    looks = next(each for each in claims() if each.key == "C7")
    assert measures.otherwise(looks, judge(runs, [looks])[0]) == ""
    table = measures.verdicts_table({"C1": runs, "C7": runs})
    assert len(table) == 1 and "committed `small_cpu`" in table["claim"][0]
    assert "+3.0" in table["habitats of others"][0] and "-6.2" in table["a plain backdrop"][0]
    assert measures.verdicts_table({}).iloc[0].tolist() == ["–"] * 4


def test_top1_is_the_first_split_there_is() -> None:
    birds = example_record(metrics={"test_accuracy": 0.5, "test_swapped_accuracy": 0.7, "val_accuracy": 0.9})
    photographs = example_record(metrics={"test_accuracy": 0.5, "val_accuracy": 0.9})
    assert tables.metrics_of(birds)[TOP1] == 0.7 and tables.metrics_of(photographs)[TOP1] == 0.5
    assert TOP1 not in tables.metrics_of(example_record(kind="probe", metrics={"linear_test": 0.1}))


def test_few_labels_have_a_column_each() -> None:
    given = {"Random": (0.2, 0.8), "MoCo.v2": (0.25, 0.8), "MoCo.v2+SS": (0.35, 0.9)}
    lines = [
        {"row": row, "seed": seed, "labels": share, "metric": TOP1, "value": value + seed / 100,
         "run_id": "r", "folder": Path()}
        for row, values in given.items() for share, value in zip((0.1, 1.0), values, strict=True)
        for seed in (0, 1)
    ]  # fmt: skip
    told = measures.labels_table(pd.DataFrame(lines), 80.0).set_index("row")
    assert list(told.columns) == ["8 labels<br>a class", "80 labels<br>a class"]
    assert told.loc["Random, %"].tolist() == ["20.5", "80.5"]
    assert told.loc["MoCo.v2+SS<br>− MoCo.v2", "8 labels<br>a class"].startswith("**+10.0**<br>[+10.0")
    assert list(told.index) == ["Random, %", "MoCo.v2+SS<br>− MoCo.v2"]  # what no row measured has no line
    assert measures.labels_table(pd.DataFrame(columns=[*lines[0]]), 80.0).empty
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
    knn = measures.GAINS["probe.knn_test"]
    assert told.loc["BYOL", knn].startswith("**+10.0**<br>[") and "+20.0, +0.0" in told.loc["BYOL", knn]
    assert told.loc["BYOL+SS", knn] == "**+30.0**<br><small>one seed</small>"
    assert told.loc["BYOL", measures.GAINS[TOP1]] == "–"
