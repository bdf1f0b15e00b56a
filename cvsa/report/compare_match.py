"""Which runs of two sets are the same experiment: by row, stages, seed and the parameters that vary."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvsa.config import WHERE
from cvsa.methods.catalogue import ROWS
from cvsa.records import Record
from cvsa.report.compare import fields_of, show

# Not parameters of an experiment: its seed and what it started from, whose parameters count instead.
NO_PARAMETERS = WHERE | {"seed", "parent", "classifier"}
KIND_ORDER = ("pretrain", "finetune", "probe", "evaluate")


@dataclass(frozen=True)
class Entry:
    """A run of a set with the parameters of all it comes from.

    Attributes:
        fields: its configuration; of what it started from under "pretrain.NAME" and so on.
    """

    folder: Path
    record: Record
    fields: dict[str, Any]

    @property
    def group(self) -> Group:
        """What it is apart from parameters and seed."""
        return self.record.kind, self.record.row, self.record.stage1, self.record.stage2


@dataclass(frozen=True, order=True)
class Line:
    """An experiment apart from its seed: a line of the tables.

    Attributes:
        varied: all parameters that vary between runs of its row, with their values.
        label: "BYOL+CVSA, swap_scale 0.08", without those that have their most common value; with a first
            stage "BYOL → BYOL+CVSA".
    """

    kind: str
    row: str
    stages: str
    varied: str
    label: str

    @property
    def place(self) -> tuple[int, int, str, str]:
        """Where it stands: by kind, then in the catalogue's order."""
        order = list(ROWS)
        row = order.index(self.row) if self.row in order else len(order)
        return KIND_ORDER.index(self.kind), row, self.stages, self.varied


Group = tuple[str, str, str | None, str | None]
Key = tuple[Line, int, str]  # with the seed; and a folder's name where a set has several of them
Pair = tuple[Entry, Entry]


def load(runs: Iterable[tuple[Path, Record]]) -> list[Entry]:
    """Runs with the parameters of all they come from."""
    runs = list(runs)
    known = {record.run_id: record for _, record in runs}
    own = {record.run_id: fields_of(record, NO_PARAMETERS) for _, record in runs}

    def lineage(record: Record) -> dict[str, Any]:
        fields = dict(own[record.run_id])
        for parent in record.parents:
            if parent in known and parent != record.run_id:
                kind = known[parent].kind
                fields |= {f"{kind}.{name}": value for name, value in lineage(known[parent]).items()}
        return fields

    return [Entry(folder, record, lineage(record)) for folder, record in runs]


def match(first: list[Entry], second: list[Entry]) -> tuple[dict[Key, Entry], dict[Key, Entry]]:
    """Give the runs of both sets keys that are equal where the experiments are."""
    varied: dict[Group, dict[str, Any]] = defaultdict(dict)
    together = _values(first + second)
    for entries in (first, second):
        for group, values in _values(entries).items():
            for name, counts in values.items():
                if len(counts) > 1:
                    varied[group][name] = _usual(together[group][name])
    one, other = (_keys(entries, varied) for entries in (first, second))
    return one, other


def _values(entries: list[Entry]) -> dict[Group, dict[str, Counter[str]]]:
    """How often each field of the runs of one group has each value, as JSON."""
    found: dict[Group, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for entry in entries:
        for name, value in entry.fields.items():
            found[entry.group][name][json.dumps(value)] += 1
    return found


def _usual(counts: Counter[str]) -> Any:
    """The value that most runs have; one that no run has where two are as common."""
    (value, most), *rest = counts.most_common(2)
    return json.loads(value) if not rest or rest[0][1] < most else ...


def _keys(entries: list[Entry], varied: Mapping[Group, dict[str, Any]]) -> dict[Key, Entry]:
    lines = [(_line(entry, varied.get(entry.group, {})), entry.record.seed) for entry in entries]
    times = Counter(lines)
    return {
        (*line, entry.folder.name if times[line] > 1 else ""): entry
        for line, entry in zip(lines, entries, strict=True)
    }


def _line(entry: Entry, varied: Mapping[str, Any]) -> Line:
    record = entry.record
    stages = "" if record.stage1 is None else f"{record.stage1.split(' on ')[0]} → {record.stage2 or 'none'}"
    told: dict[str, Any] = {}
    shown = []
    for name in sorted(varied.keys() & entry.fields.keys(), key=lambda name: (name.count("."), name)):
        plain, value = name.rpartition(".")[2], entry.fields[name]
        if plain in told and told[plain] == value:
            continue  # inherited ones are said once
        told[name if plain in told else plain] = value
        if value != varied[name]:
            shown.append(f"{plain} {show(value)}")
    label = ", ".join([stages or record.row, *shown])
    return Line(record.kind, record.row, stages, json.dumps(told), label)
