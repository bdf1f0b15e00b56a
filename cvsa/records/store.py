"""Records on disk: written last and atomically, checked whenever they are read."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cvsa.config import KINDS, PUBLISHED, PretrainConfig, RunConfig
from cvsa.errors import CVSAError, one_line
from cvsa.provenance import code_hash, commit, hardware, library_versions, lock_hash, peak_memory_mib
from cvsa.records.schema import SCHEMA_VERSION, Record, seal

if TYPE_CHECKING:
    from cvsa.data.bank import ImageBank
    from cvsa.training.runtime import Runtime
    from cvsa.training.stopwatch import Stopwatch

RECORD = "record.json"
HISTORY = "history.csv"
WEIGHTS = "weights.safetensors"
PREDICTIONS = "predictions.csv"
DAMAGED = "damaged"  # folder in a preset's live results, for runs that were set aside and made again

Runs = list[tuple[Path, Record]]
"""Folders of finished runs with their records."""


@dataclass(frozen=True)
class Excluded:
    """A record that must not be used, and why, in one line that names it."""

    folder: Path
    reason: str


@dataclass
class Collection:
    """What was found: records to use, and those to leave out with a notice."""

    runs: Runs = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old or the new content and nothing between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_record(record: Record, folder: Path) -> Record:
    """Write ``record.json``, sealed, with the hashes of the CSV files that lie in the run's folder.

    It is written last, so its presence means complete.

    Returns:
        The record as it is on disk.
    """
    files = {path.name: _sha256(path) for path in sorted(folder.glob("*.csv"))}
    content = record.model_copy(update={"files": files}).model_dump(mode="json")
    content["digest"] = seal(content)
    atomic_write(folder / RECORD, json.dumps(content, indent=1) + "\n")
    return Record.model_validate(content)


def read_record(folder: Path) -> Record:
    """Read a run's record and check it, and that the files it was written with are still beside it.

    Raises:
        CVSAError: no such folder, no record in it, or a record that is truncated, edited, of another schema,
            with a metric that is no number, or whose history (or other CSV) is gone or changed; names the
            file and what to do.
    """
    path = Path(folder) / RECORD
    if not path.is_file():
        raise CVSAError(
            f"No finished run in {folder}: {RECORD} is missing. "
            "Run the notebook that makes it first, or give the folder of another run."
        )
    # A copy: metrics and configuration are dicts, and one record is read many times.
    record = _checked(path, _stamp(path)).model_copy(deep=True)
    for name, digest in record.files.items():
        file = path.parent / name
        if not file.is_file():
            raise CVSAError(f"{file} is missing, with which {path} was written. {_REMEDY}")
        if _digest(file, _stamp(file)) != digest:
            raise CVSAError(f"{file} was changed after {path} was written. {_REMEDY}")
    return record


_REMEDY = "Restore it from version control or a copy, or delete the folder and run it again."


def _stamp(path: Path) -> tuple[int, int]:
    told = path.stat()
    return told.st_mtime_ns, told.st_size


@lru_cache(maxsize=8192)
def _checked(path: Path, _: tuple[int, int]) -> Record:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sealed = content.get("schema_version") == SCHEMA_VERSION if isinstance(content, dict) else False
        record = Record.model_validate(content)
    except (ValueError, OSError, KeyError) as error:  # a ValidationError is a ValueError
        what = error.errors()[0] if isinstance(error, ValidationError) else None
        place = ".".join(map(str, what["loc"])) if what else ""
        said = f"{place}: {what['msg']}" if what and place else what["msg"] if what else str(error)
        raise CVSAError(f"Record {path} is not valid: {one_line(said)[:200]}. {_REMEDY}") from None
    if sealed and record.digest != seal(content):
        raise CVSAError(f"Record {path} was edited after it was written: its seal does not fit. {_REMEDY}")
    return record


@lru_cache(maxsize=32768)
def _digest(path: Path, _: tuple[int, int]) -> str:
    return _sha256(path)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def collect(*roots: Path) -> Collection:
    """All finished runs below some folders, in a stable order; damaged records are left out, and named."""
    found = Collection()
    for root in roots:
        for path in sorted(Path(root).rglob(RECORD)):
            try:
                found.runs.append((path.parent, read_record(path.parent)))
            except CVSAError as error:
                found.excluded.append(Excluded(path.parent, str(error)))
    return found


def find_records(*roots: Path) -> Iterator[tuple[Path, Record]]:
    """The runs of :func:`collect`, with a warning for each record that is left out."""
    found = collect(*roots)
    for excluded in found.excluded:
        warnings.warn(f"left out: {excluded.reason}", stacklevel=2)
    yield from found.runs


def finished(config: RunConfig, folder: Path) -> Record | None:
    """The record of this very run if the folder holds it; None if the folder is free.

    Raises:
        CVSAError: the folder holds a finished run of another configuration or of other code.
    """
    if not (folder / RECORD).is_file():
        return None
    record = read_record(folder)
    if record.run_id != config.identity():
        raise CVSAError(
            f"{folder} holds another run ({record.row}, seed {record.seed}, {record.run_id}). "
            "Choose another out, or delete that folder."
        )
    code = code_hash(config)
    if record.code["hash"] != code:
        raise CVSAError(
            f"{folder} holds this run made by other code ({record.code['hash']}, now {code}). "
            "Choose another out, or delete that folder."
        )
    return record


def make_record(
    config: RunConfig,
    *,
    parent: Record | None = None,
    classifier: Record | None = None,
    watch: Stopwatch,
    runtime: Runtime,
    banks: Mapping[str, ImageBank],
    trained_seconds: float = 0.0,
    **rest: Any,
) -> Record:
    """Fill in what every record has.

    Where several processes shared the run, hardware["processes"] says how many; the peak memory is the first
    one's.

    Args:
        parent: the pre-training it started from.
        classifier: the fine-tuning it looks at.
        watch: begun with the run.
        banks: the images it used, by split.
        trained_seconds: of all epochs; more than the watch knows of when the run was resumed.
        rest: what depends on the run.
    """
    from cvsa.methods.world import world  # torch, which reading a record does without

    stage1, stage2 = _stages(config, parent)
    processes = {"processes": world().size} if world().size > 1 else {}
    energy = watch.energy()
    return Record(
        kind=KINDS[type(config)],  # type: ignore[arg-type]
        run_id=config.identity(),
        row=config.row,
        preset=config.preset,
        stage1=stage1,
        stage2=stage2,
        seed=config.seed,
        config=config.model_dump(mode="json"),
        data_fingerprints={name: bank.fingerprint for name, bank in banks.items()},
        saliency_fingerprints={name: bank.saliency_fingerprint for name, bank in banks.items()},
        code=commit(config),
        lock=lock_hash(),
        libraries=library_versions(),
        hardware={**hardware(runtime.device, runtime.bf16), **processes},
        started=watch.started,
        seconds=round(max(watch.seconds, trained_seconds), 2),
        peak_memory_mib=round(peak_memory_mib(runtime.device), 1),
        energy_joules=None if energy is None else round(energy, 1),
        parents=[record.run_id for record in (parent, classifier) if record],
        **rest,
    )


def _stages(config: RunConfig, parent: Record | None) -> tuple[str | None, str | None]:
    stage1, stage2 = (parent.stage1, parent.stage2) if parent else (None, None)
    if getattr(config, "pretrained", None) == PUBLISHED:
        stage1 = f"published weights of {config.backbone}"
    if isinstance(config, PretrainConfig):
        if config.stage == 1:
            data = config.root.name if config.root else config.dataset
            return f"{config.row} on {data}", None
        return stage1, config.row
    return stage1, stage2


def migrate(root: Path) -> int:
    """Write the records of the first two schemas below a folder anew: in today's schema, sealed.

    What they did not know (files that shaped them, energy) stays unknown.

    Returns:
        How many were written.

    Raises:
        CVSAError: a record is damaged; those before it are written.
    """
    count = 0
    for path in sorted(Path(root).rglob(RECORD)):
        record = read_record(path.parent)
        if record.digest is None:
            write_record(record, path.parent)
            count += 1
    return count
