"""The scale ablation in the paper's form: accuracy against the least area of the crop, theirs and ours."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cvsa.report import tables
from cvsa.report.claims import claims
from cvsa.report.evaluated import DASH, several
from cvsa.report.evidence import RunSet, Tested, ledger, run_sets, verdict_of
from cvsa.report.figures import scale_lines
from cvsa.report.page import Page, in_lines
from cvsa.report.sources import Sources

SWAPPED = ("MoCo.v2+SS", "BYOL+SS", "BYOL+CVSA")  # as in the authors' plot
JUDGED = ("C1", "C2", "C3")


def draw(page: Page, sources: Sources) -> None:
    """``tables/scale_ablation``, ``text/scale``, and figures ``scale_ablation.svg``, ``scale_reported.svg``.

    Args:
        page: where it goes.
        sources: all records at hand; a set is shown where it has a row at two scales or more.
    """
    sets = {runs: found for runs in run_sets(sources) if len(found := measured(runs))}
    used = sorted({run for found in sets.values() for run in found["run_id"]})
    reported, baselines = tables.reported_scale_ablation()
    with page.source(used):
        page.table("scale_ablation", table(sets))
        page.figure("scale_ablation.svg", panels(sets))
        page.text("scale", sentences(sets, ledger(sources, claims())))
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axis = figure.subplots()
    scale_lines(axis, reported, baselines)
    figure.legend(*axis.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
    page.figure("scale_reported.svg", figure, [])


def measured(runs: RunSet) -> pd.DataFrame:
    """Fine-tuned accuracy of a set's rows at every scale, and of the plain rows.

    Of a row only the seeds that it has at all of its scales: a mean over others would compare seeds.

    Returns:
        Columns row (as in the catalogue), scale (NaN for plain rows), seed, percent, run_id; empty where no
        row has two scales.
    """
    every = runs.table[runs.table["metric"] == tables.TOP1] if len(runs.table) else runs.table
    if every.empty:
        return every
    every = every.assign(row=every["row"].str.split(" at ").str[0], percent=100 * every["value"])
    parts = []
    for row in SWAPPED:
        part = every[every["row"] == row]
        shared = part.groupby("seed")["scale"].nunique()
        everywhere = shared[shared == part["scale"].nunique()].index
        if part["scale"].nunique() > 1:
            parts.append(part[part["seed"].isin(everywhere)])
    if not parts:
        return every.iloc[:0]
    seeds = {seed for part in parts for seed in part["seed"]}
    bases = {row.split("+")[0] for part in parts for row in part["row"]}
    plain = every[every["row"].isin(bases) & every["seed"].isin(seeds)].assign(scale=np.nan)
    return pd.concat([*parts, plain])[["row", "scale", "seed", "percent", "run_id"]]


def table(sets: dict[RunSet, pd.DataFrame]) -> pd.DataFrame:
    """A line a row and scale, the first of a row for its base without Saliency Swap; a column a source."""
    reported, baselines = tables.reported_scale_ablation()
    scales = sorted({*reported["scale"], *(s for found in sets.values() for s in found["scale"].dropna())})
    lines = []
    for row in SWAPPED:
        plain = row.split("+")[0]
        own = reported[reported["row"] == row].set_index("scale")["percent"].to_dict()
        for scale in (None, *scales):
            line = {"row": row, "scale": "no swap" if scale is None else f"{scale:g}"}
            value = baselines[plain] if scale is None else own.get(scale)
            line["reported"] = DASH if value is None else f"{value:.2f}"
            for runs, found in sets.items():
                own_row = found[found["row"] == row]
                part = found[found["row"] == plain] if scale is None else own_row[own_row["scale"] == scale]
                line[_label(runs)] = _cell(part["percent"]) if len(own_row) else DASH
            lines.append(line)
    return pd.DataFrame(lines)


def _label(runs: RunSet) -> str:
    return f"{runs.narrow}<br><small>{runs.data},<br>{runs.epochs:g} epochs</small>"


def _cell(values: pd.Series[float]) -> str:
    if values.empty:
        return DASH
    seeds = "one seed" if len(values) == 1 else in_lines([f"{value:.1f}" for value in values], 3)
    return f"**{values.mean():.1f}**<br><small>{seeds}</small>"


def panels(sets: dict[RunSet, pd.DataFrame]) -> Figure:
    """The authors' plot and below it each of our sets: means as lines, every seed a dot, bases dashed."""
    reported, baselines = tables.reported_scale_ablation()
    figure = Figure(figsize=(5.4, 1 + 3.0 * (1 + len(sets))), layout="constrained")
    axes = figure.subplots(1 + len(sets), 1, squeeze=False, sharex=True)[:, 0]
    scale_lines(axes[0], reported, baselines)
    axes[0].set_title("reported, CUB-200-2011")
    for axis, (runs, found) in zip(axes[1:], sets.items(), strict=True):
        plain = found[found["scale"].isna()].groupby("row")["percent"].mean()
        scale_lines(axis, found[found["scale"].notna()], {str(row): value for row, value in plain.items()})
        count = found["seed"].nunique()
        seeds = "one seed" if count == 1 else f"{count} seeds"
        axis.set_title(f"{runs.label.replace('`', '')}, {runs.data}, {seeds}")
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), frameon=False, loc="outside lower center", ncols=2)
    for axis in axes[:-1]:
        axis.set_xlabel("")
    return figure


def sentences(sets: dict[RunSet, pd.DataFrame], found: dict[str, list[Tested]]) -> list[str]:
    """Where the best scale lies, how that compares with the seeds, and the verdicts on C1 to C3."""
    lines = [] if sets else ["No set of runs has a row at two scales."]
    reported, _ = tables.reported_scale_ablation()
    for runs, measures in sets.items():
        for row in SWAPPED:
            part = measures[measures["row"] == row]
            if len(part):
                lines.append(_best(runs, row, part, reported[reported["row"] == row]))
    for claim in claims():
        if claim.key in JUDGED:
            first = found[claim.key][0] if found[claim.key] else None
            by = f", by {first.runs.label}" if first else ""
            lines.append(f"**{claim.key}**, {claim.short}: {verdict_of(found[claim.key])}{by}.")
    return lines


def _best(runs: RunSet, row: str, part: pd.DataFrame, reported: pd.DataFrame) -> str:
    means = part.groupby("scale")["percent"].mean()
    spread = part.groupby("scale")["percent"].agg(lambda seeds: seeds.max() - seeds.min()).max()
    alike = reported[reported["scale"].isin(means.index)].set_index("scale")["percent"]
    theirs = ""
    if len(alike):
        theirs = (
            f" The authors' line is highest at {alike.idxmax():g} of the same scales and spans "
            f"{alike.max() - alike.min():.2f}."
        )
    count = part["seed"].nunique()
    noise = (
        "with one seed, so how far chance alone moves a point is not known"
        if count == 1
        else f"where two seeds at one scale lie up to {spread:.1f} points apart"
    )
    return (
        f"{row}, {runs.label}: highest at {means.idxmax():g} of {several([f'{s:g}' for s in means.index])}; "
        f"the means span {means.max() - means.min():.1f} points, {noise}.{theirs}"
    )
