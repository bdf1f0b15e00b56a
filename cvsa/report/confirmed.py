"""What was found while rules were being chosen, beside the same by a plan that was fixed first. [O]"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from scipy import stats

from cvsa.config import PRESETS
from cvsa.report import tables
from cvsa.report.claims import Part
from cvsa.report.evaluated import DASH, SCRATCH, or_dash, several, signed
from cvsa.report.evidence import Evidence, RunSet, measure, run_sets
from cvsa.report.measures import MEASURES, gain, measured
from cvsa.report.page import Page, heading, p_value
from cvsa.report.sources import Sources

PAIRS = (("BYOL", SCRATCH), ("MoCo.v2", SCRATCH), *tables.COMPARED)
EXPLORED, PLANNED = "explored", "by plan"

Found = Mapping[str, Evidence]
"""Rows, "BYOL+SS − BYOL" -> what a set has of their difference."""


def draw(page: Page, sources: Sources) -> None:
    """``tables/confirmed`` and ``text/confirmed``.

    Args:
        page: where they go.
        sources: all records at hand.
    """
    pairs = twins(run_sets(sources))
    with page.source([run for pair in pairs for runs in pair for run in runs.table["run_id"].unique()]):
        page.table("confirmed", or_dash(table(pairs)))
        page.text("confirmed", sentences(pairs))


def twins(sets: Sequence[RunSet]) -> list[tuple[RunSet, RunSet]]:
    """Every planned set after the one it confirms, fine-tuned with labels as nearly alike as there are."""
    found = []
    for planned in (each for each in sets if each.planned and measured(each)):
        name = PRESETS[planned.name]["confirms"]
        before = [each for each in sets if each.name == name and measured(each) and each.a_class]
        if before and planned.a_class:
            nearest = min(before, key=lambda each: abs(math.log(each.a_class / planned.a_class)))
            found.append((nearest, planned))
    return found


def differences(runs: RunSet, metric: str) -> dict[str, Evidence]:
    """What a set has of each pair of rows, by one measure."""
    parts = [Part(*pair, 1, metric) for pair in PAIRS]
    return {part.rows: each for part in parts if (each := measure(runs.table, part)).seeds}


def table(pairs: Sequence[tuple[RunSet, RunSet]]) -> pd.DataFrame:
    """A line a difference; by each measure what was explored and what the plan gave, in points."""
    lines: dict[str, dict[str, str]] = {}
    for first, second in pairs:
        for metric, shown in MEASURES.items():
            for word, runs in ((EXPLORED, first), (PLANNED, second)):
                for rows, each in differences(runs, metric).items():
                    line = lines.setdefault(rows, {"difference": rows.replace(" − ", "<br>− ")})
                    line[heading(f"{shown}, {word}")] = gain(each.differences)
    titles = [heading(f"{shown}, {word}") for shown in MEASURES.values() for word in (EXPLORED, PLANNED)]
    return pd.DataFrame(list(lines.values()), columns=["difference", *titles]).fillna(DASH)


def sentences(pairs: Sequence[tuple[RunSet, RunSet]]) -> list[str]:
    """For each measure, what became of the differences that separated when they were explored."""
    lines = []
    for first, second in pairs:
        lines.append(f"Explored: {_what(first)}. By plan: {_what(second)}.")
        for metric, shown in MEASURES.items():
            told = _became(differences(first, metric), differences(second, metric))
            lines.append(f"{shown[0].upper()}{shown[1:]}: {told}.")
    return lines or ["No planned runs beside those that they would confirm."]


def _what(runs: RunSet) -> str:
    seeds = sorted(set(runs.table["seed"]))
    return f"{runs.label}, seeds {seeds[0]} to {seeds[-1]}"


def _side(each: Evidence) -> int:
    """Of zero, on which the whole interval lies: 1 or -1; 0 if on both."""
    return 0 if each.interval is None else (each.interval.low > 0) - (each.interval.high < 0)


def _became(before: Found, after: Found) -> str:
    both = [rows for rows in before if rows in after]
    apart = [rows for rows in both if _side(before[rows])]
    again = [rows for rows in apart if _side(after[rows]) == _side(before[rows])]
    turned = [rows for rows in apart if _side(after[rows]) == -_side(before[rows])]
    open_now = [rows for rows in apart if rows not in again and rows not in turned]
    new = [rows for rows in both if _side(after[rows]) and not _side(before[rows])]
    parts = (("on the same side", again), ("on the other", turned), ("open", open_now))
    told = "; ".join(f"{words}, {len(rows)}{_named(rows, before, after)}" for words, rows in parts)
    return (
        f"{len(apart)} of {len(both)} differences were apart over seeds when explored. By plan they are "
        f"{told}. Apart by plan only: {len(new)}{_named(new, before, after)}"
    )


def _named(chosen: Sequence[str], before: Found, after: Found) -> str:
    """Each with both means, and p of Welch's test between the two sets of seeds."""
    told = []
    for rows in chosen:
        one, other = before[rows], after[rows]
        p = stats.ttest_ind(one.differences, other.differences, equal_var=False).pvalue
        told.append(f"{rows} {signed(one.mean)}, then {signed(other.mean)} (p {p_value(float(p))})")
    return f": {several(told)}" if told else ""
