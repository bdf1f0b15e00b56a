"""Records that come from elsewhere: unpacked with care, and held against what this companion knows."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cvsa.config import ADDED_LATER, PRESETS, WHERE
from cvsa.data.sets.archives import unpack
from cvsa.errors import CVSAError, one_line
from cvsa.methods.catalogue import find_row
from cvsa.records.schema import Record, config_of
from cvsa.records.store import DAMAGED, RECORD, collect

# More than any set of records of ours has a use for; an archive may say little and unpack to a disk full.
MOST_FILES, MOST_BYTES, MOST_RECORD_BYTES = 50_000, 8 * 2**30, 16 * 2**20
PLAIN = re.compile(r"[A-Za-z0-9][\w.+=-]*")


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


@contextmanager
def opened(files: Iterable[Path]) -> Iterator[list[tuple[Path, Path, Record, str]]]:
    """All runs in some files: (file, folder, record, name of its folder); archives unpacked meanwhile."""
    found: list[tuple[Path, Path, Record, str]] = []
    with tempfile.TemporaryDirectory(prefix="cvsa-import-") as temporary:
        for number, file in enumerate(files):
            folder, name = file, file.resolve().name
            if file.name == RECORD and file.is_file():
                folder, name = file.parent, file.resolve().parent.name
            elif file.is_file():
                folder, name = Path(temporary) / str(number), file.name.partition(".")[0]
                _inspect(file)
                unpack(file, folder)
            elif not file.is_dir():
                raise CVSAError(
                    f"{file} is not there: give a record.json, a folder of runs, .zip or .tar.gz."
                )
            collection = collect(folder)
            only = folder if file.name == RECORD else None
            for excluded in collection.excluded:
                if only in (None, excluded.folder) and not set_aside(excluded.folder, folder):
                    raise CVSAError(excluded.reason.replace(str(folder), str(file)))
            runs = [(place, record) for place, record in collection.runs if only in (None, place)]
            if not runs:
                raise CVSAError(f"{file} holds no record ({RECORD}).")
            for place, record in runs:
                found.append((file, place, record, name if place == folder else place.name))
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


def check(arrival: Arrival) -> None:
    """What a record must be beyond valid: of this companion, and the run that it says."""
    record, called = arrival.record, arrival.called
    if not PLAIN.fullmatch(arrival.target.name):
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
    for name in csv_files(arrival.folder, record):
        file = arrival.folder / name
        if not (PLAIN.fullmatch(name) and name.endswith(".csv")) or file.is_symlink():
            raise CVSAError(f"{called}: {name!r} is no plain CSV file beside it.")


def _identity(record: Record) -> str:
    """The run id as it was when the record was made: by the fields that there were."""
    fields = {
        name: value
        for name, value in record.config.items()
        if name not in WHERE and value != ADDED_LATER.get(name, ...)
    }
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]


def set_aside(folder: Path, root: Path) -> bool:
    """Whether a run was set aside because it was damaged, and made again."""
    return DAMAGED in folder.relative_to(root).parts[:-1]


def csv_files(folder: Path, record: Record) -> list[str]:
    """The CSV files of a run: those it was sealed with; of older records all beside it."""
    return list(record.files) if record.digest else sorted(path.name for path in folder.glob("*.csv"))
