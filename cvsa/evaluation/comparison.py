"""Detectors compared on images with true masks, and what came of it as a record. [O]

The notebook `saliency_quality` calls this; the book draws its table from committed records.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, ValidationError

from cvsa.config import DataConfig
from cvsa.errors import CVSAError, one_line
from cvsa.provenance import commit, hardware, library_versions
from cvsa.records import atomic_write
from cvsa.saliency.detectors import DETECTORS, Detector, find_detector, nearest, stretch
from cvsa.saliency.quality import Quality, rate, references

RECORDS = "detectors-*.json"
SPEED_SIDE, SPEED_IMAGES = 256, 40  # at which speed is measured, and on how many images


class Line(BaseModel):
    """One detector, stored prediction or reference on one set of images.

    Attributes:
        detector: its name.
        source: what it is.
        settings: version and parameters of a detector.
        quality: figures over all images, processor time; None where it could not run. An image it failed
            on counts as one in which nothing was found.
        failures: images on which it raised an error.
        images_per_second: of one core, at 256 px; detectors only.
        not_run: why it could not run: the error.
    """

    model_config = ConfigDict(extra="forbid")

    detector: str
    source: Literal["detector", "stored", "reference"]
    settings: dict[str, Any] = {}
    quality: Quality | None = None
    failures: int = 0
    images_per_second: float | None = None
    not_run: str | None = None


class Comparison(BaseModel):
    """A record: the lines, what images they were measured on, by which code and where."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    data: str
    description: dict[str, Any]
    fingerprint: str
    lines: list[Line]
    code: dict[str, Any]
    libraries: dict[str, str]
    hardware: dict[str, Any]
    started: datetime
    seconds: float


class MaskedImages:
    """Images with true masks, in memory.

    Attributes:
        name: of the set.
        images: N arrays (H, W, 3) uint8, of any sizes.
        masks: N arrays (H, W) uint8, 0 to 255.
        stored: name -> N stored maps (H, W) float32 in [0, 1].
        description: JSON-ready account of where they come from.
    """

    def __init__(
        self,
        name: str,
        images: Sequence[np.ndarray],
        masks: Sequence[np.ndarray],
        description: dict[str, Any],
        stored: Mapping[str, Sequence[np.ndarray]] | None = None,
    ) -> None:
        self.name, self.images, self.masks, self.description = name, images, masks, description
        self.stored = dict(stored or {})

    def __len__(self) -> int:
        return len(self.images)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of images and masks."""
        digest = hashlib.sha256()
        for array in (*self.images, *self.masks):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def drawn_birds(count: int, size: int = 96) -> MaskedImages:
    """SynthBirds with their exact masks: those of the tiny preset, its validation split.

    Args:
        count: how many.
        size: side, pixels.
    """
    from cvsa.config import PretrainConfig, resolve
    from cvsa.data.birds import SynthBirds

    config = resolve(PretrainConfig)
    fields = {
        name: getattr(config, name) for name in ("num_classes", "habitat_bias", "difficulty", "object_size")
    } | {"num_images": count, "image_size": size, "split": "val", "seed": config.data_seed}
    drawn = SynthBirds(**fields).draw(range(count))
    images = np.asarray(drawn.images).transpose(0, 2, 3, 1)
    return MaskedImages("synthbirds", list(images), list(np.asarray(drawn.masks)[:, 0]), fields)


def folder_images(root: Path | str, count: int | None = None) -> MaskedImages:
    """Photographs of a folder with masks/, and its predicted masks where there is an .npz of them.

    Args:
        root: ImageFolder layout; environment variables are resolved.
        count: how many, spread over the folder; None: all.

    Raises:
        CVSAError: no such folder, no masks, an image or mask that cannot be read.
    """
    from cvsa.data.photographs import find_maps, photographs_of
    from cvsa.io.pixels import to_rgb

    config = DataConfig.model_validate({"dataset": "folder", "root": root, "saliency": "masks"})
    source, home = photographs_of(config), config.folder or Path(root)
    home = source.home(home)
    readers = {"masks": find_maps(source, home, config)}
    if any(home.glob("*.npz")):
        readers["predicted"] = find_maps(source, home, config.model_copy(update={"saliency": "predicted"}))
    paths = sorted(path for split in source.listing(home).paths.values() for path in split)
    if count is not None and count < len(paths):
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, count).round().astype(int)]
    images, maps, unmasked = [], {name: [] for name in readers}, 0  # type: ignore[var-annotated]
    for path in paths:
        try:
            with Image.open(home / path) as file:
                image = to_rgb(ImageOps.exif_transpose(file))
            found = {name: reader.read(path, image.size) for name, reader in readers.items()}
        except CVSAError:
            raise
        except Exception as error:  # on damaged files Pillow's plugins raise almost anything
            raise CVSAError(
                one_line(f"{home / path} or its mask cannot be read ({error}); repair or remove it.")
            ) from error
        if found["masks"] is None:
            unmasked += 1
            continue
        images.append(np.asarray(image))
        for name, map in found.items():
            shape = (image.height, image.width)
            grey = np.zeros(shape) if map is None else np.asarray(map) / 255
            maps[name].append(grey if grey.shape == shape else stretch(grey, shape))
    if not images:
        raise CVSAError(f"No image in {home} has a mask under masks/; without true masks nothing is judged.")
    masks = [np.round(255 * mask).astype(np.uint8) for mask in maps.pop("masks")]
    description = {"images": len(images), "without_mask": unmasked, "root": home.name}
    return MaskedImages(home.name, images, masks, description, maps)


def compare_detectors(data: MaskedImages, detectors: Sequence[str], seed: int = 0) -> Comparison:
    """Each detector, what is stored, and three references that look at nothing, against the true masks.

    A detector whose weights or library cannot be had gets a line that says so.

    Args:
        data: images with masks.
        detectors: names, see `cvsa.saliency.detectors.DETECTORS`.
        seed: of the halves that the best threshold is chosen and judged on, and of the random boxes.

    Raises:
        CVSAError: fewer than two images, an unknown detector.
    """
    for name in detectors:
        nearest(name, DETECTORS, "detector")
    started, clock = datetime.now(UTC), time.monotonic()
    lines = [_detector_line(name, data, seed) for name in detectors]
    for name, maps in data.stored.items():
        lines.append(Line(detector=name, source="stored", quality=rate(name, maps, data.masks, seed=seed)))
    for name, find in references(data.masks, seed).items():
        quality = rate(name, [find(image) for image in data.images], data.masks, seed=seed)
        lines.append(Line(detector=name, source="reference", quality=quality))
    import torch

    return Comparison(
        data=data.name, description=data.description, fingerprint=data.fingerprint, lines=lines,
        code=commit(), libraries=library_versions(), hardware=hardware(torch.device("cpu"), False),
        started=started, seconds=round(time.monotonic() - clock, 2),
    )  # fmt: skip


def _detector_line(name: str, data: MaskedImages, seed: int) -> Line:
    try:
        detector = find_detector(name)
        with suppress(RuntimeError, ValueError):  # of this image: counted below
            detector(data.images[0])  # fetches, loads, compiles
    except CVSAError as error:  # its weights or its library
        return Line(detector=name, source="detector", not_run=one_line(str(error)))
    maps, failures, seconds = [], 0, 0.0
    for image in data.images:
        start = time.process_time()  # other processes on the machine do not count
        try:
            map = detector(image)
        except Exception:  # of a network's own code it may be anything
            map, failures = np.zeros(image.shape[:2], dtype=np.float32), failures + 1
        seconds += time.process_time() - start
        maps.append(map)
    quality = rate(name, maps, data.masks, seed=seed, milliseconds=1000 * seconds / len(maps))
    return Line(
        detector=name, source="detector", quality=quality, failures=failures,
        settings={"version": detector.version, "parameters": detector.parameters},
        images_per_second=round(_speed(detector, data.images), 1),
    )  # fmt: skip


def _speed(detector: Detector, images: Sequence[np.ndarray]) -> float:
    """Images per second of processor time, at 256 x 256 px."""
    resized = [
        np.asarray(Image.fromarray(image).resize((SPEED_SIDE, SPEED_SIDE), Image.Resampling.BICUBIC))
        for image in images[:SPEED_IMAGES]
    ]
    start = time.process_time()
    for image in resized:
        with suppress(Exception):
            detector(image)
    return len(resized) / max(time.process_time() - start, 1e-9)


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write ``detectors-DATA.json`` into a folder."""
    path = folder / RECORDS.replace("*", comparison.data)
    atomic_write(path, comparison.model_dump_json(indent=1) + "\n")
    return path


def read_comparisons(folder: Path) -> list[Comparison]:
    """All comparisons in a folder, by name.

    Raises:
        CVSAError: none is there, or one is not valid; names the file.
    """
    found = []
    for path in sorted(folder.glob(RECORDS)):
        try:
            found.append(Comparison.model_validate_json(path.read_text()))
        except (ValidationError, UnicodeDecodeError) as error:
            raise CVSAError(f"Record {path} is not valid: {one_line(str(error))[:300]}") from None
    if not found:
        raise CVSAError(f"No {RECORDS} in {os.fspath(folder)}. Restore them from version control.")
    return found
