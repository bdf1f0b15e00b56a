"""A fold-out "Where from" below every generated figure and table, and what the book knows of its runs.

``cvsa report`` writes ``_generated/where.json`` (what is drawn -> its runs and the command that draws it
again) and ``_generated/runs.json`` (every run). A generated figure or table without an entry is a warning,
and so, with ``cvsa_strict`` (or CVSA_STRICT=1), is one that older code made: the build then fails with -W.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from cvsa.duration import duration
from cvsa.report.where import STALE, counted, several, shared_parameters, with_parents

logger = logging.getLogger(__name__)

GENERATED, WHERE, RUNS = "_generated", "where.json", "runs.json"
PAGE = "runs"  # that lists every run
BADGE = "older code"
LISTED = 400  # run ids at most; the page of all runs has them all


@lru_cache(maxsize=8)
def _load(path: Path, _: int) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def load(env: BuildEnvironment, name: str) -> dict[str, Any]:
    """A JSON file of the report, empty where it is missing; the page is made again when it changes."""
    path = Path(env.srcdir) / GENERATED / name
    env.note_dependency(str(path))
    return _load(path, path.stat().st_mtime_ns) if path.is_file() else {}


def address(env: BuildEnvironment, ids: Iterable[str]) -> str | None:
    """Where the page of all runs shows these; None where the book has no such page."""
    ids = list(ids)
    if PAGE not in env.found_docs or not ids:
        return None
    page = env.app.builder.get_relative_uri(env.docname, PAGE)
    # Without scripts the anchor leads to the first; with them, only those asked for are shown.
    asked = f"?runs={','.join(run[:6] for run in ids)}" if 1 < len(ids) <= 60 else ""
    return f"{page}{asked}#run-{ids[0]}"


def stale_reasons(ids: Iterable[str], runs: Mapping[str, Any]) -> Counter[str]:
    """Why runs, or those they start from, are older than the code: reason -> number of runs."""
    old = [run for run in with_parents(ids, runs) if runs[run]["state"] == STALE]
    return Counter(reason for run in old for reason in runs[run]["reasons"] or [BADGE])


def fold_out(entry: Mapping[str, Any], runs: Mapping[str, Any], page: str | None) -> str:
    """The fold-out as HTML.

    Args:
        entry: of ``where.json``.
        runs: ``runs.json``.
        page: address of the page of all runs from here; None: there is none.
    """
    ids = [run for run in entry["runs"] if run in runs]
    used = [runs[run] for run in ids]
    stale = stale_reasons(ids, runs)
    lines = _about_runs(ids, runs, page, stale) if used else [
        ("runs", "none: drawn by the package, or from numbers that the authors report")
    ]  # fmt: skip
    told = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in lines)
    short = f"{counted(len(ids), 'run')}, {_seeds(used)}" if used else "no run"
    badge = f' <span class="where-stale">{BADGE}</span>' if stale else ""
    return (
        f'<details class="where-from"><summary>Where from <span class="where-short">{short}</span>{badge}'
        f"</summary>\n<dl>{told}</dl>\n<p>Make it again, at the top of a checkout:</p>\n"
        f'<div class="highlight"><pre>{escape(entry["command"], quote=False)}\n</pre></div>\n</details>'
    )


def _about_runs(
    ids: list[str], runs: Mapping[str, Any], page: str | None, stale: Counter[str]
) -> list[tuple[str, str]]:
    used = [runs[run] for run in ids]
    everything = [runs[run] for run in with_parents(ids, runs)]
    shown = " ".join(
        f'<a href="{page}#run-{run}">{run}</a>' if page else run for run in ids[:LISTED]
    ) + (f" and {len(ids) - LISTED} more" if len(ids) > LISTED else "")  # fmt: skip
    state = (
        f"{BADGE}: " + escape("; ".join(f"{why} ({counted(n, 'run')})" for why, n in stale.most_common(6)))
        if stale
        else "fresh: made by the code as it is"
    )
    seconds = sum(run["seconds"] for run in everything)
    parents = len(everything) - len(used)
    took = f"{duration(seconds)} of computing" + (
        f", with {counted(parents, 'run')} that these start from" if parents else ""
    )
    commits = several(f"{run['commit'] or 'unknown'}{'*' if run['dirty'] else ''}" for run in used)
    return [
        ("runs", f'{counted(len(ids), "run")}, {_seeds(used)}: <span class="where-ids">{shown}</span>'),
        ("preset", escape(several(run["preset"] for run in used))),
        ("shared", escape(shared_parameters(everything)) or "no parameter"),
        ("commit", escape(commits) + (" (* with changes)" if "*" in commits else "")),
        ("machine", escape(several(run["hardware"] for run in used))),
        ("took", took),
        ("state", state),
    ]


def _seeds(used: list[Mapping[str, Any]]) -> str:
    seeds = sorted({run["seed"] for run in used})
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


def generated(node: nodes.Element, srcdir: Path) -> str | None:
    """What of ``_generated`` a figure or a table shows: "figures/finetune.svg"; None for anything else."""
    if isinstance(node, nodes.figure):
        image = next(iter(node.findall(nodes.image)), None)
        path = PurePosixPath(image["uri"].lstrip("/")) if image is not None else None
    else:
        path = _below(node.source or (node.children[-1].source if node.children else None), srcdir)
    return str(PurePosixPath(*path.parts[1:])) if path and path.parts[:1] == (GENERATED,) else None


def _below(source: str | None, srcdir: Path) -> PurePosixPath | None:
    path = Path(source or "").resolve()
    return PurePosixPath(path.relative_to(srcdir).as_posix()) if path.is_relative_to(srcdir) else None


def add_fold_outs(app: Sphinx, doctree: nodes.document) -> None:
    """Put a fold-out behind every generated figure and table of a page."""
    env = app.env
    found = [
        (node, key)
        for node in doctree.findall(lambda node: isinstance(node, nodes.figure | nodes.table))
        if (key := generated(node, Path(env.srcdir).resolve()))
    ]
    if not found:
        return
    where, runs = load(env, WHERE), load(env, RUNS)
    page = env.app.builder.get_relative_uri(env.docname, PAGE) if PAGE in env.found_docs else None
    for node, key in found:
        if key not in where:
            logger.warning("nothing tells where %s comes from; `cvsa report` does", key, location=node)
            continue
        warn_of_stale(env, key, where[key]["runs"], runs, node)
        node.parent.insert(
            node.parent.index(node) + 1, nodes.raw("", fold_out(where[key], runs, page), format="html")
        )


def warn_of_excluded(app: Sphinx) -> None:
    """Where the book is built strictly, a warning for every record that the report left out."""
    path = Path(app.srcdir) / GENERATED / "report.json"
    if app.config.cvsa_strict and path.is_file():
        for reason in json.loads(path.read_text(encoding="utf-8")).get("excluded", []):
            logger.warning("a record was left out: %s", reason)


def warn_of_stale(
    env: BuildEnvironment, what: str, ids: Iterable[str], runs: Mapping[str, Any], location: Any
) -> bool:
    """Whether something comes from runs that older code made; a warning where the book is built strictly."""
    stale = stale_reasons(ids, runs)
    if stale and env.config.cvsa_strict:
        why = "; ".join(f"{reason} ({count})" for reason, count in stale.most_common(3))
        logger.warning("%s was made by older code: %s", what, why, location=location)
    return bool(stale)


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at every page once it is read."""
    app.add_config_value("cvsa_strict", os.environ.get("CVSA_STRICT") == "1", "env", types=[bool])
    app.connect("builder-inited", warn_of_excluded)
    app.connect("doctree-read", add_fold_outs)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
