"""What predictions lean on: tables, figures and findings for the claim on backgrounds (C8). [O]"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cvsa.report import tables
from cvsa.report.background_figures import (
    CAUSES,
    CLASSIFIERS,
    CONDITIONS,
    CONFLICT,
    causal,
    conditions,
    gaps,
    texture,
)
from cvsa.report.evaluated import (
    DASH,
    FEW,
    FIRST,
    PASTED,
    PLAIN,
    PerImage,
    Runs,
    counted,
    differences,
    evaluations,
    marked,
    mean,
    named,
    number,
    or_dash,
    plain,
    reader,
    rows_table,
    rows_with,
    several,
    sides,
    told,
    with_differences,
)
from cvsa.report.page import Page, contrast_table, interval, percent, points

CAUSE = "background"
MOST = "*most frequent class*"  # naming always that: the line of reference
FLIP = f"{CAUSE}.flip"
# Of these less is less dependence; of the conditions more is better.
LEANING = {
    "background.{}.gap": "gap",
    "background.{}.drawn": "errors drawn by the habitat",
    "background.{}.background": "right by habitat alone",
    "causal.{}.background.flip": "decisions flipped by the habitat",
}
CAPABLE = {
    "background.{}.original": "as in training",
    "background.{}.random_class": "other habitat",
    "background.{}.blank": "plain backdrop",
    "background.{}.foreground": "bird alone",
}
STYLISED = {"grey": "grey", "silhouette": "silhouette", "shuffled": "shuffled pieces"}
PROBES = {"linear.class_closed": "class", "linear.habitat_closed": "habitat"}
PROTOCOLS = {
    "retrieval.recall_at_1": "Recall@1",
    "retrieval.map_at_r": "mAP@R",
    "fewshot.5way1shot": "5-way,<br>1 shot",
    "fewshot.5way5shot": "5-way,<br>5 shots",
}
HABITAT = "linear.habitat_closed"


def draw(page: Page, runs: Runs) -> None:
    """Everything on backgrounds that the book shows, from the evaluations of one set; dashes without any.

    Args:
        page: where it goes: ``tables/background_*``, ``text/background.md``, ``figures/background_*.svg`` and
            the numbers ``background.*``, ``causal.*``, ``texture.*`` and ``linear.*``.
        runs: folders and records, those of the pre-training among them.
    """
    table, images = with_drawn(evaluations(runs)), per_image()
    found = {classifier: contrasts(table, classifier, images) for classifier in CLASSIFIERS}
    for classifier in CLASSIFIERS:
        page.table(f"background_{classifier}", accuracy_table(table, classifier))
        page.table(f"background_{classifier}_follows", follows_table(table, classifier))
        page.table(f"background_{classifier}_contrasts", or_dash(contrast_table(found[classifier])))
        page.table(f"background_{classifier}_causal", causal_table(table, classifier))
        page.table(f"background_{classifier}_texture", texture_table(table, classifier))
        page.figure(f"background_{classifier}.svg", conditions(table, classifier))
        page.figure(f"background_causal_{classifier}.svg", causal(table, classifier))
    page.table("background_summary", summary(found))
    page.table("background_probes", probes_table(table))
    page.table("background_protocols", or_dash(rows_table(table, PROTOCOLS, frozen=True)))
    page.figure("background_gap.svg", gaps(table))
    page.figure("background_texture.svg", texture(table))
    page.text("background", findings(table, found))
    _numbers(page, table)


def with_drawn(table: pd.DataFrame) -> pd.DataFrame:
    """Add ``drawn`` = ``follows`` - ``follows_chance``: who errs more follows more, by chance alone."""
    names = ("drawn", "follows", "follows_chance")
    return with_differences(table, [tuple(f"background.{c}.{name}" for name in names) for c in CLASSIFIERS])


def per_image() -> PerImage:
    """Reads of each test image, from beside the record, whether a decision was right, the gap, or a flip."""
    scenes, causes = (reader(f"{group}.csv") for group in ("background", "causal"))

    def values(folder: Path, metric: str) -> pd.Series[Any] | None:
        group, classifier, name = metric.split(".", 2)
        lines = (scenes if group == "background" else causes)(folder)
        if lines is None:
            return None
        part = lines[lines["classifier"] == classifier].set_index("image")
        if group == "causal" and name == FLIP and f"{CAUSE}_predicted" in part:
            return (part["predicted"] != part[f"{CAUSE}_predicted"]).astype(float)
        right = {kind: (part["label"] == part[kind]).astype(float) for kind in CONDITIONS if kind in part}
        if name == "gap" and {"same_class", "random_class"} <= set(right):
            return right["same_class"] - right["random_class"]
        return right.get(name)

    return values


def _of(classifier: str, *groups: Mapping[str, str]) -> dict[str, str]:
    return {key.format(classifier): title for group in groups for key, title in group.items()}


def contrasts(table: pd.DataFrame, classifier: str, images: PerImage) -> pd.DataFrame:
    """Differences between rows by every measure of one classifier."""
    return differences(table, _of(classifier, LEANING, CAPABLE), images)


def accuracy_table(table: pd.DataFrame, classifier: str) -> pd.DataFrame:
    """Accuracy by condition and the gap; below, what the most frequent class and the habitat would reach."""
    prefix = f"background.{classifier}."
    order = ("original", "same_class", "random_class", "gap", "foreground", "background")
    titles = {name: "gap" if name == "gap" else CONDITIONS[name].replace(" ", "<br>", 1) for name in order}
    columns = {prefix + name: title for name, title in titles.items()}
    rows = rows_table(table, columns, frozen=classifier == "probe", show={f"{prefix}gap": points})
    chance, ceiling = (mean(table, prefix + name) for name in ("chance", "background_ceiling"))
    lines = []
    if not np.isnan(chance):
        cells = dict.fromkeys(titles, percent(chance)) | {"gap": points(0.0)}
        lines.append({"row": MOST, **{titles[name]: text for name, text in cells.items()}})
    if not np.isnan(ceiling):
        known = {titles[name]: percent(ceiling) for name in ("same_class", "background")}
        lines.append({"row": "*knowing the habitat only*", **known})
    added = pd.DataFrame(lines, columns=rows.columns).fillna(DASH)
    return or_dash(pd.concat([rows, added], ignore_index=True))


def follows_table(table: pd.DataFrame, classifier: str) -> pd.DataFrame:
    """Accuracy on the plain backdrop, and how often a decision names a class of the shown, wrong habitat."""
    titles = {
        "blank": "plain<br>backdrop",
        "follows": "follows<br>the habitat",
        "follows_chance": "as chance<br>would",
        "drawn": "drawn by<br>the habitat",
    }
    columns = {f"background.{classifier}.{name}": title for name, title in titles.items()}
    show = {f"background.{classifier}.drawn": points}
    return or_dash(rows_table(table, columns, frozen=classifier == "probe", show=show))


def causal_table(table: pd.DataFrame, classifier: str) -> pd.DataFrame:
    """What drawing one cause anew does to the features (distance) and to decisions (share that changes)."""
    kinds: dict[str, tuple[str, Callable[[float], str] | None]] = {
        "distance": ("moves Z", plain),
        "flip": ("changes Y", None),
    }
    columns, show = {}, {}
    for kind, (title, write) in kinds.items():
        for cause, node in CAUSES.items():
            key = f"causal.{classifier}.{cause}.{kind}"
            columns[key] = f"{node}<br>{title}"
            if write:
                show[key] = write
    return or_dash(rows_table(table, columns, frozen=classifier == "probe", show=show))


def texture_table(table: pd.DataFrame, classifier: str) -> pd.DataFrame:
    """Accuracy on birds that lost colour, surface or shape; and which of two contradicting cues wins."""
    prefix = f"texture.{classifier}."
    titles = {name: title.replace(" ", "<br>", 1) for name, title in STYLISED.items()}
    titles |= {name: f"conflict:<br>{name}" for name in CONFLICT}
    columns = {prefix + name: title for name, title in titles.items()}
    rows = rows_table(table, columns, frozen=classifier == "probe")
    chance = dict.fromkeys(STYLISED, "chance") | {"surface": "surface_chance", "shape": "shape_chance"}
    ceiling = {name: f"{name}_ceiling" for name in ("silhouette", "shuffled")}
    lines = []
    guess = f"{MOST},<br>*conflict: at random*"
    for label, known in ((guess, chance), ("*all that this cue allows*", ceiling)):
        found = [mean(table, prefix + known[name]) if name in known else float("nan") for name in titles]
        if not all(map(np.isnan, found)):
            lines.append([label, *(DASH if np.isnan(value) else percent(value) for value in found)])
    return or_dash(pd.concat([rows, pd.DataFrame(lines, columns=rows.columns)], ignore_index=True))


def probes_table(table: pd.DataFrame) -> pd.DataFrame:
    """What a closed-form linear probe reads from frozen features: the class, and the habitat."""
    rows = rows_table(table, PROBES, frozen=True)
    chance = [mean(table, key) for key in ("linear.class_chance", "linear.habitat_chance")]
    if not all(map(np.isnan, chance)):
        rows.loc[len(rows)] = [
            "*most frequent class, or habitat*",
            *(DASH if np.isnan(c) else percent(c) for c in chance),
        ]
    return or_dash(rows)


def summary(found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """BYOL+CVSA against BYOL by what measures dependence; bold and italic tell what separates."""
    titles = [title.replace(" ", "<br>", 1) for title in LEANING.values()]
    lines = []
    for classifier, part in found.items():
        pair = part[(part["row"] == FIRST) & (part["against"] == PLAIN)]
        cells = {line["metric"]: marked(line) for line in pair.to_dict("records")}
        if cells:
            lines.append([CLASSIFIERS[classifier], *(cells.get(title, DASH) for title in LEANING.values())])
    return or_dash(pd.DataFrame(lines, columns=["classifier", *titles]))


def findings(table: pd.DataFrame, found: Mapping[str, pd.DataFrame]) -> list[str]:
    """What the records say, in sentences; or that they say nothing."""
    lines: list[str] = []
    measured = [part for part in found.values() if len(part)]
    if measured:
        every = pd.concat(measured)
        first = every[(every["row"] == FIRST) & (every["against"] == PLAIN)]
        lines += [f"{FIRST} against {PLAIN}. {counted(first)}"] if len(first) else []
    for classifier, title in CLASSIFIERS.items():
        part = found[classifier]
        each = [_lost(table, classifier), _leaning(part, classifier), _capable(part, classifier)]
        each += [_added(part, classifier), _flips(table, classifier), _conflict(table, classifier)]
        lines += [f"**{title.capitalize()}**: {line}" for line in each if line]
    return [line for line in [*lines, _habitat(table)] if line] or ["Not measured in these runs."]


def _each(table: pd.DataFrame, metric: str, frozen: bool) -> list[str]:
    """ "BYOL 12.3" for the few rows that have the metric."""
    shown = [row for row in FEW if row in rows_with(table, [metric])]
    return [f"{named(row, frozen).split('<br>')[0]} {percent(mean(table, metric, row))}" for row in shown]


def _lost(table: pd.DataFrame, classifier: str) -> str:
    each = _each(table, f"background.{classifier}.gap", classifier == "probe")
    if not each:
        return ""
    return f"Points lost when another habitat takes the place of a bird's own: {several(each)}."


def _leaning(part: pd.DataFrame, classifier: str) -> str:
    """By which measures BYOL+CVSA depends less on the background than BYOL, by which more."""
    keys = set(_of(classifier, LEANING))
    said = {
        "better": f"{FIRST} depends less on the background than {PLAIN} by",
        "worse": f"{FIRST} depends more on it than {PLAIN} by",
        "open": "Not settled:",
    }
    return told(sides(part[part["key"].isin(keys)], FIRST, PLAIN, lower=keys), said)


def _capable(part: pd.DataFrame, classifier: str) -> str:
    """Where BYOL+CVSA is right more often than BYOL, where less."""
    said = {
        "better": f"{FIRST} is right more often than {PLAIN}:",
        "worse": f"{FIRST} is right less often than {PLAIN}:",
        "open": "Not settled:",
    }
    return told(sides(part[part["key"].isin(_of(classifier, CAPABLE))], FIRST, PLAIN), said)


def _added(part: pd.DataFrame, classifier: str) -> str:
    """What the alignment adds to Saliency Swap, as far as it separates."""
    keys = set(_of(classifier, LEANING))
    side = sides(part[part["key"].isin(keys)], FIRST, PASTED, lower=keys)
    if not side:
        return ""
    said = {"better": "Less dependence by", "worse": "More dependence by"}
    what = told(side, said) or "No difference in dependence separates."
    return f"What the alignment adds, {FIRST} against {PASTED}: {what}"


def _flips(table: pd.DataFrame, classifier: str) -> str:
    lines = []
    for cause in CAUSES:
        each = _each(table, f"causal.{classifier}.{cause}.flip", classifier == "probe")
        if each:
            lines.append(f"the {cause} ({several(each)} %)")
    return f"Decisions that change when nothing is drawn anew but {'; '.join(lines)}." if lines else ""


def _conflict(table: pd.DataFrame, classifier: str) -> str:
    lines = []
    for name in ("surface", "shape"):
        each = _each(table, f"texture.{classifier}.{name}", classifier == "probe")
        if each:
            lines.append(f"the class of the {name} ({several(each)} %)")
    if not lines:
        return ""
    return (
        f"Where surface and shape are those of different classes, the birds are taken for {'; '.join(lines)}."
    )


def _habitat(table: pd.DataFrame) -> str:
    """What a linear probe reads of the habitat in the frozen features."""
    each = _each(table, HABITAT, frozen=True)
    if not each:
        return ""
    chance = mean(table, "linear.habitat_chance")
    guess = "" if np.isnan(chance) else f"; always naming the most frequent one gives {percent(chance)}"
    sentences = f"**Frozen features**: habitats read by a linear probe, in percent: {several(each)}{guess}."
    for line in tables.differences(table, HABITAT, [(FIRST, PLAIN)]).to_dict("records"):
        span = interval(line["low"], line["high"], points)
        verdict = "which excludes zero" if line["separated"] == "yes" else "which does not exclude zero"
        sentences += (
            f" {FIRST} minus {PLAIN}: {points(line['difference'])} points, {span} over seeds, {verdict}."
        )
    return sentences


def _numbers(page: Page, table: pd.DataFrame) -> None:
    ids = table["run_id"].unique()
    page.number("background.seeds", str(table["seed"].nunique()), ids)
    number(page, table, "linear.habitat_chance", "linear.habitat_chance")
    for classifier in CLASSIFIERS:
        for name in ("chance", "background_ceiling"):
            key = f"background.{classifier}.{name}"
            number(page, table, key, key)
        keys = [f"background.{classifier}.{name}" for name in (*CONDITIONS, "gap", "follows")]
        keys += [f"causal.{classifier}.{cause}.flip" for cause in CAUSES]
        keys += [f"texture.{classifier}.{name}" for name in (*STYLISED, *CONFLICT)]
        for row in FEW:
            for key in keys:
                number(page, table, f"{key}.{row}", key, row)
    for key in (*PROBES, *PROTOCOLS):
        for row in FEW:
            number(page, table, f"{key}.{row}", key, row)
