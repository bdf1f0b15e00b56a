"""All that the book is drawn from: live records, committed ones, and what is wrong with any of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cvsa.errors import CVSAError
from cvsa.freshness import Freshness, freshness
from cvsa.grid import Grid, load_grid
from cvsa.records import DAMAGED, RECORD, Excluded, Runs, collect, read_record

EVIDENCE = ("small", "small_cpu")
"""Committed sets that carry the evidence: the first that has records does."""


@dataclass(frozen=True, eq=False)
class Sources:
    """Records at hand.

    Attributes:
        root: a checkout of the companion.
        preset: the live one, whose runs lie in ``book/results/PRESET``.
        grid: its experiments.
        live: its runs, in the grid's order.
        committed: folder in ``results/`` -> runs.
        excluded: damaged records; nothing is drawn from them.
    """

    root: Path
    preset: str
    grid: Grid
    live: Runs
    committed: dict[str, Runs] = field(default_factory=dict)
    excluded: list[Excluded] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where the live runs are."""
        return self.root / "book" / "results" / self.preset

    @property
    def sets(self) -> dict[str, Runs]:
        """All sets of runs by name: the live preset first."""
        return {self.preset: self.live, **self.committed}

    @property
    def main_set(self) -> str | None:
        """The set of EVIDENCE that the chapters of results draw from; None where none has records."""
        return next((name for name in EVIDENCE if self.committed.get(name)), None)

    @property
    def main(self) -> Runs:
        """Its runs; empty where there is none."""
        return self.committed[self.main_set] if self.main_set else []

    @cached_property
    def fresh(self) -> dict[str, Freshness]:
        """Run id -> whether today's code would make this record."""
        return {record.run_id: freshness(record) for runs in self.sets.values() for _, record in runs}


def load_sources(preset: str, root: Path) -> Sources:
    """Read every record.

    Args:
        preset: whose live runs are read.
        root: a checkout of the companion.

    Raises:
        CVSAError: a live run is missing or damaged (a damaged committed one is only left out, and named).
    """
    grid = load_grid(root / "workflow" / "grid.yaml", preset)
    live: Runs = []
    for run in grid.runs:
        folder = root / "book" / "results" / preset / run.kind / run.name
        if not (folder / RECORD).is_file():
            raise CVSAError(f"{folder} has no finished run. Run `cvsa reproduce --preset {preset}` first.")
        live.append((folder, read_record(folder)))
    committed: dict[str, Runs] = {}
    # Damaged live runs were set aside and made again; the book says so all the same.
    excluded = collect(root / "book" / "results" / preset / DAMAGED).excluded
    for folder in sorted(path for path in (root / "results").glob("*") if path.is_dir()):
        found = collect(folder)
        excluded += found.excluded
        if found.runs:
            committed[folder.name] = found.runs
    return Sources(root, preset, grid, live, committed, excluded)
