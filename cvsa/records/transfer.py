"""Records made on another machine, taken into ``results/``: all that are given, or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cvsa import __version__
from cvsa.errors import CVSAError, one_line
from cvsa.freshness import freshness
from cvsa.records.arrivals import PLAIN, Arrival, check, csv_files, opened
from cvsa.records.schema import Imported, Record
from cvsa.records.store import PREDICTIONS, WEIGHTS, collect, read_record, write_record

KINDS = ("pretrain", "finetune", "probe", "evaluate")


def import_records(
    files: Sequence[Path], root: Path, into: Path | None = None, weights: bool = False
) -> list[str]:
    """Take in records made on another machine, with their CSV files.

    Args:
        files: each a ``record.json``, a folder of runs, or a .zip or .tar.gz of such folders.
        root: a checkout of the companion.
        into: a folder directly in ``results``; None: that of each record's preset.
        weights: also copy the weights beside them.

    Returns:
        Lines that say what was done.

    Raises:
        CVSAError: a file that is missing or no archive, or is refused (paths that lead out, links, absurd
            sizes); a record that is damaged, of an unknown row, preset or configuration, whose parents are
            nowhere, or that contradicts one that is there. Nothing is copied then.
    """
    results = root / "results"
    if into is not None and not _in_results(into):
        raise CVSAError(f"--into {into}: give a folder directly in results, such as results/{into.name}.")
    with opened(files) as given:
        found = [
            Arrival(
                folder, record, file, results / (into.name if into else record.preset) / record.kind / name
            )
            for file, folder, record, name in given
        ]
        for arrival in found:
            check(arrival)
        new, known = _sorted_out(found)
        _check_parents(found)
        _copy(new, root, weights)
    lines = []
    for name, arrivals in _by_set(new).items():
        kinds: Counter[str] = Counter(arrival.record.kind for arrival in arrivals)
        told = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS if kinds[kind])
        lines.append(f"Imported into results/{name}: {_count(len(arrivals))} ({told}).")
    if same := len(found) - len(new) - len(known):
        lines.append(f"Already there, unchanged: {_count(same)}.")
    lines += [f"Already there: {said}." for said in known]
    if stale := sum(freshness(arrival.record).state == "stale" for arrival in new):
        lines.append(f"{stale} of them were made by other code than today's: the book shows them as stale.")
    return lines


def _count(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"


def _in_results(into: Path) -> bool:
    """ "x" and "results/x" are folders of their own in results."""
    return bool(PLAIN.fullmatch(into.name)) and into in (Path(into.name), Path("results") / into.name)


def _by_set(arrivals: Iterable[Arrival]) -> dict[str, list[Arrival]]:
    found: dict[str, list[Arrival]] = {}
    for arrival in arrivals:
        found.setdefault(arrival.target.parent.parent.name, []).append(arrival)
    return found


def _sorted_out(found: list[Arrival]) -> tuple[list[Arrival], list[str]]:
    """Those that are new, and a phrase for each that is there in another place or made once more.

    Raises:
        CVSAError: one contradicts what is there, or another that arrives.
    """
    new: list[Arrival] = []
    known: list[str] = []
    for name, arrivals in _by_set(found).items():
        results = arrivals[0].target.parent.parent
        there = {record.run_id: (str(folder), record) for folder, record in collect(results).runs}
        for arrival in arrivals:
            record = arrival.record
            if record.run_id in there:
                place, other = there[record.run_id]
                if difference := _difference(record, other):
                    raise CVSAError(
                        f"{arrival.called} and {place} are the same run ({record.run_id}) and differ in "
                        f"{difference}. Nothing was imported: compare them with `cvsa compare`, keep one."
                    )
                if not _same(record, other):
                    known.append(f"{arrival.called}, made once more with equal results, as {place}")
                elif place != str(arrival.target):
                    known.append(f"{arrival.called} as {place}")
                continue
            taken = next((a for a in new if a.target == arrival.target), None)
            if taken or arrival.target.exists():
                other_run = taken.record.run_id if taken else _run_in(arrival.target)
                raise CVSAError(
                    f"{arrival.called} is run {record.run_id}, and "
                    f"{taken.called if taken else arrival.target} is {other_run}. Nothing was imported: give "
                    f"another folder than results/{name} with --into."
                )
            there[record.run_id] = (arrival.called, record)
            new.append(arrival)
    return new, known


def _run_in(folder: Path) -> str:
    try:
        return f"run {read_record(folder).run_id}"
    except CVSAError:
        return "not a valid run"


def _difference(one: Record, other: Record) -> str:
    """In what the results of a run that was made twice differ; empty where they are equal."""
    names = sorted(
        name for name in {*one.metrics, *other.metrics} if one.metrics.get(name) != other.metrics.get(name)
    )
    if names:
        more = f" and {len(names) - 3} more metrics" if len(names) > 3 else ""
        return ", ".join(
            f"{name} ({one.metrics.get(name)}, {other.metrics.get(name)})" for name in names[:3]
        ) + more  # fmt: skip
    if one.data_fingerprints != other.data_fingerprints:
        return "the images they saw"
    predicted = {record.files.get(PREDICTIONS) for record in (one, other)} - {None}
    return "their predictions" if len(predicted) > 1 else ""


def _same(one: Record, other: Record) -> bool:
    """Whether two records are one that was copied."""
    seals = [{r.digest, r.imported.digest if r.imported else None} - {None} for r in (one, other)]
    apart = {"digest", "imported", "files"}
    return bool(seals[0] & seals[1]) or one.model_dump(exclude=apart) == other.model_dump(exclude=apart)


def _check_parents(found: list[Arrival]) -> None:
    for arrivals in _by_set(found).values():
        there = {record.run_id for _, record in collect(arrivals[0].target.parent.parent).runs}
        there |= {arrival.record.run_id for arrival in arrivals}
        for arrival in arrivals:
            if missing := [parent for parent in arrival.record.parents if parent not in there]:
                raise CVSAError(
                    f"{arrival.called} started from run {missing[0]}, which is neither given nor in "
                    f"{arrival.target.parent.parent}. Give it too: nothing was imported."
                )


def _copy(arrivals: list[Arrival], root: Path, weights: bool) -> None:
    """Copy beside the checkout's results, seal, read again, and only then move each run to its place."""
    staging = Path(tempfile.mkdtemp(dir=root, prefix=".import-"))
    moved: list[Path] = []
    try:
        staged = []
        for number, arrival in enumerate(arrivals):
            folder = staging / str(number)
            folder.mkdir()
            names = csv_files(arrival.folder, arrival.record)
            if weights and (arrival.folder / WEIGHTS).is_file():
                names = [*names, WEIGHTS]
            for name in names:
                shutil.copyfile(arrival.folder / name, folder / name)
            before = arrival.record.imported
            origin = Imported(
                file=arrival.file.name,
                on=datetime.now(UTC).replace(microsecond=0),
                digest=before.digest if before else arrival.record.digest,
                by=f"cvsa {__version__}",
            )
            write_record(arrival.record.model_copy(update={"imported": origin}), folder)
            read_record(folder)
            staged.append(folder)
        for folder, arrival in zip(staged, arrivals, strict=True):
            arrival.target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(folder, arrival.target)
            moved.append(arrival.target)
    except OSError as error:
        for folder in moved:
            shutil.rmtree(folder, ignore_errors=True)
        raise CVSAError(one_line(f"Nothing was imported into {root / 'results'}: {error}.")) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
