"""What contrastive learning sees: what views share, what is read, where it looks; tables and findings. [O]"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cvsa.config import PretrainConfig, resolve
from cvsa.data.habitats import HABITATS
from cvsa.errors import CVSAError
from cvsa.records import Record, find_records
from cvsa.report import pilot_views, tables
from cvsa.report.page import Page, cell, interval, percent, points
from cvsa.report.pilot_figures import Dial, nothing_to_show, run_curves
from cvsa.report.pilot_views import PRESET, capital
from cvsa.report.statistics import t_interval

ROWS = ("BYOL", "BYOL+CVSA")
DIALS = (
    Dial("shortcut", "habitat_bias", "habitat_bias", log=False),
    Dial("crop", "crop_scale", "crop_scale", log=True),
    Dial("training", "epochs", "epochs", log=True),
)
CLASS, HABITAT, SWAPPED = "probe.linear_test", "probe.habitat_linear", "probe.linear_test_swapped"
READS = {CLASS: "class", HABITAT: "habitat", SWAPPED: "class, habitat swapped"}
LOCAL, CENTRE = "evaluate.localization.", "ref_centre"
LOOKS = {
    f"{LOCAL}similarity.pointing": "similarity: peak on the bird",
    f"{LOCAL}norm.energy": "norm: share on the bird",
    f"{LOCAL}cam_probe.box_acc": "probe's map: box accuracy",
}
UNKNOWN = "No such runs are recorded here."
CHANCE, BY_CLASS, BY_CENTRE = "guessing", "the class alone", "centred box"
STYLES = {CHANCE: ":", BY_CLASS: "-.", BY_CENTRE: ":"}


def draw(page: Page, folder: Path) -> None:
    """Everything of the chapter on what contrastive learning sees, from committed records.

    Args:
        page: where it goes: ``tables/pilot_*``, ``text/pilot_*``, ``figures/pilot_*``, numbers ``pilot.*``.
        folder: of the preset's kept runs, and of ``views-*.csv`` of photographs where they were measured.

    Raises:
        CVSAError: there are no records.
    """
    pilot_views.draw(page, folder)
    draw_runs(page, folder)


def draw_runs(page: Page, folder: Path) -> None:
    """What encoders read and where they look, along each dial."""
    records = list(find_records(folder))
    if not records:
        raise CVSAError(f"No committed records in {folder}. Restore them from version control.")
    base = resolve(PretrainConfig, preset=PRESET, row="BYOL").model_dump()
    runs = along_dials(runs_table(records), base)
    ids = [record.run_id for _, record in records]
    for dial in DIALS:
        part = runs[runs["sweep"] == dial.name]
        page.figure(f"pilot_{dial.name}.svg", curves(part, [(dial, m, READS[m]) for m in (CLASS, HABITAT)]))
        page.table(f"pilot_{dial.name}", dial_table(part, READS, dial))
        page.text(f"pilot_{dial.name}", findings(part, READS, dial))
        page.table(f"pilot_{dial.name}_looks", dial_table(part, LOOKS, dial))
        page.text(f"pilot_{dial.name}_looks", findings(part, LOOKS, dial) or [UNKNOWN])
    # Two measures: more would be too small to read on a phone. The tables have all.
    page.figure(
        "pilot_looks.svg", curves(runs, [(dial, m, LOOKS[m]) for dial in DIALS for m in list(LOOKS)[:2]])
    )
    page.text("pilot_reads", reads(runs))
    page.number("pilot.epochs", str(base["epochs"]), ids)
    page.number("pilot.seeds", str(runs["seed"].nunique()), ids)
    page.number("pilot.trained", str(sum(record.kind == "pretrain" for _, record in records)), ids)
    page.number("pilot.hours", f"{sum(record.seconds for _, record in records) / 3600:.1f}", ids)
    page.number("pilot.chance", f"{percent(1 / base['num_classes'], 0)} %")
    page.number("pilot.habitats", str(len(HABITATS)))


def runs_table(records: Iterable[tuple[Path, Record]]) -> pd.DataFrame:
    """Lines of ``tables.long_table`` of second stages, with the dials of their pre-training.

    Returns:
        Also the columns trained (run id of the pre-training), habitat_bias, crop_scale, epochs, classes.
    """
    found = list(records)
    configs = {record.run_id: record.config for _, record in found if record.kind == "pretrain"}
    parent = {r.run_id: next((i for i in (r.run_id, *r.parents) if i in configs), "") for _, r in found}
    table = tables.long_table(found)
    table = table.assign(trained=table["run_id"].map(parent)).query("trained != ''")
    for name in (*(dial.field for dial in DIALS), "num_classes"):
        table[name] = table["trained"].map({run: config.get(name) for run, config in configs.items()})
    return table


def along_dials(runs: pd.DataFrame, base: Mapping[str, Any]) -> pd.DataFrame:
    """The runs of each dial: those in which the other dials stand at their usual values.

    Args:
        runs: of :func:`runs_table`.
        base: field -> usual value.

    Returns:
        Lines of runs with the columns sweep (the dial's name) and at (its value); a run at all usual values
        belongs to every dial that is varied for its row.
    """
    parts = []
    for dial in DIALS:
        others = [other.field for other in DIALS if other is not dial]
        usual = np.logical_and.reduce([np.isclose(runs[name], base[name]) for name in others])
        part = runs[usual]
        varied = part.groupby("row")[dial.field].transform("nunique") > 1
        parts.append(part[varied].assign(sweep=dial.name, at=part.loc[varied, dial.field].astype(float)))
    return pd.concat(parts, ignore_index=True)


def references(runs: pd.DataFrame, dial: Dial, metric: str) -> dict[str, pd.Series[Any]]:
    """What a metric has to be compared with at each value of a dial.

    Guessing: one class of many, or the most frequent habitat. The class alone: how often the habitat is right
    if one knows the class, and guesses its own habitat or, where that is rarer, another. Centred box: the
    same metric of a box that looks at nothing.
    """
    part = runs[runs["sweep"] == dial.name]

    def along(name: str) -> pd.Series[Any]:
        chosen = part[part["metric"] == name]
        return chosen.groupby("at")["value"].mean()

    values = sorted(part["at"].unique())
    if metric in (CLASS, SWAPPED):
        return {CHANCE: pd.Series(1 / part["num_classes"].iloc[0], index=values)}
    if metric == HABITAT:
        bias = part.groupby("at")["habitat_bias"].first()
        alone = bias.clip(lower=(1 - bias) / (len(HABITATS) - 1))
        return {CHANCE: along("probe.habitat_chance"), BY_CLASS: alone}
    centre = along(f"{LOCAL}{CENTRE}.{metric.rpartition('.')[2]}")
    return {BY_CENTRE: centre} if len(centre) else {}


def curves(runs: pd.DataFrame, panels: Iterable[tuple[Dial, str, str]]) -> Figure:
    """The figure of those (dial, metric, title) that were recorded, or a line of text where none was."""
    have = set(zip(runs["sweep"], runs["metric"], strict=True))
    panels = [(dial, metric, title) for dial, metric, title in panels if (dial.name, metric) in have]
    if not panels:
        return nothing_to_show(UNKNOWN)
    return run_curves(runs, panels, lambda dial, metric: references(runs, dial, metric), STYLES)


def dial_table(runs: pd.DataFrame, titles: Mapping[str, str], dial: Dial) -> pd.DataFrame:
    """A line for each row and value of a dial: mean, interval and seeds of each metric, in percent."""
    lines = []
    for row, part in runs[runs["sweep"] == dial.name].groupby("row"):
        for value, at in part.groupby("at"):
            found = {title: tables.by_row(at, metric) for metric, title in titles.items()}
            if any(len(summary) for summary in found.values()):
                cells = {t.replace(" ", "<br>"): cell(f.iloc[0]) if len(f) else "–" for t, f in found.items()}
                lines.append({"row": f"{row},<br>{dial.label}<br>{value:g}", **cells})
    return pd.DataFrame(lines or [{"row": "–"}])


def changes(runs: pd.DataFrame, titles: Mapping[str, str], dial: Dial) -> pd.DataFrame:
    """How each metric of each row changes from the dial's least to its greatest value, over the same seeds.

    Returns:
        Columns metric (its title), row, low_at, high_at, first, last (means), each (differences, one per
        seed), steps ("up" or "down" where every seed goes that way at every step, else "").
    """
    lines = []
    for metric, title in titles.items():
        chosen = runs[(runs["sweep"] == dial.name) & (runs["metric"] == metric)]
        for row, part in chosen.groupby("row"):
            wide = part.pivot(index="seed", columns="at", values="value").dropna()
            if not len(wide) or wide.shape[1] < 2:
                continue
            step = wide.diff(axis=1).iloc[:, 1:].to_numpy()
            lines.append({
                "metric": title, "row": row, "low_at": wide.columns[0], "high_at": wide.columns[-1],
                "first": wide.iloc[:, 0].mean(), "last": wide.iloc[:, -1].mean(),
                "each": (wide.iloc[:, -1] - wide.iloc[:, 0]).tolist(),
                "steps": "up" if (step > 0).all() else "down" if (step < 0).all() else "",
            })  # fmt: skip
    return pd.DataFrame(lines)


def between_rows(runs: pd.DataFrame, titles: Mapping[str, str], dial: Dial) -> pd.DataFrame:
    """The last of ROWS against the first at each value of a dial, over the seeds and values both have.

    Returns:
        Columns metric (its title), least, most (mean difference at the values), each (mean over the values,
        one per seed).
    """
    lines = []
    for metric, title in titles.items():
        chosen = runs[(runs["sweep"] == dial.name) & (runs["metric"] == metric)]
        wide = chosen.pivot(index=["seed", "at"], columns="row", values="value")
        if not set(ROWS) <= set(wide):
            continue
        difference = (wide[ROWS[-1]] - wide[ROWS[0]]).unstack("at").dropna()
        if len(difference):
            at = difference.mean()
            each = difference.mean(axis=1).tolist()
            lines.append({"metric": title, "least": at.min(), "most": at.max(), "each": each})
    return pd.DataFrame(lines)


def judged(differences: list[float]) -> tuple[str, bool]:
    """Differences, one per seed, in words, and whether their t interval excludes zero."""
    mean, spread = f"{points(float(np.mean(differences)))} points", t_interval(differences)
    if spread is None:
        return f"{mean} in one seed", False
    excludes = spread[0] > 0 or spread[1] < 0
    verdict = "which excludes zero" if excludes else "which does not exclude zero"
    return f"{mean}, interval over seeds {interval(*spread, points)}, {verdict}", excludes


def findings(runs: pd.DataFrame, titles: Mapping[str, str], dial: Dial) -> list[str]:
    """What happens along a dial, in sentences; empty where nothing was recorded."""
    sentences = []
    for line in changes(runs, titles, dial).to_dict("records"):
        way = f"; {line['steps']} at every step in every seed" if line["steps"] else ""
        sentences.append(
            f"{capital(line['metric'])}, {line['row']}: {percent(line['first'])} % at {dial.label} "
            f"{line['low_at']:g}, {percent(line['last'])} % at {line['high_at']:g}; "
            f"{judged(line['each'])[0]}{way}."
        )
    for line in between_rows(runs, titles, dial).to_dict("records"):
        sentences.append(
            f"{capital(line['metric'])}, {ROWS[-1]} against {ROWS[0]}: between {points(line['least'])} and "
            f"{points(line['most'])} points at the values of {dial.label}; on average "
            f"{judged(line['each'])[0]}."
        )
    return sentences


def reads(runs: pd.DataFrame) -> list[str]:
    """Is the background in the features, where the class tells least about it; and how much to trust this."""
    dial = DIALS[0]
    part = runs[runs["sweep"] == dial.name]
    lowest = part[part["at"] == part["at"].min()]
    sentences = []
    for row, lines in lowest.groupby("row"):
        wide = lines.pivot(index="seed", columns="metric", values="value")
        if {HABITAT, "probe.habitat_chance"} <= set(wide):
            told, excludes = judged((wide[HABITAT] - wide["probe.habitat_chance"]).tolist())
            verdict = "The habitat is in the features" if excludes else "Not separated from guessing"
            sentences.append(
                f"{row} at {dial.label} {lowest['at'].iloc[0]:g}, where the class tells least of it: "
                f"the habitat is read in {percent(wide[HABITAT].mean())} %, guessed in "
                f"{percent(wide['probe.habitat_chance'].mean())} %; {told}. {verdict}."
            )
    tested = [
        judged(each)[1]
        for dial in DIALS
        for titles in (READS, LOOKS)
        for frame in (changes(runs, titles, dial), between_rows(runs, titles, dial))
        for each in (frame["each"] if len(frame) else [])
    ]
    return [
        *sentences,
        f"Of {len(tested)} changes and differences told in this chapter, {sum(tested)} have an interval over "
        f"the {runs['seed'].nunique()} seeds that excludes zero. Nothing is corrected for their number: at "
        f"95 %, {0.05 * len(tested):.1f} would by chance.",
    ]
