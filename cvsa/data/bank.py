"""The ImageBank: images with saliency, decoded once, stored as one file, on the training device when it fits.

A bank is a directory: `images.npy` (N, 4, R, R) uint8, `index.npz` (boxes, labels, extras) and `meta.json`,
which is written last and holds the checksums of the other two.

Banks are kept in a cache folder (`cache_root`, CVSA_CACHE). One that is larger than the memory it may hold
(CVSA_MEMORY, see `cvsa.data.stream`) is read in shards; it is used like any other.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvsa.data.stream import Shards, allowance
from cvsa.errors import CVSAError, one_line
from cvsa.io.paths import cache_root
from cvsa.saliency.boxes import maps_to_boxes

SCHEMA = 1  # raise when the meaning of the stored files changes
CHANNELS = 4  # R, G, B, saliency
GPU_SHARE = 0.5  # a bank may take this share of the free GPU memory; the rest is for training
BLOCK = 256  # images that are copied or hashed at a time


class ImageBank:
    """Images with saliency, boxes and labels, ready to be gathered in batches.

    Where the map of an image had nothing salient (`found` is False) the whole image counts as the object: its
    box is the frame and its saliency channel is 255 everywhere, so that no view loses its foreground [O].

    Attributes:
        images: (N, 4, R, R) uint8, RGB and saliency; memory-mapped when opened from disk and not moved.
        boxes: (N, 4) float32, saliency boxes x1 y1 x2 y2 in pixels of the bank frame, x2 and y2 exclusive;
            always on the CPU, where the geometry of views is drawn.
        labels: (N,) int64.
        found: (N,) bool, False where nothing salient was found.
        classes: names, indexed by label.
        extras: arrays with first axis N that belong to the data set (habitats, parts, paths, ...).
        description: JSON-ready account of where the images come from.
        device: where `gather` and `labels` live. `images` may stay on the CPU (see `to`).
        shards: how `images` are read if they are larger than memory, else None. `gather` and `subset` do so;
            whoever reads from `images` itself maps what is read.
    """

    def __init__(
        self,
        images: Tensor,
        boxes: Tensor,
        labels: Tensor,
        classes: list[str],
        *,
        found: Tensor | None = None,
        extras: dict[str, np.ndarray] | None = None,
        description: dict[str, Any] | None = None,
        fingerprint: str | None = None,
        device: torch.device | str | None = None,
        shards: Shards | None = None,
    ) -> None:
        n = len(images)
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != CHANNELS:
            raise CVSAError(f"A bank holds uint8 (N, 4, R, R), got {images.dtype} {tuple(images.shape)}.")
        found = torch.ones(n, dtype=torch.bool) if found is None else found
        columns: dict[str, Any] = {"boxes": boxes, "labels": labels, "found": found, **(extras or {})}
        for name, value in columns.items():
            if len(value) != n:
                raise CVSAError(f"The bank's {name} has {len(value)} rows for {n} images.")
        self.device = _with_index(torch.device(device) if device is not None else images.device)
        self.images = images
        self.boxes = boxes.to("cpu", torch.float32)
        self.labels = labels.to(self.device, torch.int64)
        self.found = found.to(self.device)
        self.classes = list(classes)
        self.extras = dict(extras or {})
        self.description = dict(description or {})
        self.shards = shards
        self._fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        size = f"{len(self)} images, {self.resolution} px, {len(self.classes)} classes"
        return f"ImageBank({size}, {self.device})"

    @property
    def resolution(self) -> int:
        """Side R of the stored images, pixels."""
        return self.images.shape[-1]

    @property
    def no_object(self) -> int:
        """How many images had nothing salient."""
        return int((~self.found).sum())

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of images and labels: the same wherever and however the bank is stored."""
        if self._fingerprint is None:
            self._fingerprint = _fingerprint(self.images, self.labels, self.shards)
        return self._fingerprint

    @property
    def saliency_fingerprint(self) -> str:
        """SHA-256 (hex) of saliency maps and boxes alone: equal for equal saliency of other pictures too."""
        digest = hashlib.sha256(json.dumps(list(self.images.shape)).encode())
        digest.update(self.boxes.cpu().contiguous().numpy().data)
        for _, block in _blocks(self.images, self.shards):
            digest.update(block[:, 3].cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """The batches of an epoch: every image once, in a new order; the last partial batch is dropped.

        The order is uniformly random; for a bank larger than memory it is one of shards, see `Shards`.

        Args:
            size: B, images per batch.
            generator: on the CPU; the state it is left in leads to the next epoch's order.

        Returns:
            Image numbers, (B,) int64 each, on the CPU.
        """
        if self.shards:
            return self.shards.batches(size, generator)
        whole = len(self) // size * size
        return iter(torch.randperm(len(self), generator=generator)[:whole].split(size))

    def gather(self, index: Tensor) -> Tensor:
        """Images by number.

        Args:
            index: (B,) int64, each in [0, N), on any device.

        Returns:
            (B, 4, R, R) float32 in [0, 1] on `device`.
        """
        if self.images.device == self.device:
            batch = self._take(index)
        else:
            # Streamed through page-locked memory, so that the copy to the GPU overlaps with compute.
            pinned = torch.empty((len(index), *self.images.shape[1:]), dtype=torch.uint8, pin_memory=True)
            batch = self._take(index, out=pinned).to(self.device, non_blocking=True)
        return batch.to(torch.float32).div_(255)

    def _take(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        if self.shards:
            return self.shards.read(index, out)
        return torch.index_select(self.images, 0, index.to(self.images.device, non_blocking=True), out=out)

    def to(self, device: torch.device | str, *, share: float = GPU_SHARE) -> ImageBank:
        """The bank on another device.

        On a GPU the images move there when they take at most `share` of its free memory; else they stay
        memory-mapped on the CPU and `gather` streams batches to the GPU.

        Args:
            device: where batches are wanted.
            share: of the free GPU memory, in [0, 1].
        """
        target, images = _with_index(torch.device(device)), self.images
        moves = target.type == "cuda" and images.device != target
        if not moves or images.nbytes <= share * torch.cuda.mem_get_info(target)[0]:
            images = _copied(self.images, target, self.shards) if moves else images.to(target)
        moved = copy.copy(self)
        moved.device, moved.images = target, images
        if images is not self.images:
            moved.shards = None
        moved.labels, moved.found = self.labels.to(target), self.found.to(target)
        return moved

    def subset(self, index: Tensor) -> ImageBank:
        """The images with these numbers, copied into memory, in this order.

        Args:
            index: (M,) int64, each in [0, N).
        """
        at, rows = index.to(self.device), index.cpu().numpy()
        return ImageBank(
            self._take(index),
            self.boxes[index.cpu()],
            self.labels[at],
            self.classes,
            found=self.found[at],
            extras={name: value[rows] for name, value in self.extras.items()},
            description=self.description,
            device=self.device,
        )


class BankWriter:
    """Writes a bank batch by batch; `open_or_build` hands it to the function that fills it.

    The images are written as a stream, not through a memory map: a full disk is then an error that can be
    reported, where a write to a mapped page would kill the process (SIGBUS).
    """

    def __init__(self, directory: Path, resolution: int, description: dict[str, Any]) -> None:
        self.description = description  # the filling function may add to it
        self._directory = directory
        self._frame = (CHANNELS, resolution, resolution)
        self._columns: dict[str, list[np.ndarray]] = {}
        self._count = 0
        self._file = open(directory / "images.npy", "wb")  # noqa: SIM115 (closed by finish or close)
        self._header = self._write_header()

    def _write_header(self) -> int:
        header = {"descr": "|u1", "fortran_order": False, "shape": (self._count, *self._frame)}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self._file.tell()

    def add(self, images: np.ndarray, maps: np.ndarray, labels: np.ndarray, **extras: np.ndarray) -> None:
        """Append images.

        Args:
            images: (n, 3, R, R) uint8.
            maps: saliency (n, R, R) uint8, 255 = salient.
            labels: (n,) integers.
            **extras: arrays with first axis n; the same names in every call.
        """
        boxes, found = (value.numpy() for value in maps_to_boxes(maps))
        maps = np.where(found[:, None, None], maps, np.uint8(255))
        block = np.concatenate([images, maps[:, None]], axis=1)
        if block.dtype != np.uint8 or block.shape[1:] != self._frame:
            raise CVSAError(f"A bank of {self._frame} uint8 was given {block.dtype} {block.shape[1:]}.")
        self._file.write(np.ascontiguousarray(block).data)
        self._count += len(block)
        rows = {"boxes": boxes, "found": found, "labels": np.asarray(labels, np.int64)}
        for name, value in {**rows, **{f"extra_{key}": value for key, value in extras.items()}}.items():
            self._columns.setdefault(name, []).append(np.asarray(value))

    def close(self) -> None:
        """Close the file without finishing the bank."""
        self._file.close()

    def finish(self, classes: list[str]) -> None:
        """Write the count, the index and, last, `meta.json`."""
        if not self._count:
            raise CVSAError("No image was added to the bank.")
        # NumPy pads its header so that the first axis can be rewritten in place once it is known.
        self._file.seek(0)
        if self._write_header() != self._header:
            raise RuntimeError("the header of images.npy changed its length")
        self._file.close()
        columns = {name: np.concatenate(parts) for name, parts in self._columns.items()}
        np.savez(self._directory / "index.npz", **columns)  # type: ignore[arg-type]
        labels = columns["labels"]
        if wrong := np.flatnonzero((labels < 0) | (labels >= len(classes))).tolist():
            name = columns["extra_path"][wrong[0]] if "extra_path" in columns else f"image {wrong[0]}"
            raise CVSAError(
                f"{name} has the label {labels[wrong[0]]}, and so on for {len(wrong)} image(s); labels of "
                f"{len(classes)} class(es) are 0 to {len(classes) - 1}."
            )
        images, shards = _map_images(self._directory)
        meta = {
            "schema": SCHEMA,
            "count": self._count,
            "resolution": self._frame[-1],
            "classes": list(classes),
            "no_object": int((~columns["found"]).sum()),
            "fingerprint": _fingerprint(images, torch.from_numpy(labels), shards),
            "description": self.description,
            "sha256": {name: _sha256(self._directory / name) for name in ("images.npy", "index.npz")},
        }
        (self._directory / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def bank_directory(name: str, parameters: dict[str, Any]) -> Path:
    """Directory of the bank that these parameters define: a readable name and a hash of all that matters.

    Args:
        name: readable start; what is not an ASCII letter, digit, dot, dash or underscore becomes a dash.
        parameters: JSON-ready.
    """
    text = json.dumps({"schema": SCHEMA, **parameters}, sort_keys=True)
    readable = re.sub(r"[^A-Za-z0-9._-]", "-", name)[:60].lstrip(".")
    return cache_root() / f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def open_bank(directory: Path) -> ImageBank:
    """Open a finished bank, memory-mapped, after checking its checksums (about a second per GB).

    Raises:
        CVSAError: the bank is incomplete, of another version, or damaged.
    """
    try:
        meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
        if meta["schema"] != SCHEMA:
            raise ValueError(f"schema {meta['schema']}, expected {SCHEMA}")
        for name, expected in meta["sha256"].items():
            if _sha256(directory / name) != expected:
                raise ValueError(f"checksum of {name} differs")
        images, shards = _map_images(directory)
        with np.load(directory / "index.npz", allow_pickle=False) as index:
            columns = {name: index[name] for name in index.files}
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"The bank {directory} cannot be used ({error}); delete it to have it rebuilt."
        raise CVSAError(one_line(message)) from error
    boxes, labels, found = (torch.from_numpy(columns.pop(name)) for name in ("boxes", "labels", "found"))
    extras = {name.removeprefix("extra_"): value for name, value in columns.items()}
    return ImageBank(images, boxes, labels, meta["classes"], found=found, extras=extras, shards=shards,
                     description=meta["description"], fingerprint=meta["fingerprint"])  # fmt: skip


def _map_images(directory: Path) -> tuple[Tensor, Shards | None]:
    # Copy-on-write, so that torch gets a writable array and the file stays as it is.
    images = np.load(directory / "images.npy", mmap_mode="c")
    most = allowance()
    return torch.from_numpy(images), Shards(images, most) if images.nbytes > most else None


def open_or_build(
    directory: Path,
    fill: Callable[[BankWriter], None],
    *,
    resolution: int,
    classes: list[str],
    description: dict[str, Any] | None = None,
) -> ImageBank:
    """Open a bank, building it first when it is not there or damaged.

    The bank is built beside its place and renamed at the end, so an interrupted build leaves nothing that
    looks finished. Of several processes that want the same bank one builds and the others wait for it.

    Args:
        directory: the bank's place; its parent is created.
        fill: calls `BankWriter.add` for all images, in order.
        resolution: R, pixels.
        classes: names, indexed by label.
        description: JSON-ready, stored with the bank.

    Raises:
        CVSAError: whatever `fill` raises; the disk is full or the cache folder cannot be written.
    """
    if (bank := _open_if_whole(directory)) is not None:
        return bank
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _only_builder(directory) as alone:
            if alone:  # then whatever lies about was left by a process that was killed
                for leftover in directory.parent.glob(f".{directory.name}.*.tmp"):
                    shutil.rmtree(leftover, ignore_errors=True)
            if (bank := _open_if_whole(directory, warn=True)) is not None:
                return bank
            _build(directory, fill, resolution, classes, dict(description or {}))
    except OSError as error:
        hint = "free some space or set the environment variable CVSA_CACHE to a folder on another disk"
        message = f"Cannot write the bank {directory}: {error.strerror or error}; {hint}."
        raise CVSAError(one_line(message)) from error
    return open_bank(directory)


def _build(
    directory: Path,
    fill: Callable[[BankWriter], None],
    resolution: int,
    classes: list[str],
    description: dict[str, Any],
) -> None:
    temporary = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}.", suffix=".tmp"))
    try:
        writer = BankWriter(temporary, resolution, description)
        try:
            fill(writer)
            writer.finish(classes)
        finally:
            writer.close()
        temporary.chmod(0o755)  # mkdtemp makes it private
        _put_in_place(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, directory: Path) -> None:
    try:
        os.replace(temporary, directory)
    except OSError:
        if not directory.is_dir():
            raise
        # Where files cannot be locked another process may have been faster: its bank is as good as ours.
        if _open_if_whole(directory) is None:
            damaged = temporary.with_suffix(".damaged.tmp")
            os.replace(directory, damaged)  # who still has it mapped keeps the old file
            os.replace(temporary, directory)
            shutil.rmtree(damaged, ignore_errors=True)


def _open_if_whole(directory: Path, warn: bool = False) -> ImageBank | None:
    if not directory.exists():
        return None
    try:
        return open_bank(directory)
    except CVSAError as error:
        if warn:
            warnings.warn(f"{error} Rebuilding it now.", stacklevel=3)
        return None


@contextmanager
def _only_builder(directory: Path) -> Iterator[bool]:
    """Hold the bank's lock (a killed process loses it); yields False where files cannot be locked."""
    import fcntl

    with open(directory.parent / f".{directory.name}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            alone = True
        except OSError:
            alone = False
        yield alone


def _blocks(images: Tensor, shards: Shards | None) -> Iterator[tuple[slice, Tensor]]:
    """All images in order, `BLOCK` at a time, and where they stand."""
    for start in range(0, len(images), BLOCK):
        rows = slice(start, min(start + BLOCK, len(images)))
        yield rows, shards.read(torch.arange(rows.start, rows.stop)) if shards else images[rows]


def _copied(images: Tensor, target: torch.device, shards: Shards | None) -> Tensor:
    copied = torch.empty_like(images, device=target)
    for rows, block in _blocks(images, shards):
        copied[rows] = block
    return copied


def _fingerprint(images: Tensor, labels: Tensor, shards: Shards | None = None) -> str:
    digest = hashlib.sha256(json.dumps(list(images.shape)).encode())
    digest.update(labels.cpu().numpy().astype("<i8").tobytes())
    for _, block in _blocks(images, shards):
        digest.update(block.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _with_index(device: torch.device) -> torch.device:
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
