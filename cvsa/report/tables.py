"""Tables: measured ones from records, reported ones from the authors' CSV. Numbers come from nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

from cvsa.config import PretrainConfig
from cvsa.methods.catalogue import ROWS
from cvsa.records import PREDICTIONS, Record
from cvsa.report.statistics import paired_image_interval, paired_t_interval, t_interval

# What each row is compared with: the row that lacks one part of it.
COMPARED = (
    ("MoCo.v2+SS", "MoCo.v2"),
    ("BYOL+SS", "BYOL"),
    ("BYOL+CVSA", "BYOL+SS"),
    ("BYOL+CVSA", "BYOL"),
    ("BYOL+DiLo", "BYOL"),
)
NONE = "none"
# Metric in the records -> column heading, in the order of the tables.
METRICS = {
    "finetune.test_accuracy": "fine-tuned",
    "probe.linear_test": "linear probe",
    "probe.knn_test": "kNN",
    "finetune.test_swapped_accuracy": "fine-tuned, habitats swapped",
    "probe.habitat_linear": "habitat, linear probe",
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


def long_table(records: Iterable[tuple[Path, Record]]) -> pd.DataFrame:
    """One line per run and metric.

    Returns:
        Columns kind, row, stage1 and stage2 (rows, "none" where there was no such stage), seed, scale and lr
        (of the pre-training), labels (share of them that its fine-tuning used, else 1), metric ("kind.name"),
        value, run_id, folder.
    """
    lines = []
    found = list(records)
    trained = {record.run_id: record.config for _, record in found if record.kind == "pretrain"}
    labels = {r.run_id: r.config.get("label_fraction", 1.0) for _, r in found if r.kind == "finetune"}
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
        for name, value in record.metrics.items():
            measured = {"metric": f"{record.kind}.{name}", "value": value}
            lines.append({**shared, **measured, "run_id": record.run_id, "folder": folder})
    return pd.DataFrame(lines)


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
    """Mean, t interval and every seed of a metric, one line per row, in the catalogue's order.

    Returns:
        Index row; columns mean, low, high (NaN for a single seed), seeds (list of values in seeds' order).
    """
    lines = {}
    for row in sorted(table["row"].unique(), key=_place):
        part = table[(table["metric"] == metric) & (table["row"] == row)].sort_values("seed")
        if len(part):
            values = part["value"].tolist()
            low, high = t_interval(values) or (np.nan, np.nan)
            lines[row] = (float(np.mean(values)), low, high, values)
    return pd.DataFrame.from_dict(lines, orient="index", columns=["mean", "low", "high", "seeds"])


def differences(
    table: pd.DataFrame, metric: str, compared: Iterable[tuple[str, str]] = COMPARED
) -> pd.DataFrame:
    """Each row against the row that lacks one part of it, over the seeds both have.

    Args:
        table: of :func:`main_runs` or :func:`dual_runs`.
        metric: "kind.name".
        compared: pairs of rows.

    Returns:
        Columns row, against, difference, low, high (paired t interval over seeds; NaN for one seed),
        image_low, image_high (bootstrap over test images, fine-tuning only), separated: "yes" where the
        interval over seeds excludes zero, "images only" where only the one over images does, else "no".
    """
    lines = []
    chosen = table[table["metric"] == metric]
    for row, against in compared:
        first, second = (chosen[chosen["row"] == name].set_index("seed") for name in (row, against))
        seeds = sorted(set(first.index) & set(second.index))
        if not seeds:
            continue
        a, b = first.loc[seeds, "value"].tolist(), second.loc[seeds, "value"].tolist()
        low, high = paired_t_interval(a, b) or (np.nan, np.nan)
        image_low, image_high = _image_interval(
            first.loc[seeds, "folder"], second.loc[seeds, "folder"], metric
        )
        separated = (
            "yes" if low > 0 or high < 0 else "images only" if image_low > 0 or image_high < 0 else "no"
        )
        lines.append(
            (row, against, float(np.mean(a) - np.mean(b)), low, high, image_low, image_high, separated)
        )
    return pd.DataFrame(
        lines, columns=["row", "against", "difference", "low", "high", "image_low", "image_high", "separated"]
    )


def _image_interval(first: Iterable[Path], second: Iterable[Path], metric: str) -> tuple[float, float]:
    kind, _, name = metric.partition(".")
    if kind != "finetune":
        return float("nan"), float("nan")
    split = name.removesuffix("_accuracy")
    return paired_image_interval(_hits(first, split), _hits(second, split))


def _hits(folders: Iterable[Path], split: str) -> np.ndarray:
    """Share of the seeds that classified each image right, (N,)."""
    hits = []
    for folder in folders:
        predictions = pd.read_csv(folder / PREDICTIONS).query("split == @split").sort_values("image")
        hits.append((predictions["label"] == predictions["predicted"]).to_numpy(float))
    return np.asarray(np.mean(hits, axis=0))
