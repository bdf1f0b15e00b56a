"""From a configuration to its banks: the drawn sets, and folders of photographs with their splits."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from cvsa.config import DataConfig
from cvsa.data.bank import BankWriter, ImageBank, bank_directory, open_or_build
from cvsa.data.folder import Saliency, fill_from_folder, find_saliency, read_table
from cvsa.errors import CVSAError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
SPLIT_FOLDERS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
TEST_FRACTION = 0.2  # of each class, where the folder has no split of its own
LAYOUT = "expected root/train/CLASS/image and root/test/CLASS/image, or root/CLASS/image"


def load_splits(config: DataConfig) -> dict[str, ImageBank]:
    """The banks of a data set, built at first use and kept in the cache (see `bank.cache_root`).

    Args:
        config: which data set, size and saliency.

    Returns:
        Disjoint banks "train", "val" and "test", and "test_swapped" for SynthBirds. Extras: `habitat`,
        `attributes`, `parts` of drawn birds, `path` of photographs.

    Raises:
        CVSAError: the folder is missing or not laid out as expected, images are unreadable, the disk is full.
    """
    if config.dataset == "folder":
        assert config.folder is not None  # DataConfig has made sure
        return _folder_splits(config, config.folder)
    counts = {"train": config.train_images, "val": config.val_images, "test": config.test_images}
    if config.dataset == "synthbirds":
        counts["test_swapped"] = config.test_images
    return {split: _drawn_split(config, split, count) for split, count in counts.items()}


# --- drawn data --------------------------------------------------------------------------------


class Drawn(Protocol):
    """What SynthBirds and SynthScenes have in common."""

    labels: Any
    classes: list[str]

    def draw(self, index: Any) -> Any: ...


def _drawn_split(config: DataConfig, split: str, count: int) -> ImageBank:
    fields: dict[str, Any] = {
        "object_size": config.object_size,
        "num_images": count,
        "image_size": config.bank_size,
        "split": split,
        "seed": config.data_seed,
    }
    dataset: Drawn
    if config.dataset == "synthbirds":
        from cvsa.data.birds import SynthBirds

        fields |= {name: getattr(config, name) for name in ("num_classes", "habitat_bias", "difficulty")}
        dataset = SynthBirds(**fields)
    else:
        from cvsa.data.scenes import SynthScenes

        dataset = SynthScenes(**fields)
    # A change of the drawing code is a change of the data.
    drawing = [
        p for p in sorted(Path(__file__).parent.glob("*.py")) if p.stem not in {"bank", "datasets", "folder"}
    ]
    code = hashlib.sha256(b"".join(p.read_bytes() for p in drawing)).hexdigest()
    description = {"dataset": config.dataset, **fields}
    return open_or_build(
        bank_directory(f"{config.dataset}-{split}", {**description, "code": code}),
        lambda writer: _draw_into(writer, dataset, count),
        resolution=config.bank_size,
        classes=list(dataset.classes),
        description=description,
    )


def _draw_into(writer: BankWriter, dataset: Drawn, count: int, batch: int = 256) -> None:
    labels = np.asarray(dataset.labels)
    sources = {"habitat": "habitats", "attributes": "attributes"}
    extras = {
        name: np.asarray(getattr(dataset, source))
        for name, source in sources.items()
        if hasattr(dataset, source)
    }
    for start in range(0, count, batch):
        rows = slice(start, min(start + batch, count))
        drawn = dataset.draw(torch.arange(rows.start, rows.stop))
        columns = {name: value[rows] for name, value in extras.items()}
        if hasattr(drawn, "parts"):
            columns["parts"] = np.asarray(drawn.parts)
        writer.add(np.asarray(drawn.images), np.asarray(drawn.masks)[:, 0], labels[rows], **columns)


# --- folders of photographs --------------------------------------------------------------------


def _folder_splits(config: DataConfig, root: Path) -> dict[str, ImageBank]:
    listing = list_folder(
        root, val_fraction=config.val_fraction, split_file=config.split_file, seed=config.data_seed
    )
    banks = {}
    for split in ("train", "val", "test"):
        saliency = find_saliency(root, config.saliency)
        paths, labels = listing.paths[split], listing.labels[split]
        description = {"dataset": root.name, "split": split, "saliency": saliency.kind, "listed": len(paths)}
        parameters = _folder_parameters(root, paths, labels, saliency, config.bank_size)
        banks[split] = open_or_build(
            bank_directory(f"{root.name}-{split}", parameters),
            partial(
                fill_from_folder,
                root=root,
                paths=paths,
                labels=labels,
                resolution=config.bank_size,
                saliency=saliency,
            ),
            resolution=config.bank_size,
            classes=listing.classes,
            description=description,
        )
    return banks


def _folder_parameters(
    root: Path, paths: list[str], labels: np.ndarray, saliency: Saliency, resolution: int
) -> dict[str, Any]:
    """What defines a folder's bank: its files by name, size and time of change."""

    @cache  # a table of boxes or masks is asked for once per image
    def stamp(file: str) -> tuple[int, int] | None:
        try:
            state = os.stat(file)
        except OSError:  # an image without a mask, or a file that is gone: noticed when it is read
            return None
        return state.st_size, state.st_mtime_ns

    digest = hashlib.sha256()
    for path, label in zip(paths, labels.tolist(), strict=True):
        stamps = stamp(f"{root}/{path}"), stamp(saliency.source(path))
        digest.update(repr((path, label, *stamps)).encode(errors="surrogateescape"))
    files = digest.hexdigest()
    return {"root": str(root.resolve()), "files": files, "saliency": saliency.kind, "resolution": resolution}


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
    for place, split in places:
        for folder in sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith(".")):
            if place == root and folder.name not in folders:
                continue
            images = [
                p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
            ]
            if not images and split != "val":
                raise CVSAError(f"The class folder {folder} has no images ({', '.join(sorted(SUFFIXES))}).")
            rows += [(p.relative_to(root).as_posix(), folder.name, split) for p in images]
    return rows


def _rows_of_table(root: Path, split_file: str) -> list[Row]:
    rows: dict[str, Row] = {}
    for line, record in read_table(root / split_file, ("path", "split")):
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
