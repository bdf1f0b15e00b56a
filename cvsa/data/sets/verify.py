"""Check a data set on disk against its card and its own tables, before anything is trained on it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cvsa.data.sets import locate
from cvsa.data.sets.base import DataSet
from cvsa.data.sets.checks import Report, bytes_of, check_duplicates, check_images, check_saliency, some
from cvsa.errors import CVSAError

if TYPE_CHECKING:
    from cvsa.data.listing import Listing


def verify(name: str, root: Path | None = None, *, decode: bool = False) -> Report:
    """Check a data set.

    Counts against the card, classes, every listed file and its header, links out of the folder, stored
    saliency against the images, and equal files in training and test images.

    Args:
        name: a data set, or the path of a folder of photographs.
        root: the set's folder; None: $CVSA_DATA/NAME.
        decode: also decode every image, which finds truncated ones (about 5 ms each).

    Raises:
        CVSAError: the set is not there at all; says where to get it and where to put it.
    """
    source, root = locate(name, root)
    home = source.home(root)
    report = Report(f"{source.card.title} in {home}")
    try:
        listing = source.listing(home)
    except CVSAError as error:
        report.problems.append(str(error))
        return report
    _check_counts(report, source, listing)
    sizes = check_images(report, source, home, _every(listing), decode)
    for kind in source.available(home) or ["none"]:
        check_saliency(report, source, home, kind, sizes)
    check_duplicates(report, home, listing)
    report.facts.append(f"fingerprint  {fingerprint(home, listing)[:12]} (paths, sizes, classes, test split)")
    return report


def describe(name: str, root: Path | None = None) -> list[str]:
    """A set's card, and what of the set is here: its home, counts and fingerprint.

    Args:
        name: a data set, or the path of a folder of photographs.
        root: the set's folder; None: $CVSA_DATA/NAME.

    Raises:
        CVSAError: unknown set; the files that are here cannot be listed.
    """
    source, root = locate(name, root)
    try:
        home = source.home(root)
    except CVSAError as error:
        return [*source.card.lines(), f"  here      no: {error}"]
    listing = source.listing(home)
    sizes = {split: len(listing.paths[split]) for split in ("train", "val", "test")}
    counts = ", ".join(f"{size:,} {split}" for split, size in sizes.items() if size)
    kinds = ", ".join(source.available(home)) or "none"
    return [
        *source.card.lines(),
        f"  here      {home}: {counts}; {len(listing.classes):,} classes; saliency: {kinds}",
        f"  checksum  {fingerprint(home, listing)} (SHA-256 of paths, sizes, classes, test split)",
    ]


def fingerprint(home: Path, listing: Listing) -> str:
    """SHA-256 (hex) of what a set holds: paths, file sizes, classes, and which images are test images."""
    rows = []
    for split, paths in listing.paths.items():
        for path, label in zip(paths, listing.labels[split].tolist(), strict=True):
            rows.append((path, listing.classes[label], split == "test", bytes_of(f"{home}/{path}")))
    return hashlib.sha256(repr(sorted(rows)).encode(errors="surrogateescape")).hexdigest()


def _check_counts(report: Report, source: DataSet, listing: Listing) -> None:
    counts = {split: len(listing.paths[split]) for split in ("train", "val", "test")}
    train = counts["train"] + counts["val"]
    text = ", ".join(f"{count:,} {split}" for split, count in counts.items() if count)
    report.facts.append(f"images       {sum(counts.values()):,} ({text})")
    for split, expected in source.card.splits.items():
        found = train if split == "train" else counts[split]
        if found != expected:
            report.problems.append(f"{found:,} {split} images listed, published are {expected:,}.")
    if not source.card.labelled:
        return
    number = len(listing.classes)
    if source.card.classes and number != source.card.classes:
        report.problems.append(f"{number:,} classes, published are {source.card.classes:,}.")
    size = np.bincount(np.concatenate([listing.labels["train"], listing.labels["val"]]), minlength=number)
    tested = np.bincount(listing.labels["test"], minlength=number)
    report.facts.append(
        f"classes      {number:,}; training images per class {size.min()} to {size.max()} "
        f"(median {np.median(size):g}), test images {tested.min()} to {tested.max()}"
    )
    if lonely := [listing.classes[label] for label in np.flatnonzero(size == 1)]:
        report.notes.append(f"{len(lonely)} class(es) have one training image: {some(lonely)}.")


def _every(listing: Listing) -> list[str]:
    return [path for paths in listing.paths.values() for path in paths]
