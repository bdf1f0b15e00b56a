"""What a step costs, ours beside its ceiling and peer libraries, drawn from ``results/benchmarks``. [O]"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from cvsa.methods.catalogue import ROWS
from cvsa.report import speed_figures, speed_text
from cvsa.report.page import Page
from cvsa.report.sources import Sources
from cvsa.report.speed_numbers import ratios, spread
from cvsa.report.speed_records import FOLDER, Contender, Speed, Work, read_speeds
from cvsa.report.speed_text import NOT_MEASURED, label
from cvsa.report.where import hardware_words

DASH = "–"


def draw(page: Page, sources: Sources) -> None:
    """Everything of the chapter on what a step costs; where nothing was measured it says so.

    Args:
        page: gets ``tables/speed_*``, ``text/speed_*``, ``figures/speed_*.svg`` and the numbers ``speed.*``.
        sources: a checkout, whose ``results/benchmarks`` is read.

    Raises:
        CVSAError: a damaged measurement.
    """
    measured = in_order(read_speeds(sources.root / FOLDER))
    with page.source([]):
        page.text("speed_state", speed_text.state(measured))
        page.text("speed_limits", speed_text.limits(measured))
        page.text("speed_growth", speed_text.growth(measured))
        page.table("speed_rates", rates_table(measured))
        page.table("speed_views", views_table(measured))
        page.table("speed_search", search_table(measured))
        page.table("speed_machines", machines_table(measured))
        page.figure("speed_roof.svg", speed_figures.roofs(measured))
        page.figure("speed_parts.svg", speed_figures.parts(measured))
        page.figure("speed_growth.svg", speed_figures.growth(measured))
        page.number("speed.records", str(len(measured)) if measured else NOT_MEASURED)
        for name, values in (
            ("rounds", [each.asked_rounds for each in measured]),
            ("seconds", [each.asked_seconds for each in measured]),
        ):
            shown = sorted(set(values))
            page.number(f"speed.{name}", " or ".join(f"{v:g}" for v in shown) if shown else NOT_MEASURED)


def in_order(measured: Iterable[Speed]) -> list[Speed]:
    """Those of a CPU first, then by setting and name."""
    return sorted(measured, key=lambda each: (each.on_gpu, each.setting, each.name))


def rates_table(measured: Sequence[Speed]) -> pd.DataFrame:
    """Images per second of whole steps: one line per record, row and contender, in the catalogue's order."""
    lines = []
    for speed in measured:
        timed = [each for each in speed.contenders if each.rounds]
        for each in sorted(timed, key=lambda each: list(ROWS).index(each.row)):
            ceiling, ours = speed.ceiling(each.row), speed.ours(each.row)
            shares = ratios(each.rates(), ceiling.rates()) if ceiling else []
            faster = ratios(ours.rates(), each.rates()) if ours and each.role == "peer" else []
            lines.append({
                "setting": speed.setting, "row": each.row, "step": label(each),
                "images/s": spread(each.rates().values()).words(),
                "of its ceiling": f"{100 * spread(shares).median:.0f} %" if shares else NOT_MEASURED,
                "ours, times as fast": spread(faster).words(".2f") if faster else _no_ratio(each),
                "threads + workers": _used(each, speed),
            })  # fmt: skip
    return pd.DataFrame(lines) if lines else _nothing("setting", "row", "step", "images/s")


def views_table(measured: Sequence[Speed]) -> pd.DataFrame:
    """Views alone, on one thread; a reference has two views."""
    lines = []
    for speed in measured:
        for work in (work for work in speed.views if work.rounds):
            ours = next((o for o in speed.views if _same_views(o, work)), None)
            faster = ratios(ours.rates(), work.rates()) if ours and ours is not work else []
            lines.append({
                "setting": speed.setting, "views": label(work), "of": work.row,
                "views/s": spread(2 * rate for rate in work.rates().values()).words(),
                "ours, times as fast": spread(faster).words(".2f") if faster else DASH,
            })  # fmt: skip
    return pd.DataFrame(lines) if lines else _nothing("setting", "views", "views/s")


def search_table(measured: Sequence[Speed]) -> pd.DataFrame:
    """What was tried to find the threads and workers of each contender: images/s, the kept one in bold."""
    lines = []
    for speed in measured:
        for each in (each for each in speed.contenders if each.search):
            kept = (each.threads, each.workers)
            tried = {
                f"{t.threads} + {t.workers}": f"**{t.rate:,.0f}**" if (t.threads, t.workers) == kept
                else f"{t.rate:,.0f}"
                for t in each.search
            }  # fmt: skip
            lines.append({"setting": speed.setting, "row": each.row, "step": label(each), **tried})
    return pd.DataFrame(lines).fillna(DASH) if lines else _nothing("setting", "row", "step")


def machines_table(measured: Sequence[Speed]) -> pd.DataFrame:
    """Where and when each record was made, and how much of the processor's time it got."""
    lines = [
        {
            "record": speed.name,
            "network": f"{speed.backbone}, {speed.image_size} px, batch {speed.batch_size}",
            "images": f"{speed.bank_images:,} of {speed.bank_size} px",
            "on": hardware_words(speed.hardware), "cores": speed.hardware.get("threads", DASH),
            "when": f"{speed.started:%Y-%m-%d}",
            "processor got": DASH if speed.share is None else f"{100 * speed.share:.0f} %",
            "version": f"{speed.code.get('version')} ({str(speed.code.get('commit'))[:8]}"
            f"{'*' if speed.code.get('dirty') else ''})",
            "libraries": ", ".join(f"{name} {version}" for name, version in speed.libraries.items()),
            "whole": "yes" if speed.complete else "partial",
        }
        for speed in measured
    ]  # fmt: skip
    return pd.DataFrame(lines) if lines else _nothing("record", "network", "on")


def _same_views(ours: Work, peer: Work) -> bool:
    return ours.library == "cvsa" and ours.row == peer.row and bool(ours.rounds)


def _no_ratio(each: Contender) -> str:
    return NOT_MEASURED if each.role == "peer" else DASH


def _used(each: Contender, speed: Speed) -> str:
    workers = f" + {each.workers}" if each.role == "peer" else ""
    return f"{each.threads}{workers}" + (", GPU" if speed.on_gpu else "")


def _nothing(*columns: str) -> pd.DataFrame:
    return pd.DataFrame([dict.fromkeys(columns, NOT_MEASURED)])
