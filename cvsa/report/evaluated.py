"""Records of evaluations as the book shows them: a line a row, references once, differences twice judged. [O]

Shared by the reports on localisation and on background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cvsa.methods.catalogue import ROWS
from cvsa.records import Record
from cvsa.report import tables
from cvsa.report.page import Page, cell, in_lines, interval, percent, points
from cvsa.report.statistics import paired_image_interval

Runs = list[tuple[Path, Record]]
PerImage = Callable[[Path, str], "pd.Series[Any] | None"]
"""Of a run's folder and a metric: its value for each test image, indexed by image; None if not kept."""

KIND = "evaluate"
SCRATCH = "Random"
FIRST, PLAIN, PASTED = "BYOL+CVSA", "BYOL", "BYOL+SS"
COMPARED = (
    (FIRST, PLAIN), (PASTED, PLAIN), (FIRST, PASTED), (FIRST, SCRATCH), ("MoCo.v2+SS", "MoCo.v2"),
)  # fmt: skip
FEW = (SCRATCH, PLAIN, PASTED, FIRST)  # rows where more would hide each other
DASH = "–"


def evaluations(runs: Runs) -> pd.DataFrame:
    """The evaluations of second-stage networks, as ``tables.long_table`` has them.

    Args:
        runs: with the pre-training runs among them, those of an ablation are told apart and left out.

    Returns:
        Columns row, seed, metric (without the kind), value, run_id, folder, and what else long_table has; no
        line where there is no evaluation.
    """
    table = tables.main_runs(tables.long_table(runs))
    table = table[table["kind"] == KIND]
    return table.assign(metric=table["metric"].str.removeprefix(f"{KIND}."))


def named(row: str, frozen: bool) -> str:
    """The row as a table calls it; one without pre-training is untrained, or learnt from labels alone."""
    if row != SCRATCH:
        return row
    return "untrained" if frozen else "supervised<br><small>(no pre-training)</small>"


def rows_with(table: pd.DataFrame, metrics: Iterable[str]) -> list[str]:
    """Rows that have one of the metrics, in the catalogue's order."""
    found = set(table.loc[table["metric"].isin(list(metrics)), "row"])
    return [row for row in ROWS if row in found] + sorted(found - set(ROWS))


def rows_table(
    table: pd.DataFrame,
    columns: Mapping[str, str],
    *,
    frozen: bool,
    show: Mapping[str, Callable[[float], str]] | None = None,
    rows: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A line a row: mean, t interval and every seed.

    Args:
        table: of :func:`evaluations`.
        columns: metric -> heading.
        frozen: whether the features are frozen, see :func:`named`.
        show: metric -> how to write it where it is not a share in percent.
        rows: which; all that have one of the metrics by default.
    """
    summaries = {metric: tables.by_row(table, metric).T.to_dict("series") for metric in columns}
    lines = []
    for row in rows_with(table, columns) if rows is None else rows:
        told = {"row": named(row, frozen)}
        for metric, title in columns.items():
            line = summaries[metric].get(row)
            told[title] = DASH if line is None else _cell(line, (show or {}).get(metric))
        lines.append(told)
    return pd.DataFrame(lines, columns=["row", *columns.values()])


def _cell(line: pd.Series[Any], show: Callable[[float], str] | None) -> str:
    if show is None:
        return cell(line)
    mean = f"**{show(line['mean'])}**"
    if len(line["seeds"]) == 1:
        return f"{mean}<br><small>one seed</small>"
    seeds = in_lines(list(map(show, line["seeds"])))
    return f"{mean}<br>{interval(line['low'], line['high'], show)}<br><small>{seeds}</small>"


def or_dash(table: pd.DataFrame) -> pd.DataFrame:
    """A table without lines says so with one of dashes."""
    return table if len(table) else pd.DataFrame([dict.fromkeys(table.columns, DASH)])


def plain(value: float) -> str:
    """A number that is no share: 0.1234 -> "0.12"."""
    return f"{value:.2f}"


def mean(table: pd.DataFrame, metric: str, row: str | None = None) -> float:
    """Over the runs that have it, of one row or of all; NaN where none has."""
    part = table[table["metric"] == metric]
    return float(part.loc[part["row"] == row, "value"].mean() if row else part["value"].mean())


def with_differences(table: pd.DataFrame, triples: Iterable[Sequence[str]]) -> pd.DataFrame:
    """Add metrics that are differences of others, where a run has both.

    Args:
        table: of :func:`evaluations`.
        triples: (name of the new metric, first, second) each.
    """
    added = [table]
    for name, *pair in triples:
        first, second = (table[table["metric"] == metric] for metric in pair)
        both = first.merge(second[["run_id", "value"]], on="run_id", suffixes=("", "_second"))
        value = both["value"] - both["value_second"]
        added += [both.drop(columns="value_second").assign(metric=name, value=value)] if len(both) else []
    return pd.concat(added, ignore_index=True)


def reader(name: str) -> Callable[[Path], pd.DataFrame | None]:
    """Reads a CSV file beside a record, each once; None where there is none."""

    @cache
    def read(folder: Path) -> pd.DataFrame | None:
        path = folder / name
        return pd.read_csv(path) if path.is_file() else None

    return read


def differences(
    table: pd.DataFrame,
    metrics: Mapping[str, str],
    per_image: PerImage,
    compared: Iterable[tuple[str, str]] = COMPARED,
) -> pd.DataFrame:
    """Rows against each other, over the seeds both have, and over test images where values were kept.

    Args:
        table: of :func:`evaluations`.
        metrics: metric -> what to call it.
        per_image: see ``PerImage``.
        compared: pairs of rows.

    Returns:
        Columns of ``tables.differences``, and key (the metric), metric (what it is called).
    """
    parts = []
    for key, title in metrics.items():
        found = tables.differences(table, key, compared).assign(key=key, metric=title)
        chosen = table[table["metric"] == key]
        for line, (row, against) in enumerate(zip(found["row"], found["against"], strict=True)):
            low, high = _over_images(chosen, row, against, key, per_image)
            found.loc[line, ["image_low", "image_high"]] = low, high
            if found.loc[line, "separated"] == "no" and (low > 0 or high < 0):
                found.loc[line, "separated"] = "images only"
        parts.append(found)
    return pd.concat(parts, ignore_index=True)


def _over_images(
    chosen: pd.DataFrame, row: str, against: str, key: str, per_image: PerImage
) -> tuple[float, float]:
    """Paired bootstrap over the images that all runs of both rows have; each row's mean over its seeds."""
    first, second = (chosen[chosen["row"] == name].set_index("seed")["folder"] for name in (row, against))
    seeds = sorted(set(first.index) & set(second.index))
    sides = [[per_image(folder, key) for folder in folders.loc[seeds]] for folders in (first, second)]
    if any(each is None for side in sides for each in side):
        return float("nan"), float("nan")
    paired = pd.concat([pd.concat(side, axis=1).mean(axis=1, skipna=False) for side in sides], axis=1)
    paired = paired.dropna()
    if len(paired) < 2:
        return float("nan"), float("nan")
    return paired_image_interval(paired[0].to_numpy(float), paired[1].to_numpy(float))


def counted(contrasts: pd.DataFrame) -> str:
    """How many differences there are, and how many separate."""
    counts = contrasts["separated"].value_counts()
    return (
        f"Of {len(contrasts)} differences, {counts.get('yes', 0)} separate over seeds, "
        f"{counts.get('images only', 0)} only over test images, {counts.get('no', 0)} not at all. Nothing is "
        f"corrected for their number: at 95 %, {0.05 * len(contrasts):.1f} would separate by chance. "
        "Numbers in brackets are percentage points."
    )


def sides(contrasts: pd.DataFrame, row: str, against: str, lower: Iterable[str] = ()) -> dict[str, str]:
    """By what a row is better than another, by what worse, and what is not settled.

    Args:
        contrasts: of :func:`differences`.
        row, against: of the comparison.
        lower: keys of metrics of which less is better.

    Returns:
        "better", "worse", "open", those there are -> "mask IoU (+1.2) over seeds and energy (+0.3) over test
        images only".
    """
    part = contrasts[(contrasts["row"] == row) & (contrasts["against"] == against)]
    found: dict[str, dict[str, list[str]]] = {"better": {}, "worse": {}, "open": {}}
    for line in part.to_dict("records"):
        gain = -line["difference"] if line["key"] in set(lower) else line["difference"]
        side = "open" if line["separated"] == "no" else "better" if gain > 0 else "worse"
        found[side].setdefault(line["separated"], []).append(
            f"{line['metric']} ({signed(line['difference'])})"
        )
    how = {"yes": " over seeds", "images only": " over test images only", "no": ""}
    return {
        side: ", and ".join(several(groups[kind]) + how[kind] for kind in how if kind in groups)
        for side, groups in found.items()
        if groups
    }


def told(side: Mapping[str, str], said: Mapping[str, str]) -> str:
    """Sentences of what :func:`sides` gives: how each begins (side -> words), in that order."""
    return " ".join(f"{words} {side[kind]}." for kind, words in said.items() if kind in side)


def signed(value: float) -> str:
    """``page.points``, without a sign of its own for what rounds to zero from below."""
    return points(round(value, 3) + 0.0)


def marked(line: Mapping[Any, Any]) -> str:
    """A difference in points, bold where it separates over seeds, italic where over test images only."""
    mark = {"yes": "**", "images only": "*", "no": ""}[line["separated"]]
    return f"{mark}{signed(line['difference'])}{mark}"


def several(parts: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def number(page: Page, table: pd.DataFrame, key: str, metric: str, row: str | None = None) -> None:
    """A share for the prose, in percent; a dash where it was not measured."""
    part = table[(table["metric"] == metric) & ((table["row"] == row) | (row is None))]
    value = part["value"].mean()
    page.number(key, DASH if np.isnan(value) else f"{percent(value)} %", part["run_id"])
