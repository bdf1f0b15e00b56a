"""Which photographs a folder holds, and which of them train, validate and test.

root/{train,test}/CLASS/x.jpg  and root/valid/CLASS/x.jpg where there is one; or
root/CLASS/x.jpg               of which a fifth of each class becomes the test split
"""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvsa.data.remarks import some
from cvsa.errors import CVSAError
from cvsa.io.tables import read_csv

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
SPLIT_FOLDERS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
TEST_FRACTION = 0.2  # of each class, where the folder has no split of its own
LAYOUT = "expected root/train/CLASS/image and root/test/CLASS/image, or root/CLASS/image"


@dataclass(frozen=True)
class Listing:
    """Which image belongs to which split: paths relative to the root, with `/`, sorted, and their labels."""

    classes: list[str]
    paths: dict[str, list[str]]
    labels: dict[str, np.ndarray]


def list_folder(
    root: Path, *, val_fraction: float = 0.1, split_file: str | None = None, seed: int = 0
) -> Listing:
    """Find the images and their splits.

    Args:
        root: the folder.
        val_fraction: share of the training images held out where there is no validation split, in [0, 1).
        split_file: CSV with the columns path,split (train, test or val), relative to root; overrides folders.
        seed: of the held-out parts, which are stratified by class.

    Raises:
        CVSAError: no such folder, no images, fewer than 2 classes, a class without images, a bad split file.
    """
    if not root.is_dir():
        raise CVSAError(f"There is no folder {root}; {LAYOUT}.")
    rows = _rows_of_table(root, split_file) if split_file else _rows_of_folders(root)
    # One row: (path, class, split or None).
    classes = sorted({name for _, name, split in rows if split != "test" and split != "val"})
    if len(classes) < 2:
        raise CVSAError(f"{root} has {len(classes)} class(es) to train on, at least 2 are needed; {LAYOUT}.")
    unknown = sorted({name for _, name, _ in rows} - set(classes))
    if unknown:
        raise CVSAError(f"Class {unknown[0]!r} in {root} has no training images; every class needs some.")
    number = {name: label for label, name in enumerate(classes)}
    splits: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for path, name, split in sorted(rows, key=lambda row: row[0]):
        splits[split or "train"].append((path, number[name]))
    if "test" not in splits:
        splits["train"], splits["test"] = _hold_out(splits["train"], TEST_FRACTION, seed)
    if "val" not in splits:
        splits["train"], splits["val"] = _hold_out(splits["train"], val_fraction, seed + 1)
    for split in ("train", "test"):
        missing = set(range(len(classes))) - {label for _, label in splits[split]}
        if missing:
            raise CVSAError(
                f"Class {classes[min(missing)]!r} in {root} has no {split} images; every class needs some."
            )
    if not splits["val"]:
        raise CVSAError(
            f"No validation images in {root}: raise val_fraction (now {val_fraction}) or add valid/CLASS."
        )
    return Listing(
        classes,
        {split: [path for path, _ in items] for split, items in splits.items()},
        {split: np.array([label for _, label in items], dtype=np.int64) for split, items in splits.items()},
    )


Row = tuple[str, str, str | None]


def _rows_of_folders(root: Path) -> list[Row]:
    # Names are compared in lower case: macOS and Windows do not tell Train from train.
    folders = {
        p.name: p
        for p in sorted(root.iterdir())
        if p.is_dir() and not p.name.startswith(".") and p.name != "masks"
    }
    split_of = {name: SPLIT_FOLDERS.get(name.lower()) for name in folders}
    if "train" not in split_of.values():
        if any(split_of.values()):
            raise CVSAError(
                f"{root} has {'/, '.join(n for n in folders if split_of[n])}/ but no train/; {LAYOUT}."
            )
        places: list[tuple[Path, str | None]] = [(root, None)]
    else:
        places = [(folder, split_of[name]) for name, folder in folders.items() if split_of[name]]
        if "test" not in split_of.values():
            raise CVSAError(f"{root} has train/ but no test/; {LAYOUT}, or give a split_file.")
    rows: list[Row] = []
    unseen: list[Path] = []  # where a link leads may be a folder above, without end
    for place, split in places:
        for folder in sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith(".")):
            if place == root and folder.name not in folders:
                continue
            if place.resolve().is_relative_to(folder.resolve()):
                raise CVSAError(
                    f"The class folder {folder} is a link to {folder.resolve()}, which holds {place}; "
                    "remove it."
                )
            entries = [p for p in folder.rglob("*") if not p.name.startswith(".")]
            images = [p for p in entries if p.suffix.lower() in SUFFIXES]
            unseen += [p for p in entries if p.is_symlink() and p.is_dir()]
            if not images and split != "val":
                raise CVSAError(f"The class folder {folder} has no images ({', '.join(sorted(SUFFIXES))}).")
            rows += [(p.relative_to(root).as_posix(), folder.name, split) for p in images]
    if unseen:
        warnings.warn(
            f"{len(unseen)} links to folders inside the classes of {root} are not followed: "
            f"{some(map(str, unseen))}. A class folder may itself be a link.",
            stacklevel=4,
        )
    return rows


def _rows_of_table(root: Path, split_file: str) -> list[Row]:
    rows: dict[str, Row] = {}
    for line, record in read_csv(root / split_file, ("path", "split")):
        path, where = record["path"], f"{root / split_file}, line {line}"
        split = SPLIT_FOLDERS.get(record["split"].lower())
        if split is None:
            raise CVSAError(f"{where}: split {record['split']!r} is none of train, test, val.")
        parts = path.split("/")
        if len(parts) > 1 and parts[0].lower() in SPLIT_FOLDERS:
            parts = parts[1:]
        if len(parts) < 2 or ".." in parts:
            raise CVSAError(
                f"{where}: {path!r} has no class folder; expected CLASS/image or train/CLASS/image."
            )
        if path in rows:
            raise CVSAError(f"{where}: {path!r} is listed twice.")
        if not os.path.isfile(f"{root}/{path}"):
            raise CVSAError(f"{where}: there is no file {root}/{path}.")
        rows[path] = (path, parts[0], split)
    return list(rows.values())


def _hold_out(
    items: list[tuple[str, int]], fraction: float, seed: int
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    held = set(
        stratified(np.array([label for _, label in items]), round(fraction * len(items)), seed).tolist()
    )
    kept = [item for i, item in enumerate(items) if i not in held]
    return kept, [item for i, item in enumerate(items) if i in held]


def stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw images so that each class gives its share.

    Shares are rounded by largest remainder, so the total is exact unless that would empty a class: one image
    of each class always stays behind.

    Args:
        labels: (N,) int64.
        count: how many to draw, in [0, N].
        seed: of the draw.

    Returns:
        Their numbers, sorted.
    """
    rng = np.random.default_rng(seed)
    sizes = np.bincount(labels)
    share = count * sizes / max(1, len(labels))
    quota = np.floor(share).astype(int)
    first = np.argsort(quota - share, kind="stable")[: max(0, count - quota.sum())]
    quota[first] += 1
    quota = np.minimum(quota, np.maximum(sizes - 1, 0))
    drawn = [rng.permutation(np.flatnonzero(labels == c))[: quota[c]] for c in range(len(sizes))]
    return np.sort(np.concatenate(drawn))
