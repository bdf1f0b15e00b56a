"""Tables and sentences of ablations: every value with its differences, and what can be told apart. [O]"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from cvsa.methods.catalogue import find_row
from cvsa.report.ablations_study import GAP, METRICS, Line, Study, against_default, belongs, title
from cvsa.report.page import interval, percent, points
from cvsa.report.statistics import ALPHA, detectable

# Mean distance of two means of n draws with spread s: this times s / sqrt(n).
DISTANCE = 2 / math.sqrt(math.pi)
FEW, MANY = 3, 5  # seeds; differences whose spread is worth pooling
NOTHING = "No such runs are recorded here."


def show(metric: str) -> Callable[[float], str]:
    """How a value of a metric is written: shares in percent."""
    return (lambda value: f"{value:.3f}") if metric == GAP else percent


def show_difference(metric: str) -> Callable[[float], str]:
    """How a difference is written: in percentage points but for the attention."""
    return (lambda value: f"{value:+.3f}") if metric == GAP else points


def unit(metric: str) -> str:
    """What follows a difference."""
    return "" if metric == GAP else " points"


def values_table(chosen: Iterable[Study], metric: str, contrasts: pd.DataFrame) -> pd.DataFrame:
    """A line for each value of each study: every seed, and the difference to what it is compared with."""
    told, differs = show(metric), show_difference(metric)
    found = {(c["study"], c["row"], c["at"]): c for c in contrasts.to_dict("records")}
    lines = []
    for each in chosen:
        for row, at in settings(each):
            values = each.values(row, at, metric)
            if not len(values) and metric == GAP and find_row(row)[1].align_weight == 0:
                continue
            seeds = f"<br><small>{', '.join(map(told, values))}</small>" if len(values) > 1 else ""
            contrast = found.get((each.name, row, at))
            several = len(each.ablation.rows) > 1
            named = f"`{each.ablation.vary}` {at}" if each.ablation.vary != "base" else ""
            lines.append({
                "value": "<br>".join(filter(None, (named, row if several else ""))),
                METRICS.get(metric, metric).replace(", ", ",<br>"): (
                    f"**{told(float(values.mean()))}**{seeds}" if len(values) else "missing"
                ),
                **_contrast_cells(contrast, differs, _role(each, row, at)),
            })  # fmt: skip
    return pd.DataFrame(lines or [{"value": NOTHING}])


def settings(each: Study) -> Iterator[tuple[str, str]]:
    """Row and value of every setting of a study, in the order of its table."""
    rows = [find_row(row)[0] for row in each.ablation.rows]
    if each.between_rows or len(rows) > 1:
        for value, at in zip(each.ablation.values, each.labels, strict=True):
            yield from ((row, at) for row in rows if belongs(each.ablation.vary, value, row))
    else:
        yield from ((rows[0], at) for at in each.labels)


def _role(each: Study, row: str, at: str) -> str:
    """What a line without a difference is."""
    if not each.between_rows and at == each.reference[row]:
        return "the default" if each.usual else "the others' reference"
    return "–"


def _contrast_cells(contrast: Line | None, differs: Callable[[float], str], role: str) -> dict[str, str]:
    names = ("difference", "over seeds", "detectable", "p,<br>corrected")
    if contrast is None:
        return dict(zip(names, (role, "–", "–", "–"), strict=True))
    against = contrast["against_row"] if contrast["against_row"] != contrast["row"] else ""
    missing = [math.isnan(contrast[name]) for name in ("detectable", "p_adjusted")]
    return dict(zip(names, (
        differs(contrast["difference"]) + (f"<br><small>to {against}</small>" if against else ""),
        "equal" if contrast["verdict"] == "equal" else interval(contrast["low"], contrast["high"], differs),
        "–" if missing[0] else differs(contrast["detectable"]).removeprefix("+"),
        "–" if missing[1] else f"{contrast['p_adjusted']:.2f}",
    ), strict=True))  # fmt: skip


def findings(chosen: list[Study], metric: str, contrasts: pd.DataFrame) -> list[str]:
    """What the records say of a metric, in sentences; what is missing of them is not told here."""
    if contrasts.empty:
        return [NOTHING]
    counts = contrasts["verdict"].value_counts()
    single = int(counts.get("one seed", 0))
    pooled = against_default(chosen, metric)
    each = [_sentence(one, metric, contrasts, pooled) for one in chosen]
    if single == len(contrasts):
        return ["One seed each: nothing is settled.", *each]
    clear, raw = int(counts.get("yes", 0)), int(counts.get("yes", 0) + counts.get("uncorrected", 0))
    seeds = max(map(len, contrasts.loc[contrasts["verdict"] == "yes", "each"]), default=0)
    many = f"{len(contrasts)} difference{'' if len(contrasts) == 1 else 's'}"
    told = [
        f"{capital(METRICS.get(metric, metric))}: of {many} {raw} "
        f"{'has' if raw == 1 else 'have'} an interval over {_seeds(contrasts)} that excludes zero, and "
        f"{clear} {'does' if clear == 1 else 'do'} so after correction for {_number(contrasts)}."
    ]
    if single:
        told.append(f"{single} {'has' if single == 1 else 'have'} one seed only, and so no interval.")
    if clear and seeds <= FEW:
        told.append(
            f"{seeds} seeds that agree by luck give a narrow interval: "
            "believe none of these before there are more."
        )
    noise = _noise(chosen, metric, contrasts)
    if len(pooled):
        told.append(_together(pooled))
    if not clear and not (pooled["p"] < ALPHA).any():
        told.append(f"{'After correction nothing' if raw else 'Nothing'} here tells these choices apart.")
    return [*told, *noise, *each]


def _seeds(contrasts: pd.DataFrame) -> str:
    """ "the 2 seeds", "2 to 6 seeds": of the differences that have an interval."""
    counts = [len(each) for each in contrasts["each"] if len(each) > 1]
    few, many = min(counts), max(counts)
    return f"the {few} seeds" if few == many else f"{few} to {many} seeds"


def _together(pooled: pd.DataFrame) -> str:
    """What all settings tell that pool their spread."""
    apart, whole = int((pooled["p"] < ALPHA).sum()), len(pooled)
    how = (
        f"all {whole} values against the default at once, the spread over seeds pooled as if it were the "
        "same for each, corrected for their number"
        if whole > 1
        else "against the default, the spread over seeds taken as the same for both"
    )
    count = "none of them" if not apart else "all of them" if apart == whole else f"{apart} of the {whole}"
    least = pooled["p"].min()
    p = "p below 0.001" if least < 0.001 else f"p {least:.3f}" if least < 0.1 else f"p {least:.2f}"
    return f"Dunnett's test ({how}) separates {count}; least {p}."


def _number(contrasts: pd.DataFrame) -> str:
    whole = int(contrasts["family"].iloc[0])
    return "their number" if whole <= len(contrasts) else f"all {whole} differences of the set"


def _noise(chosen: list[Study], metric: str, contrasts: pd.DataFrame) -> list[str]:
    """How far seeds lie apart, how far values do, and how far they would if no value mattered."""
    every = [each.values(row, at, metric) for each in chosen for row, at in settings(each)]
    several = [values for values in every if len(values) > 1]
    contrasts = contrasts[~contrasts["verdict"].isin(["equal", "one seed"])]
    if contrasts.empty or not several:
        return []
    variance = float(np.mean([values.var(ddof=1) for values in several]))
    count = float(np.mean([len(each) for each in contrasts["each"]]))
    differs, more = show_difference(metric), unit(metric)

    def size(value: float) -> str:
        return differs(abs(value)).removeprefix("+")

    distances = contrasts["difference"].abs()
    chance = DISTANCE * math.sqrt(variance / count)
    pooled = math.sqrt(np.mean([np.var(each, ddof=1) for each in contrasts["each"]]))
    least = detectable(pooled, round(count))
    apart, mean, most = DISTANCE * math.sqrt(variance), float(distances.mean()), float(distances.max())
    told = [
        f"Two runs that differ in nothing but the seed lie {size(apart)}{more} apart on average. The "
        f"differences of means told here are {size(mean)}{more} on average and {size(most)} at most; if no "
        f"choice mattered at all, about {size(chance)}{more} would be expected on average."
    ]
    if len(contrasts) >= MANY:
        told.append(
            f"With the spread of all these differences over seeds, {round(count)} seeds would separate a "
            f"difference of {size(least)}{more} in four of five cases."
        )
    return told


def _sentence(each: Study, metric: str, contrasts: pd.DataFrame, pooled: pd.DataFrame) -> str:
    part = contrasts[contrasts["study"] == each.name].to_dict("records")
    name = title(each.ablation)
    if not part:
        return f"{name}: {NOTHING.lower()}"
    differs, several = show_difference(metric), len(each.ablation.rows) > 1
    if each.between_rows:
        told = [
            f"{'' if each.ablation.vary == 'base' else c['at'] + ', '}{c['row']} against {c['against_row']}: "
            f"{differs(c['difference'])}"
            for c in part
        ]
        return f"{name}: {'; '.join(told)}{unit(metric)}; {verdict_of(part)}."
    told = [f"{c['row'] + ' ' if several else ''}{c['at']}: {differs(c['difference'])}" for c in part]
    common = set(each.reference.values())
    against = "the default" if each.usual else "the first value"
    against = f"{common.pop()}, {against}" if len(common) == 1 else against
    verdict = verdict_of(part) + _also(each, part, pooled)
    return f"{name}, against {against}: {', '.join(told)}{unit(metric)}; {verdict}."


def _also(each: Study, part: Sequence[Line], pooled: pd.DataFrame) -> str:
    """Values that separate with the spread pooled and not without."""
    alone = {line["at"] for line in part if line["verdict"] == "yes"}
    found = pooled[(pooled["vary"] == each.ablation.vary) & (pooled["p"] < ALPHA)]
    named = [str(at) for at in found["at"] if at not in alone]
    return f"; with the spread pooled, {listed(named)} {'does' if len(named) == 1 else 'do'}" if named else ""


def listed(names: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def verdict_of(part: Sequence[Line]) -> str:
    """Some differences in words: which of them separate."""
    told = []
    for verdict, words in (("yes", "separates"), ("uncorrected", "separates only before correction")):
        named = [
            c["at"] if c["row"] == c["against_row"] else c["row"] if c["vary"] == "base" else
            f"{c['at']} {c['row']}" for c in part if c["verdict"] == verdict
        ]  # fmt: skip
        if named:
            verb = words if len(named) == 1 else words.replace("tes", "te")
            told.append(f"{listed(named)} {verb}")
    if equal := [c["at"] for c in part if c["verdict"] == "equal"]:
        told.append(f"{listed(equal)} equal to the last digit")
    if not told:
        alone = all(c["verdict"] == "one seed" for c in part)
        return "one seed settles nothing" if alone else "no difference separates"
    return "; ".join(told)


def capital(text: str) -> str:
    """With a capital first letter."""
    return text[:1].upper() + text[1:]


def missing_sentences(phrases: list[str]) -> list[str]:
    """What is not at hand, each once, or that nothing is missing."""
    once = list(dict.fromkeys(phrases))
    if not once:
        return ["No run is missing."]
    count = f"{len(once)} {'entry' if len(once) == 1 else 'entries'}"
    told = f"**Not complete.** Missing, and left out of all that is shown: {count}."
    return [told, *(f"{phrase}." for phrase in once)]
