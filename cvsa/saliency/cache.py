"""A detector as the source of a folder's saliency maps, each computed once and kept on disk.

    CVSA_CACHE/maps/NAME-VERSION-KEY-SCHEMA/ab/abcdef....png

The folder's key is a hash of the detector's name, version and parameters. A map belongs to the bytes of its
image file: a photograph that is moved or renamed keeps its map, one that is changed gets a new one. Maps are
8-bit greyscale PNG, of at most 256 pixels on the longer side, and cover the whole image as it is displayed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cvsa.errors import CVSAError, one_line
from cvsa.io.paths import cache_root
from cvsa.io.pixels import to_rgb
from cvsa.saliency.boxes import THRESHOLD
from cvsa.saliency.detectors import Detector, key_of, shrink, stretch
from cvsa.saliency.stored import Saliency, Size

STORED_SIDE = 256  # pixels; banks are rarely larger, and what most detectors see is smaller
SCHEMA = 1  # raise when maps are made or stored in another way


@dataclass
class Detected:
    """What came of a folder's images.

    Attributes:
        total: how many images were asked for.
        computed: how many maps were made now; the others were there.
        nothing: images in which nothing is salient.
        failures: image -> why there is no map.
    """

    total: int = 0
    computed: int = 0
    nothing: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{self.total} images: {self.computed} maps computed, {self._known()} found in the cache"
        if self.nothing:
            text += f", nothing salient in {len(self.nothing)} (e.g. {self.nothing[0]})"
        if self.failures:
            path, reason = next(iter(self.failures.items()))
            text += f", no map for {len(self.failures)} ({path}: {reason})"
        return text + "."

    def _known(self) -> int:
        return self.total - self.computed - len(self.failures)


class MapCache:
    """The maps of one detector.

    Args:
        detector: makes the maps that are not there.
        root: of all caches; by default the folder ``maps`` beside the banks.
    """

    def __init__(self, detector: Detector, root: Path | None = None) -> None:
        self.detector = detector
        self.name = key_of(detector)
        self.directory = (root or cache_root() / "maps") / f"{self.name}-{SCHEMA}"

    def place(self, file: Path) -> Path:
        """Where the map of an image file lies, or would lie.

        Raises:
            OSError: the file cannot be read.
        """
        with open(file, "rb") as stream:
            stamp = hashlib.file_digest(stream, "blake2b").hexdigest()[:40]
        return self.directory / stamp[:2] / f"{stamp}.png"

    def get(self, file: Path) -> tuple[Image.Image, bool]:
        """The map of an image file, an "L" image, and whether it was computed now.

        Raises:
            CVSAError: the map cannot be stored; whatever the detector refuses.
            Exception: the image cannot be decoded.
        """
        place = self.place(file)
        if (known := _read(place)) is not None:
            return known, False
        map = self._detect(file)
        try:
            _write(map, place)
        except OSError as error:
            raise CVSAError(
                one_line(
                    f"Cannot store the map of {file} in {self.directory}: {error.strerror or error}; "
                    "free some space or set the environment variable CVSA_CACHE to a folder on another disk."
                )
            ) from error
        return map, True

    def _detect(self, file: Path) -> Image.Image:
        side = self.detector.side
        with Image.open(file) as picture:
            picture.draft(None, (2 * side, 2 * side))  # JPEG decodes faster at a fraction of its size
            image = shrink(to_rgb(ImageOps.exif_transpose(picture)), side)
        map = np.asarray(self.detector(np.asarray(image)))
        if map.shape != (image.height, image.width) or not (map.min() >= 0 and map.max() <= 1):
            raise ValueError(
                f"detector {self.detector.name!r} gave a map {map.shape}, {map.min():.3g} to "
                f"{map.max():.3g}, for an image {image.height} x {image.width}"
            )
        if max(map.shape) > STORED_SIDE:
            factor = STORED_SIDE / max(map.shape)
            map = stretch(map, (max(1, round(factor * map.shape[0])), max(1, round(factor * map.shape[1]))))
        return Image.fromarray(np.round(255 * map).astype(np.uint8))


def detected_saliency(root: Path, detector: Detector) -> Saliency:
    """Maps of a detector as the saliency of a folder; what :func:`detect` has not made is made on reading.

    An image without a map, because the detector failed, counts as one without an entry.

    Args:
        root: the folder of photographs.
        detector: see :func:`cvsa.saliency.detectors.find_detector`.
    """
    cache = MapCache(detector)

    def read(path: str, size: Size) -> Image.Image | None:
        try:
            return cache.get(root / path)[0]
        except CVSAError:
            raise
        except Exception:  # the image itself is reported where it is decoded, the detector by `detect`
            return None

    def prepare(paths: Sequence[str]) -> str:
        result = detect(root, paths, detector)
        return f"Detector {detector.name!r}, {result}" if result.nothing or result.failures else ""

    # The kind holds the detector's key, so that another version makes another bank.
    return Saliency(cache.name, read, lambda path: "", prepare=prepare)


def detect(root: Path, paths: Sequence[str], detector: Detector, *, workers: int | None = None) -> Detected:
    """Make the maps of a folder's images, with a progress bar; those that are there already are kept.

    Args:
        root: the folder of photographs.
        paths: images, relative to it.
        detector: see :func:`cvsa.saliency.detectors.find_detector`.
        workers: threads; by default one per core.

    Raises:
        CVSAError: weights or a library are missing, the cache cannot be written.
    """
    from tqdm import tqdm

    cache, result = MapCache(detector), Detected(total=len(paths))

    def attempt(path: str) -> tuple[bool, bool] | str:
        try:
            map, new = cache.get(root / path)
        except CVSAError:
            raise
        except Exception as error:  # on damaged files Pillow's plugins raise almost anything
            return one_line(f"{type(error).__name__}: {error}")
        return new, bool((np.asarray(map) >= THRESHOLD * 255).any())

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        bar = tqdm(total=len(paths), desc=f"detecting ({detector.name})", unit="img", disable=None)
        try:
            for path, outcome in zip(paths, pool.map(attempt, paths), strict=True):
                bar.update()
                if isinstance(outcome, str):
                    result.failures[path] = outcome
                else:
                    result.computed += outcome[0]
                    if not outcome[1]:
                        result.nothing.append(path)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # a missing library would fail once per image
            raise
        finally:
            bar.close()
    return result


def _read(place: Path) -> Image.Image | None:
    try:
        with Image.open(place) as stored:
            stored.load()
            return stored if stored.mode == "L" else None
    except (OSError, SyntaxError, ValueError):  # not there, or damaged: then it is made again
        return None


def _write(map: Image.Image, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    # Written beside its place and renamed: an interrupted run leaves no half map.
    handle, temporary = tempfile.mkstemp(dir=place.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            map.save(file, "PNG")
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, place)
    except BaseException:
        os.unlink(temporary)
        raise
