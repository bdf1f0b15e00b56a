"""What was found while rules were being chosen, beside the same by a plan that was fixed first. [O]"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from cvsa.config import PRESETS
from cvsa.report import tables
from cvsa.report.evaluated import DASH, SCRATCH, or_dash, several, signed
from cvsa.report.evidence import RunSet, run_sets
from cvsa.report.measures import MEASURES, measured
from cvsa.report.page import Page, heading, in_lines, interval
from cvsa.report.sources import Sources
from cvsa.report.statistics import Interval, mean_interval

PAIRS = (("BYOL", SCRATCH), ("MoCo.v2", SCRATCH), *tables.COMPARED)
EXPLORED, PLANNED = "explored", "by plan"


@dataclass(frozen=True)
class Found:
    """A difference of two rows in one set: a value a seed, their interval (None for one seed)."""

    values: tuple[float, ...]
    interval: Interval | None

    @property
    def mean(self) -> float:
        """Over seeds."""
        return sum(self.values) / len(self.values)

    @property
    def side(self) -> int:
        """Of zero, on which the whole interval lies: 1 or -1; 0 if on both."""
        return 0 if self.interval is None else (self.interval.low > 0) - (self.interval.high < 0)


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


def differences(runs: RunSet) -> dict[str, dict[tuple[str, str], Found]]:
    """Measure -> pair of rows -> what the set has of it."""
    found: dict[str, dict[tuple[str, str], Found]] = {}
    for metric in MEASURES:
        for pair in PAIRS:
            values = tables.paired(runs.table, metric, *pair)["difference"].tolist()
            if values:
                found.setdefault(metric, {})[pair] = Found(tuple(values), mean_interval(values))
    return found


def table(pairs: Sequence[tuple[RunSet, RunSet]]) -> pd.DataFrame:
    """A line a difference; by each measure what was explored and what the plan gave, in points."""
    lines = []
    for first, second in pairs:
        before, after = differences(first), differences(second)
        for row, against in PAIRS:
            line = {"difference": f"{row}<br>− {against}"}
            for metric, shown in MEASURES.items():
                for word, found in ((EXPLORED, before), (PLANNED, after)):
                    each = found.get(metric, {}).get((row, against))
                    line[heading(f"{shown}, {word}")] = DASH if each is None else _cell(each)
            if set(line.values()) - {line["difference"], DASH}:
                lines.append(line)
    titles = [heading(f"{shown}, {word}") for shown in MEASURES.values() for word in (EXPLORED, PLANNED)]
    return pd.DataFrame(lines, columns=["difference", *titles])


def sentences(pairs: Sequence[tuple[RunSet, RunSet]]) -> list[str]:
    """For each measure, what became of the differences that separated when they were explored."""
    lines = []
    for first, second in pairs:
        lines.append(f"Explored: {_what(first)}. By plan: {_what(second)}.")
        before, after = differences(first), differences(second)
        for metric, shown in MEASURES.items():
            told = _held(before.get(metric, {}), after.get(metric, {}))
            lines.append(f"{shown[0].upper()}{shown[1:]}: {told}.")
    return lines or ["No planned runs beside those that they would confirm."]


def _what(runs: RunSet) -> str:
    seeds = sorted(set(runs.table["seed"]))
    return f"{runs.label}, seeds {seeds[0]} to {seeds[-1]}"


def _held(before: Mapping[tuple[str, str], Found], after: Mapping[tuple[str, str], Found]) -> str:
    both = [pair for pair in before if pair in after]
    apart = [pair for pair in both if before[pair].side]
    held = [pair for pair in apart if after[pair].side == before[pair].side]
    turned = [pair for pair in apart if after[pair].side == -before[pair].side]
    new = [pair for pair in both if after[pair].side and not before[pair].side]
    return (
        f"apart over seeds when explored, {len(apart)} of {len(both)} differences; "
        f"by plan again on the same side, {len(held)}{_named(held, after)}; on the other, "
        f"{len(turned)}{_named(turned, after)}; apart by plan only, {len(new)}{_named(new, after)}"
    )


def _named(pairs: Sequence[tuple[str, str]], found: Mapping[tuple[str, str], Found]) -> str:
    told = several([f"{row} − {against} {signed(found[row, against].mean)}" for row, against in pairs])
    return f" ({told})" if told else ""


def _cell(each: Found) -> str:
    span = f"{interval(each.interval.low, each.interval.high, signed)}<br>" if each.interval else ""
    return f"**{signed(each.mean)}**<br>{span}<small>{in_lines(list(map(signed, each.values)))}</small>"
