"""Records packed for another machine, and a check of all that are here."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cvsa.errors import CVSAError
from cvsa.freshness import freshness
from cvsa.records.arrivals import csv_files, set_aside
from cvsa.records.store import RECORD, WEIGHTS, collect


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
    found.runs = [(place, record) for place, record in found.runs if not set_aside(place, folder)]
    if not found.runs:
        why = found.excluded[0].reason if found.excluded else "all were set aside."
        raise CVSAError(f"No valid record in {folder}: {why}")
    name = folder.resolve().name
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
            for place, record in found.runs:
                beside = [RECORD, *csv_files(place, record)]
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
    lines += [f"Left out: {one.reason}" for one in found.excluded if not set_aside(one.folder, folder)]
    if orphans:
        lines.append(f"{orphans} of them started from runs that are not in it: an import needs these too.")
    return lines


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
            state = "set aside" if set_aside(excluded.folder, root) else "damaged"
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
