"""What networks are tested on: how far each measure can be trusted, and what another would say. [O]"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from cvsa.methods.catalogue import ROWS
from cvsa.report import tables
from cvsa.report.claims import FULL, Claim, claims
from cvsa.report.evaluated import DASH, SCRATCH, or_dash, rows_with, several, signed
from cvsa.report.evidence import RunSet, Tested, judge, ledger, main_runs, run_sets
from cvsa.report.page import Page, heading, in_lines, interval, p_value, percent
from cvsa.report.sources import Sources
from cvsa.report.statistics import mean_interval
from cvsa.report.tables import TOP1

# Metric -> what the test images of drawn birds show.
MEASURES = {
    TOP1: "habitats as in training",
    "finetune.test_swapped_accuracy": "habitats of others",
    "finetune.test_accuracy": "a plain backdrop",
}
FEATURES = {
    "probe.linear_val": "habitats as in training",
    "probe.linear_test_swapped": "habitats of others",
    "probe.linear_test": "a plain backdrop",
}
TITLES = {metric: f"fine-tuned,<br>{shown}" for metric, shown in MEASURES.items()} | {
    metric: f"linear probe,<br>{shown}" for metric, shown in FEATURES.items()
}
# What is compared with no pre-training.
GAINS = {
    TOP1: "fine-tuned, habitats as in training",
    "probe.linear_val": "linear probe, habitats as in training",
    "probe.linear_test": "linear probe, plain backdrop",
    "probe.knn_test": "kNN, plain backdrop",
}
GAP = "pretrain.attention_gap"
OF_BYOL = ("BYOL", "BYOL+SS", FULL)
A_PAIR = 2  # seeds of the cheapest comparison
ENOUGH = 3  # rows, and seeds of each, for an analysis of variance that tells something


def draw(page: Page, sources: Sources) -> None:
    """``tables/measures``, ``tables/measures_verdicts``, ``text/measures``, ``text/measures_luck``.

    Args:
        page: where they go.
        sources: all records at hand; sets of drawn birds that were fine-tuned are looked at.
    """
    sets = [each for each in run_sets(sources) if measured(each)]
    with page.source([run for each in sets for run in each.table["run_id"].unique()]):
        told = reliability(sets)
        page.table("measures", reliability_table(told))
        page.text("measures", on_reliability(told))
        # What C2 and most of C4 compare: over all rows, F measures the bases above all.
        base = [replace(each, table=each.table[each.table["row"].isin(OF_BYOL)]) for each in sets]
        page.text("measures_base", on_reliability(reliability(base)))
        speaking = {key: tested[0].runs for key, tested in ledger(sources, claims()).items() if tested}
        page.table("measures_verdicts", verdicts_table(speaking))
        page.text("measures_verdicts", on_verdicts(sets))
        page.text("measures_luck", on_luck(sets))
    second = tables.second_stages(tables.long_table(main_runs(sources)))
    table = second[second["labels"] == 1]
    with page.source(sources.main):
        page.table("measures_gains", or_dash(gains_table(table)))
        classes, images = _classes(sources)
        page.table("measures_labels", or_dash(labels_table(second, images, classes)))
        page.text("measures_labels", on_labels(second, images))
        gap = tables.by_row(table, GAP)["mean"].get(FULL)
        page.number("measures.attention", DASH if gap is None else f"{gap:.2f}")


def measured(runs: RunSet) -> bool:
    """Whether fine-tuned networks of a set were tested in each of these ways."""
    return len(runs.table) > 0 and MEASURES.keys() <= set(runs.table["metric"])


@dataclass(frozen=True, eq=False)
class Reliability:
    """How well a measure tells the rows of a set apart.

    Attributes:
        runs, metric: the set and the measure.
        rows, seeds: how many; all rows have all of these seeds.
        best: highest mean of a row.
        within: what is left of an accuracy when its row's and its seed's mean are known, standard deviation.
        between: standard deviation of the rows' means.
        f, p: analysis of variance with the seeds as blocks, since rows are compared seed by seed.
    """

    runs: RunSet
    metric: str
    rows: int
    seeds: int
    best: float
    within: float
    between: float
    f: float
    p: float


def reliability(sets: Iterable[RunSet]) -> list[Reliability]:
    """One a set and measure, of the seeds that all rows of the first table with ``ENOUGH`` have in common.

    None where there are too few rows or seeds. F grows with the seeds: it compares measures within a set.
    """
    found = []
    for runs in sets:
        for metric in TITLES:
            chosen = runs.table[(runs.table["metric"] == metric) & runs.table["row"].isin(ROWS)]
            table = chosen.pivot_table(index="row", columns="seed", values="value")
            values = table[table.notna().sum(axis=1) >= ENOUGH].dropna(axis=1).to_numpy(float)
            rows, seeds = values.shape
            if min(rows, seeds) < ENOUGH:
                continue
            means = values.mean(axis=1, keepdims=True)
            left = values - means - values.mean(axis=0) + values.mean()
            free = (rows - 1) * (seeds - 1)
            within, between = (left**2).sum() / free, float(means.var(ddof=1))
            f = seeds * between / within
            found.append(
                Reliability(
                    runs, metric, rows, seeds, float(means.max()), float(within**0.5), between**0.5,
                    float(f), float(stats.f.sf(f, rows - 1, free)),
                )
            )  # fmt: skip
    return found


def reliability_table(told: Sequence[Reliability]) -> pd.DataFrame:
    """For people, spreads in points."""
    lines = [
        {
            "measure": TITLES[each.metric].replace(" ", "&nbsp;").replace("-", "&#8209;"),
            "runs": each.runs.narrow,
            "rows,<br>seeds": f"{each.rows}, {each.seeds}",
            "best,<br>%": percent(each.best),
            "spread<br>left": f"{100 * each.within:.1f}",
            "spread<br>of rows": f"{100 * each.between:.1f}",
            "F<br>(p)": f"{each.f:.1f}<br><small>({p_value(each.p)})</small>",
        }
        for each in told
    ]
    return pd.DataFrame(lines or [{"measure": DASH, "runs": DASH}])


def on_reliability(told: Sequence[Reliability]) -> list[str]:
    """For each set, how well each way of testing fine-tuned networks tells rows apart, the best first."""
    lines = []
    for label in dict.fromkeys(each.runs.label for each in told):
        part = [each for each in told if each.runs.label == label and each.metric in MEASURES]
        if part:
            shown = [
                f"{MEASURES[each.metric]} F = {each.f:.1f} (p {p_value(each.p)})"
                for each in sorted(part, key=lambda each: -each.f)
            ]
            lines.append(f"{_capital(label)}, {part[0].rows} rows: {', '.join(shown)}.")
    return lines or [f"No set of runs has {ENOUGH} rows with {ENOUGH} seeds each."]


def verdicts_table(speaking: Mapping[str, RunSet]) -> pd.DataFrame:
    """The verdict on each claim about fine-tuned accuracy by each measure: a line a claim.

    Args:
        speaking: key of a claim -> the set that speaks for it.
    """
    lines = []
    for claim in claims():
        runs = speaking.get(claim.key)
        if runs is not None and _concerned(claim) and measured(runs):
            shown = {
                heading(MEASURES[metric]): _cell(each[claim.key]) for metric, each in by_measure(runs).items()
            }
            lines.append({"claim": f"**{claim.key}** {claim.short}<br><small>{runs.label}</small>", **shown})
    return pd.DataFrame(lines or [{"claim": DASH, **dict.fromkeys(map(heading, MEASURES.values()), DASH)}])


def on_verdicts(sets: Iterable[RunSet]) -> list[str]:
    """For each set, whether it speaks or not: which claims another measure would judge otherwise."""
    lines = []
    for runs in sets:
        first, *others = by_measure(runs).items()
        tested = [key for key, each in first[1].items() if each.tested]
        told = []
        for metric, found in others:
            other = [
                f"{key} ({found[key].verdict}, not {first[1][key].verdict})"
                for key in tested
                if found[key].verdict != first[1][key].verdict
            ]
            named = f": {several(other)}" if other else ""
            told.append(f"{len(other)} of {len(tested)} by {MEASURES[metric]}{named}")
        if tested:
            usual = MEASURES[TOP1]
            lines.append(
                f"{_capital(runs.label)}, claims judged otherwise than by {usual}: {'; '.join(told)}."
            )
    return lines or ["No set of runs tests a claim."]


def gains_table(table: pd.DataFrame) -> pd.DataFrame:
    """What pre-training gives over none, a line a row: fine-tuned, and in frozen features.

    Args:
        table: of ``tables.main_runs``.

    Returns:
        In points: the mean of paired differences to Random, its interval and every seed.
    """
    lines = []
    for row in (name for name in rows_with(table, GAINS) if name != SCRATCH):
        line = {"row": row}
        for metric, title in GAINS.items():
            values = tables.paired(table, metric, row, SCRATCH)["difference"].tolist()
            line[heading(title)] = gain(values) if values else DASH
        lines.append(line)
    return pd.DataFrame(lines, columns=["row", *map(heading, GAINS.values())])


def labels_table(table: pd.DataFrame, images: float, classes: float) -> pd.DataFrame:
    """Fine-tuning with fewer labels: guessing and Random, then differences of rows, a column a share.

    Args:
        table: of ``tables.second_stages``.
        images: training images of a class.
        classes: their number.

    Returns:
        In percent and points; a dash where a share was not run for a row.
    """
    tuned = table[table["metric"] == TOP1]
    pairs = [(row, SCRATCH) for row in rows_with(tuned, [TOP1]) if row != SCRATCH] + [*tables.COMPARED]
    lines: list[dict[str, str]] = [{"row": "guessing, %"}, {"row": f"{SCRATCH}, %"}]
    lines += [{"row": f"{row}<br>− {against}"} for row, against in pairs]
    for share in sorted(set(tuned["labels"])):
        part, title = tuned[tuned["labels"] == share], f"{images * share:.0f} labels<br>a class"
        level = part.loc[part["row"] == SCRATCH, "value"]
        lines[0][title] = percent(1 / classes) if classes else DASH
        lines[1][title] = percent(level.mean()) if len(level) else DASH
        for line, pair in zip(lines[2:], pairs, strict=True):
            values = tables.paired(part, TOP1, *pair)["difference"].tolist()
            line[title] = gain(values) if values else DASH
    return pd.DataFrame([line for line in lines if set(line.values()) - {line["row"], DASH}])


def on_labels(table: pd.DataFrame, images: float) -> list[str]:
    """How many of the compared differences separate over seeds with each share of the labels.

    Args:
        table: of ``tables.second_stages``.
        images: training images of a class.
    """
    told = []
    for share in sorted(set(table.loc[table["metric"] == TOP1, "labels"])):
        part = table[table["labels"] == share]
        found = {pair: tables.paired(part, TOP1, *pair)["difference"].tolist() for pair in tables.COMPARED}
        spans = {pair: span for pair, values in found.items() if (span := mean_interval(values))}
        apart = [pair for pair, span in spans.items() if span.low > 0 or span.high < 0]
        names = several([f"{row} − {other} {signed(np.mean(found[row, other]))}" for row, other in apart])
        told.append(
            f"With {images * share:.0f} labels a class {len(apart)} of {len(spans)} differences between rows "
            f"have an interval over seeds that excludes zero{f': {names}' if names else ''}."
        )
    return told


def _classes(sources: Sources) -> tuple[float, float]:
    """How many classes the main set has, and training images a class; NaN without such a set."""
    counts = [record.counts for _, record in sources.main if "classes" in record.counts]
    if not counts:
        return float("nan"), float("nan")
    most = max(counts, key=lambda each: each["train_images"] / each["classes"])
    return most["classes"], most["train_images"] / most["classes"]


def gain(values: Sequence[float]) -> str:
    """Mean of differences in points, its interval and every seed, for a cell."""
    span = mean_interval(values)
    told = f"**{signed(float(np.mean(values)))}**"
    if span is None:
        return f"{told}<br><small>one seed</small>"
    seeds = in_lines(list(map(signed, values)))
    return f"{told}<br>{interval(span.low, span.high, signed)}<br><small>{seeds}</small>"


@cache
def by_measure(runs: RunSet) -> dict[str, dict[str, Tested]]:
    """Measure -> claim -> its verdict by that; p-values are corrected as the ledger's are."""
    found = {}
    for metric in MEASURES:
        given = [
            replace(claim, parts=tuple(replace(part, metric=metric) for part in claim.parts))
            if _concerned(claim)
            else claim
            for claim in claims()
        ]
        judged = zip(claims(), judge(runs, given), strict=True)
        found[metric] = {claim.key: each for claim, each in judged if _concerned(claim)}
    return found


def otherwise(claim: Claim, tested: Tested) -> str:
    """A sentence on what the other ways of testing say of a claim; empty where there are none."""
    if not _concerned(claim) or not measured(tested.runs):
        return ""
    told = [
        f"{MEASURES[metric]} {each.verdict}, {each.tested[0][0].rows} {signed(each.tested[0][1].mean)}"
        for metric, found in by_measure(tested.runs).items()
        if metric != TOP1 and (each := found[claim.key]).tested
    ]
    return f"The same networks on other test images: {'; '.join(told)}." if told else ""


def on_luck(sets: Iterable[RunSet]) -> list[str]:
    """How often two seeds alone would have shown the other sign than all seeds together."""
    lines = []
    for runs in sets:
        told = [each for pair in tables.COMPARED if (each := _luck(runs, *pair))]
        if told:
            lines.append(f"{_capital(runs.label)}: {several(told)}.")
    return lines or [f"No set of runs has more than {A_PAIR + 1} seeds of two rows that are compared."]


def _luck(runs: RunSet, row: str, against: str) -> str:
    values = tables.paired(runs.table, TOP1, row, against)["difference"].to_numpy(float)
    if len(values) <= A_PAIR + 1:
        return ""
    pairs = [float(np.mean(pair)) for pair in combinations(values, A_PAIR)]
    other = sum(np.sign(pair) != np.sign(values.mean()) for pair in pairs)
    return f"{other} of {len(pairs)} for {row} − {against} ({signed(float(values.mean()))})"


def _concerned(claim: Claim) -> bool:
    return all(part.metric == TOP1 for part in claim.parts)


def _cell(tested: Tested) -> str:
    if not tested.tested:
        return DASH
    part, each = tested.tested[0]
    rows = part.rows.replace(" − ", "<br>− ")
    return f"{tested.verdict}<br><small>{rows}: {signed(each.mean)}</small>"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
