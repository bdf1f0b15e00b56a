"""Tables: measured ones from records, reported ones from the authors' CSV. Numbers come from nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

from cvsa.methods.catalogue import ROWS
from cvsa.records import PREDICTIONS, Record
from cvsa.report.statistics import paired_image_interval, paired_t_interval, t_interval

# What each row is compared with: the row that lacks one part of it.
COMPARED = (("MoCo.v2+SS", "MoCo.v2"), ("BYOL+SS", "BYOL"), ("BYOL+CVSA", "BYOL+SS"), ("BYOL+CVSA", "BYOL"))
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
    """One line per run and metric: kind, row, seed, scale, metric ("kind.name"), value, run_id, folder."""
    lines = []
    found = list(records)
    scales = {record.run_id: record.config["swap_scale"] for _, record in found if record.kind == "pretrain"}
    for folder, record in found:
        scale = scales.get(record.parents[0]) if record.parents else scales.get(record.run_id)
        for name, value in record.metrics.items():
            lines.append(
                (
                    record.kind,
                    record.row,
                    record.seed,
                    scale,
                    f"{record.kind}.{name}",
                    value,
                    record.run_id,
                    folder,
                )
            )
    return pd.DataFrame(
        lines, columns=["kind", "row", "seed", "scale", "metric", "value", "run_id", "folder"]
    )


def main_runs(table: pd.DataFrame, default_scale: float) -> pd.DataFrame:
    """The lines of the main table: without the runs the ablation made at other scales."""
    return table[table["scale"].isna() | (table["scale"] == default_scale)]


def by_row(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean, t interval and every seed of a metric, one line per row, in the catalogue's order.

    Returns:
        Index row; columns mean, low, high (NaN for a single seed), seeds (list of values in seeds' order).
    """
    lines = {}
    for row in ROWS:
        part = table[(table["metric"] == metric) & (table["row"] == row)].sort_values("seed")
        if len(part):
            values = part["value"].tolist()
            low, high = t_interval(values) or (np.nan, np.nan)
            lines[row] = (float(np.mean(values)), low, high, values)
    return pd.DataFrame.from_dict(lines, orient="index", columns=["mean", "low", "high", "seeds"])


def differences(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Each row against the row that lacks one part of it, over the seeds both have.

    Returns:
        Columns row, against, difference, low, high (paired t interval over seeds; NaN for one seed),
        image_low, image_high (bootstrap over test images, fine-tuning only), separated: "yes" where the
        interval over seeds excludes zero, "images only" where only the one over images does, else "no".
    """
    lines = []
    chosen = table[table["metric"] == metric]
    for row, against in COMPARED:
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
