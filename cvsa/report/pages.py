"""Everything the book shows that was computed: tables, figures, findings and numbers, drawn from records.

Writes ``book/_generated/``: ``figures/``, ``tables/`` (Markdown), ``text/`` (generated sentences),
``html/``, ``numbers.json`` (key -> text and run ids), ``where.json`` (what is drawn -> runs and the command
that draws it again), ``runs.json`` (run id -> what it was, whether it is fresh, the command that makes it
again) and, last, ``report.json`` (what it was drawn from).
"""

from __future__ import annotations

import difflib
import json
import multiprocessing
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from cvsa.errors import CVSAError
from cvsa.limits import cores
from cvsa.provenance import commit
from cvsa.records import atomic_write
from cvsa.report.every_run import runs_table
from cvsa.report.figures import use_house_style
from cvsa.report.page import FIGURES, Page, is_named
from cvsa.report.sections import SECTIONS, Section
from cvsa.report.sources import Sources, load_sources
from cvsa.report.where import about_runs, figure_command, stale_sentences

WHERE, RUNS = "where.json", "runs.json"


def draw(preset: str, root: Path, only: str | None = None, strict: bool = False) -> None:
    """Draw what the book shows from the live records of a preset and the committed ones.

    Args:
        preset: whose runs in ``book/results`` are the live ones.
        root: a checkout of the companion.
        only: draw nothing but the figure, table or text of this name, "finetune.svg" or "tables/table_1.md".
        strict: refuse to draw from records that are damaged or older than the code that shapes them.

    Raises:
        CVSAError: a live run is missing; nothing has that name; with ``strict``, what is wrong.
    """
    generated = root / "book" / "_generated"
    if only is not None:
        draw_only(only, preset, root, generated)
        return
    use_house_style()
    sources = load_sources(preset, root)
    excluded = [_below(root, each.reason) for each in sources.excluded]
    stale = stale_sentences(sources.sets, sources.fresh)
    if strict and (excluded or stale):
        raise CVSAError("Refused, for it was asked to be strict: " + " ".join([*excluded, *stale]))
    for reason in excluded:
        warnings.warn(f"left out: {reason}", stacklevel=1)
    page = Page(generated)
    for part in _drawn(sources, generated):
        page.numbers |= part.numbers
        page.drawn |= part.drawn
    page.text("excluded", excluded or ["Nothing is excluded."], [])
    page.text("stale", stale or ["Every run was made by the code as it is."], [])
    _write_sources(page, sources)
    told = {"preset": preset, "runs": sorted(sources.fresh), "excluded": excluded, "stale": stale}
    _write(page, "report.json", {**told, "code": commit()})


def draw_only(name: str, preset: str, root: Path, folder: Path) -> list[Path]:
    """Draw one figure, table or text from the records it needs.

    Args:
        name: "finetune.svg", "table_1" or "tables/table_1.md".
        preset: whose runs in ``book/results`` are the live ones.
        root: a checkout of the companion.
        folder: where it is written, below ``figures/``, ``tables/``, ``text/`` or ``html/``.

    Returns:
        The files written: more than one where a table and a text share the name.

    Raises:
        CVSAError: nothing has that name; its runs are missing.
    """
    use_house_style()
    page = Page(folder, only=name)
    for section in SECTIONS:
        if section.may_draw(name):
            _draw(section, page, section.sources(preset, root))
            if found := [folder / key for key in page.drawn if is_named(key, name)]:
                return found
    near = difflib.get_close_matches(name, sorted(_names(page, root)), n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise CVSAError(
        f"Nothing in the report is named {name!r}.{hint} book/_generated/{WHERE} lists all names."
    )


def _names(page: Page, root: Path) -> set[str]:
    """What somebody may have meant: what was drawn just now, and what the last whole report drew."""
    listed = root / "book" / "_generated" / WHERE
    known = {*page.drawn, *(json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else ())}
    return {key.partition("/")[2] if key.startswith(FIGURES) else key for key in known}


def _drawn(sources: Sources, folder: Path) -> list[Page]:
    """Every section on a page of its own, in order; drawn by as many processes as there are cores.

    Processes are forked, so that they have the records already; where that is not safe, one draws all.
    """

    def one(section: Section) -> Page:
        page = Page(folder)
        _draw(section, page, sources)
        return page

    workers = min(cores(), len(SECTIONS))
    if workers < 2 or sys.platform != "linux":
        return [one(section) for section in SECTIONS]
    sources.fresh  # noqa: B018 (found once, before there are several processes)
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, fork, initializer=_start, initargs=(one,)) as pool:
        return list(pool.map(_in_worker, range(len(SECTIONS))))


_one: Callable[[Section], Page]  # in a forked process, which inherits what it needs


def _start(one: Callable[[Section], Page]) -> None:
    import torch

    global _one
    _one = one
    torch.set_num_threads(1)  # the processes share the cores


def _in_worker(number: int) -> Page:
    return _one(SECTIONS[number])


def _draw(section: Section, page: Page, sources: Sources) -> None:
    with page.section(section.name, section.runs(sources)):
        section.draw(page, sources)


def _write_sources(page: Page, sources: Sources) -> None:
    """Where everything comes from, in JSON for the book's extensions and as a table of all runs."""
    used = {run for drawn in page.drawn.values() for run in drawn.runs}
    used |= {run for number in page.numbers.values() for run in number["runs"]}
    runs = about_runs(used, sources.sets.values(), sources.root, sources.fresh)
    page.html("runs", runs_table(runs), [])
    where = {
        key: {
            "kind": key.partition("/")[0],
            "section": drawn.section,
            "runs": list(drawn.runs),
            "command": figure_command(key.removeprefix(f"{FIGURES}/"), sources.preset),
        }
        for key, drawn in page.drawn.items()
        if drawn.section
    }
    _write(page, "numbers.json", page.numbers)
    _write(page, WHERE, where)
    _write(page, RUNS, runs)


def _write(page: Page, name: str, content: dict[str, Any]) -> None:
    # The order of runs is that of the sets; everything else is found by name.
    atomic_write(page.folder / name, json.dumps(content, indent=1, sort_keys=name != RUNS))


def _below(root: Path, text: str) -> str:
    """The text with paths as seen from the top of the checkout."""
    return text.replace(f"{root}/", "")
