"""What contrastive learning sees: what views share, what is read, where it looks; tables and findings. [O]"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cvsa.config import DRAWN, PretrainConfig, resolve
from cvsa.data.habitats import HABITATS
from cvsa.errors import CVSAError
from cvsa.records import Record, find_records
from cvsa.report import pilot_views, tables
from cvsa.report.page import Page, cell, interval, percent, points
from cvsa.report.pilot_figures import Dial, nothing_to_show, run_curves
from cvsa.report.pilot_views import PRESET, capital
from cvsa.report.statistics import t_interval

UNTRAINED = "Random"
COMPARED = (("BYOL+CVSA", "BYOL"), ("BYOL", UNTRAINED), ("BYOL+CVSA", UNTRAINED))
SHORTCUT = Dial("shortcut", "habitat_bias", "habitat_bias", log=False)
DIALS = (
    SHORTCUT,
    Dial("crop", "crop_scale", "crop_scale", log=True),
    Dial("training", "epochs", "epochs", log=True),
)
CLASS, TRAINED, SWAPPED = "probe.linear_test", "probe.linear_val", "probe.linear_test_swapped"
HABITAT, MOST = "probe.habitat_linear", "probe.habitat_chance"
READS = {
    CLASS: "class, no habitat",
    SWAPPED: "class, habitat swapped",
    TRAINED: "class, habitat as trained",
    HABITAT: "habitat",
}
LOCAL, CENTRE = "evaluate.localization.", "ref_centre"
LOOKS = {
    f"{LOCAL}similarity.pointing": "similarity: peak on the bird",
    f"{LOCAL}norm.energy": "norm: share on the bird",
    f"{LOCAL}cam_probe.box_acc": "probe's map: box accuracy",
}
UNKNOWN = "No such runs are recorded here."
CHANCE, BY_CLASS, BY_HABITAT, BY_CENTRE = "guessing", "the class alone", "the habitat alone", "centred box"
STYLES = {CHANCE: ":", BY_CLASS: "-.", BY_HABITAT: "--", BY_CENTRE: ":"}


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
        page.figure(f"pilot_{dial.name}.svg", curves(part, [(dial, m, title) for m, title in READS.items()]))
        page.table(f"pilot_{dial.name}", dial_table(part, READS, dial))
        page.text(f"pilot_{dial.name}", findings(part, READS, dial, separated=True) or [UNKNOWN])
        page.text(f"pilot_{dial.name}_all", findings(part, READS, dial) or [UNKNOWN])
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
    page.number("pilot.habitats", str(len(HABITATS)))


def runs_table(records: Iterable[tuple[Path, Record]]) -> pd.DataFrame:
    """Lines of ``tables.long_table`` of second stages and of untrained networks, with the dials.

    Returns:
        Also the columns trained (run id of the pre-training, of an untrained network its own), habitat_bias,
        crop_scale and epochs (of the pre-training, NaN where there was none), classes (how many, NaN for
        photographs).
    """
    found = list(records)
    configs = {record.run_id: record.config for _, record in found if record.kind == "pretrain"}
    for _, record in found:
        if record.row == UNTRAINED:  # its epochs are none of pre-training
            names = (SHORTCUT.field, "num_classes", "dataset")
            configs[record.run_id] = {name: record.config[name] for name in names}
    parent = {r.run_id: next((i for i in (r.run_id, *r.parents) if i in configs), "") for _, r in found}
    table = tables.long_table(found)
    table = table.assign(trained=table["run_id"].map(parent)).query("trained != ''")
    for name in (dial.field for dial in DIALS):
        values = {run: config.get(name) for run, config in configs.items()}
        table[name] = table["trained"].map(values).astype(float)
    classes = {run: c["num_classes"] for run, c in configs.items() if c["dataset"] in DRAWN}
    return table.assign(classes=table["trained"].map(classes).astype(float))


def along_dials(runs: pd.DataFrame, base: Mapping[str, Any]) -> pd.DataFrame:
    """The runs of each dial: those in which the other dials stand at their usual values.

    Args:
        runs: of :func:`runs_table`.
        base: field -> usual value.

    Returns:
        Lines of runs with the columns sweep (the dial's name) and at (its value); a run at all usual values
        belongs to every dial that is varied for its row. An untrained network has a line for every value of
        the dials of training, which mean nothing to it.
    """
    parts = []
    for dial in DIALS:
        others = [other.field for other in DIALS if other is not dial]
        usual = np.logical_and.reduce([np.isclose(runs[name], base[name]) for name in others])
        part = runs[usual]
        varied = part.groupby("row")[dial.field].transform("nunique") > 1
        parts.append(part[varied].assign(sweep=dial.name, at=part.loc[varied, dial.field]))
        untrained = runs[runs["row"] == UNTRAINED].assign(sweep=dial.name)
        if dial is SHORTCUT:
            parts.append(untrained.assign(at=untrained[dial.field]))
        else:
            same = untrained[np.isclose(untrained[SHORTCUT.field], base[SHORTCUT.field])]
            parts += [same.assign(at=value) for value in sorted(parts[-1]["at"].unique())]
    return pd.concat(parts, ignore_index=True)


def references(runs: pd.DataFrame, dial: Dial, metric: str) -> dict[str, pd.Series[Any]]:
    """What a metric has to be compared with at each value of a dial.

    Guessing: one class of many, or the most frequent habitat. The class alone: how often the habitat is right
    if one knows the class, and guesses its own habitat or, where that is rarer, another; the habitat alone:
    likewise the class, where each has a habitat of its own. Centred box: the same metric of a box that looks
    at nothing.
    """
    part = runs[runs["sweep"] == dial.name]
    classes = part["classes"].max()  # NaN for photographs

    def along(name: str) -> pd.Series[Any]:
        chosen = part[part["metric"] == name]
        return chosen.groupby("at")["value"].mean()

    bias = part.groupby("at")["habitat_bias"].first()
    alone = bias.clip(lower=(1 - bias) / (len(HABITATS) - 1))
    if metric == HABITAT:
        return {CHANCE: along(MOST), BY_CLASS: alone}
    if metric in READS:
        guess = {CHANCE: pd.Series(1 / classes, index=bias.index)} if classes > 0 else {}
        return guess | ({BY_HABITAT: alone} if metric == TRAINED and classes <= len(HABITATS) else {})
    centre = along(f"{LOCAL}{CENTRE}.{metric.rpartition('.')[2]}")
    return {BY_CENTRE: centre} if len(centre) else {}


def curves(runs: pd.DataFrame, panels: Iterable[tuple[Dial, str, str]]) -> Figure:
    """The figure of those (dial, metric, title) that were recorded, or a line of text where none was."""
    have = set(zip(runs["sweep"], runs["metric"], strict=True))
    panels = [(dial, metric, title) for dial, metric, title in panels if (dial.name, metric) in have]
    if not panels:
        return nothing_to_show(UNKNOWN)
    return run_curves(runs, panels, lambda dial, metric: references(runs, dial, metric), STYLES)


def _turned(runs: pd.DataFrame, dial: Dial) -> pd.DataFrame:
    """The runs along a dial, without those it means nothing to."""
    return runs[(runs["sweep"] == dial.name) & ((runs["row"] != UNTRAINED) | (dial is SHORTCUT))]


def dial_table(runs: pd.DataFrame, titles: Mapping[str, str], dial: Dial) -> pd.DataFrame:
    """A line for each row and value of a dial: mean, interval and seeds of each metric, in percent."""
    lines = []
    for row, part in _turned(runs, dial).groupby("row"):
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
        seed), steps ("up" or "down" where every seed goes that way at each of several steps, else "").
    """
    lines, turned = [], _turned(runs, dial)
    for metric, title in titles.items():
        for row, part in turned[turned["metric"] == metric].groupby("row"):
            wide = part.pivot(index="seed", columns="at", values="value").dropna()
            if not len(wide) or wide.shape[1] < 2:
                continue
            step = wide.diff(axis=1).iloc[:, 1:].to_numpy()
            lines.append({
                "metric": title, "row": row, "low_at": wide.columns[0], "high_at": wide.columns[-1],
                "first": wide.iloc[:, 0].mean(), "last": wide.iloc[:, -1].mean(),
                "each": (wide.iloc[:, -1] - wide.iloc[:, 0]).tolist(),
                "steps": _way(step),
            })  # fmt: skip
    return pd.DataFrame(lines)


def _way(steps: np.ndarray) -> str:
    """Of the steps of each seed (seeds, values - 1)."""
    if steps.shape[1] < 2:
        return ""
    return "up" if (steps > 0).all() else "down" if (steps < 0).all() else ""


def between_rows(runs: pd.DataFrame, titles: Mapping[str, str], dial: Dial) -> pd.DataFrame:
    """Rows against each other over the values of a dial and the seeds that both have.

    Returns:
        Columns metric (its title), row, against, least, most (mean difference at the values), each (mean over
        the values, one per seed).
    """
    lines, turned = [], _turned(runs, dial)
    for metric, title in titles.items():
        chosen = turned[turned["metric"] == metric]
        wide = chosen.pivot(index=["seed", "at"], columns="row", values="value")
        for row, against in COMPARED:
            if not {row, against} <= set(wide):
                continue
            difference = (wide[row] - wide[against]).unstack("at").dropna()
            if len(difference):
                at, each = difference.mean(), difference.mean(axis=1).tolist()
                lines.append((title, row, against, at.min(), at.max(), each))
    return pd.DataFrame(lines, columns=["metric", "row", "against", "least", "most", "each"])


def judged(differences: list[float]) -> tuple[str, bool]:
    """Differences, one per seed, in words, and whether their t interval excludes zero."""
    mean, spread = f"{points(float(np.mean(differences)))} points", t_interval(differences)
    if spread is None:
        return f"{mean} in one seed", False
    excludes = spread[0] > 0 or spread[1] < 0
    verdict = "which excludes zero" if excludes else "which does not exclude zero"
    return f"{mean}, interval over seeds {interval(*spread, points)}, {verdict}", excludes


def findings(runs: pd.DataFrame, titles: Mapping[str, str], dial: Dial, separated: bool = False) -> list[str]:
    """What happens along a dial, in sentences; empty where nothing was recorded.

    Args:
        runs: of :func:`along_dials`.
        titles: metric -> title.
        dial: which.
        separated: tell only those whose interval over seeds excludes zero, and count the others.
    """
    told = []
    for line in changes(runs, titles, dial).to_dict("records"):
        words, excludes = judged(line["each"])
        way = f"; {line['steps']} at every step in every seed" if line["steps"] else ""
        told.append((
            f"{capital(line['metric'])}, {line['row']}: {percent(line['first'])} % at {dial.label} "
            f"{line['low_at']:g}, {percent(line['last'])} % at {line['high_at']:g}; {words}{way}.",
            excludes,
        ))  # fmt: skip
    for line in between_rows(runs, titles, dial).to_dict("records"):
        words, excludes = judged(line["each"])
        told.append((
            f"{capital(line['metric'])}, {line['row']} against {line['against']}: {words}, on average over "
            f"the values of {dial.label} (at each, {points(line['least'])} to {points(line['most'])}).",
            excludes,
        ))  # fmt: skip
    if not separated or not told:
        return [sentence for sentence, _ in told]
    clear = [sentence for sentence, excludes in told if excludes]
    return [*clear, f"Of {len(told)} changes and differences {len(told) - len(clear)} are not separated."]


def reads(runs: pd.DataFrame) -> list[str]:
    """Is the background in the features, where the class tells least about it; and how much to trust this."""
    part = runs[(runs["sweep"] == SHORTCUT.name) & runs["metric"].isin([HABITAT, MOST])]
    lowest = part[part["at"] == part["at"].min()]
    wide = lowest.pivot(index="seed", columns=["metric", "row"], values="value")
    sentences = []
    for row in sorted(lowest["row"].unique()):
        read = wide[[(HABITAT, row), (MOST, row)]].dropna()
        if not len(read):
            continue
        values, guessed = read[HABITAT, row], read[MOST, row]
        words, excludes = judged((values - guessed).tolist())
        verdict = "The habitat is in the features" if excludes else "Not separated from guessing"
        sentences.append(
            f"{row} at {SHORTCUT.label} {lowest['at'].iloc[0]:g}: the habitat is read in "
            f"{percent(values.mean())} %, guessed in {percent(guessed.mean())} %; {words}. "
            f"{verdict if len(read) > 1 else 'One seed settles nothing'}."
        )
        if row != UNTRAINED and (HABITAT, UNTRAINED) in wide:
            more = (values - wide[HABITAT, UNTRAINED]).dropna().tolist()
            if more:
                sentences.append(
                    f"{row} against {UNTRAINED}, which is not trained at all: {judged(more)[0]}."
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
        f"Of {len(tested)} changes and differences along the dials, {sum(tested)} have an interval over the "
        f"{runs['seed'].nunique()} seeds that excludes zero. Nothing is corrected for their number: at 95 %, "
        f"{0.05 * len(tested):.1f} would by chance.",
    ]
