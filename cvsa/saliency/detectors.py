"""Saliency detectors: one interface, image -> map in [0, 1], and a registry of names.

Masks, boxes and predicted maps that lie in a folder are read by :mod:`cvsa.saliency.stored`; a detector looks
at the photograph itself. :mod:`cvsa.saliency.cache` makes of a detector one more source of a folder's maps.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
from typing import Any, Protocol

import numpy as np
from PIL import Image

from cvsa.errors import CVSAError

# name -> "module:function" that makes the detector; the modules are imported on use, some are heavy.
DETECTORS = {
    "classical": "cvsa.saliency.classical:Classical",
    "vit": "cvsa.saliency.attention:Attention",
    "u2net": "cvsa.saliency.pretrained:u2net",
    "u2netp": "cvsa.saliency.pretrained:u2netp",
    "isnet": "cvsa.saliency.pretrained:isnet",
    "birefnet": "cvsa.saliency.pretrained:birefnet",
}
DEFAULT = "classical"  # needs no download


class Detector(Protocol):
    """Finds the salient object of one image.

    A detector is deterministic, and safe to call from several threads at once.

    Attributes:
        name: short, as in the registry.
        version: changed whenever the same parameters give other maps.
        parameters: JSON-ready, all that the maps depend on; with name and version the key of the cache.
        side: longest side of an image worth giving, pixels; larger ones are shrunk to it first.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def parameters(self) -> dict[str, Any]: ...
    @property
    def side(self) -> int: ...

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Saliency map.

        Args:
            image: (H, W, 3) uint8, RGB.

        Returns:
            (H, W) float32 in [0, 1]; from 0.5 on a pixel belongs to the object. Where nothing is salient
            no pixel reaches 0.5.

        Raises:
            CVSAError: not such an image; weights or a library are missing.
        """
        ...


def find_detector(name: str, **parameters: Any) -> Detector:
    """The detector of that name.

    Args:
        name: one of ``DETECTORS``.
        **parameters: of the detector, see its class.

    Raises:
        CVSAError: unknown name or parameter.
    """
    module, _, maker = nearest(name, DETECTORS, "detector").partition(":")
    make = getattr(importlib.import_module(module), maker)
    try:
        detector: Detector = make(**parameters)
    except TypeError as error:
        raise CVSAError(f"Detector {name!r} does not take these parameters: {error}.") from error
    return detector


def key_of(detector: Detector) -> str:
    """A detector's name, version and a hash of all its maps depend on."""
    text = json.dumps([detector.name, detector.version, detector.parameters], sort_keys=True)
    return f"{detector.name}-{detector.version}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def nearest(name: str, known: dict[str, Any], what: str) -> Any:
    """The entry of that name.

    Raises:
        CVSAError: unknown; names the nearest and all there are.
    """
    if name in known:
        return known[name]
    near = difflib.get_close_matches(str(name).lower(), list(known), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise CVSAError(f"Unknown {what} {name!r}.{hint} Allowed: {', '.join(known)}.")


def check_image(image: np.ndarray) -> None:
    """Refuse what is not an (H, W, 3) uint8 image with at least one pixel.

    Raises:
        CVSAError: with shape and type of what was given.
    """
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise CVSAError(f"A detector takes an image (H, W, 3) uint8, got {array.dtype} {array.shape}.")


def shrink(image: Image.Image, side: int) -> Image.Image:
    """The picture with its longest side reduced to at most `side` pixels, antialiased, aspect kept."""
    factor = side / max(image.size)
    if factor >= 1:
        return image
    width, height = (max(1, round(factor * length)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def stretch(map: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A map resized bilinearly.

    Args:
        map: (h, w) float in [0, 1].
        shape: (H, W).

    Returns:
        (H, W) float32 in [0, 1].
    """
    picture = Image.fromarray(np.ascontiguousarray(map, dtype=np.float32))
    return np.asarray(picture.resize(shape[::-1], Image.Resampling.BILINEAR)).clip(0, 1)
