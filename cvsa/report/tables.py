"""Tables: measured ones from records, reported ones from the authors' CSV. Numbers come from nowhere else."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

from cvsa.config import PretrainConfig
from cvsa.costs import share_of_labels
from cvsa.methods.catalogue import ROWS
from cvsa.records import PREDICTIONS, Record
from cvsa.report.statistics import (
    LEVEL,
    adjusted,
    detectable,
    mcnemar,
    mean_interval,
    paired_image_interval,
    t_test,
)

# What each row is compared with: the row that lacks one part of it.
COMPARED = (
    ("MoCo.v2+SS", "MoCo.v2"),
    ("BYOL+SS", "BYOL"),
    ("BYOL+CVSA", "BYOL+SS"),
    ("BYOL+CVSA", "BYOL"),
    ("BYOL+DiLo", "BYOL"),
)
NONE = "none"
LONG = [
    "kind", "row", "stage1", "stage2", "seed", "scale", "lr", "labels", "metric", "value", "run_id", "folder",
]  # fmt: skip
CONTRAST = [
    "row", "against", "difference", "low", "high", "kind", "p", "p_adjusted", "detectable", "image_low",
    "image_high", "mcnemar", "separated",
]  # fmt: skip
NO_INTERVAL = (float("nan"), float("nan"), "")
TOP1 = "finetune.top1"
"""The paper's metric: top-1 after fine-tuning, on held-out images like those of training. [A]

Drawn birds are tested on a plain backdrop and in habitats of others. It is their validation split, which
chooses nothing of a fine-tuning, that is like those of training. [O]
"""
# Metric -> column heading, in the order of the tables.
METRICS = {
    TOP1: "fine-tuned",
    "probe.linear_test": "linear probe",
    "probe.knn_test": "kNN",
    "probe.habitat_linear": "habitat, linear probe",
}
# The same of drawn birds, where there is more to test on.
ON_BIRDS = {
    **METRICS,
    "finetune.test_swapped_accuracy": "fine-tuned, habitats of others",
    "finetune.test_accuracy": "fine-tuned, plain backdrop",
}


def reported_results() -> pd.DataFrame:
    """The authors' tables: table, method, stage1, stage2, dataset, backbone, metric, top1_percent, source."""
    return pd.read_csv(str(files("cvsa.report") / "reported" / "reported_results.csv"), keep_default_na=False)


def reported_scale_ablation() -> tuple[pd.DataFrame, dict[str, float]]:
    """The authors' scale ablation: lines (row, scale, percent) and horizontal baselines row -> percent."""
    table = pd.read_csv(str(files("cvsa.report") / "reported" / "reported_scale_ablation.csv"))
    table = table.rename(columns={"method": "row", "top1_percent": "percent"}).replace(
        {"row": {"BYOL+SS+Align": "BYOL+CVSA"}}
    )
    flat = table["scale"].isna()
    baselines = {
        row.removesuffix("+RRC"): percent
        for row, percent in zip(table.loc[flat, "row"], table.loc[flat, "percent"], strict=True)
    }
    return table[~flat], baselines


def metrics_of(record: Record) -> dict[str, float]:
    """The metrics of a record by "kind.name"; of a fine-tuning also ``TOP1``."""
    found = {f"{record.kind}.{name}": value for name, value in record.metrics.items()}
    names = {name.removesuffix("_accuracy") for name in record.metrics if record.kind == "finetune"}
    top1 = found.get(f"finetune.{like_training(names)}_accuracy")
    return found if top1 is None else {**found, TOP1: top1}


def like_training(splits: Container[str]) -> str:
    """The held-out split whose images are like those of training: see ``TOP1``."""
    return "val" if "test_swapped" in splits else "test"


def long_table(records: Iterable[tuple[Path, Record]]) -> pd.DataFrame:
    """One line per run and metric; none without records.

    Returns:
        Columns kind, row, stage1 and stage2 (rows, "none" where there was no such stage), seed, scale and lr
        (of the pre-training), labels (``share_of_labels`` of the fine-tuning looked at, else 1), metric
        ("kind.name"), value, run_id, folder.
    """
    lines = []
    found = list(records)
    trained = {record.run_id: record.config for _, record in found if record.kind == "pretrain"}
    labels = {record.run_id: share_of_labels(record) for _, record in found if record.kind == "finetune"}
    for folder, record in found:
        config = trained.get(
            record.parents[0] if record.kind != "pretrain" and record.parents else record.run_id, {}
        )
        shared = {
            "kind": record.kind,
            "row": record.row,
            "stage1": (record.stage1 or NONE).split(" on ")[0],
            "stage2": record.stage2 or NONE,
            "seed": record.seed,
            "scale": config.get("swap_scale", np.nan),
            "lr": config.get("lr", np.nan),
            "labels": labels.get(record.config.get("classifier") or record.run_id, 1.0),
        }
        for metric, value in metrics_of(record).items():
            lines.append({
                **shared, "metric": metric, "value": value, "run_id": record.run_id, "folder": folder,
            })  # fmt: skip
    return pd.DataFrame(lines, columns=LONG)


def second_stages(table: pd.DataFrame) -> pd.DataFrame:
    """The runs without a first stage and at the usual scale of the crop, with any share of the labels."""
    usual = table["scale"].isna() | (table["scale"] == PretrainConfig.model_fields["swap_scale"].default)
    return table[usual & (table["stage1"] == NONE)]


def main_runs(table: pd.DataFrame) -> pd.DataFrame:
    """The runs of the first table: those of :func:`second_stages` with all labels."""
    return second_stages(table[table["labels"] == 1])


def dual_runs(table: pd.DataFrame) -> pd.DataFrame:
    """The runs of the second table, their row the second stage's; "none" for the first stage alone."""
    dual = table[(table["stage1"] != NONE) & (table["kind"] != "pretrain")]
    return dual.assign(row=dual["stage1"] + " → " + dual["stage2"])


def _place(row: str) -> tuple[int, ...]:
    """Where a row, or "stage 1 → stage 2", stands in the catalogue's order."""
    order = [NONE, *ROWS]
    return tuple(order.index(part) if part in order else len(order) for part in row.split(" → "))


def by_row(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean, interval over seeds and every seed of a metric, one line per row, in the catalogue's order.

    Returns:
        Index row; columns mean, low, high (NaN for a single seed), seeds (list of values in seeds' order),
        kind ("t", "BCa"; "" for a single seed).
    """
    lines = {}
    chosen = table[table["metric"] == metric].sort_values("seed", kind="stable")
    values_of = {str(row): part.tolist() for row, part in chosen.groupby("row", sort=False)["value"]}
    for row in sorted(values_of, key=_place):
        low, high, kind = mean_interval(values_of[row]) or NO_INTERVAL
        lines[row] = (float(np.mean(values_of[row])), low, high, values_of[row], kind)
    return pd.DataFrame.from_dict(lines, orient="index", columns=["mean", "low", "high", "seeds", "kind"])


def paired(table: pd.DataFrame, metric: str, row: str, against: str) -> pd.DataFrame:
    """The runs of two rows over the seeds that both have.

    Returns:
        Index seed, sorted; columns value, run_id, folder, of the other row with the suffix _against, and
        difference.
    """
    chosen = table[table["metric"] == metric]
    first, second = (
        chosen[chosen["row"] == name].set_index("seed")[["value", "run_id", "folder"]]
        for name in (row, against)
    )
    both = first.join(second.add_suffix("_against"), how="inner").sort_index()
    return both.assign(difference=both["value"] - both["value_against"])


def differences(
    table: pd.DataFrame, metric: str, compared: Iterable[tuple[str, str]] = COMPARED
) -> pd.DataFrame:
    """Each row against the row that lacks one part of it, over the seeds both have.

    Args:
        table: of :func:`main_runs` or :func:`dual_runs`.
        metric: "kind.name".
        compared: pairs of rows.

    Returns:
        Columns row, against, difference; low, high, kind (paired interval over seeds: "t" or "BCa"; NaN and
        "" for one seed); p (paired t test), p_adjusted (see :func:`with_adjusted`), detectable (the minimal
        detectable difference of so many seeds); image_low, image_high (bootstrap over test images,
        fine-tuning only), mcnemar (p of the exact test for each seed, in order; fine-tuning only);
        separated: "yes" where the interval over seeds excludes zero, "images only" where only the one over
        images does, else "no".
    """
    lines = []
    for row, against in compared:
        both = paired(table, metric, row, against)
        if both.empty:
            continue
        values = both["difference"].tolist()
        low, high, kind = mean_interval(values) or NO_INTERVAL
        image_low, image_high = _image_interval(both["folder"], both["folder_against"], metric)
        separated = (
            "yes" if low > 0 or high < 0 else "images only" if image_low > 0 or image_high < 0 else "no"
        )
        lines.append({
            "row": row, "against": against, "difference": float(np.mean(values)), "low": low, "high": high,
            "kind": kind, "p": t_test(values), "detectable": detectable_of(values), "image_low": image_low,
            "image_high": image_high, "mcnemar": mcnemar_of(both, metric), "separated": separated,
        })  # fmt: skip
    return with_adjusted(pd.DataFrame(lines, columns=CONTRAST))


def with_adjusted(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Correct the p-values of all these lines for their number (Benjamini and Hochberg).

    Those of :func:`differences` are corrected within one metric: call this again on what a table shows.
    """
    return contrasts.assign(p_adjusted=adjusted(contrasts["p"].to_numpy(float)))


def how_many_separate(contrasts: pd.DataFrame, what: str = "differences") -> str:
    """How many of these lines of :func:`differences` separate, and how many do after correction."""
    counts = contrasts["separated"].value_counts()
    corrected = int((with_adjusted(contrasts)["p_adjusted"] < 1 - LEVEL).sum())
    return (
        f"Of {len(contrasts)} {what}, {counts.get('yes', 0)} separate over seeds, "
        f"{counts.get('images only', 0)} only over test images, {counts.get('no', 0)} not at all. "
        f"Corrected for their number (Benjamini and Hochberg), {corrected} separate over seeds."
    )


def detectable_of(differences: Sequence[float]) -> float:
    """Minimal detectable difference of as many seeds with the spread that was seen; NaN for one."""
    return (
        detectable(float(np.std(differences, ddof=1)), len(differences)) if len(differences) > 1 else np.nan
    )


def mcnemar_of(both: pd.DataFrame, metric: str) -> list[float]:
    """p of the exact McNemar test for each seed of :func:`paired`; empty where no decisions were kept."""
    split = _split(metric)
    pairs = list(zip(both["folder"], both["folder_against"], strict=True))
    if not split or not all((folder / PREDICTIONS).is_file() for pair in pairs for folder in pair):
        return []
    return [mcnemar(_hits([first], split), _hits([second], split)) for first, second in pairs]


def _split(metric: str) -> str:
    """The split on which a metric counts right answers, or ``TOP1``; empty if it is not fine-tuned."""
    kind, _, name = metric.partition(".")
    if metric == TOP1:
        return TOP1
    return name.removesuffix("_accuracy") if kind == "finetune" and name.endswith("_accuracy") else ""


def _image_interval(first: Iterable[Path], second: Iterable[Path], metric: str) -> tuple[float, float]:
    split = _split(metric)
    if not split:
        return float("nan"), float("nan")
    return paired_image_interval(_hits(first, split), _hits(second, split))


def _hits(folders: Iterable[Path], split: str) -> np.ndarray:
    """Share of the seeds that classified each image of a split right, (N,)."""
    files = [_right(path, path.stat().st_mtime_ns) for path in (f / PREDICTIONS for f in folders)]
    return np.mean([right[like_training(right) if split == TOP1 else split] for right in files], axis=0)


@cache
def _right(path: Path, changed: int) -> dict[str, np.ndarray]:
    """Of a file of decisions, read once until it changes: split -> which images were classified right."""
    lines = pd.read_csv(path).sort_values("image")
    right = (lines["label"] == lines["predicted"]).to_numpy(float)
    return {str(split): right[np.asarray(lines["split"] == split)] for split in lines["split"].unique()}
