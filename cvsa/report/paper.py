"""The paper's two tables, ours beside the reported; the sweep that chose the rates; what rows cost."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cvsa.methods.catalogue import ROWS, TABLES, find_base, plain_row
from cvsa.records import Record
from cvsa.report import tables
from cvsa.report.page import Page, cell, contrast_table, percent

Runs = list[tuple[Path, Record]]
DATASETS = ["CUB-200-2011", "NABirds", "FGVC-Aircraft", "Stanford-Cars"]
METRIC = "finetune.test_accuracy"
DASH = "–"


def both_tables(page: Page, live: Runs, long: Runs) -> None:
    """Tables 1 and 2: fine-tuned top-1 of this build and of the longer run, and what the authors report."""
    reported = tables.reported_results()
    ours = {
        title: tables.long_table(runs).query("metric == @METRIC")
        for title, runs in (("SynthBirds,<br>this build", live), ("SynthBirds,<br>longer run", long))
        if runs
    }
    first = {title: tables.by_row(tables.main_runs(table), METRIC) for title, table in ours.items()}
    rows = dict.fromkeys(row for name in ("second_stage_only", "scale_ablation") for _, row in TABLES[name])
    page.table("table_1", pd.DataFrame([
        {"method": row, **_ours(first, row), **_theirs(reported, "second_stage_only", method=row)}
        for row in map(str, rows)
    ]))  # fmt: skip
    second = {title: tables.by_row(tables.dual_runs(table), METRIC) for title, table in ours.items()}
    lines = []
    for stage1, stage2 in TABLES["dual_stage"]:
        told = {"method": str(stage2 or stage1), "stage2": stage2 or tables.NONE}
        lines.append({
            "stage 1": stage1, "stage 2": stage2 or DASH,
            **_ours(second, f"{stage1} → {stage2 or tables.NONE}"),
            **_theirs(reported, "dual_stage_coco", **told),
        })  # fmt: skip
    page.table("table_2", pd.DataFrame(lines))


def second_stages(page: Page, live: Runs, long: Runs) -> None:
    """What a second stage adds to the same first one (claim C6), by the longer run where it has both."""
    named = {"this build": tables.long_table(live), "longer run": tables.long_table(long)}
    duals = {name: tables.dual_runs(table) for name, table in named.items() if len(table)}
    where = max(duals, key=lambda name: (len(duals[name]) > 0, name == "longer run"))
    added = [(f"{one} → {two}", f"{one} → {tables.NONE}") for one, two in TABLES["dual_stage"] if two]
    differences = tables.differences(duals[where], METRIC, added)
    told = contrast_table(differences.assign(metric=""))
    stages = differences["row"].str.split(" → ", expand=True).reindex(columns=[0, 1])
    told = told.drop(columns=["measure", "rows"]).rename(columns={"difference": f"change, {where}"})
    page.table("contrasts_dual", pd.concat([stages.set_axis(["stage 1", "stage 2"], axis=1), told], axis=1))


def recipe_differences(live: Runs, long: Runs) -> list[str]:
    """Sentences: in what the longer run differs from this build, apart from its length, row by row."""

    def trained(runs: Runs) -> dict[str, Record]:
        """One pre-training of each row of the first table; ablations come after these in a grid."""
        rows: dict[str, Record] = {}
        for _, record in runs:
            if record.kind == "pretrain" and record.stage1 is None:
                rows.setdefault(record.row, record)
        return rows

    ours, theirs = trained(live), trained(long)
    both = [row for row in ROWS if row in ours and row in theirs]
    rows_of: dict[str, list[str]] = {}
    for row in both:
        now, then = ours[row].config, theirs[row].config
        for name in sorted(set(now) & set(then) - {"epochs", "preset", "seed"}):
            if now[name] != then[name]:
                rows_of.setdefault(f"`{name}` {then[name]} there, {now[name]} here", []).append(row)
    sentences = [f"{what}: {', '.join(rows)}." for what, rows in rows_of.items()]
    other = [row for row in both if ours[row].code["hash"] != theirs[row].code["hash"]]
    if other:
        sentences.append(f"Made by an earlier state of the code that shapes results: {', '.join(other)}.")
    missing = [row for row in ours if row not in theirs]
    if missing:
        sentences.append(f"Not part of the longer run: {', '.join(missing)}.")
    return sentences or ["It differs from this build in its length only."]


def _ours(summaries: dict[str, pd.DataFrame], row: str) -> dict[str, str]:
    return {
        title: cell(table.loc[[row]].iloc[0]) if row in table.index else DASH
        for title, table in summaries.items()
        if len(table)
    }


def _theirs(reported: pd.DataFrame, table: str, **which: str | None) -> dict[str, str]:
    chosen = reported[reported["table"] == table]
    for column, value in which.items():
        chosen = chosen[chosen[column] == value]
    values = dict(zip(chosen["dataset"], chosen["top1_percent"], strict=True))
    shown = {name: f"{values[name]:.2f}" if name in values else DASH for name in DATASETS}
    # Broken after the first hyphen, so that seven columns fit on a page.
    return {
        f"{name.replace('-', '-<br>', 1)}<br><small>reported</small>": text for name, text in shown.items()
    }


def chosen_rates(runs: Runs) -> dict[str, float]:
    """Base -> the learning rate whose linear probe reads habitat-free birds best; of equals the lower.

    They are birds of the sweep's own data seed, which no table sees. Images that share the training images'
    habitats could not choose: whoever reads the habitat alone is right about them as often as the bias says.
    """
    best = _sweep(runs).sort_values(["value", "lr"], ascending=[False, True]).drop_duplicates("base")
    return dict(zip(best["base"], best["lr"], strict=True))


def _sweep(runs: Runs) -> pd.DataFrame:
    table = tables.long_table(runs).query("metric == 'probe.linear_test'").sort_values("lr")
    return table.assign(base=[ROWS[row].base for row in table["row"]])


def sweep(page: Page, runs: Runs) -> None:
    """Linear probe of habitat-free birds for every base and rate; the rate taken is bold."""
    if not runs:
        return
    table, chosen = _sweep(runs), chosen_rates(runs)
    lines = []
    for base in sorted(chosen, key=lambda base: list(ROWS).index(plain_row(base))):
        part = table[table["base"] == base].set_index("lr")["value"]
        cells = {
            f"lr {lr:g}": f"**{percent(value)}**" if lr == chosen[base] else percent(value)
            for lr, value in part.items()
        }
        lines.append({"base": plain_row(base), **cells})
    page.table("sweep", pd.DataFrame(lines))
    page.number("sweep.runs", str(len(table)), table["run_id"])


def costs(page: Page, runs: Runs) -> None:
    """Step time of each row relative to BYOL's, measured in this build, beside what arithmetic says."""
    speed: dict[str, list[float]] = {}
    for _, record in runs:
        if record.kind == "pretrain":
            speed.setdefault(record.row, []).append(record.images_per_second)
    median = {row: float(pd.Series(values).median()) for row, values in speed.items()}
    byol = find_base("byol").cost
    lines = []
    for row in (row for row in ROWS if row in median):
        base = find_base(ROWS[row].base)
        trained, frozen = base.passes
        lines.append({
            "row": row, "with gradient": f"{trained:g}", "without": f"{frozen:g}",
            "by arithmetic": f"{base.cost / byol:.2f}", "measured": f"{median['BYOL'] / median[row]:.2f}",
            "references/s": f"{median[row]:.0f}",
        })  # fmt: skip
    page.table("costs", pd.DataFrame(lines))
