"""Records that travel: from another machine into ``results/``, and from here to one; and a check of all.

An import is all or nothing: every record is checked before the first is copied.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cvsa import __version__
from cvsa.config import ADDED_LATER, PRESETS
from cvsa.data.sets.archives import unpack
from cvsa.errors import CVSAError, one_line
from cvsa.freshness import freshness
from cvsa.methods.catalogue import find_row
from cvsa.records.schema import Imported, Record, config_of
from cvsa.records.store import DAMAGED, PREDICTIONS, RECORD, WEIGHTS, collect, read_record, write_record

KINDS = ("pretrain", "finetune", "probe", "evaluate")
# More than any set of records of ours has a use for; an archive may say little and unpack to a disk full.
MOST_FILES, MOST_BYTES, MOST_RECORD_BYTES = 50_000, 8 * 2**30, 16 * 2**20
_PLAIN = re.compile(r"[A-Za-z0-9][\w.+=-]*")


@dataclass(frozen=True)
class Arrival:
    """A run that wants in.

    Attributes:
        folder: where it lies now, perhaps unpacked for a moment.
        record: valid, as it was written elsewhere.
        file: what was given, for messages and the record.
        target: folder it goes to.
    """

    folder: Path
    record: Record
    file: Path
    target: Path

    @property
    def called(self) -> str:
        """How messages name it."""
        return f"{self.record.kind}/{self.target.name} in {self.file}"


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
    if into is not None and (into.name if into.parent == Path() else into.relative_to("results").as_posix()
                             if into.is_relative_to("results") else "") != into.name:  # fmt: skip
        raise CVSAError(f"--into {into}: give a folder directly in results, such as results/{into.name}.")
    with _opened(files) as opened:
        found = [
            Arrival(
                folder, record, file, results / (into.name if into else record.preset) / record.kind / name
            )
            for file, folder, record, name in opened
        ]
        for arrival in found:
            _check(arrival)
        new, known = _sorted_out(found)
        _check_parents(found)
        _copy(new, root, weights)
    lines = []
    for name, arrivals in _by_set(new).items():
        kinds = Counter(arrival.record.kind for arrival in arrivals)
        told = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS if kinds[kind])
        lines.append(f"Imported into results/{name}: {len(arrivals)} runs ({told}).")
    lines += [f"Already there: {said}." for said in known[:20]]
    if len(known) > 20:
        lines.append(f"Already there: {len(known) - 20} more.")
    if stale := sum(freshness(arrival.record).state == "stale" for arrival in new):
        lines.append(f"{stale} of them were made by other code than today's: the book shows them as stale.")
    return lines or ["Nothing to import."]


@contextmanager
def _opened(files: Iterable[Path]) -> Iterator[list[tuple[Path, Path, Record, str]]]:
    """All runs in some files: (file, folder, record, name of its folder); archives unpacked meanwhile."""
    found: list[tuple[Path, Path, Record, str]] = []
    with tempfile.TemporaryDirectory(prefix="cvsa-import-") as temporary:
        for number, file in enumerate(files):
            if file.is_file() and file.name != RECORD:
                folder = Path(temporary) / str(number)
                _inspect(file)
                unpack(file, folder)
            elif file.is_file() or file.is_dir():
                folder = file.parent if file.name == RECORD else file
            else:
                raise CVSAError(
                    f"{file} is not there: give a record.json, a folder of runs, .zip or .tar.gz."
                )
            whole = [folder] if (folder / RECORD).is_file() else None
            collection = collect(folder) if whole is None else None
            if collection is None:
                found.append((file, folder, read_record(folder), folder.resolve().name))
                continue
            for excluded in collection.excluded:
                raise CVSAError(excluded.reason.replace(str(folder), str(file)))
            if not collection.runs:
                raise CVSAError(f"{file} holds no record ({RECORD}).")
            found += [(file, place, record, place.name) for place, record in collection.runs]
        yield found


def _inspect(archive: Path) -> None:
    """Refuse what no set of records needs, before anything is unpacked; names are checked by `unpack`."""
    count = size = 0
    try:
        for name, length, plain in _members(archive):
            count, size = count + 1, size + length
            if not plain:
                raise CVSAError(
                    f"{archive} is refused, nothing was unpacked: {name!r} is a link or a device."
                )
            most = MOST_RECORD_BYTES if Path(name).name == RECORD else MOST_BYTES
            if count > MOST_FILES or size > MOST_BYTES or length > most:
                raise CVSAError(
                    f"{archive} is refused, nothing was unpacked: {count} files of {size:,} bytes up to "
                    f"{name!r}; at most {MOST_FILES:,} files, {MOST_BYTES:,} bytes and {MOST_RECORD_BYTES:,} "
                    "bytes for a record are taken."
                )
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise CVSAError(one_line(f"{archive} is damaged or no zip or tar archive: {error}.")) from None


def _members(archive: Path) -> Iterator[tuple[str, int, bool]]:
    """Name, size unpacked, and whether it is a plain file or folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                mode = info.external_attr >> 16
                yield (
                    info.filename,
                    info.file_size,
                    not stat.S_IFMT(mode) or stat.S_ISREG(mode) or info.is_dir(),
                )
    else:
        with tarfile.open(archive) as tar:
            for member in tar:
                yield member.name, member.size, member.isfile() or member.isdir()


def _check(arrival: Arrival) -> None:
    """What a record must be beyond valid: of this companion, and the run that it says."""
    record, called = arrival.record, arrival.called
    if not _PLAIN.fullmatch(arrival.target.name):
        raise CVSAError(f"{called}: a run's folder has letters, digits and _.+=- in its name.")
    if record.preset not in PRESETS:
        raise CVSAError(f"{called} is of preset {record.preset!r}. Presets: {', '.join(PRESETS)}.")
    try:
        find_row(record.row)
        config = config_of(record)
    except CVSAError as error:
        raise CVSAError(f"{called} is of no configuration of today's: {error}") from None
    told = (record.row, record.preset, record.seed)
    if told != (config.row, config.preset, config.seed):
        raise CVSAError(f"{called}: row, preset or seed are not those of its own configuration.")
    if record.run_id not in (_identity(record), config.identity()):
        raise CVSAError(f"{called}: its run id {record.run_id} does not belong to its configuration.")
    for name in _files(arrival.folder, record):
        file = arrival.folder / name
        if not (_PLAIN.fullmatch(name) and name.endswith(".csv")) or file.is_symlink():
            raise CVSAError(f"{called}: {name!r} is no plain CSV file beside it.")


def _identity(record: Record) -> str:
    """The run id as it was when the record was made: by the fields that there were."""
    skipped = {"device", "pretrained", "finetuned"}
    fields = {
        name: value
        for name, value in record.config.items()
        if name not in skipped and value != ADDED_LATER.get(name, ...)
    }
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]


def _files(folder: Path, record: Record) -> list[str]:
    """The CSV files of a run: those it was sealed with; of older records all beside it."""
    return list(record.files) if record.digest else sorted(path.name for path in folder.glob("*.csv"))


def _by_set(arrivals: Iterable[Arrival]) -> dict[str, list[Arrival]]:
    found: dict[str, list[Arrival]] = {}
    for arrival in arrivals:
        found.setdefault(arrival.target.parent.parent.name, []).append(arrival)
    return found


def _sorted_out(found: list[Arrival]) -> tuple[list[Arrival], list[str]]:
    """Those that are new, and a phrase for each that is there already.

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
                made = "" if _same(record, other) else ", made once more with equal results"
                known.append(f"{record.kind}/{arrival.target.name} as {place}{made}")
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
            names = _files(arrival.folder, arrival.record)
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


def export_records(what: str, file: Path, root: Path, weights: bool = False) -> list[str]:
    """Pack records with their CSV files, so that `import_records` takes them elsewhere.

    Args:
        what: a preset, whose live runs are packed, or its committed ones where there are none; or a folder.
        file: a name ending in .zip that is free.
        root: a checkout of the companion.
        weights: also pack the weights.

    Returns:
        Lines that say what was done, and which damaged records were left out.

    Raises:
        CVSAError: no valid record there; the file exists, or is no .zip.
    """
    places = [root / "book" / "results" / what, root / "results" / what, Path(what)]
    folder = next((place for place in places if place.is_dir() and next(place.rglob(RECORD), None)), None)
    if folder is None:
        raise CVSAError(f"{what} is neither a preset with finished runs nor a folder of runs.")
    if file.suffix != ".zip" or file.exists():
        raise CVSAError(
            f"{file} {'exists already' if file.exists() else 'must end in .zip'}: give another name."
        )
    found = collect(folder)
    found.runs = [(place, record) for place, record in found.runs if not _aside(place, folder)]
    if not found.runs:
        raise CVSAError(f"No valid record in {folder}: {found.excluded[0].reason}")
    name = folder.resolve().name
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
            for place, record in found.runs:
                beside = [RECORD, *_files(place, record)]
                beside += [WEIGHTS] if weights and (place / WEIGHTS).is_file() else []
                for one in beside:
                    # Without the date the same records give the same file.
                    info = zipfile.ZipInfo(f"{name}/{record.kind}/{place.resolve().name}/{one}")
                    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                    with (
                        open(place / one, "rb") as source,
                        zipped.open(info, "w", force_zip64=True) as target,
                    ):
                        shutil.copyfileobj(source, target)
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    finally:
        Path(temporary).unlink(missing_ok=True)
    known = {record.run_id for _, record in found.runs}
    orphans = sum(not known.issuperset(record.parents) for _, record in found.runs)
    lines = [f"Packed {len(found.runs)} runs of {folder} into {file} ({file.stat().st_size:,} bytes)."]
    lines += [f"Left out: {excluded.reason}" for excluded in found.excluded]
    if orphans:
        lines.append(f"{orphans} of them started from runs that are not in it: an import needs these too.")
    return lines


def _aside(folder: Path, root: Path) -> bool:
    """Whether a run was set aside because it was damaged, and made again."""
    return DAMAGED in folder.relative_to(root).parts[:-1]


def check_records(roots: Sequence[Path]) -> tuple[list[str], int]:
    """Read and check every record below some folders.

    Args:
        roots: folders; those that are not there are skipped unless none is.

    Returns:
        Lines: damaged ones, stale ones, counts; and how many are damaged, without those set aside.

    Raises:
        CVSAError: none of the folders is there.
    """
    there = [root for root in roots if root.is_dir()]
    if not there:
        raise CVSAError(f"None of {', '.join(map(str, roots))} is there.")
    lines: list[str] = []
    counts: Counter[str] = Counter()
    for root in there:
        found = collect(root)
        for excluded in found.excluded:
            state = (
                "set aside"
                if _aside(excluded.folder, root) or f"/{DAMAGED}/" in str(excluded.folder)
                else "damaged"
            )
            counts[state] += 1
            lines.append(f"{state}: {excluded.reason}")
        for folder, record in found.runs:
            fresh = freshness(record)
            counts[fresh.state] += 1
            counts["imported"] += record.imported is not None
            counts["without a seal"] += record.digest is None
            if fresh.reasons:
                lines.append(f"stale: {folder}: {_some(fresh.reasons)}")
    total = sum(counts[state] for state in ("fresh", "stale", "damaged", "set aside"))
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    lines.append(f"{total} records in {', '.join(map(str, there))}: {told or 'none'}.")
    return lines, counts["damaged"]


def _some(reasons: list[str], most: int = 3) -> str:
    rest = len(reasons) - most
    return "; ".join(reasons[:most]) + (f"; and {rest} more" if rest > 0 else "")
