"""The sweep that chose the learning rates; what rows cost."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cvsa.methods.catalogue import ROWS, find_base, plain_row
from cvsa.records import Record
from cvsa.report import tables
from cvsa.report.page import Page, percent

Runs = list[tuple[Path, Record]]


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
