"""Where saliency comes from, and what its errors do to training: tables and findings. [O]"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from cvsa.errors import CVSAError
from cvsa.evaluation.comparison import Comparison, Line, drawn_birds, read_comparisons
from cvsa.records import Record, find_records
from cvsa.report import tables
from cvsa.report.page import Page, cell, contrast_table, interval, percent, points
from cvsa.report.saliency_figures import METRICS, curve, example_maps
from cvsa.report.statistics import t_interval
from cvsa.report.training_maps import TrainingMaps, condition_of, read_maps
from cvsa.saliency.detectors import DEFAULT

PRESET = "saliency"
ERRORS = ("dilated:0.5", "dilated:1.0", "shifted:0.3", "box", "random_box")
PHOTOGRAPHS = "maps-pets3.png"  # of the notebook saliency_quality, committed
EXACT = "exact"
BLIND = 0.005  # attention inside minus outside, below which it tells nothing


def draw(page: Page, folder: Path) -> None:
    """Everything on saliency that the book shows, from committed records.

    Args:
        page: where it goes.
        folder: of the preset's kept runs, the record of their maps and the comparisons of detectors.

    Raises:
        CVSAError: something is missing.
    """
    records = list(find_records(folder))
    if not records:
        raise CVSAError(f"No committed records in {folder}. Restore them from version control.")
    for comparison in read_comparisons(folder):
        page.table(f"detectors_{comparison.data}", detector_table(comparison))
        page.text(f"detectors_{comparison.data}", detector_findings(comparison))
    maps = read_maps(folder)
    runs = runs_table(records, maps)
    page.table("saliency_runs", training_table(runs, maps))
    contrasts = contrasts_with_exact(runs)
    page.table("saliency_contrasts", contrast_table(contrasts))
    page.text("saliency_runs", findings(runs, maps, contrasts))
    page.figure("saliency_curve.svg", curve(runs))
    page.figure("saliency_birds.png", example_maps(drawn_birds(6), [DEFAULT], ERRORS))
    page.file(f"figures/{PHOTOGRAPHS}", (folder / PHOTOGRAPHS).read_bytes())
    ids = [record.run_id for _, record in records]
    trained = next(record for _, record in records if record.kind == "pretrain")
    page.number("saliency.epochs", str(trained.config["epochs"]), ids)
    page.number("saliency.seeds", str(runs["seed"].nunique()), ids)
    page.number("saliency.hours", f"{sum(record.seconds for _, record in records) / 3600:.1f}", ids)


def detector_table(comparison: Comparison) -> pd.DataFrame:
    """A line each, detectors first, in percent but for the counts and the times."""

    def told(line: Line) -> dict[str, str]:
        if line.quality is None:
            online = "internet" in str(line.not_run)
            why = "weights<br>need the internet" if online else "library<br>not installed"
            return {"detector": line.detector, "IoU": f"<small>not run: {why}</small>"}
        quality, speed = line.quality, line.images_per_second
        return {
            "detector": line.detector + ("<br><small>stored</small>" if line.source == "stored" else ""),
            "IoU": percent(quality.iou),
            "box<br>IoU": percent(quality.box_iou),
            "boxes<br>over 0.5": percent(quality.boxes_right),
            "nothing<br>found": str(quality.nothing_found),
            "failed": str(line.failures),
            "ms an<br>image": "–" if quality.milliseconds is None else f"{quality.milliseconds:.0f}",
            "images/s<br>at 256 px": "–" if speed is None else f"{speed:.0f}",
        }

    return pd.DataFrame([told(line) for line in comparison.lines]).fillna("–")


def detector_findings(comparison: Comparison) -> list[str]:
    """Each detector that ran against the best of the references, and its speed."""
    judged = {line.detector: line for line in comparison.lines if line.quality}
    blind = [line for line in judged.values() if line.source == "reference"]
    best = {name: max(blind, key=lambda line: getattr(line.quality, name)) for name in ("iou", "box_iou")}
    sentences = []
    for line in judged.values():
        if line.source == "reference" or line.quality is None:
            continue
        sides = [
            f"{told} {percent(getattr(line.quality, name))} against "
            f"{percent(getattr(best[name].quality, name))} of the {best[name].detector}"
            for name, told in (("iou", "IoU"), ("box_iou", "box IoU"))
        ]
        speed = line.images_per_second
        fast = f"; {speed:.0f} images a second on one core at 256 px" if speed else ""
        sentences.append(f"{line.detector} on {line.quality.images} images: {', '.join(sides)}{fast}.")
    missing = [line.detector for line in comparison.lines if line.not_run]
    if missing:
        sentences.append(f"Not run where this was recorded: {', '.join(missing)}.")
    return sentences


def runs_table(records: Iterable[tuple[Path, Record]], maps: TrainingMaps) -> pd.DataFrame:
    """Lines of ``tables.long_table`` with the condition of their pre-training, and the quality of its maps.

    Returns:
        Also the columns trained (run id of the pre-training), condition ("" for rows that use no saliency),
        iou, box_iou.
    """
    found = list(records)
    conditions = {r.run_id: condition_of(r.config) for _, r in found if r.kind == "pretrain"}
    parent = {r.run_id: r.run_id if r.kind == "pretrain" else r.parents[0] for _, r in found}
    quality = {run.run_id: run.quality for run in maps.runs}
    table = tables.long_table(found)
    trained = table["run_id"].map(parent)
    missing = sorted(set(trained) - set(quality))
    if missing:
        raise CVSAError(f"The record of training maps lacks run {missing[0]}. Make it again, with all runs.")
    return table.assign(
        trained=trained,
        condition=trained.map(conditions),
        iou=trained.map(lambda run: quality[run].iou),
        box_iou=trained.map(lambda run: quality[run].box_iou),
    )


def _lines(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """(row, condition): rows without saliency first, then from the best boxes to the worst."""
    ordered = runs.sort_values(["box_iou", "iou"], ascending=False, kind="stable")
    pairs = list(dict.fromkeys(zip(ordered["row"], ordered["condition"], strict=True)))
    return sorted(pairs, key=lambda pair: pair[1] != "")


def _named(row: str, condition: str, several: bool) -> str:
    return f"{row}, no saliency" if not condition else f"{row}, {condition}" if several else condition


def training_table(runs: pd.DataFrame, maps: TrainingMaps) -> pd.DataFrame:
    """A line for each condition: its maps, what became of the training, where the attention looks."""
    lines, several = [], runs.loc[runs["condition"] != "", "row"].nunique() > 1
    attention = _attention(maps)
    for row, condition in _lines(runs):
        part = runs[(runs["row"] == row) & (runs["condition"] == condition)]
        measured = {metric: tables.by_row(part, metric) for metric in METRICS}
        looks = attention[(attention["row"] == row) & (attention["condition"] == condition)].mean(
            numeric_only=True
        )
        lines.append({
            "maps": _named(row, condition, several),
            "IoU": percent(part["iou"].iloc[0]) if condition else "–",
            "box IoU": percent(part["box_iou"].iloc[0]) if condition else "–",
            **{METRICS[m]: cell(t.iloc[0]) if len(t) else "–" for m, t in measured.items()},
            "attention:<br>paste,<br>object": f"{_gap(looks['rectangle'])}<br>{_gap(looks['object'])}",
        })  # fmt: skip
    return pd.DataFrame(lines)


def _attention(maps: TrainingMaps) -> pd.DataFrame:
    fields = {"row", "condition", "rectangle", "object"}
    table = pd.DataFrame([run.model_dump(include=fields) for run in maps.runs])
    return table.astype({"rectangle": float, "object": float})


def _gap(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.2f}"


def contrasts_with_exact(runs: pd.DataFrame) -> pd.DataFrame:
    """Each condition, and the row without saliency, against exact masks; see ``tables.differences``.

    Conditions whose runs are those of exact masks are left out.
    """
    parts = []
    for row in runs.loc[runs["condition"] != "", "row"].unique():
        part = runs[(runs["row"] == row) | (runs["condition"] == "")]
        named = part.assign(row=part["condition"].where(part["condition"] != "", part["row"]))
        skipped = {EXACT, *_same_as_exact(part)}
        others = [condition or name for name, condition in _lines(part) if condition not in skipped]
        for metric, title in METRICS.items():
            found = tables.differences(named, metric, [(other, EXACT) for other in others])
            parts.append(found.assign(metric=title))
    return pd.concat(parts, ignore_index=True)


def slopes(runs: pd.DataFrame, metric: str, against: str = "box_iou") -> list[float]:
    """Least-squares slope of a metric on the quality of the maps, over all conditions, one per seed.

    Conditions whose runs are those of exact masks count once.
    """
    part = runs[(runs["metric"] == metric) & ~runs["condition"].isin(["", *_same_as_exact(runs)])]
    return [float(np.polyfit(seed[against], seed["value"], 1)[0]) for _, seed in part.groupby("seed")]


def findings(runs: pd.DataFrame, maps: TrainingMaps, contrasts: pd.DataFrame) -> list[str]:
    """What the records say, in sentences."""
    counts = contrasts["separated"].value_counts()
    sentences = [
        f"Of {len(contrasts)} differences from exact masks, {counts.get('yes', 0)} separate over the "
        f"{runs['seed'].nunique()} seeds, {counts.get('images only', 0)} only over test images. Nothing is "
        f"corrected for their number: at 95 %, {0.05 * len(contrasts):.1f} would separate by chance."
    ]
    sentences += [
        f"{_capital(line['metric'])}, {line['row']} against {line['against']}: {points(line['difference'])} "
        f"points, interval over seeds {interval(line['low'], line['high'], points)}."
        for line in contrasts[contrasts["separated"] == "yes"].to_dict("records")
    ]
    for metric, title in METRICS.items():
        each = [slope / 10 for slope in slopes(runs, metric)]
        spread = t_interval(each)
        if spread is not None and not any(map(math.isnan, each)):
            verdict = "does not exclude zero" if spread[0] <= 0 <= spread[1] else "excludes zero"
            sentences.append(
                f"{_capital(title)}: {points(float(np.mean(each)))} points for each 0.1 of box IoU, over all "
                f"conditions; the interval over the seeds' slopes, {interval(*spread, points)}, {verdict}."
            )
    if same := _same_as_exact(runs):
        sentences.append(
            f"Equal to exact masks in every seed, to the last digit, so counted only once: {', '.join(same)}."
        )
    return sentences + _attention_findings(maps)


def _capital(text: str) -> str:
    return text if text.startswith("kNN") else text[0].upper() + text[1:]


def _same_as_exact(runs: pd.DataFrame) -> list[str]:
    """Conditions whose runs gave the same numbers as exact masks: their views were the same."""
    chosen = runs[runs["metric"].isin(list(METRICS))].sort_values(["row", "seed", "metric"])
    values = {str(c): part["value"].to_numpy() for c, part in chosen.groupby("condition")}
    return [c for c, found in values.items() if c != EXACT and np.array_equal(found, values.get(EXACT, []))]


def _attention_findings(maps: TrainingMaps) -> list[str]:
    means = _attention(maps).groupby("condition")["object"].mean().dropna()
    means = means.loc[sorted(means.index, key=lambda condition: condition != EXACT)]  # first of equals
    if len(means) < 2:
        return []
    told = [
        "Attention on held-out birds, on the bird's own pixels minus elsewhere: the most after training with "
        f"{means.idxmax()} maps ({means.max():+.2f}), the least with {means.idxmin()} ({means.min():+.2f})."
    ]
    blind = [str(condition) for condition, mean in means.items() if abs(mean) < BLIND]
    if blind:
        told.append(f"No more attention on the bird than elsewhere after training with: {', '.join(blind)}.")
    return told
