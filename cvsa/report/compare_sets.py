"""Two sets of runs side by side: which experiments both have, and what became of them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cvsa.config import DataConfig
from cvsa.errors import CVSAError
from cvsa.records import Collection
from cvsa.report.compare import (
    NONE,
    Comparison,
    Drawing,
    Notice,
    Section,
    changed_code,
    changed_values,
    differ,
    explanations,
    fields_of,
    other_data,
    same_data_wanted,
    show,
    signed,
)
from cvsa.report.compare_match import KIND_ORDER, NO_PARAMETERS, Entry, Key, Line, Pair, load, match
from cvsa.report.statistics import SAME, adjusted, detectable, paired_t_interval, t_test
from cvsa.report.tables import METRICS, metrics_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def compare_sets(
    first: tuple[Path, Collection], second: tuple[Path, Collection], metrics: Sequence[str] = ()
) -> Comparison:
    """Pair the runs of two sets by kind, row, stages, seed and varied parameters; differences are B - A.

    A parameter is varied where a set has runs of one row that differ in it; those of what a run started from
    count too.

    Args:
        first, second: folder and what was found there.
        metrics: patterns such as "finetune.test_*"; none: the metrics of the book's tables.

    Raises:
        CVSAError: a set of damaged records only; no metric of that name.
    """
    sets = (first, second)
    for folder, found in sets:
        if not found.runs:
            why = found.excluded[0].reason if found.excluded else "all were set aside."
            raise CVSAError(f"No valid record in {folder}: {why}")
    entries = [load(found.runs) for _, found in sets]
    keyed = match(*entries)
    shared = [key for key in keyed[0] if key in keyed[1]]
    pairs = {
        key: (keyed[0][key], keyed[1][key]) for key in sorted(shared, key=lambda key: (key[0].place, key[1:]))
    }
    lines = metric_lines(pairs)
    known = list(dict.fromkeys(line["metric"] for line in lines))
    chosen = [
        name for name in known if (any(fnmatch(name, p) for p in metrics) if metrics else name in METRICS)
    ]
    if metrics and pairs and not chosen:
        raise CVSAError(
            f"No metric is called {' or '.join(metrics)}. There are, e.g., {', '.join(known[:8])}."
        )
    about = [_told(name, folder, found) for name, (folder, found) in zip("AB", sets, strict=True)]
    sections = [
        _experiments(pairs, keyed),
        _configuration(pairs.values()),
        _surroundings(list(pairs.values())),
        *_measured(lines, chosen),
    ]
    return Comparison("Two sets of runs", about, _notices(sets, entries, list(pairs.values())), sections)


def _told(name: str, folder: Path, found: Collection) -> str:
    records = [record for _, record in found.runs]
    kinds: Counter[str] = Counter(record.kind for record in records)
    presets = ", ".join(dict.fromkeys(record.preset for record in records))
    days = sorted(f"{record.started:%Y-%m-%d}" for record in records)
    span = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    imported = sum(record.imported is not None for record in records)
    counts = ", ".join(f"{kinds[kind]} {kind}" for kind in KIND_ORDER if kinds[kind])
    origin = f", {imported} imported" if imported else ""
    return f"{name}: {folder}: {len(records)} runs ({counts}), preset {presets}, {span}{origin}"


def _same(pair: Pair) -> bool:
    """Whether two runs and all they come from have the same configuration; the preset is only a name."""
    one, other = ({n: v for n, v in e.fields.items() if n.rpartition(".")[2] != "preset"} for e in pair)
    return one == other


def _notices(
    sets: Sequence[tuple[Path, Collection]], entries: Sequence[list[Entry]], pairs: list[Pair]
) -> list[Notice]:
    notices = []
    for name, (_, found), each in zip("AB", sets, entries, strict=True):
        notices += [Notice(f"LEFT OUT of {name}: {one.reason}", loud=True) for one in found.excluded]
        notices += [Notice(f"OTHER DATA within {name}: {said}", loud=True) for said in odd_data(each)]
    if not pairs:
        return [*notices, Notice("No experiment is in both sets.", loud=True)]
    same = [pair for pair in pairs if _same(pair)]
    different = [(a, b) for a, b in same if differ(a.record, b.record)]
    if len(same) > len(different):
        equal = len(same) - len(different)
        notices.append(Notice(
            f"{equal} of {len(pairs)} pairs have the same configuration, and all metrics that both have are "
            "equal to the last digit."
        ))  # fmt: skip
    if different:
        why = Counter(explanations(a.record, b.record) for a, b in different)
        reasons = " ".join(
            f"{said.removesuffix('.')} ({count} of them)." for said, count in why.most_common(2)
        )
        names = ", ".join(f"{a.record.kind}/{a.folder.name}" for a, _ in different[:4])
        more = f" and {len(different) - 4} more" if len(different) > 4 else ""
        said = f"SAME CONFIGURATION, DIFFERENT RESULTS in {len(different)} pairs: {names}{more}. {reasons}"
        notices.append(Notice(said, loud=True))
    if other := [(a.record, b.record) for a, b in pairs if other_data(a.record, b.record)]:
        splits = ", ".join(dict.fromkeys(split for pair in other for split in other_data(*pair)))
        wanted = sum(same_data_wanted(*pair) for pair in other)
        asked = f", though {wanted} of them ask for the same" if wanted else ", as configured"
        said = f"NOT THE SAME DATA in {len(other)} of {len(pairs)} pairs ({splits}){asked}: "
        notices.append(Notice(f"{said}differences there mix the data with the method.", loud=True))
    return notices


def odd_data(entries: Iterable[Entry]) -> list[str]:
    """Runs of a set that say the same of their data, and whose images are not the same."""
    found: dict[tuple[str, str], dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        data = json.dumps([entry.fields.get(name) for name in DataConfig.model_fields])
        for split, fingerprint in entry.record.data_fingerprints.items():
            found[split, data][fingerprint].append(entry)
    said = []
    for (split, _), prints in found.items():
        if len(prints) > 1:
            usual, *others = sorted(prints, key=lambda print_: -len(prints[print_]))
            names = [f"{e.record.kind}/{e.folder.name}" for print_ in others for e in prints[print_]]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            said.append(
                f"the {split} images of {', '.join(names[:3])}{more} are not those of the other "
                f"{len(prints[usual])} runs on this data."
            )
    return said


def _experiments(pairs: Mapping[Key, Pair], keyed: Sequence[Mapping[Key, Entry]]) -> Section:
    seeds: dict[Line, list[list[str]]] = defaultdict(lambda: [[], [], []])
    for column, keys in enumerate((pairs, *([k for k in each if k not in pairs] for each in keyed))):
        for line, seed, folder in keys:
            seeds[line][column].append(f"{seed} ({folder})" if folder else str(seed))
    only = [sum(key not in pairs for key in each) for each in keyed]
    order = sorted(seeds, key=lambda line: line.place)
    lists = [[", ".join(seeds[line][column]) or NONE for line in order] for column in range(3)]
    table = pd.DataFrame({
        "kind": [line.kind for line in order], "experiment": [line.label for line in order],
        "seeds in both": lists[0], "only in A": lists[1], "only in B": lists[2],
    })  # fmt: skip
    told = f"In both: {len(pairs)} runs. Only in A: {only[0]}. Only in B: {only[1]}."
    alone = table[(table["only in A"] != NONE) | (table["only in B"] != NONE)]
    return Section("Experiments", [told], alone.reset_index(drop=True))


def _configuration(pairs: Iterable[Pair]) -> Section:
    found: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    kinds: Counter[str] = Counter()
    for a, b in pairs:
        kinds[a.record.kind] += 1
        own = (fields_of(e.record, NO_PARAMETERS) for e in (a, b))
        for name, (one, other) in changed_values(*own).items():
            found[name, show(one), show(other)].append(a)
    lines = []
    for (name, one, other), entries in found.items():
        told = []
        for kind in KIND_ORDER:
            rows = [entry.record.row for entry in entries if entry.record.kind == kind]
            if rows:
                every = len(rows) == kinds[kind]
                named = ", ".join(dict.fromkeys(rows))
                told.append(f"all {kind}" if every else f"{kind}: {named}")
        lines.append({"field": name, "A": one, "B": other, "in": "; ".join(told)})
    said = [] if lines else ["No difference in what both have, defaults included."]
    return Section("Configuration", said, pd.DataFrame(lines))


def _surroundings(pairs: list[Pair]) -> Section:
    # Hashes of code that is not known by file differ from row to row, and tell nothing more.
    code = Counter(n.partition(" (")[0] for a, b in pairs for n in changed_code(a.record, b.record))
    values: Counter[tuple[str, str, str]] = Counter()
    for a, b in pairs:
        for part in ("libraries", "hardware"):
            changed = changed_values(getattr(a.record, part), getattr(b.record, part))
            values.update((name, show(one), show(other)) for name, (one, other) in changed.items())
    lines = [{"what": name, "A": NONE, "B": NONE, "pairs": count} for name, count in code.most_common()]
    lines += [{"what": w, "A": a, "B": b, "pairs": n} for (w, a, b), n in values.most_common()]
    said = [] if lines else ["The same in all pairs."]
    return Section("Code, libraries, machine", said, pd.DataFrame(lines), most=20)


def metric_lines(pairs: Mapping[Key, Pair]) -> list[dict[str, Any]]:
    """One per experiment and metric: the values of the seeds both have, and their paired differences.

    Returns:
        Dicts of metric ("kind.name"), line, seeds, a, b, differences (lists in the seeds' order), low, high
        (paired t interval, None for one seed), detectable (NaN likewise), p (of the t test, NaN likewise,
        corrected for the experiments of the metric).
    """
    grouped: dict[tuple[str, Line], list[tuple[int, float, float]]] = defaultdict(list)
    for (line, seed, _), (a, b) in pairs.items():
        there = metrics_of(b.record)
        for metric, value in metrics_of(a.record).items():
            if metric in there:
                grouped[metric, line].append((seed, value, there[metric]))
    lines: list[dict[str, Any]] = []
    for (name, experiment), values in grouped.items():
        seeds, one, other = (list(column) for column in zip(*sorted(values), strict=True))
        low, high = paired_t_interval(other, one) or (None, None)
        differences = [y - x for x, y in zip(one, other, strict=True)]
        lines.append({
            "metric": name, "line": experiment, "seeds": seeds, "a": one, "b": other,
            "differences": differences, "low": low, "high": high, "p": t_test(differences),
            "detectable": _detectable(differences),
        })  # fmt: skip
    families: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for told in lines:
        families[told["metric"]].append(told)
    for family in families.values():
        for told, p in zip(family, adjusted([told["p"] for told in family]), strict=True):
            told["p"] = float(p)
    return lines


def _detectable(differences: list[float]) -> float:
    if len(differences) < 2 or np.ptp(differences) <= SAME:
        return float("nan")
    return _in_spreads(len(differences)) * float(np.std(differences, ddof=1))


@cache
def _in_spreads(count: int) -> float:
    return detectable(1.0, count)


def _measured(lines: list[dict[str, Any]], chosen: list[str]) -> list[Section]:
    about = [
        "Means over the seeds that both have; differences B − A paired by seed, with 95 % t interval. "
        "Shares are in [0, 1].",
        "p: of the paired t test, corrected (Benjamini and Hochberg) for the experiments of a metric. "
        "Detectable: the least true difference that so many seeds of such spread would show in 4 of 5 tries.",
    ]
    sections = [Section("Metrics", about if chosen else ["None of the book's tables is in both."])]
    for metric in chosen:
        part = [line for line in lines if line["metric"] == metric]
        told = METRICS.get(metric, metric)
        drawing = Drawing(
            partial(draw_differences, part),
            f"Differences B − A in {metric} of {len(part)} experiments: a dot for each seed, mean, interval",
            f"Measured: {told}, B − A. A dot is a seed, the bar the mean of all, the line its interval where "
            "there is more than one.",
        )
        title = metric if told == metric else f"{metric}: {told}"
        sections.append(Section(title, [], _table(part).drop(columns="metric"), 80, [drawing]))
    if rest := [line for line in lines if line["metric"] not in chosen]:
        title = f"Other metrics, {len(rest)} lines"
        sections.append(Section(title, [], _table(rest), folded=True))
    return sections


def _table(lines: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([
        {
            "metric": line["metric"], "experiment": line["line"].label, "seeds": len(line["seeds"]),
            "A": show(float(np.mean(line["a"]))), "B": show(float(np.mean(line["b"]))),
            "B − A": signed(float(np.mean(line["differences"]))),
            "interval": NONE if line["low"] is None else f"[{signed(line['low'])}, {signed(line['high'])}]",
            "p": show(line["p"]), "detectable": show(line["detectable"]),
        }
        for line in lines
    ])  # fmt: skip


def draw_differences(lines: list[dict[str, Any]]) -> Figure:
    """Differences B - A in one metric, an experiment a line: seeds, mean, interval."""
    from matplotlib.figure import Figure

    from cvsa.report.figures import seeds_and_intervals

    summary = pd.DataFrame(
        [(np.mean(line["differences"]), line["low"], line["high"]) for line in lines],
        index=[line["line"].label for line in lines], columns=["mean", "low", "high"],
    ).astype(float)  # fmt: skip
    values = pd.DataFrame(
        [(line["line"].label, value) for line in lines for value in line["differences"]],
        columns=["row", "value"],
    )
    figure = Figure(figsize=(5.2, 1.1 + 0.3 * len(lines)), layout="constrained")
    axis = figure.subplots()
    seeds_and_intervals(axis, summary, values, scale=1)
    axis.axvline(0, color="#404040", linewidth=1)
    axis.set(xlabel="B − A")
    return figure
