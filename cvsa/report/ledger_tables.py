"""The paper's tables 1 and 2: each cell as reported, ours beside it, and a verdict a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from cvsa.methods.catalogue import ROWS, TABLES, Line, plain_row
from cvsa.report import tables
from cvsa.report.claims import (
    CUB,
    Claim,
    Part,
    reported_difference,
    reported_scales,
    reported_tables,
)
from cvsa.report.evaluated import DASH, signed
from cvsa.report.evidence import Evidence, RunSet, Tested, judge, ledger_of, run_sets
from cvsa.report.ledger import verdict_cell
from cvsa.report.page import Page, cell, interval
from cvsa.report.sources import Sources

DATASETS = (CUB, "NABirds", "FGVC-Aircraft", "Stanford-Cars")
FIRST, SECOND = "second_stage_only", "dual_stage_coco"
SHARE = 3  # a set of runs gets a column where it has at least one of so many rows
SCRATCH = "Random"


def draw(page: Page, sources: Sources) -> None:
    """``tables/table_1`` and ``table_2``.

    Args:
        page: where they go.
        sources: all records at hand.
    """
    sets = run_sets(sources)
    rows = [line for name in ("second_stage_only", "scale_ablation") for line in TABLES[name]]
    # What the book rests on has columns; where there is none, whatever was run.
    main = sources.main_set
    shown = [each for each in sets if main is None or each.planned or (each.name == main and each.whole)]
    _table(page, "table_1", FIRST, list(dict.fromkeys(rows)), sets, shown)
    _table(page, "table_2", SECOND, list(TABLES["dual_stage"]), sets, shown)


def row_name(line: Line) -> str:
    """As :func:`cvsa.report.evidence.named` calls the line's runs."""
    stage1, stage2 = line
    return str(stage2) if stage1 is None else f"{stage1} → {stage2 or tables.NONE}"


def base_of(line: Line) -> Line | None:
    """The line that lacks what this one adds.

    A second stage has its first stage alone; a row of this paper its base; a plain row no pre-training.
    """
    stage1, stage2 = line
    if stage1 is not None:
        return None if stage2 is None else (stage1, None)
    plain = plain_row(ROWS[str(stage2)].base)
    base = plain if plain != stage2 else SCRATCH
    return None if stage2 == SCRATCH else (None, base)


def reported_cells(table: str, line: Line) -> dict[str, float]:
    """Data set -> the authors' accuracy of a line, in percent; else that of the scale ablation."""
    stage1, stage2 = line
    every = reported_tables()
    chosen = every[(every["table"] == table) & (every["method"] == (stage2 or stage1))]
    if stage1 is not None:
        chosen = chosen[chosen["stage2"] == (stage2 or tables.NONE)]
    if chosen.empty and table == FIRST and stage2 in reported_scales():
        return {CUB: 100 * reported_scales()[str(stage2)]}
    return dict(zip(chosen["dataset"], chosen["top1_percent"], strict=True))


def as_part(table: str, line: Line) -> Part | None:
    """A line against its base, with the direction in which all reported data sets agree; None without one."""
    base = base_of(line)
    if base is None:
        return None
    if table == FIRST and not _in_table(table, line):
        scales = reported_scales()
        reported = {CUB: round(scales[row_name(line)] - scales[row_name(base)], 6)}
    else:
        stages = [{"stage2": each[1] or tables.NONE} if each[0] else {} for each in (line, base)]
        named = [{"method": str(each[1] or each[0])} for each in (line, base)]
        reported = reported_difference(table, named[0] | stages[0], named[1] | stages[1])
    signs = {1 if value > 0 else -1 for value in reported.values() if value}
    return Part(row_name(line), row_name(base), signs.pop() if len(signs) == 1 else 0, reported=reported)


def _in_table(table: str, line: Line) -> bool:
    every = reported_tables()
    return bool(((every["table"] == table) & (every["method"] == line[1])).any())


def _table(
    page: Page,
    name: str,
    table: str,
    lines: Sequence[Line],
    sets: Sequence[RunSet],
    columns: Sequence[RunSet],
) -> None:
    claims = {
        line: Claim(row_name(line), "", "", (part,)) for line in lines if (part := as_part(table, line))
    }
    found = ledger_of([tested for runs in sets for tested in judge(runs, list(claims.values()))])
    summaries = {
        runs.label: tables.by_row(runs.table[runs.table["row"].isin(map(row_name, lines))], tables.TOP1)
        for runs in columns
    }
    shown = [runs for runs in columns if len(summaries[runs.label]) * SHARE >= len(lines)]
    written, used = [], set()
    for line in lines:
        tested = found.get(claims[line].key, []) if line in claims else []
        parts = {each.runs.label: each.evidence[0] for each in tested}
        stage1, stage2 = line
        first = {"stage 1": stage1, "stage 2": stage2 or DASH} if stage1 else {"method": stage2}
        written.append({
            **first,
            "verdict": _verdict(claims[line].parts[0] if line in claims else None, tested),
            **{_heading(runs): _ours(summaries[runs.label], line, parts.get(runs.label)) for runs in shown},
            **_theirs(table, line),
        })  # fmt: skip
        used |= {run for each in tested for run in each.run_ids}
    for runs in shown:
        tuned = runs.table[runs.table["metric"] == tables.TOP1]
        used |= set(tuned.loc[tuned["row"].isin(map(row_name, lines)), "run_id"])
    page.table(name, pd.DataFrame(written), sorted(used))


def _heading(runs: RunSet) -> str:
    stale = runs.stale.intersection(runs.table["run_id"])
    age = "<br><small>older code</small>" if stale else ""
    made = f"{runs.network},<br>{runs.epochs:g} epochs"
    return f"{runs.data},<br>{runs.narrow}<br><small>{made}</small>{age}"


def _theirs(table: str, line: Line) -> dict[str, str]:
    values, part = reported_cells(table, line), as_part(table, line)
    change: Mapping[str, float] = part.reported if part else {}
    mark = "" if table != FIRST or _in_table(table, line) else "\\*"  # from the ablation
    cells = {}
    for name in DATASETS:
        # Broken after the first hyphen, so that the columns stay narrow.
        heading = f"{name.replace('-', '-<br>', 1)}<br><small>reported</small>"
        text = (f"{values[name]:.2f}" + mark) if name in values else DASH
        cells[heading] = text + (f"<br><small>{100 * change[name]:+.2f}</small>" if name in change else "")
    return cells


def _ours(summary: pd.DataFrame, line: Line, each: Evidence | None) -> str:
    if row_name(line) not in summary.index:
        return DASH
    text = cell(summary.loc[[row_name(line)]].iloc[0])
    if each is None or not each.seeds:
        return text
    span = interval(each.interval.low, each.interval.high, signed) if each.interval else ""
    return f"{text}<br><small>{'<br>'.join(filter(None, (signed(each.mean), span)))}</small>"


def _verdict(part: Part | None, tested: Sequence[Tested]) -> str:
    """Of the set that speaks for the row; a dash where nothing is reported, or data sets disagree."""
    if part is None or not part.reported or not part.direction:
        return DASH
    if not tested:
        return "not tested"
    return f"{verdict_cell(part, tested[0].evidence[0])}<br><small>{tested[0].runs.narrow}</small>"
