"""Tables, differences, findings and dot plots of a set of runs; the authors' numbers."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from cvsa.errors import CVSAError
from cvsa.records import HISTORY, Runs
from cvsa.report import tables
from cvsa.report.figures import curves, seeds_and_intervals
from cvsa.report.page import Page, cell, contrast_table, percent, points


def measured(page: Page, key: str, name: str, runs: Runs) -> None:
    """Main table, differences, findings and dot plots of one set of runs.

    Raises:
        CVSAError: without a pre-training and a probe among them there is nothing to tell.
    """
    config = next((record.config for _, record in runs if record.kind == "pretrain"), None)
    if config is None or not any(record.kind == "probe" for _, record in runs):
        raise CVSAError(
            f"The chapter of results needs pre-trainings and probes; the runs for {name} lack one."
        )
    table = tables.main_runs(tables.long_table(runs))
    used = set(table.loc[table["metric"].isin(tables.METRICS), "run_id"])
    columns = {
        title: tables.by_row(table, metric)
        for metric, title in tables.METRICS.items()
        if (table["metric"] == metric).any()
    }
    rows = list(columns["fine-tuned"].index)
    shown = {"row": rows}
    for title, summary in columns.items():
        shown[title.replace(", ", ",<br>")] = [cell(line) for _, line in summary.loc[rows].iterrows()]
    page.table(name, pd.DataFrame(shown), used)

    parts, sentences = [], []
    for metric, title in tables.METRICS.items():
        difference = tables.differences(table, metric)
        parts.append(difference.assign(metric=title))
        sentences += [_finding(line, title) for line in difference.itertuples() if line.separated != "no"]
    contrasts = pd.concat(parts)
    page.table(f"contrasts_{key}", contrast_table(contrasts), used)
    page.text(f"findings_{key}", [tables.how_many_separate(contrasts), *sentences], used)

    ids = [record.run_id for _, record in runs]
    hours = sum(record.seconds for _, record in runs) / 3600
    machine = {
        f"{record.hardware.get('gpu', record.hardware['cpu'])}, {record.hardware['threads']} thread(s) a run"
        for _, record in runs
    }
    page.number(f"{key}.epochs", str(config["epochs"]), ids)
    page.number(f"{key}.seeds", str(table["seed"].nunique()), ids)
    page.number(f"{key}.minutes", f"{60 * hours:.0f}", ids)
    page.number(f"{key}.hours", f"{hours:.1f}", ids)
    page.number(f"{key}.machine", "; ".join(sorted(machine)), ids)
    for title, metric in (
        ("linear", "probe.linear_test"),
        ("habitat", "probe.habitat_linear"),
        ("finetuned", "finetune.test_accuracy"),
    ):
        for row, line in tables.by_row(table, metric).iterrows():
            page.number(
                f"{key}.{title}.{row}",
                percent(line["mean"]) + " %",
                table[(table["row"] == row) & (table["metric"] == metric)]["run_id"],
            )
    _dots(page, "" if key == "live" else f"_{key}", columns, runs, used)


def _finding(line: Any, title: str) -> str:
    verdict = {
        "yes": "separates: the interval over seeds excludes zero",
        "images only": "holds for these trained networks (the interval over test images excludes zero), "
        "but the seeds do not settle it",
    }[line.separated]
    title = title[0].upper() + title[1:]
    return f"{title}, {line.row} against {line.against}: {points(line.difference)} points; {verdict}."


def _dots(page: Page, suffix: str, columns: dict[str, pd.DataFrame], runs: Runs, used: set[str]) -> None:
    """Dot plots of the probes and of fine-tuning, with chance as a vertical line."""
    probes = [record for _, record in runs if record.kind == "probe"]
    chance = {"class": 1 / probes[0].config["num_classes"], "habitat": probes[0].metrics["habitat_chance"]}
    page.number("data.chance_habitat", f"{percent(chance['habitat'], 0)} %", [probes[0].run_id])

    def panel(axis: Any, title: str, label: str, guess: float) -> None:
        summary = columns[title]
        values = summary["seeds"].explode().rename("value").rename_axis("row").reset_index()
        seeds_and_intervals(axis, summary, values)
        axis.axvline(100 * guess, color="black", linewidth=1, linestyle=":")
        spread = 100 * values["value"].astype(float)
        margin = max(3.0, 0.25 * float(spread.max() - spread.min()))
        # A t interval of two seeds can span everything: the axis shows the seeds, the table has the interval.
        axis.set(
            title=label,
            xlabel="top-1, %",
            xlim=(
                max(0, min(float(spread.min()), 100 * guess) - margin),
                min(100, float(spread.max()) + margin),
            ),
        )

    height = 1.4 + 0.3 * len(columns["fine-tuned"])
    figure = Figure(figsize=(9, height), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    panel(left, "linear probe", "class, linear probe (higher is better)", chance["class"])
    panel(right, "habitat, linear probe", "habitat, linear probe (lower is better)", chance["habitat"])
    page.figure(f"probes{suffix}.svg", figure, used & {record.run_id for record in probes})
    figure = Figure(figsize=(6.5, height), layout="constrained")
    panel(figure.subplots(), "fine-tuned", "fine-tuned top-1 on birds without habitat", chance["class"])
    tuned = {record.run_id for _, record in runs if record.kind == "finetune"}
    page.figure(f"finetune{suffix}.svg", figure, used & tuned)


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
