"""Where networks look: tables, figures and findings for the claim that CVSA localises better (C7). [O]"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cvsa.evaluation.attribution import ATTENTION
from cvsa.report import tables
from cvsa.report.evaluated import (
    DASH,
    FEW,
    FIRST,
    PASTED,
    PLAIN,
    SCRATCH,
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
from cvsa.report.localization_figures import (
    CENTRE,
    FINETUNED,
    GAIN,
    MAIN,
    REFERENCES,
    SOURCES,
    by_source,
    dot_plots,
    key,
    parts,
)
from cvsa.report.page import Page, contrast_table, percent, points

MORE = {
    "box_acc_30": "BoxAcc at 0.3",
    "box_acc_50": "at 0.5",
    "box_acc_70": "at 0.7",
    "max_box_acc": "MaxBoxAcc",
    "corloc": "CorLoc",
    "part_hit": "parts hit",
    "part_area": "area marked",
    "fixed": "same for all",
}
BOXES = {"iou": "box IoU", "over_50": "over 0.5", "over_75": "over 0.75"}
THRESHOLD = "threshold_iou"
STILL = "_fixed"  # ends the name of an attention's mean map
IMAGES = "localization.csv"
COLUMNS = {"iou": "iou", "pointing": "pointing", "energy": "energy"}  # metric -> of that file


def draw(page: Page, runs: Runs) -> None:
    """Everything on localisation that the book shows, from the evaluations of one set; dashes without any.

    Args:
        page: where it goes: ``tables/localization_*``, ``text/localization.md``,
            ``figures/localization_*.svg`` and the numbers ``localization.*``.
        runs: folders and records, those of the pre-training among them.
    """
    table = with_gain(evaluations(runs))
    images = per_image()
    found = {source: contrasts(table, source, images) for source in SOURCES}
    for source in SOURCES:
        page.table(f"localization_{source}", source_table(table, source, MAIN))
        page.table(f"localization_{source}_more", source_table(table, source, MORE, threshold=True))
        page.table(f"localization_{source}_contrasts", or_dash(contrast_table(found[source])))
    page.table("localization_summary", summary(found))
    page.table("localization_boxes", boxes(table))
    page.text("localization", findings(table, found))
    page.figure(f"localization_{FINETUNED}.svg", dot_plots(table, FINETUNED))
    page.figure("localization_sources.svg", by_source(table))
    page.figure("localization_parts.svg", parts(table))
    _numbers(page, table, runs)


def with_gain(table: pd.DataFrame) -> pd.DataFrame:
    """Add ``part_gain`` = ``part_hit`` - ``part_area``, where both are there."""
    triples = [tuple(key(s, name) for name in (GAIN, "part_hit", "part_area")) for s in SOURCES | REFERENCES]
    return with_differences(table, triples)


def per_image() -> PerImage:
    """Reads a source's metric for each test image from the file beside the record."""
    read = reader(IMAGES)

    def values(folder: Path, metric: str) -> pd.Series[Any] | None:
        _, source, name = metric.split(".")
        lines = read(folder)
        if lines is None or name not in COLUMNS:
            return None
        part = lines[lines["source"] == source].set_index("image")[COLUMNS[name]]
        return part.astype(float) if len(part) else None

    return values


def contrasts(table: pd.DataFrame, source: str, images: PerImage) -> pd.DataFrame:
    """Differences between rows by the metrics of the main table."""
    return differences(table, {key(source, metric): title for metric, title in MAIN.items()}, images)


def source_table(
    table: pd.DataFrame, source: str, metrics: Mapping[str, str], threshold: bool = False
) -> pd.DataFrame:
    """Rows by one kind of map, the trivial references below them.

    Args:
        table: of :func:`with_gain`.
        source: kind of map.
        metrics: metric -> heading.
        threshold: also the one that was chosen for the IoU.
    """
    headings = {name: _heading(title) for name, title in metrics.items()}
    columns = {key(source, name): title for name, title in headings.items()}
    show = {key(source, GAIN): points, key(source, THRESHOLD): plain}
    if threshold:
        columns[key(source, THRESHOLD)] = headings[THRESHOLD] = "threshold<br>(IoU)"
    rows = rows_table(table, columns, frozen=source != FINETUNED, show=show)
    if source in ATTENTION:
        mean_map = source + STILL
        still = {key(mean_map, name): title for name, title in headings.items()}
        added = rows_table(
            table, still, frozen=True, show={key(mean_map, GAIN): points, key(mean_map, THRESHOLD): plain}
        )
        added["row"] = "*its mean map,<br>" + added["row"] + "*"
        rows = pd.concat([rows, added], ignore_index=True)
    lines = []
    for reference, (name, _) in REFERENCES.items():
        found = {metric: mean(table, key(reference, metric)) for metric in headings}
        if any(not np.isnan(value) for value in found.values()):
            cells = {headings[metric]: _written(metric, value) for metric, value in found.items()}
            lines.append({"row": f"*{name}*", **cells})
    return or_dash(pd.concat([rows, pd.DataFrame(lines, columns=rows.columns)], ignore_index=True))


def _heading(title: str) -> str:
    return title.replace(" ", "<br>", 1) if len(title) > 7 else title


def _written(metric: str, value: float) -> str:
    if np.isnan(value):
        return DASH
    return points(value) if metric == GAIN else plain(value) if metric == THRESHOLD else percent(value)


def summary(found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """BYOL+CVSA against BYOL by every metric on every kind of map; bold and italic tell what separates."""
    lines = []
    for source, part in found.items():
        pair = part[(part["row"] == FIRST) & (part["against"] == PLAIN)]
        if len(pair):
            cells = {line["metric"]: marked(line) for line in pair.to_dict("records")}
            lines.append([SOURCES[source], *(cells.get(title, DASH) for title in MAIN.values())])
    return or_dash(pd.DataFrame(lines, columns=["map", *map(_heading, MAIN.values())]))


def boxes(table: pd.DataFrame) -> pd.DataFrame:
    """Boxes regressed from the frozen map, and the reference that looks at nothing."""
    columns = {f"boxes.{name}": title for name, title in BOXES.items()}
    rows = rows_table(table, columns, frozen=True)
    reference = [mean(table, f"boxes.mean_box_{name}") for name in BOXES]
    if not all(map(np.isnan, reference)):
        cells = [DASH if np.isnan(value) else percent(value) for value in reference]
        rows.loc[len(rows)] = ["*mean box of the training images*", *cells]
    return or_dash(rows)


def findings(table: pd.DataFrame, found: Mapping[str, pd.DataFrame]) -> list[str]:
    """What the records say, in sentences."""
    measured = {source: part for source, part in found.items() if len(part)}
    lines = []
    if measured:
        every = pd.concat(measured.values())
        first = every[(every["row"] == FIRST) & (every["against"] == PLAIN)]
        if len(first):
            lines.append(f"{FIRST} against {PLAIN}, by every measure on every kind of map. {counted(first)}")
        lines += [_verdict(SOURCES[source], part) for source, part in measured.items()]
        lines.append(_against(measured, PASTED, "what the alignment adds"))
        lines.append(
            _against({FINETUNED: measured.get(FINETUNED, every[:0])}, SCRATCH, "what all of it gives")
        )
    lines += [*_against_centre(table), *_still(table), _constant(table)]
    missing = [name for s, name in SOURCES.items() if not rows_with(table, [key(s, m) for m in MAIN])]
    if missing:
        lines.append(f"Not measured in these runs: {', '.join(missing)}.")
    return [line for line in lines if line]


def _verdict(name: str, part: pd.DataFrame) -> str:
    """By which metrics BYOL+CVSA looks at the bird more than BYOL, by which less."""
    said = {
        "better": f"{FIRST} looks at the bird more than {PLAIN} by",
        "worse": f"{FIRST} looks at the bird less than {PLAIN} by",
        "open": "Not settled:",
    }
    sentences = told(sides(part, FIRST, PLAIN), said)
    return f"**{name[0].upper()}{name[1:]}**: {sentences}" if sentences else ""


def _against(measured: Mapping[str, pd.DataFrame], other: str, what_it_is: str) -> str:
    """BYOL+CVSA against another row, as far as it separates."""
    said, lines, count = {"better": "more by", "worse": "less by"}, [], 0
    for source, part in measured.items():
        count += int(((part["row"] == FIRST) & (part["against"] == other)).sum())
        side = sides(part, FIRST, other)
        found = "; ".join(f"{said[kind]} {side[kind]}" for kind in said if kind in side)
        lines += [f"{SOURCES[source]}, {found}"] if found else []
    what = ". ".join(lines) if lines else "none separates"
    row = _short(other, FINETUNED)
    return f"{FIRST} against {row}, thus {what_it_is}, of {count} differences: {what}." * (count > 0)


def _against_centre(table: pd.DataFrame) -> list[str]:
    """Which rows are above the centred box in every seed, and which fine-tuned ones below, by metric."""
    sentences = []
    for metric, title in MAIN.items():
        reference = mean(table, key(CENTRE, metric))
        if np.isnan(reference):
            continue
        above = []
        for source, name in SOURCES.items():
            found = tables.by_row(table, key(source, metric))["seeds"].to_dict()
            rows = [_short(str(row), source) for row in found if min(found[row]) > reference]
            above += [f"{name} ({', '.join(rows)})"] if rows else []
        what = "; ".join(above) if above else "nothing"
        tuned = tables.by_row(table, key(FINETUNED, metric))["seeds"].to_dict()
        under = [_short(str(row), FINETUNED) for row in tuned if max(tuned[row]) < reference]
        what += f". Below it in every seed, {SOURCES[FINETUNED]}: {several(under)}" if under else ""
        sentences.append(
            f"Above the centred box ({_written(metric, reference)}) by {title}, in every seed: {what}."
        )
    return sentences


def _short(row: str, source: str) -> str:
    return named(row, source != FINETUNED).split("<br>")[0]


def _still(table: pd.DataFrame) -> list[str]:
    """How much of the maps does not depend on the image; the attention against its own mean map."""
    shares = []
    for source, name in SOURCES.items():
        rows = rows_with(table[table["row"].isin(FEW)], [key(source, "fixed")])
        each = [f"{_short(r, source)} {percent(mean(table, key(source, 'fixed'), r), 0)}" for r in rows]
        shares += [f"{name} ({', '.join(each)})"] if each else []
    sentences = []
    if shares:
        sentences.append(f"Same in all images, in percent of the maps' variance: {'; '.join(shares)}.")
    for source in ATTENTION:
        pairs = [(f"{key(source, m)}.moving", key(source, m), key(source + STILL, m)) for m in MAIN]
        moving = with_differences(table, pairs)
        for row in rows_with(moving, [name for name, *_ in pairs]):
            found = [
                (title, mean(moving, pair[0], row)) for pair, title in zip(pairs, MAIN.values(), strict=True)
            ]
            each = [f"{title} {points(value)}" for title, value in found if not np.isnan(value)]
            sentences.append(
                f"{row}, {SOURCES[source]}, minus its own mean map over validation birds, which is the same "
                f"for every image: {several(each)} points."
            )
    return sentences


def _constant(table: pd.DataFrame) -> str:
    """How many maps are the same everywhere, which points nowhere."""
    found = []
    for source, name in SOURCES.items():
        for row in rows_with(table, [key(source, "constant")]):
            share = mean(table, key(source, "constant"), row) / mean(table, key(source, "images"), row)
            found += [f"{name}, {_short(row, source)}, {percent(share)} %"] if share > 0 else []
    return f"Maps of one value everywhere, which point nowhere: {'; '.join(found)}." if found else ""


def _numbers(page: Page, table: pd.DataFrame, runs: Runs) -> None:
    ids = table["run_id"].unique()
    page.number("localization.seeds", str(table["seed"].nunique()), ids)
    count = [_count(folder) for folder in table["folder"].unique()]
    page.number("localization.images", f"{max(count):,}" if any(count) else DASH, ids)
    seconds = [record.seconds for _, record in runs if record.run_id in set(ids)]
    page.number("localization.minutes", f"{sum(seconds) / 60:.0f}", ids)
    for metric in (*MAIN, *MORE):
        for reference in REFERENCES:
            number(page, table, f"localization.{reference}.{metric}", key(reference, metric))
        for row in FEW:
            for source in SOURCES:
                number(page, table, f"localization.{source}.{metric}.{row}", key(source, metric), row)


def _count(folder: Path) -> int:
    path = folder / IMAGES
    return int(pd.read_csv(path)["image"].nunique()) if path.is_file() else 0
