"""What ran where, for how long and at what cost: tables, a figure and the compute form of the book. [O]"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from cvsa.config import KINDS
from cvsa.errors import CVSAError
from cvsa.methods.catalogue import ROWS
from cvsa.records import Runs
from cvsa.report.compute_form import PRESET, form
from cvsa.report.page import Page
from cvsa.report.sources import Sources
from cvsa.report.where import hardware_words
from cvsa.throughput import FOLDER, Throughput, read_all

UNKNOWN = "not reported by the device"
NAMES = {"pretrain": "pre-training", "finetune": "fine-tuning", "probe": "probe", "evaluate": "evaluation"}
assert set(NAMES) == set(KINDS.values()), "a kind of run without a name for people"
# Colour and marker of a kind (hues of Okabe-Ito; rows have theirs in cvsa.report.figures).
MARKS = {
    "pretrain": ("#0072b2", "o"), "finetune": ("#d55e00", "s"), "probe": ("#009e73", "^"),
    "evaluate": ("#cc79a7", "D"),
}  # fmt: skip


def draw(page: Page, sources: Sources) -> None:
    """Everything of the chapter on machines and compute.

    Args:
        page: gets ``tables/compute_*``, ``text/compute_*``, ``figures/compute_seconds.svg``, the numbers
            ``compute.*`` and ``html/compute_form.html``.
        sources: every set of runs is counted; steps are read from ``results/compute``.

    Raises:
        CVSAError: no runs; a damaged measurement, or none at the paper preset.
    """
    table = costs(sources.sets)
    if table.empty:
        raise CVSAError("No runs to count the cost of. Run `cvsa reproduce` first.")
    measured = read_all(sources.root / FOLDER)
    with page.source([run for runs in sources.sets.values() for run in runs]):
        page.table("compute_sets", sets_table(table))
        page.table("compute_kinds", kinds_table(table))
        page.table("compute_machines", machines_table(table))
        page.table("compute_libraries", libraries_table(sources.sets))
        page.table("compute_rows", rows_table(table))
        page.text("compute_devices", devices(table, measured))
        page.number("compute.runs", f"{len(table):,}")
        page.number("compute.sets", str(table["set"].nunique()))
        page.number("compute.hours", f"{table['minutes'].sum() / 60:.1f}")
        page.number("compute.machines", str(table["machine"].nunique()))
    with page.source(sources.live):
        page.figure("compute_seconds.svg", seconds_figure(table[table["set"] == sources.preset]))
    with page.source([]):
        page.table("compute_steps", steps_table(measured))
        page.html("compute_form", form(measured))
        for each in [m for m in measured if m.preset == PRESET][:1]:
            page.number("compute.rate", f"{each.rate():.2g}")
            page.number("compute.measured_on", hardware_words(each.hardware))


def costs(sets: dict[str, Runs]) -> pd.DataFrame:
    """One line per run.

    Returns:
        Columns set, kind, row, seconds, minutes (of all the threads it used; of the device on a GPU), memory
        (peak, MiB), rate (images/s), joules (NaN where the device reports none), started, machine,
        system, cores, threads, device, precision.
    """
    lines = []
    for name, runs in sets.items():
        for _, record in runs:
            hardware = record.hardware
            threads = 1 if "gpu" in hardware else hardware.get("threads", 1)
            lines.append({
                "set": name, "kind": record.kind, "row": record.row, "seconds": record.seconds,
                "minutes": record.seconds * threads / 60, "memory": record.peak_memory_mib,
                "rate": record.images_per_second,
                "joules": np.nan if record.energy_joules is None else record.energy_joules,
                "started": record.started,
                "machine": hardware.get("gpu", hardware["cpu"]), "system": hardware.get("system", "–"),
                "cores": hardware.get("cores", "–"), "threads": hardware.get("threads", "–"),
                "device": hardware["device"].partition(":")[0], "precision": hardware.get("precision", "–"),
            })  # fmt: skip
    return pd.DataFrame(lines)


def sets_table(table: pd.DataFrame) -> pd.DataFrame:
    """One line per set of runs: how many of each kind, how long, when, where."""
    lines = []
    for name, part in table.groupby("set", sort=False):
        counts = {NAMES[kind]: int((part["kind"] == kind).sum()) or "–" for kind in NAMES}
        lines.append({
            "set": name, "runs": len(part), **counts, "core-minutes": _minutes(part["minutes"].sum()),
            **_days(part), "on": _join(part["machine"]),
        })  # fmt: skip
    return pd.DataFrame(lines)


def kinds_table(table: pd.DataFrame) -> pd.DataFrame:
    """One line per set and kind: core-minutes, seconds of a run, peak memory; energy if any run knows it."""
    lines = []
    for name, runs in table.groupby("set", sort=False):
        for kind in (kind for kind in NAMES if (runs["kind"] == kind).any()):
            part = runs[runs["kind"] == kind]
            lines.append({
                "set": name, "kind": NAMES[kind], "runs": len(part),
                "core-minutes": _minutes(part["minutes"].sum()),
                "seconds of a run": _span(part["seconds"]),
                "peak memory, MiB": f"{part['memory'].max():,.0f}", "energy": energy(part),
            })  # fmt: skip
    shown = pd.DataFrame(lines)
    return shown if table["joules"].notna().any() else shown.drop(columns="energy")


def machines_table(table: pd.DataFrame) -> pd.DataFrame:
    """One line per machine, way of using it, and what ran there."""
    by = ["machine", "system", "cores", "device", "precision", "threads"]
    lines = []
    for keys, part in table.groupby(by, sort=False):
        lines.append({
            **dict(zip(by, keys, strict=True)), "runs": len(part),
            "core-hours": f"{part['minutes'].sum() / 60:.1f}", **_days(part), "sets": _join(part["set"]),
        })  # fmt: skip
    return pd.DataFrame(lines).rename(columns={"threads": "threads a run"})


def libraries_table(sets: dict[str, Runs]) -> pd.DataFrame:
    """Versions, one line per library; sets with the same ones share a column."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, runs in sets.items():
        every: dict[str, dict[str, None]] = {}
        for library, version in (item for _, record in runs for item in record.libraries.items()):
            every.setdefault(library, {})[version] = None
        groups.setdefault(tuple((library, ", ".join(found)) for library, found in every.items()), []).append(
            name
        )
    columns = {
        "all sets" if len(groups) == 1 else ", ".join(names): dict(key) for key, names in groups.items()
    }
    libraries = dict.fromkeys(library for versions in columns.values() for library in versions)
    return pd.DataFrame([
        {"library": library, **{title: versions.get(library, "–") for title, versions in columns.items()}}
        for library in libraries
    ])  # fmt: skip


def rows_table(table: pd.DataFrame) -> pd.DataFrame:
    """Training images per second of pre-training, the median over a row's runs in each set."""
    part = table[table["kind"] == "pretrain"]
    rates = part.pivot_table(index="row", columns="set", values="rate", aggfunc="median", sort=False)
    order = sorted(rates.index, key=lambda row: list(ROWS).index(row) if row in ROWS else len(ROWS))
    shown = rates.loc[order].map(lambda rate: "–" if pd.isna(rate) else f"{rate:,.0f}")
    return shown.rename_axis(columns=None).reset_index()


def steps_table(measured: Iterable[Throughput]) -> pd.DataFrame:
    """Measured steps: one line per machine, preset and row; the network alone first."""
    lines = []
    for each in measured:
        for row in (None, *each.rows):
            seconds = each.steps(row)
            lines.append({
                "step of": row or f"{each.backbone} alone", "seconds": _span(pd.Series(seconds), ".3g"),
                "images/s": f"{each.rate(row):.3g}",
                "over its passes": f"{each.overhead(row):.2f}" if row else "1",
                "on": f"{hardware_words(each.hardware)}; {each.preset}, batch {each.batch_size}",
            })  # fmt: skip
    return pd.DataFrame(lines)


def devices(table: pd.DataFrame, measured: Iterable[Throughput]) -> list[str]:
    """Sentences on GPUs, energy and machines that were shared, as the records have it."""
    gpu = table[table["device"] != "cpu"]
    if len(gpu):
        told = [f"{len(gpu):,} of {len(table):,} runs used a GPU: {_join(gpu['machine'])}."]
    else:
        told = [f"No GPU was measured: all {len(table):,} runs ran on CPUs."]
    measured = list(measured)
    if measured and all(each.hardware["device"] == "cpu" for each in measured):
        told.append("The steps at the paper's size were timed on a CPU as well; no rate of a GPU is guessed.")
    known = table["joules"].notna()
    if known.any():
        told.append(f"Energy of {known.sum():,} of {len(table):,} runs: {energy(table[known])}.")
    else:
        told.append(f"Energy: {UNKNOWN} in any of these runs, so none is stated.")
    for each in measured:
        if each.hardware["device"] == "cpu" and each.share < 0.95:
            told.append(
                f"Others used the machine while the steps of {each.name} were timed: they got "
                f"{100 * each.share:.0f} % of its time. Their seconds are those of the processor."
            )
    return told


def energy(part: pd.DataFrame) -> str:
    """Kilojoules of runs, or that the device reports none."""
    known = part["joules"].dropna()
    if known.empty:
        return UNKNOWN
    missing = "" if len(known) == len(part) else f" ({len(known)} of {len(part)} runs)"
    return f"{known.sum() / 1000:,.1f} kJ{missing}"


def seconds_figure(table: pd.DataFrame) -> Figure:
    """Seconds of a run by row: every run a mark, one colour and shape per kind, on a logarithmic axis."""
    rows = [row for row in ROWS if (table["row"] == row).any()]
    rows += sorted(set(table["row"]) - set(rows))
    figure = Figure(figsize=(6.5, 1.6 + 0.32 * len(rows)), layout="constrained")
    axis = figure.subplots()
    kinds = [kind for kind in NAMES if (table["kind"] == kind).any()]
    for number, kind in enumerate(kinds):
        colour, marker = MARKS[kind]
        part = table[table["kind"] == kind]
        shift = 0.16 * (number - (len(kinds) - 1) / 2)  # kinds of a row do not hide each other
        axis.scatter(
            part["seconds"], [rows.index(row) + shift for row in part["row"]], color=colour, marker=marker,
            s=26, label=NAMES[kind], edgecolor="white", linewidth=0.5, zorder=3,
        )  # fmt: skip
    axis.set_yticks(range(len(rows)), rows)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("seconds of a run (logarithmic)")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _minutes(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _span(values: pd.Series[Any], form: str = ".0f") -> str:
    """Median, and the ends where they differ."""
    middle, low, high = (format(float(v), form) for v in (values.median(), values.min(), values.max()))
    return middle if low == high else f"{middle} ({low} to {high})"


def _days(part: pd.DataFrame) -> dict[str, str]:
    """The first and the last day on which a run was started."""
    first, last = (f"{day:%Y-%m-%d}" for day in (part["started"].min(), part["started"].max()))
    return {"when": first if first == last else f"{first} to {last}"}


def _join(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))
