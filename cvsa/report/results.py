"""Tables, differences, findings and dot plots of a set of runs; the authors' numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvsa.records import HISTORY, Runs
from cvsa.report import tables
from cvsa.report.evaluated import DASH, FEW, number, or_dash, rows_with
from cvsa.report.evaluated_figures import dots
from cvsa.report.figures import curves
from cvsa.report.page import Page, cell, contrast_table, heading, percent, points
from cvsa.report.where import hardware_words, several

SHOWN = {
    "linear": "probe.linear_test",
    "habitat": "probe.habitat_linear",
    "finetuned": tables.TOP1,
}  # in the dot plots and in the prose: name of the number -> metric
CHANCE = "habitat_chance"


def measured(page: Page, key: str, runs: Runs) -> None:
    """Main table, dot plots and numbers of one set of runs; a dash for what it lacks, were it all of it.

    Args:
        page: gets ``tables/results_KEY``, figures of probes and of fine-tuning, and the numbers ``KEY.*``.
        key: "main", or "live", whose figures are called probes.svg and finetune.svg.
        runs: folders and records, those of the pre-training among them.
    """
    table = _main(runs)
    used = set(table["run_id"])
    rows = rows_with(table, tables.ON_BIRDS)
    shown: dict[str, list[str]] = {"row": rows}
    for metric, title in tables.ON_BIRDS.items():
        lines = tables.by_row(table, metric).T.to_dict("series")
        shown[heading(title)] = [cell(lines[row]) if row in lines else DASH for row in rows]
    page.table(f"results_{key}", or_dash(pd.DataFrame(shown)), used)

    ids = [record.run_id for _, record in runs]
    epochs = [r.config["epochs"] for _, r in runs if r.kind == "pretrain" and r.stage1 is None]
    page.number(f"{key}.epochs", str(epochs[0]) if epochs else DASH, ids)
    page.number(f"{key}.seeds", str(table["seed"].nunique()), ids)
    page.number(f"{key}.minutes", f"{sum(record.seconds for _, record in runs) / 60:.0f}", ids)
    page.number(f"{key}.machine", several([hardware_words(r.hardware) for _, r in runs] or [DASH]), ids)
    chance = _chance(runs)
    for name, value in chance.items():
        page.number(f"{key}.chance_{name}", DASH if np.isnan(value) else f"{percent(value)} %", ids)
    for name, metric in SHOWN.items():
        for row in FEW:
            number(page, table, f"{key}.{name}.{row}", metric, row)
    _dots(page, "" if key == "live" else f"_{key}", table, chance)


def contrasts(page: Page, key: str, runs: Runs) -> None:
    """Each row against the one that lacks part of it: ``tables/contrasts_KEY`` and ``text/findings_KEY``."""
    table = _main(runs)
    used = set(table["run_id"])
    parts = {title: tables.differences(table, metric) for metric, title in tables.ON_BIRDS.items()}
    every = pd.concat([part.assign(metric=title) for title, part in parts.items()])
    page.table(f"contrasts_{key}", or_dash(contrast_table(every)), used)
    told = [_finding(line) for line in every.itertuples() if line.separated != "no"]
    counted = tables.how_many_separate(every) if len(every) else "No two rows to compare were measured."
    page.text(f"findings_{key}", [counted, *told], used)


def _main(runs: Runs) -> pd.DataFrame:
    """The runs of the first table, with the metrics that it shows."""
    table = tables.main_runs(tables.long_table(runs))
    return table[table["metric"].isin(tables.ON_BIRDS)]


def _finding(line: Any) -> str:
    verdict = {
        "yes": "separates: the interval over seeds excludes zero",
        "images only": "holds for these trained networks (the interval over test images excludes zero), "
        "but the seeds do not settle it",
    }[line.separated]
    title = line.metric.capitalize() if line.metric.islower() else line.metric  # not kNN
    return f"{title}, {line.row} against {line.against}: {points(line.difference)} points; {verdict}."


def _chance(runs: Runs) -> dict[str, float]:
    """What guessing gives for the class, and naming the most frequent habitat for that; NaN if not known."""
    probes = [record for _, record in runs if record.kind == "probe"]
    if not probes:
        return dict.fromkeys(("class", "habitat"), float("nan"))
    first = probes[0]
    return {"class": 1 / first.config["num_classes"], "habitat": first.metrics.get(CHANCE, float("nan"))}


def _dots(page: Page, suffix: str, table: pd.DataFrame, chance: Mapping[str, float]) -> None:
    """Dot plots of the probes and of fine-tuning, with chance as a vertical line."""
    rows = rows_with(table, tables.ON_BIRDS)

    def panel(axis: Axes, name: str, title: str, guess: float) -> set[str]:
        metric = SHOWN[name]
        # Fine-tuned rows differ by little, far from guessing: an axis down to there would show nothing.
        lines = {} if name == "finetuned" else {"guessing": (guess, ":")}
        dots(axis, table, metric, rows, lines, frozen=name != "finetuned")
        axis.set_yticks(range(len(rows)), rows)
        axis.set(title=title, xlabel="top-1, %")
        return set(table.loc[table["metric"] == metric, "run_id"])

    height = 1.4 + 0.3 * max(2, len(rows))
    figure = Figure(figsize=(5.4, 2 * height - 0.6), layout="constrained")
    above, below = figure.subplots(2, 1)
    used = panel(above, "linear", "class, linear probe (higher is better)", chance["class"])
    used |= panel(below, "habitat", "habitat, linear probe (lower is better)", chance["habitat"])
    page.figure(f"probes{suffix}.svg", figure, used)
    figure = Figure(figsize=(5.4, height), layout="constrained")
    used = panel(figure.subplots(), "finetuned", tables.ON_BIRDS[SHOWN["finetuned"]], chance["class"])
    page.figure(f"finetune{suffix}.svg", figure, used)


def reported(page: Page) -> None:
    """The authors' tables in the paper's layout, and the differences the prose speaks of."""
    published = tables.reported_results()
    datasets = ["CUB-200-2011", "NABirds", "FGVC-Aircraft", "Stanford-Cars"]
    second = published[published["table"] == "second_stage_only"]
    page.table("reported_second_stage", _wide(second, ["method"], datasets))
    dual = published[published["table"].str.startswith("dual_stage")]
    page.table("reported_dual_stage", _wide(dual, ["method", "stage1", "stage2"], datasets))

    def value(part: pd.DataFrame, method: str, dataset: str, **stage: str) -> float:
        chosen = part[(part["method"] == method) & (part["dataset"] == dataset)]
        for name, wanted in stage.items():
            chosen = chosen[chosen[name] == wanted]
        return float(chosen["top1_percent"].iloc[0])

    coco = published[published["table"] == "dual_stage_coco"]
    for dataset in datasets:
        page.number(
            f"reported.gain.{dataset}",
            f"{value(second, 'BYOL+CVSA', dataset) - value(second, 'BYOL', dataset):+.2f}",
        )
        change = value(coco, "BYOL", dataset, stage2="BYOL") - value(coco, "BYOL", dataset, stage2="none")
        page.number(f"reported.second_stage.BYOL.{dataset}", f"{change:+.2f}")
    lines, baselines = tables.reported_scale_ablation()
    for row in ("BYOL", "MoCo.v2"):
        page.number(f"reported.main.{row}", f"{value(second, row, datasets[0]):.2f} %")
        page.number(f"reported.ablation.{row}", f"{baselines[row]:.2f} %")
    best = lines.loc[lines.groupby("row")["percent"].idxmax(), "scale"]
    page.number("reported.best_scale", f"{best.min():g} to {best.max():g}")
    at = lines[lines["scale"] == lines["scale"].min()].set_index("row")["percent"]
    page.number("reported.align_gain_008", f"{at['BYOL+CVSA'] - at['BYOL+SS']:+.2f}")


def _wide(part: pd.DataFrame, index: list[str], datasets: list[str]) -> pd.DataFrame:
    lines = []
    for keys, group in part.groupby(index, sort=False):
        cells = {dataset: "–" for dataset in datasets}
        cells |= {
            d: f"{v:.2f}" for d, v in zip(group["dataset"], group["top1_percent"], strict=True) if d in cells
        }
        lines.append({**dict(zip(index, keys, strict=True)), **cells})
    return pd.DataFrame(lines).rename(columns={"stage1": "stage 1", "stage2": "stage 2"})


def what_ran(page: Page, runs: Runs) -> None:
    """Every live run with what it cost."""
    lines = [
        {
            "run": f"`{record.run_id}`", "kind": record.kind, "row": record.row, "seed": record.seed,
            "seconds": f"{record.seconds:.0f}", "images/s": f"{record.images_per_second:.0f}",
            "peak MiB": f"{record.peak_memory_mib:.0f}",
            "commit": (record.code["commit"] or "–")[:8] + ("*" if record.code["dirty"] else ""),
        }
        for _, record in runs
    ]  # fmt: skip
    page.table("runs", pd.DataFrame(lines))
    trained = {
        record.run_id: (f"{record.row} #{record.seed}", pd.read_csv(folder / HISTORY))
        for folder, record in runs
        if record.kind == "pretrain" and "swap_scale" not in folder.name and record.stage1 is None
    }
    quantities = [
        ("contrastive", "contrastive loss"),
        ("alignment", "alignment loss"),
        ("embedding_std", "spread of embeddings"),
    ]
    page.figure("curves.svg", curves(dict(trained.values()), quantities), trained)
