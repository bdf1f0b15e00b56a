"""Banks of photographs: decoded once, in parallel, with their saliency."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from cvsa.config import DataConfig, expand
from cvsa.data.bank import BankWriter, ImageBank, bank_directory, open_or_build
from cvsa.data.remarks import equal_images, links_out, misfit, some
from cvsa.data.sets import find_set
from cvsa.data.sets.base import DataSet
from cvsa.errors import CVSAError, one_line
from cvsa.io.pixels import to_rgb
from cvsa.saliency.cache import detected_saliency
from cvsa.saliency.degrade import Degradation, exact, find_degradation
from cvsa.saliency.detectors import DEFAULT, DETECTORS, find_detector
from cvsa.saliency.stored import MapReader, Saliency, Size, from_folder

UNREADABLE_SHARE, UNREADABLE_LIMIT = 0.01, 100  # more unreadable images than either stop the build

FILL = 2  # raise when other columns or maps come of the same files

# size of an image -> x1 y1 x2 y2 of what is photograph; None: all
Crop = Callable[[Size], tuple[int, int, int, int] | None]


def load_photographs(config: DataConfig) -> dict[str, ImageBank]:
    """The banks of photographs on disk; see `cvsa.data.datasets.load_splits`."""
    source = photographs_of(config)
    root = source.home(config.folder)
    listing = source.listing(root, config.val_fraction, config.data_seed)
    banks: dict[str, ImageBank] = {}
    built: list[str] = []  # splits whose banks were not there
    for split in ("train", "val", "test"):
        paths, labels = listing.paths[split], listing.labels[split]
        if not paths:  # a set without labels has no test images
            continue
        saliency = find_maps(source, root, config)
        error = config.saliency_error if split == "train" else "exact"
        description = {
            **{"dataset": root.name, "split": split, "saliency": saliency.kind, "saliency_error": error},
            "listed": len(paths),
        }
        parameters = _parameters(root, paths, labels, saliency, config.bank_size)
        parameters |= {"reader": f"{config.dataset} {source.version}", "saliency_error": error, "fill": FILL}
        banks[split] = open_or_build(
            bank_directory(f"{root.name}-{split}", parameters),
            partial(
                fill_from_folder,
                root=root,
                paths=paths,
                labels=labels,
                resolution=config.bank_size,
                saliency=saliency,
                crop=source.crop,
                degrade=find_degradation(error, config.data_seed),
                done=partial(built.append, split),
            ),
            resolution=config.bank_size,
            classes=listing.classes,
            description=description,
        )
    equal = equal_images(banks)
    for bank in banks.values():
        bank.description["equal_images"] = equal
    if built:
        _remark(root, [path for split in banks for path in listing.paths[split]], equal)
    return banks


def _remark(root: Path, paths: list[str], equal: dict[str, list[str]]) -> None:
    """Say, once for all splits, what is odd about a folder whose banks were just built."""
    remarks = []
    if links := links_out(root, paths):
        remarks.append(f"{len(links)} of {len(paths)} images in {root} are links out of it: {some(links)}.")
    for split, pairs in equal.items():
        if pairs and split == "labels":
            remarks.append(
                f"{len(pairs)} training images in {root} are there with another label: {some(pairs)}."
            )
        elif pairs:
            remarks.append(f"{len(pairs)} {split} images in {root} are also training images: {some(pairs)}.")
    for remark in remarks:
        warnings.warn(one_line(remark), stacklevel=4)


def photographs_of(config: DataConfig) -> DataSet:
    """The set of photographs that a configuration names."""
    from cvsa.data.sets.plain import Folder

    return Folder(config.split_file) if config.dataset == "folder" else find_set(config.dataset)


def find_maps(source: DataSet, root: Path, config: DataConfig) -> Saliency:
    """Where the maps of photographs come from: as stored, the user's own, or a detector.

    Raises:
        CVSAError: files of that kind are missing or malformed; a detector's library or weights are.
    """
    if config.masks_root:
        return from_folder(expand(config.masks_root, "masks_root"))
    kind: str = config.saliency
    if kind == "auto":
        kind = next(iter(source.available(root)), DEFAULT)
    return detected_saliency(root, find_detector(kind)) if kind in DETECTORS else source.saliency(root, kind)


def _parameters(
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


def decode(
    root: Path, path: str, resolution: int, read_map: MapReader, crop: Crop | None = None
) -> tuple[np.ndarray, bool]:
    """Read one photograph and its map as a square of the bank.

    The central square is resized, with antialiasing, straight to R x R: the short side becomes R, the long
    side is cut. The map, of whatever size, covers the whole image and goes through the same geometry.

    Args:
        root, path: where the image is.
        resolution: R, pixels.
        read_map: gives the map, or None.
        crop: what of an image counts, e.g. without a banner; None: all.

    Returns:
        (4, R, R) uint8, RGB and saliency (0 without a map), and whether there was a map.
    """
    with Image.open(root / path) as file:
        original = file.size
        # JPEG decodes a large photograph faster at a half, a quarter or an eighth of its size.
        file.draft(None, (2 * resolution, 2 * resolution))
        upright = ImageOps.exif_transpose(file)
        turned = upright.size != file.size
        rgb = to_rgb(upright)
    size = original[::-1] if turned else original
    saliency = read_map(path, size)
    block = np.zeros((4, resolution, resolution), dtype=np.uint8)
    region = crop(size) if crop else None
    covers = size if region else None
    pixels = _square(rgb, resolution, Image.Resampling.BICUBIC, covers, region)
    block[:3] = np.asarray(pixels).transpose(2, 0, 1)
    if saliency is not None:
        block[3] = np.asarray(_square(saliency, resolution, Image.Resampling.BILINEAR, size, region))
    return block, saliency is not None


def _square(
    image: Image.Image,
    resolution: int,
    filter: Image.Resampling,
    covers: Size | None = None,
    region: tuple[int, int, int, int] | None = None,
) -> Image.Image:
    """Resize the central square of a region (None: all).

    `covers` is the size of the image that this one, a map or a smaller copy, stands for; `region` is in its
    pixels.
    """
    width, height = covers or image.size
    x, y = image.width / width, image.height / height
    x1, y1, x2, y2 = region or (0, 0, width, height)
    side = min(x2 - x1, y2 - y1)
    left, top = x1 + (x2 - x1 - side) / 2, y1 + (y2 - y1 - side) / 2
    right, bottom = min((left + side) * x, image.width), min((top + side) * y, image.height)  # rounding
    box = (left * x, top * y, right, bottom)
    return image.resize((resolution, resolution), filter, box=box)


def fill_from_folder(
    writer: BankWriter,
    root: Path,
    paths: list[str],
    labels: np.ndarray,
    resolution: int,
    saliency: Saliency,
    crop: Crop | None = None,
    degrade: Degradation = exact,
    batch: int = 256,
    done: Callable[[], None] = lambda: None,
) -> None:
    """Decode images in parallel into a bank; extras: `path`, and `digest`, uint64, of the pixels (no map).

    Up to 1 % of the images, at most 100, may be unreadable: they are left out and named in the bank's
    description; one warning names the first. Masks with another aspect ratio than their images are stretched
    over them, with a warning. `done` is called at the end.

    Raises:
        CVSAError: more unreadable images than that, or a whole class of them; a box outside its image.
    """
    from tqdm import tqdm

    def read(path: str, size: Size) -> Image.Image | None:
        map = saliency.read(path, size)
        if map and saliency.kind == "masks" and (odd := misfit(path, size, map.size)):
            misfits.append(odd)
        return map

    def attempt(path: str) -> tuple[np.ndarray | str, bool]:
        try:
            return decode(root, path, resolution, read, crop)
        except CVSAError:
            raise
        except Exception as error:  # on damaged files Pillow's plugins raise almost anything
            return one_line(f"{path} ({type(error).__name__}: {error})"), False

    if trouble := saliency.prepare(paths):
        warnings.warn(trouble, stacklevel=3)
    failures: list[str] = []
    misfits: list[str] = []
    without_map = 0
    lost = set(labels.tolist())  # labels of which no image could be read so far
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(paths), desc="decoding", unit="img", disable=None) as bar,
    ):
        for start in range(0, len(paths), batch):
            results = list(pool.map(attempt, paths[start : start + batch]))
            good = [(start + i, block) for i, (block, _) in enumerate(results) if not isinstance(block, str)]
            failures += [block for block, _ in results if isinstance(block, str)]
            without_map += len(good) - sum(present for _, present in results)
            if good:
                rows = [i for i, _ in good]
                lost -= set(labels[rows].tolist())
                blocks = np.stack([block for _, block in good])
                maps = np.stack([degrade(block[3], i) for i, block in good])
                names = np.array([paths[i] for i in rows])
                digests = np.array([_digest(block[:3]) for block in blocks], dtype=np.uint64)
                writer.add(blocks[:, :3], maps, labels[rows], path=names, digest=digests)
            bar.update(len(results))
    if lost and failures:
        raise CVSAError(
            f"No image of a class in {root} can be read: {failures[0]}. Repair or remove such files."
        )
    _report(writer, root, len(paths), failures, without_map, misfits, saliency)
    done()


def _digest(pixels: np.ndarray) -> int:
    return int.from_bytes(
        hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=8).digest(), "little"
    )


def _report(
    writer: BankWriter,
    root: Path,
    total: int,
    failures: list[str],
    without_map: int,
    misfits: list[str],
    saliency: Saliency,
) -> None:
    def warn(message: str) -> None:
        warnings.warn(message, stacklevel=4)

    bad = f"{len(failures)} of {total} images in {root} cannot be read: " + "; ".join(failures[:3])
    if len(failures) > min(UNREADABLE_SHARE * total, UNREADABLE_LIMIT):
        raise CVSAError(f"{bad}. Repair or remove such files.")
    if failures:
        warn(f"{bad}. They are left out.")
    if without_map and saliency.kind != "none":
        lacking = f"{without_map} of {total} images in {root} have no entry in its {saliency.kind}"
        if without_map == total - len(failures):
            raise CVSAError(f"{lacking}; paths there must be those of the images, relative to the folder.")
        warn(f"{lacking}: the whole image counts as their object.")
    if saliency.clipped:
        first = min(saliency.clipped)
        warn(
            f"{len(saliency.clipped)} boxes reached beyond their images and were clipped, e.g. of {first!r}."
        )
    if misfits:
        warn(
            f"{len(misfits)} masks of images in {root} have another aspect ratio than these and are "
            f"stretched: {some(sorted(misfits))}."
        )
    writer.description |= {"unreadable": failures, "without_map": without_map, "misfits": sorted(misfits)}
