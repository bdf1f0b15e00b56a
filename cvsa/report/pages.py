"""Everything the book shows that was computed: tables, figures, findings and numbers, drawn from records.

Writes ``book/_generated/``: ``figures/``, ``tables/`` (Markdown), ``text/`` (generated sentences),
``numbers.json`` (key -> text and run ids) and, last, ``report.json`` (what it was drawn from).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from cvsa.config import PretrainConfig, resolve
from cvsa.errors import CVSAError
from cvsa.grid import Ablation, load_grid
from cvsa.provenance import commit
from cvsa.records import RECORD, Record, atomic_write, find_records, read_record
from cvsa.report import background, localization, looks, paper, photographs, pictures, pilot, saliency, tables
from cvsa.report.figures import curves, scale_lines, seeds_and_intervals, use_house_style
from cvsa.report.page import Page, cell, contrast_table, percent, points

LONG = "long"
SWEEP = "sweep"
ABLATIONS = ("scale", "labels")  # that the book shows of the live preset


def draw(preset: str, root: Path) -> None:
    """Draw everything from the live records of a preset and the committed ones.

    Args:
        preset: whose runs in ``book/results`` are the live ones.
        root: a checkout of the companion.

    Raises:
        CVSAError: a live run is missing.
    """
    use_house_style()
    grid = load_grid(root / "workflow" / "grid.yaml", preset)
    missing = [name for name in ABLATIONS if name not in grid.ablations]
    if missing:
        raise CVSAError(
            f"The book needs the ablation {missing[0]!r}, which {preset!r} lacks in workflow/grid.yaml. "
            "Take tiny, or run the preset with --no-report."
        )
    live = root / "book" / "results" / preset
    runs: list[tuple[Path, Record]] = []
    for run in grid.runs:
        folder = live / run.kind / run.name
        if not (folder / RECORD).is_file():
            raise CVSAError(f"{folder} has no finished run. Run `cvsa reproduce --preset {preset}` first.")
        runs.append((folder, read_record(folder)))
    page = Page(root / "book" / "_generated")
    _measured(page, "live", "tiny_live", runs)
    _long(page, root / "results" / LONG)
    _scale(page, runs, grid.ablations["scale"])
    committed = {name: list(find_records(root / "results" / name)) for name in (LONG, SWEEP)}
    paper.both_tables(page, runs, committed[LONG])
    paper.second_stages(page, runs, committed[LONG])
    page.text("long_recipe", paper.recipe_differences(runs, committed[LONG]))
    paper.sweep(page, committed[SWEEP])
    paper.costs(page, runs)
    _reported(page)
    pictures.draw(page, live, resolve(PretrainConfig, preset=preset))
    for folder in photographs.photograph_presets(root / "results"):
        photographs.photographs(page, folder)
    saliency.draw(page, root / "results" / saliency.PRESET)
    pilot.draw(page, root / "results" / pilot.PRESET)
    localization.draw(page, runs)
    background.draw(page, runs)
    looks.draw(page, live, resolve(PretrainConfig, preset=preset), root / "results" / looks.ATTENTION_FOLDER)
    looks.labels(page, runs, grid.ablations["labels"])
    _provenance(page, runs)
    atomic_write(page.folder / "numbers.json", json.dumps(page.numbers, indent=1, sort_keys=True))
    atomic_write(
        page.folder / "report.json",
        json.dumps({"preset": preset, "runs": sorted(r.run_id for _, r in runs), "code": commit()}, indent=1),
    )


def _measured(page: Page, key: str, name: str, runs: list[tuple[Path, Record]]) -> None:
    """Main table, differences, findings and dot plots of one set of runs."""
    config = next(record.config for _, record in runs if record.kind == "pretrain")
    table = tables.main_runs(tables.long_table(runs))
    columns = {
        title: tables.by_row(table, metric)
        for metric, title in tables.METRICS.items()
        if (table["metric"] == metric).any()
    }
    rows = list(columns["fine-tuned"].index)
    shown = {"row": rows}
    for title, summary in columns.items():
        shown[title.replace(", ", ",<br>")] = [cell(line) for _, line in summary.loc[rows].iterrows()]
    page.table(name, pd.DataFrame(shown))

    parts, sentences = [], []
    for metric, title in tables.METRICS.items():
        difference = tables.differences(table, metric)
        parts.append(difference.assign(metric=title))
        sentences += [_finding(line, title) for line in difference.itertuples() if line.separated != "no"]
    contrasts = pd.concat(parts)
    page.table(f"contrasts_{key}", contrast_table(contrasts))
    page.text(f"findings_{key}", _summarise(contrasts) + sentences)

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
    _dots(page, "" if key == "live" else f"_{key}", columns, runs)


def _finding(line: Any, title: str) -> str:
    verdict = {
        "yes": "separates: the interval over seeds excludes zero",
        "images only": "holds for these trained networks (the interval over test images excludes zero), "
        "but the seeds do not settle it",
    }[line.separated]
    title = title[0].upper() + title[1:]
    return f"{title}, {line.row} against {line.against}: {points(line.difference)} points; {verdict}."


def _summarise(contrasts: pd.DataFrame) -> list[str]:
    counts = contrasts["separated"].value_counts()
    return [
        f"Of {len(contrasts)} differences, {counts.get('yes', 0)} separate over seeds, "
        f"{counts.get('images only', 0)} only over test images, {counts.get('no', 0)} not at all. Nothing is "
        f"corrected for their number: at 95 %, {0.05 * len(contrasts):.0f} or so would separate by chance."
    ]


def _dots(page: Page, suffix: str, columns: dict[str, pd.DataFrame], runs: list[tuple[Path, Record]]) -> None:
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
    page.figure(f"probes{suffix}.svg", figure)
    figure = Figure(figsize=(6.5, height), layout="constrained")
    panel(figure.subplots(), "fine-tuned", "fine-tuned top-1 on birds without habitat", chance["class"])
    page.figure(f"finetune{suffix}.svg", figure)


def _long(page: Page, folder: Path) -> None:
    runs = list(find_records(folder))
    if not runs:
        raise CVSAError(f"No committed records in {folder}. Restore them from version control.")
    _measured(page, "long", "tiny_long", runs)


def _scale(page: Page, runs: list[tuple[Path, Record]], ablation: Ablation) -> None:
    table = tables.long_table(runs)
    table = table[(table["metric"] == "finetune.test_accuracy") & table["row"].isin(ablation.rows)]
    alike = table["seed"].isin(ablation.seeds) & (table["stage1"] == tables.NONE) & (table["labels"] == 1)
    table = table[alike].assign(percent=lambda t: 100 * t["value"])
    reported, baselines = tables.reported_scale_ablation()
    pivot = table.pivot_table(index="row", columns="scale", values="percent", sort=False).sort_index(axis=1)
    authors = reported[reported["row"].isin(pivot.index) & reported["scale"].isin(pivot.columns)].pivot_table(
        index="row", columns="scale", values="percent", sort=False
    )
    lines = [
        {
            "row": row,
            "source": source,
            **{f"scale {scale:g}": f"{data.loc[row, scale]:.{digits}f}" for scale in data.columns},
        }
        for source, data, digits in (("this build", pivot, 1), ("reported", authors, 2))
        for row in data.index
    ]
    page.table("scale_ablation", pd.DataFrame(lines))
    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    axis = figure.subplots()
    scale_lines(axis, table, {})
    axis.legend(frameon=False)
    page.figure("scale_ablation.svg", figure)
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axis = figure.subplots()
    scale_lines(axis, reported, baselines)
    figure.legend(*axis.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
    page.figure("scale_reported.svg", figure)


def _reported(page: Page) -> None:
    """The authors' tables in the paper's layout, and the differences the prose speaks of."""
    reported = tables.reported_results()
    datasets = ["CUB-200-2011", "NABirds", "FGVC-Aircraft", "Stanford-Cars"]
    second = reported[reported["table"] == "second_stage_only"]
    page.table("reported_second_stage", _wide(second, ["method"], datasets))
    dual = reported[reported["table"].str.startswith("dual_stage")]
    page.table("reported_dual_stage", _wide(dual, ["method", "stage1", "stage2"], datasets))

    def value(part: pd.DataFrame, method: str, dataset: str, **stage: str) -> float:
        chosen = part[(part["method"] == method) & (part["dataset"] == dataset)]
        for name, wanted in stage.items():
            chosen = chosen[chosen[name] == wanted]
        return float(chosen["top1_percent"].iloc[0])

    coco = reported[reported["table"] == "dual_stage_coco"]
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


def _provenance(page: Page, runs: list[tuple[Path, Record]]) -> None:
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
    trained = {str(folder): record for folder, record in runs if record.kind == "pretrain"}
    histories = {
        f"{record.row} #{record.seed}": pd.read_csv(Path(folder) / "history.csv")
        for folder, record in trained.items()
        if "swap_scale" not in Path(folder).name and record.stage1 is None
    }
    quantities = [
        ("contrastive", "contrastive loss"),
        ("alignment", "alignment loss"),
        ("embedding_std", "spread of embeddings"),
    ]
    page.figure("curves.svg", curves(histories, quantities))
