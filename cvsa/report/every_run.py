"""The table of every run that something in the book comes from, as HTML for the page "Every run"."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

from cvsa.duration import duration
from cvsa.report.where import IMPORTED, STALE

_HEADER = (
    "run", "again", "kind", "row", "preset", "seed", "state", "took", "commit", "started", "machine", "from"
)  # fmt: skip
_STATES = {STALE: "older code", IMPORTED: "imported"}


def runs_table(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """One line a run, with an anchor ``run-ID``; works without scripts, which add a filter and copying.

    Args:
        runs: as in ``runs.json``.
    """
    script = (files("cvsa.report") / "templates" / "runs.js").read_text(encoding="utf-8")
    head = "".join(f"<th scope=col>{name}</th>" for name in _HEADER)
    lines = "\n".join(_line(run, about, runs) for run, about in runs.items())
    return (
        '<div id="cvsa-runs" class="every-run">\n'
        '<p class="runs-filter" hidden><label>Show lines with <input type="search" '
        'placeholder="BYOL finetune long" autocomplete="off"></label> '
        '<button type="button">all</button> <output aria-live="polite"></output></p>\n'
        f'<div class="runs-scroll" tabindex="0" role="region" aria-label="Every run"><table><thead><tr>{head}'
        f"</tr></thead><tbody>\n{lines}\n</tbody></table></div>\n"
        f"<script>(() => {{\n{script}}})();</script>\n</div>\n"
    )


def _line(run: str, about: Mapping[str, Any], runs: Mapping[str, Any]) -> str:
    state = _STATES.get(about["state"], about["state"])
    parents = " ".join(
        f'<a href="#run-{parent}">{parent[:6]}</a>' if parent in runs else parent[:6]
        for parent in about["parents"]
    )
    commit = (about["commit"] or "–") + ("*" if about["dirty"] else "")
    cells = [
        f"<code>{run}</code>",
        _again(about),
        *(escape(str(about[name])) for name in ("kind", "row", "preset", "seed")),
        f'<span class="run-{about["state"]}">{state}</span>',
        duration(about["seconds"]),
        commit,
        about["started"],
        escape(about["hardware"]),
        parents,
    ]
    return f'<tr id="run-{run}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _again(about: Mapping[str, Any]) -> str:
    why = f"<p>{escape('; '.join(about['reasons']))}</p>" if about["reasons"] else ""
    command = escape(about["command"], quote=False) or "Today's code knows no such preset or parameter."
    return f"<details><summary>command</summary>{why}<pre>{command}</pre></details>"
