"""The claims ledger: every claim of the paper, what was reported, what is measured here, and a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from cvsa.report.claims import Claim, Part, claims
from cvsa.report.evaluated import DASH, several, signed
from cvsa.report.evidence import Evidence, Tested, contradicted, ledger, verdict_of
from cvsa.report.ledger_figures import forest
from cvsa.report.measures import otherwise
from cvsa.report.page import Page, in_lines, interval, p_value
from cvsa.report.sources import Sources
from cvsa.report.statistics import POWER, seeds_needed
from cvsa.report.verdicts import OPEN, UNTESTED, VERDICTS

A_LINE = 3  # seeds in a line of a cell
MOST = 1000  # seeds that a search for the needed number goes up to


def draw(page: Page, sources: Sources) -> None:
    """Everything of the ledger: ``tables/ledger*``, ``text/ledger*``, ``figures/ledger_*`` and numbers.

    Args:
        page: where it goes.
        sources: all records at hand.
    """
    found = ledger(sources, claims())
    every = [tested for of_claim in found.values() for tested in of_claim]
    with page.source(run_ids(every)):
        page.table("ledger", overview(found))
        page.text("ledger", in_all(found))
    for claim in claims():
        key, tested = claim.key.lower(), found[claim.key]
        with page.source(run_ids(tested)):
            page.table(f"ledger_{key}", parts_table(claim, tested))
            page.text(f"ledger_{key}", sentences(claim, tested, every))
            first = tested[0] if tested else None
            page.figure(f"ledger_{key}.svg", forest(claim, first), run_ids(tested[:1]))
            page.number(f"ledger.{claim.key}.verdict", verdict_of(tested), run_ids(tested))
    for verdict, count in counts(found).items():
        page.number(f"ledger.count.{verdict}", str(count), run_ids(every))


def run_ids(tested: Iterable[Tested]) -> list[str]:
    """Every run behind them."""
    return sorted({run for each in tested for run in each.run_ids})


def counts(found: Mapping[str, Sequence[Tested]]) -> dict[str, int]:
    """Verdict -> number of claims, in the order of ``verdicts.VERDICTS``."""
    number = Counter(verdict_of(tested) for tested in found.values())
    return {verdict: number[verdict] for verdict in VERDICTS}


def reported(part: Part, digits: int = 2) -> str:
    """The authors' difference in points, or its range over their data sets; a dash where there is none."""
    values = sorted(part.reported.values(), key=lambda value: part.direction * value)
    told = [f"{100 * value:+.{digits}f}" for value in values]
    return DASH if not told else told[0] if len(told) == 1 else f"{told[0]} to {told[-1]}"


def ours(each: Evidence) -> str:
    """Mean difference in points, its interval with how it was made, and below it every seed."""
    if not each.seeds:
        return DASH
    mean = f"**{signed(each.mean)}**"
    if each.interval is None:
        return f"{mean}<br><small>one seed</small>"
    span = interval(each.interval.low, each.interval.high, signed)
    told = [signed(value) for value in each.differences]
    return f"{mean}<br>{span} ({each.interval.kind})<br><small>{in_lines(told, A_LINE)}</small>"


def verdict_cell(part: Part, each: Evidence) -> str:
    """The verdict, with what "inconclusive" would hide: that every one of several seeds disagrees."""
    return each.verdict + "<br><small>every seed<br>against it</small>" * each.against(part.direction)


def overview(found: Mapping[str, Sequence[Tested]]) -> pd.DataFrame:
    """A line a claim: its most telling part that is tested, and the verdict on the whole."""
    lines = []
    for claim in claims():
        tested = found[claim.key][0] if found[claim.key] else None
        part, each = tested.tested[0] if tested else (claim.parts[0], Evidence())
        by = tested.runs.narrow if tested else "no runs"
        lines.append({
            "claim,<br>by which runs": f"**{claim.key}** {claim.short}<br><small>{by}</small>",
            "verdict": f"**{verdict_of(found[claim.key])}**<br>{_tested(claim, found[claim.key])}",
            "difference": part.title.replace(" − ", "<br>− ").replace(", ", ",<br>"),
            "reported": reported(part).replace(" to ", "<br>to "),
            "ours": ours(each),
        })  # fmt: skip
    return pd.DataFrame(lines)


def _tested(claim: Claim, found: Sequence[Tested]) -> str:
    """How many parts came out how, and which other sets have another verdict than that, or than open."""
    if not found:
        return f"<small>none of {len(claim.parts)} parts</small>"
    first, *others = found
    notes = [f"{len(first.tested)} of {len(claim.parts)} parts:", *_counted(first)]
    notes += ["older code"] * first.stale
    for each in others:
        if each.verdict != first.verdict and each.verdict != OPEN:
            notes.append(f"{each.verdict}<br>by {each.runs.narrow.removeprefix('committed<br>')}")
    return "".join(f"<small>{note}</small><br>" for note in notes).removesuffix("<br>")


def _counted(tested: Tested) -> list[str]:
    """ "1 reproduced", "2 inconclusive": the parts tested, in the order of the verdicts."""
    number = Counter(each.verdict for _, each in tested.tested)
    return [f"{number[verdict]} {verdict}" for verdict in VERDICTS if number[verdict]]


def parts_table(claim: Claim, tested: Sequence[Tested]) -> pd.DataFrame:
    """A line for each part of a claim and set of runs that tests it; untested parts have a line, too."""
    lines = []
    for number, part in enumerate(claim.parts):
        having: list[Tested | None] = [each for each in tested if each.evidence[number].seeds]
        for each in having or [None]:
            shown = each.evidence[number] if each else Evidence()
            # A line for each value: the table is read on narrow screens too.
            title = part.title.replace(" − ", "<br>− ").replace(", ", ",<br>")
            lines.append({
                "difference,<br>by which runs": f"{title}<br><small>{_label(each) if each else DASH}</small>",
                "verdict": verdict_cell(part, shown),
                "ours": ours(shown),
                "reported": reported(part).replace(" to ", "<br>to "),
                "p,<br>corrected": f"{p_value(shown.p)},<br>{p_value(shown.p_adjusted)}",
                "detect-<br>able": DASH if np.isnan(shown.detectable) else f"{100 * shown.detectable:.1f}",
                "McNemar": in_lines([p_value(p) for p in shown.mcnemar], 1) or DASH,
            })  # fmt: skip
    return pd.DataFrame(lines)


def _label(tested: Tested) -> str:
    notes = ["older code"] * tested.stale
    notes += [f"same numbers as {tested.repeats}"] if tested.repeats else []
    return "<br>".join([tested.runs.narrow, *notes])


def sentences(claim: Claim, tested: Sequence[Tested], every: Sequence[Tested]) -> list[str]:
    """What the numbers say about a claim.

    Args:
        claim: of :func:`cvsa.report.claims.claims`.
        tested: the sets that test it, the one that speaks for it first.
        every: those of all claims, from which the spread is pooled.
    """
    claimed = f"Claimed {claim.mark}: {claim.text}"
    if not tested:
        return [claimed, f"**{UNTESTED.capitalize()}**: no set of runs has both rows of any part."]
    first, *others = tested
    return [
        line
        for line in (
            claimed,
            _verdict(claim, first),
            _contrary(first),
            _open(first),
            _missing(claim, first),
            otherwise(claim, first),
            _needed(first, [each for each in every if each.runs.label == first.runs.label]),
            _others(others),
        )
        if line
    ]


def _verdict(claim: Claim, tested: Tested) -> str:
    seeds = sorted({len(each.seeds) for _, each in tested.tested})
    many = " to ".join(str(count) for count in dict.fromkeys((seeds[0], seeds[-1])))
    told = several(_counted(tested))
    stale = ". Some of these runs were made by other code than today's" * tested.stale
    return (
        f"**{tested.verdict.capitalize()}**, by {tested.runs.label}: {tested.scale}, {many} "
        f"{'seed' if seeds == [1] else 'seeds'}. Of {len(claim.parts)} "
        f"{'part' if len(claim.parts) == 1 else 'parts'} {len(tested.tested)} tested: {told}{stale}."
    )


def _contrary(tested: Tested) -> str:
    """Parts against the claim, which "inconclusive" would hide."""
    against = contradicted(tested)
    if not against:
        return ""
    told = [
        f"{part.title} ({_seeds(each)}; {each.verdict})" for part, each in tested.tested if part in against
    ]
    return f"Against the claim, separated or in every one of several seeds: {several(told)}."


def _open(tested: Tested) -> str:
    """Parts of one seed, with the side they fell on."""
    single = [(part, each) for part, each in tested.tested if len(each.seeds) == 1 and part.direction]
    if not single:
        return ""
    agree = sum(part.direction * each.mean > 0 for part, each in single)
    return (
        f"One seed only, and so open whatever it shows: {len(single)} of the parts, of which {agree} fell on "
        f"the side of the claim and {len(single) - agree} did not."
    )


def _missing(claim: Claim, tested: Tested) -> str:
    pairs = zip(claim.parts, tested.evidence, strict=True)
    titles = [part.title for part, each in pairs if not each.seeds]
    return f"Not tested by these runs: {several(titles)}." if titles else ""


def pooled_spread(every: Iterable[Tested], metric: str) -> tuple[float, int]:
    """Standard deviation of paired differences between seeds, pooled over all differences of a metric.

    Args:
        every: of one set of runs.
        metric: whose differences.

    Returns:
        The root of the mean variance, and how many differences of two seeds or more there are.
    """
    values = {
        (part.row, part.against): each.differences
        for tested in every
        for part, each in tested.tested
        if part.metric == metric and len(each.seeds) > 1
    }
    variances = [float(np.var(each, ddof=1)) for each in values.values()]
    return (float(np.sqrt(np.mean(variances))) if variances else float("nan")), len(variances)


def _needed(tested: Tested, same_runs: Sequence[Tested]) -> str:
    """How many seeds would settle it: for the reported differences, or for one as large as seen."""
    metric = tested.tested[0][0].metric
    spread, count = pooled_spread(same_runs, metric)
    if np.isnan(spread):
        return (
            "No difference here has two seeds. The spread between seeds, and so what would settle this, is "
            "not known."
        )
    parts = [(part, each) for part, each in tested.tested if part.metric == metric and part.direction]
    sizes = sorted(abs(value) for part, _ in parts for value in part.reported.values() if value)
    what = "the reported differences" if sizes else "a difference as large as the one measured"
    sizes = sizes or [abs(each.mean) for _, each in parts[:1]]
    ends = list(dict.fromkeys(f"{100 * size:.2f}" for size in (sizes[0], sizes[-1])))
    seeds = [seeds_needed(size, spread, MOST) for size in (sizes[-1], sizes[0])]
    told = [f"more than {MOST:,}" if each is None else str(each) for each in seeds]
    many = "one difference" if count == 1 else f"{count} differences"
    return (
        f"Differences of paired trainings spread by {100 * spread:.1f} points between seeds (standard "
        f"deviation, pooled over {many} of these runs, so itself known roughly). At that spread, to separate "
        f"{what} ({' to '.join(ends)} points) with a power of {100 * POWER:.0f} % takes "
        f"{' to '.join(dict.fromkeys(told))} seeds, before any correction."
    )


def _others(others: Sequence[Tested]) -> str:
    told = []
    for each in others:
        note = f", the same numbers as {each.repeats}" if each.repeats else ""
        against = "".join(f"; {part.title} against it" for part in contradicted(each))
        label = each.runs.label[0].upper() + each.runs.label[1:]
        told.append(f"{label} ({each.scale}{note}): {each.verdict}{against}")
    return f"Other runs that test a part of it. {'. '.join(told)}." if told else ""


def in_all(found: Mapping[str, Sequence[Tested]]) -> list[str]:
    """How many claims have which verdict, and what stands behind them."""
    number = counts(found)
    told = [f"{count} {verdict}" for verdict, count in number.items() if count]
    first = [tested[0] for tested in found.values() if tested]
    repeated = sum(len(each.seeds) > 1 for tested in first for _, each in tested.tested)
    parts = sum(len(tested.tested) for tested in first)
    comparable = sum(tested.runs.comparable for tested in first)
    stale = sum(tested.stale for tested in first)
    lines = [
        f"Of {len(found)} claims: {several(told)}.",
        f"They consist of {sum(len(claim.parts) for claim in claims())} differences. {parts} of these are "
        f"measured by the runs that speak for their claim, {repeated} of them with two seeds or more.",
        f"With data and network of the authors: {comparable or 'none'} of the claims. A verdict here is one "
        "on the claim at the scale named beside it, not on the authors' experiments.",
    ]
    if stale:
        lines.append(f"For {stale} of the claims, runs were made by other code than today's.")
    return lines


def _seeds(each: Evidence) -> str:
    return ", ".join(map(signed, each.differences))
