"""An ablation as data: its runs found among others, what is missing, differences between values. [O]

An ablation of ``workflow/grid.yaml`` becomes a :class:`Study`. Its runs are found by what their pre-training
was configured with, not by the names of folders.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from cvsa.config import WHERE, PretrainConfig, resolve
from cvsa.costs import share_of_labels
from cvsa.errors import CVSAError
from cvsa.grid import Ablation, Grid, load_grid
from cvsa.methods.catalogue import find_row, plain_row
from cvsa.records import Runs
from cvsa.report.statistics import ALPHA, SAME, mean_interval, t_test
from cvsa.report.tables import TOP1, detectable_of, metrics_of, with_adjusted

PRESET, REFERENCE, OBJECTIVES = "ablations", "BYOL", "objectives"
FINETUNED, PROBED, GAP = TOP1, "probe.linear_test", "pretrain.attention_gap"
METRICS = {FINETUNED: "fine-tuned", PROBED: "linear probe", GAP: "attention, inside minus outside"}
NOT_DONE = {"pretrain": "not trained", "finetune": "not fine-tuned", "probe": "not probed"}
# What makes other networks of a run: its values are not compared, but rows at each value.
BETWEEN = ("backbone", "base")
# Fields that do not decide what a run is compared with.
APART = WHERE | {"seed", "preset", "precision", "parent"}

Usual = Callable[..., PretrainConfig]
"""Row, and fields that are varied -> the configuration with nothing else varied."""
Line = Mapping[Any, Any]
"""A line of :func:`compare`."""


@dataclass(frozen=True)
class Study:
    """One ablation, and what was measured of it.

    Attributes:
        name: in the grid.
        ablation: what was asked for.
        reference: row -> label of the value that the others are compared with: the usual one, or the first.
        usual: whether they are the usual ones.
        runs: columns row, at (label of the value), seed, metric, value, run_id.
        missing: what was asked for and is not there, a phrase each.
    """

    name: str
    ablation: Ablation
    reference: dict[str, str]
    usual: bool
    runs: pd.DataFrame
    missing: list[str]

    @property
    def labels(self) -> list[str]:
        """Of the values, in the grid's order."""
        return [label(self.ablation.vary, value) for value in self.ablation.values]

    @property
    def between_rows(self) -> bool:
        """Whether rows are compared at each value, not values for each row."""
        return self.ablation.vary in BETWEEN

    @property
    def pairs(self) -> list[tuple[str, str, str, str]]:
        """What is compared: row, value, and the row and value it is compared with."""
        rows = [find_row(row)[0] for row in self.ablation.rows]
        if not self.between_rows:
            return [
                (row, at, row, self.reference[row])
                for row in rows
                for at in self.labels
                if at != self.reference[row]
            ]
        found = []
        for value, at in zip(self.ablation.values, self.labels, strict=True):
            here = [row for row in rows if belongs(self.ablation.vary, value, row)]
            found += [(row, at, here[n], at) for n, row in enumerate(here[1:])]
        return found

    def values(self, row: str, at: str, metric: str) -> pd.Series[Any]:
        """Of a metric, by seed."""
        chosen = (self.runs["row"] == row) & (self.runs["at"] == at) & (self.runs["metric"] == metric)
        part: pd.Series[Any] = self.runs[chosen].set_index("seed")["value"].sort_index()
        return part


def label(vary: str, value: Any) -> str:
    """A value for people: 0.10 -> "0.1", True -> "true", a base objective by its row."""
    if vary == "base":
        return plain_row(value)
    return (
        str(value).lower() if isinstance(value, bool) else value if isinstance(value, str) else f"{value:g}"
    )


def belongs(vary: str, value: Any, row: str) -> bool:
    """Whether a row has runs at a value: at a base objective only its own rows."""
    return vary != "base" or find_row(row)[1].base == value


def check_vary(vary: str) -> str:
    """Refuse what is no parameter of pre-training, with the nearest name.

    Raises:
        CVSAError: unknown, or a parameter that cannot be varied here.
    """
    known = [name for name in PretrainConfig.model_fields if name not in APART | {"row", "stage"}]
    if vary not in known:
        near = difflib.get_close_matches(str(vary), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CVSAError(
            f"Parameter vary = {vary!r}: no parameter of pre-training that can be varied.{hint} "
            "`cvsa params pretrain` lists them."
        )
    return vary


def study(name: str, ablation: Ablation, runs: Runs, usual: Usual) -> Study:
    """Find the runs of an ablation among others.

    Args:
        name: of the ablation.
        ablation: parameter of pre-training, values, rows, seeds, evaluations.
        runs: any; those that differ from the usual configuration in something else are left out. Of seeds
            all count, also others than were asked for.
        usual: of each row.
    """
    rows, vary = [find_row(row)[0] for row in ablation.rows], ablation.vary
    labels = [label(vary, value) for value in ablation.values]
    # A value may bring a recipe of its own (a network its optimiser): compared with what it resolves to.
    wanted = {
        (row, at): usual(row, **({} if vary == "base" else {vary: value})).model_dump(mode="json")
        for row in rows
        for value, at in zip(ablation.values, labels, strict=True)
        if belongs(vary, value, row)
    }
    trained: dict[str, tuple[str, str]] = {}  # run id of a pre-training -> row, value
    for _, record in runs:
        if record.kind == "pretrain" and record.stage1 is None:
            for (row, at), config in wanted.items():
                if row == record.row and _fits(record.config, config):
                    trained[record.run_id] = row, at
    lines = []
    for _, record in runs:
        start = record.run_id if record.kind == "pretrain" else next(iter(record.parents), "")
        if start in trained and share_of_labels(record) == 1:
            row, at = trained[start]
            lines += [
                (row, at, record.seed, metric, value, record.run_id)
                for metric, value in metrics_of(record).items()
            ]
    table = pd.DataFrame(lines, columns=["row", "at", "seed", "metric", "value", "run_id"])
    own = {row: label(vary, getattr(usual(row), vary)) for row in rows}
    reference = {row: at if at in labels else labels[0] for row, at in own.items()}
    return Study(name, ablation, reference, reference == own, table, _missing(ablation, table))


def _fits(made: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a run was configured like this; fields that came after it have the value of before."""
    then = {name: made.get(name, PretrainConfig.model_fields[name].default) for name in wanted}
    return all(then[name] == value for name, value in wanted.items() if name not in APART)


def _missing(ablation: Ablation, table: pd.DataFrame) -> list[str]:
    measured = zip(table["row"], table["at"], table["seed"], table["metric"], strict=True)
    there = {(row, at, seed, metric.partition(".")[0]) for row, at, seed, metric in measured}
    if not there:
        return [f"{title(ablation)}: every run"]
    told: dict[tuple[str, str, str], list[str]] = {}
    for value in ablation.values:
        for row in (find_row(name)[0] for name in ablation.rows):
            for seed in ablation.seeds if belongs(ablation.vary, value, row) else []:
                at = label(ablation.vary, value)
                lacks = [k for k in ("pretrain", *ablation.evaluate) if (row, at, seed, k) not in there]
                for kind in lacks[:1] if "pretrain" in lacks else lacks:
                    told.setdefault((row, at, NOT_DONE.get(kind, f"no {kind}")), []).append(str(seed))
    phrases = []
    for (row, at, what), seeds in told.items():
        where = [] if ablation.vary == "base" else [f"`{ablation.vary}` {at}"]
        where += [row] if len(ablation.rows) > 1 else []
        counted = f"seed{'s' if len(seeds) > 1 else ''} {' and '.join(seeds)}"
        phrases.append(f"{', '.join([*where, counted])}: {what}")
    return phrases


def title(ablation: Ablation) -> str:
    """What is varied, for people."""
    return "Other base objectives" if ablation.vary == "base" else f"`{ablation.vary}`"


def usual_of(preset: str) -> Usual:
    """What a preset gives each row."""

    def usual(row: str, **varied: Any) -> PretrainConfig:
        return resolve(PretrainConfig, row=row, preset=preset, **varied)

    return usual


def studies(root: Path, preset: str, runs: Runs) -> dict[str, Study]:
    """The ablations of a preset's grid that vary pre-training, name -> study.

    Where its first table has rows of other bases than BYOL with the alignment, all of these bases' rows are
    one more study: "objectives".
    """
    grid = load_grid(root / "workflow" / "grid.yaml", preset)
    asked = {name: a for name, a in grid.ablations.items() if a.vary in PretrainConfig.model_fields}
    rows = [
        row for _, row in grid.tables.get("second_stage_only", []) if row and find_row(row)[1].base != "none"
    ]
    usual_base = find_row(REFERENCE)[1].base  # with its own rows in every ablation that compares rows
    rows = [row for row in rows if find_row(row)[1].base != usual_base]
    if any(find_row(row)[1].align_weight for row in rows):
        bases = list(dict.fromkeys(find_row(row)[1].base for row in rows))
        seeds = sorted(set.intersection(*(_seeds(grid, row) for row in rows)))
        kinds = dict.fromkeys(run.kind for run in grid.runs if run.config.row in rows)
        asked[OBJECTIVES] = Ablation("base", bases, rows, seeds, [k for k in kinds if k != "pretrain"])
    return {name: study(name, ablation, runs, usual_of(preset)) for name, ablation in asked.items()}


def _seeds(grid: Grid, row: str) -> set[int]:
    """Of a row's runs in a grid."""
    return {run.config.seed for run in grid.runs if run.config.row == find_row(row)[0]}


def compare(chosen: Iterable[Study], metric: str) -> pd.DataFrame:
    """Paired differences over the seeds that both sides have, corrected for their number.

    Returns:
        Columns study, vary, row, at, against_row, against_at; values (by seed, of the row), each (differences
        by seed), difference (their mean), low, high (95 %), p, p_adjusted, detectable, verdict: "yes" where
        the interval excludes zero and the corrected p is below 0.05, "uncorrected" where only the former
        holds, "equal" (to the last digit in every seed), "one seed", "no"; family (how many differences the
        correction is for).
    """
    lines = []
    for each in chosen:
        for row, at, other, there in each.pairs:
            first, second = each.values(row, at, metric), each.values(other, there, metric)
            found = (first - second).dropna().tolist()
            if found:
                low, high, _ = mean_interval(found) or (math.nan, math.nan, "")
                lines.append({
                    "study": each.name, "vary": each.ablation.vary, "row": row, "at": at,
                    "against_row": other, "against_at": there, "each": found,
                    "difference": float(np.mean(found)), "low": low,
                    "high": high, "p": t_test(found), "detectable": detectable_of(found),
                })  # fmt: skip
    names = [
        "study",
        "vary",
        "row",
        "at",
        "against_row",
        "against_at",
        "each",
        "difference",
        "low",
        "high",
        "p",
    ]
    table = with_adjusted(pd.DataFrame(lines, columns=[*names, "detectable"]))
    verdicts = [_verdict(line) for line in table.to_dict("records")]
    return table.assign(verdict=verdicts, family=int(table["p"].notna().sum()))


def against_default(chosen: Iterable[Study], metric: str) -> pd.DataFrame:
    """Dunnett's test of many settings against the one that all are compared with.

    The spread over seeds is pooled over all settings, as if it were the same for each, so that few seeds of
    many settings know it well; pairs of seeds are not used. The p-values are corrected for the number of
    settings.

    Returns:
        Columns vary, at, difference (of means), p; empty where the studies have several rows or references,
        or a setting has one seed only.
    """
    settings: dict[tuple[str, str], list[float]] = {}
    control: list[float] = []
    for each in chosen:
        row, at = next(iter(each.reference.items()))
        if each.between_rows or len(each.ablation.rows) > 1:
            continue
        control = control or each.values(row, at, metric).tolist()
        for _, other, _, _ in each.pairs:
            settings[each.ablation.vary, other] = each.values(row, other, metric).tolist()
    settings = {key: values for key, values in settings.items() if len(values) > 1}
    lines = []
    if settings and len(control) > 1 and max(map(np.ptp, (control, *settings.values()))) > SAME:
        found = stats.dunnett(*settings.values(), control=control, rng=np.random.default_rng(0))
        lines = [
            (vary, at, float(np.mean(values) - np.mean(control)), float(p))
            for ((vary, at), values), p in zip(settings.items(), found.pvalue, strict=True)
        ]
    return pd.DataFrame(lines, columns=["vary", "at", "difference", "p"])


def _verdict(line: Line) -> str:
    if max(map(abs, line["each"])) <= SAME:
        return "equal"
    if len(line["each"]) < 2:
        return "one seed"
    if line["low"] <= 0 <= line["high"]:
        return "no"
    return "yes" if line["p_adjusted"] < ALPHA else "uncorrected"


def of(contrasts: pd.DataFrame, chosen: Iterable[Study]) -> pd.DataFrame:
    """The differences of some studies, still corrected for the number of all."""
    return contrasts[contrasts["study"].isin([each.name for each in chosen])]


def baseline(runs: Runs, usual: Usual, row: str) -> pd.DataFrame:
    """The runs of one row with nothing varied, as in :class:`Study`."""
    return study("baseline", Ablation("base", [find_row(row)[1].base], [row], [], []), runs, usual).runs
