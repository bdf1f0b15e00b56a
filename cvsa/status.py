"""How far a preset is: which experiments are there, whether they still hold, what the rest will take."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cvsa import costs
from cvsa.config import PRESETS, WHERE, DataConfig, RunConfig, resolve
from cvsa.duration import duration
from cvsa.errors import CVSAError
from cvsa.freshness import freshness
from cvsa.grid import MODELS, Grid, Run, load_grid, load_grids
from cvsa.records import RECORD, Record, collect, config_of, read_record

STATES = {
    "fresh": "made by today's configuration and code",
    "imported": "fresh, and made on another machine",
    "stale": "made by another configuration or other code, or starts from such a run",
    "damaged": "its record is not valid, and left out of the book",
    "failed": "was started and ended in an error",
    "missing": "was not made, or is not finished",
}
READY = ("fresh", "imported")
PLACES = {"live": "book/results", "kept": "results"}
"""Where records are: of this build, or committed. The first is looked at first."""
# What a configuration says about where a run lies and what it starts from; the latter is looked at by run id.
PLACE_FIELDS = WHERE | {"parent", "classifier"}
WIDTH = 110


@dataclass(frozen=True)
class Experiment:
    """A node of the grid and what is known of it.

    Attributes:
        kind, name: of the node.
        state: one of STATES.
        place: one of PLACES, or None where nothing is there.
        reasons: why it is not fresh, a phrase each.
        seconds: it took, where the record fits the configuration; else what it should take; None: unknown.
        run_id: of its record.
    """

    kind: str
    name: str
    state: str
    place: str | None = None
    reasons: list[str] = field(default_factory=list)
    seconds: float | None = None
    run_id: str | None = None

    @property
    def called(self) -> str:
        """How reasons name it: "pre-training byol-s0"."""
        return f"{'pre-training' if self.kind == 'pretrain' else self.kind} {self.name}"


@dataclass(frozen=True)
class Status:
    """The experiments of a preset, in the grid's order."""

    preset: str
    experiments: list[Experiment]

    @property
    def counts(self) -> dict[str, int]:
        """State -> experiments, without the states that none has."""
        counted = Counter(experiment.state for experiment in self.experiments)
        return {state: counted[state] for state in STATES if counted[state]}

    @property
    def waiting(self) -> list[Experiment]:
        """What `cvsa reproduce` would run."""
        return [experiment for experiment in self.experiments if experiment.state not in READY]

    @property
    def seconds_left(self) -> float:
        """Of those whose time is known, one after the other."""
        return sum(experiment.seconds or 0.0 for experiment in self.waiting)

    def headline(self) -> str:
        """One sentence: how many in which state, and the time left."""
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items())
        told = f"Preset {self.preset}: {len(self.experiments)} experiments: {counts or 'none'}."
        unknown = sum(experiment.seconds is None for experiment in self.waiting)
        if not self.waiting:
            return f"{told} Nothing is left to run."
        if unknown == len(self.waiting):
            return f"{told} No record tells how long the rest takes."
        left = f"{told} Left to run: about {duration(self.seconds_left)} on one thread"
        return f"{left}, and {unknown} of unknown length." if unknown else f"{left}."

    def lines(self, only: Iterable[str] = ()) -> list[str]:
        """Summary first, then a line per experiment (of the given states), at most 110 characters wide."""
        only = list(only) or list(STATES)
        if unknown := [state for state in only if state not in STATES]:
            raise CVSAError(f"Unknown state {unknown[0]!r}. States: {', '.join(STATES)}.")
        chosen = [experiment for experiment in self.experiments if experiment.state in only]
        lines = [self.headline()]
        for place, root in PLACES.items():
            if count := sum(experiment.place == place for experiment in self.experiments):
                lines.append(f"  {place}: {count} in {root}/{self.preset}")
        lines += [_cut(f"  {count} stale because {reason}") for reason, count in self._causes()]
        width = max((len(experiment.name) for experiment in chosen), default=0)
        if chosen:
            lines += ["", f"{'state':<8} {'kind':<8} {'experiment':<{width}} {'time':>7} place reason"]
        for one in chosen:
            took = "?" if one.seconds is None else duration(one.seconds)
            start = f"{one.state:<8} {one.kind:<8} {one.name:<{width}} {took:>7} {one.place or '-':<5}"
            lines.append(_cut(f"{start} {'; '.join(one.reasons)}".rstrip()))
        return lines

    def _causes(self) -> list[tuple[str, int]]:
        """What makes experiments stale by themselves, the most common first; at most six."""
        own = (
            r for e in self.experiments if e.state == "stale" for r in e.reasons if not r.startswith("its ")
        )
        return Counter(own).most_common(6)

    def told(self) -> dict[str, Any]:
        """All of it for programs, the reasons in full."""
        told: dict[str, Any] = {"preset": self.preset, "states": self.counts}
        told |= {"seconds_left": round(self.seconds_left, 1)}
        return told | {"experiments": [asdict(one) for one in self.experiments]}


def status(preset: str, root: Path) -> Status:
    """Look at every experiment of a preset.

    Of a record that is both of this build and committed the former counts. What starts from a stale or
    missing run is stale itself; what was not made waits for it.

    Args:
        preset: an entry of ``workflow/grid.yaml``.
        root: a checkout of the companion.

    Raises:
        CVSAError: no such preset; not inside a checkout.
    """
    grid = load_grid(root / "workflow" / "grid.yaml", preset)
    looker = _Looker(grid, root)
    return Status(preset, [looker.look(run) for run in grid.runs])


def status_lines(preset: str, root: Path, only: Iterable[str] = ()) -> list[str]:
    """What ``cvsa status`` prints: the preset, its parts, and headlines of what stands for it.

    Raises:
        CVSAError: see :func:`status`; an unknown state.
    """
    only = list(only)
    lines: list[str] = []
    for name in _with_parts(preset, root):
        lines += [*([""] if lines else []), *status(name, root).lines(only)]
    related = {preset}
    for name, given in PRESETS.items():
        if related & {given.get("stands_for"), given.get("confirms")}:
            related.add(name)
            lines += ["", f"{name} {given['about']}.", status(name, root).headline()]
    return lines


def status_json(preset: str, root: Path) -> str:
    """The same for programs: :meth:`Status.told` of the preset, with those of its parts as ``parts``.

    Raises:
        CVSAError: see :func:`status`.
    """
    first, *parts = (status(name, root).told() for name in _with_parts(preset, root))
    return json.dumps(first | {"parts": parts}, indent=1)


def _with_parts(preset: str, root: Path) -> list[str]:
    return [grid.preset for grid in load_grids(root / "workflow" / "grid.yaml", preset)]


def expected_configs(grid: Grid) -> dict[tuple[str, str], RunConfig]:
    """(kind, name) -> the configuration a node's run will have, as `cvsa.lineage` resolves it.

    An evaluation inherits from what it starts from: data, row, network and image size. Run ids of parents are
    not filled in.
    """
    nodes = {(run.kind, run.name): run for run in grid.runs}
    known: dict[tuple[str, str], RunConfig] = {}

    def expect(run: Run) -> RunConfig:
        if (run.kind, run.name) not in known:
            given = dict(run.parameters)
            if run.parent:
                given |= _inherited(run.kind, expect(nodes[run.parent_kind, run.parent]))
            known[run.kind, run.name] = resolve(MODELS[run.kind], **given)
        return known[run.kind, run.name]

    for run in grid.runs:
        expect(run)
    return known


def _inherited(kind: str, parent: RunConfig) -> dict[str, Any]:
    names = ["backbone"]
    if kind != "pretrain":
        names += ["row", "image_size"]
        # After a first stage on generic images the preset's own data are evaluated.
        if getattr(parent, "stage", 2) == 2:
            names += DataConfig.model_fields
    return {name: getattr(parent, name) for name in names}


class _Looker:
    """Looks at the nodes of a grid, each once and what it starts from before it."""

    def __init__(self, grid: Grid, root: Path) -> None:
        self.preset, self.root = grid.preset, root
        self.nodes = {(run.kind, run.name): run for run in grid.runs}
        self.configs = expected_configs(grid)
        self.seen: dict[tuple[str, str], Experiment] = {}
        found = collect(root / "results", root / PLACES["live"] / grid.preset)
        # Runs with fewer labels than their preset gives are no measure for others.
        self.records = [record for _, record in found.runs if costs.share_of_labels(record) == 1]
        self.costs: dict[str, float | None] = {}

    def look(self, run: Run) -> Experiment:
        key = (run.kind, run.name)
        if key not in self.seen:
            parent = self.look(self.nodes[run.parent_kind, run.parent]) if run.parent else None
            self.seen[key] = self._look(run, parent)
        return self.seen[key]

    def _look(self, run: Run, parent: Experiment | None) -> Experiment:
        folders = {
            place: self.root / path / self.preset / run.kind / run.name for place, path in PLACES.items()
        }
        place = next((place for place, folder in folders.items() if (folder / RECORD).is_file()), None)
        if place is None:
            said = last_words(folders["live"] / "log.txt")
            reasons = [f"waits for {parent.called}"] if parent and parent.state not in READY else []
            if said is not None and is_error(said):
                return Experiment(run.kind, run.name, "failed", "live", [said], self._cost(run))
            if said is not None:
                reasons = ["runs now, or was interrupted"]
            return Experiment(run.kind, run.name, "missing", None, reasons, self._cost(run))
        try:
            record = read_record(folders[place])
        except CVSAError as error:
            said = str(error).replace(f"{folders[place]}/", "")
            return Experiment(run.kind, run.name, "damaged", place, [said], self._cost(run))
        differing = self._differing(run, record)
        reasons = differing + freshness(record).reasons + _lineage(record, parent)
        state = "stale" if reasons else "imported" if record.imported else "fresh"
        if record.imported:
            reasons.append(f"imported on {record.imported.on:%Y-%m-%d} from {record.imported.file}")
        seconds = self._cost(run) if differing else record.seconds + costs.START_SECONDS
        return Experiment(run.kind, run.name, state, place, reasons, seconds, record.run_id)

    def _differing(self, run: Run, record: Record) -> list[str]:
        """Fields of the record's configuration that are not as the grid wants them now."""
        if record.kind != run.kind:
            return [f"it is a {record.kind} run"]
        try:
            made = config_of(record).model_dump(mode="json")
        except CVSAError:
            return []  # freshness says so
        wanted = self.configs[run.kind, run.name].model_dump(mode="json")
        return [
            f"{name} is {value} now and was {made[name]}"
            for name, value in wanted.items()
            if name not in PLACE_FIELDS and value != made[name]
        ]

    def _cost(self, run: Run) -> float | None:
        config = self.configs[run.kind, run.name]
        identity = config.model_copy(update={"seed": 0}).identity()
        if identity not in self.costs:
            alike = [record for record in self.records if record.kind == run.kind]
            told = costs.seconds(config, alike)
            self.costs[identity] = None if told is None else told + costs.START_SECONDS
        return self.costs[identity]


def _lineage(record: Record, parent: Experiment | None) -> list[str]:
    if parent is None:
        return [] if not record.parents else ["it started from another run, and now from nothing"]
    if parent.state not in READY:
        return [f"its {parent.called} is {parent.state}"]
    if parent.run_id not in record.parents:
        return [f"its {parent.called} is another run now ({parent.run_id})"]
    return []


def is_error(line: str) -> bool:
    """Whether a log's line is an error's: a notebook's traceback, or what the command line says."""
    return "Error" in line or line.startswith("error: ")


def last_words(log: Path) -> str | None:
    """The line that a log ended in, the error if there is one; None without a log."""
    if not log.is_file():
        return None
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error:" in line), lines[-1] if lines else "no output")


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1].rstrip()}…"
