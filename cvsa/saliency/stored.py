"""Stored saliency: masks, boxes, the places of parts and predicted masks, read as maps of whole images.

Masks and boxes refer to the image as it is displayed, that is after its EXIF orientation.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from cvsa.errors import CVSAError, one_line
from cvsa.io.pixels import to_grey
from cvsa.io.tables import numbers, read_csv

REACH = 0.15  # of the parts' extent: how far the object goes on around them

Size = tuple[int, int]
# (path of an image, its size) -> "L" map of the whole image, of any size; None where there is none
MapReader = Callable[[str, Size], Image.Image | None]


@dataclass
class Saliency:
    """Saliency of a folder's images: its kind, how to read one map, and which file it comes from."""

    kind: str
    read: MapReader
    source: Callable[[str], str]  # the file an image's map comes from; empty where there is none
    clipped: set[str] = field(default_factory=set)  # images with a box that had to be clipped
    # Makes the maps of these images, if they have to be made; says what went wrong, or nothing.
    prepare: Callable[[Sequence[str]], str] = lambda paths: ""


NONE = Saliency("none", lambda path, size: None, lambda path: "")


class Box(NamedTuple):
    """An annotated box in pixels of the image, x2 and y2 exclusive, and where it stands."""

    x1: float
    y1: float
    x2: float
    y2: float
    where: str


Point = tuple[float, float]


def corner_box(where: str, *corners: object) -> Box:
    """Box from x1, y1, x2, y2.

    Raises:
        CVSAError: not numbers, or an empty or negative size.
    """
    x1, y1, x2, y2 = numbers(where, *corners)
    if x2 <= x1 or y2 <= y1:
        raise CVSAError(f"{where}: the box has the size {x2 - x1:g} x {y2 - y1:g}.")
    return Box(x1, y1, x2, y2, where)


def from_boxes(boxes: Mapping[str, Sequence[Box]], table: Path) -> Saliency:
    """What lies in an image's boxes is salient. Boxes partly outside are clipped, and noted in `clipped`."""

    listed = {_key(path): several for path, several in boxes.items()}

    def read(path: str, size: Size) -> Image.Image | None:
        if not listed.get(_key(path)):
            return None
        canvas = Image.new("L", size)
        for x1, y1, x2, y2, where in listed[_key(path)]:
            if x1 >= size[0] or y1 >= size[1] or x2 <= 0 or y2 <= 0:
                raise CVSAError(f"{where}: the box of {path!r} lies outside its {size[0]} x {size[1]} image.")
            if min(x1, y1) <= -1 or x2 >= size[0] + 1 or y2 >= size[1] + 1:
                saliency.clipped.add(path)
            left, top = (min(max(round(v), 0), n - 1) for v, n in zip((x1, y1), size, strict=True))
            right, bottom = (
                max(min(round(v), n), low + 1) for v, n, low in zip((x2, y2), size, (left, top), strict=True)
            )
            canvas.paste(255, (left, top, right, bottom))
        return canvas

    saliency = Saliency("boxes", read, lambda path: str(table))
    return saliency


def from_masks(
    place: Callable[[str], str | Path], salient: Callable[[np.ndarray], np.ndarray] | None = None
) -> Saliency:
    """Masks stored as pictures.

    Args:
        place: the mask of an image.
        salient: from the mask's values to whether they are salient; None: grey values as they are, white =
            salient; of a palette all but its first colour; masks stored as 0 and 1 count as black and white.
    """

    def read(path: str, size: Size) -> Image.Image | None:
        if not os.path.isfile(place(path)):
            return None
        try:
            with Image.open(place(path)) as mask:
                if salient is None and mask.mode != "P":
                    grey = to_grey(mask)
                    return grey.point(lambda value: 255 * value) if grey.getextrema()[1] == 1 else grey
                values = np.asarray(mask.convert("L") if mask.mode == "RGB" else mask)
        except Exception as error:  # on damaged files Pillow's plugins raise almost anything
            raise ValueError(one_line(f"its mask {place(path)} cannot be read: {error}")) from error
        return Image.fromarray(np.uint8(255) * (salient(values) if salient else values > 0))

    return Saliency("masks", read, lambda path: str(place(path)))


def from_parts(parts: Mapping[str, Sequence[Point]], table: Path) -> Saliency:
    """The convex hull of an image's visible parts, widened by `REACH` of its extent, is salient [O]."""

    def read(path: str, size: Size) -> Image.Image | None:
        if not parts.get(path):
            return None
        points = np.array(parts[path])
        reach = max(REACH * float(np.ptp(points, axis=0).max()), 0.02 * min(size))
        hull = _hull([(float(x), float(y)) for x, y in points])
        canvas = Image.new("L", size)
        draw = ImageDraw.Draw(canvas)
        if len(hull) > 2:
            draw.polygon(hull, fill=255)
        draw.line([*hull, hull[0]], fill=255, width=round(2 * reach))
        for x, y in hull:
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=255)
        return canvas

    return Saliency("parts", read, lambda path: str(table))


def _hull(points: list[Point]) -> list[Point]:
    """Convex hull by Andrew's monotone chain, in order around it."""
    chain = sorted(set(points))

    def half(ordered: list[Point]) -> list[Point]:
        hull: list[Point] = []
        for x, y in ordered:
            while len(hull) > 1:
                (ax, ay), (bx, by) = hull[-2:]
                if (bx - ax) * (y - ay) > (by - ay) * (x - ax):
                    break
                hull.pop()
            hull.append((x, y))
        return hull[:-1]

    return half(chain) + half(chain[::-1]) or chain


def from_predictions(folder: Path) -> Saliency:
    """Predicted masks in the one .npz of a folder: paths, bits = packbits of (h * w) each, shape = (h, w).

    Raises:
        CVSAError: no such file or several; it cannot be read or does not hold these.
    """
    predicted = sorted(folder.glob("*.npz"))
    if len(predicted) != 1:
        names = ", ".join(p.name for p in predicted) or "none"
        raise CVSAError(
            f"saliency 'predicted' needs exactly one .npz of predicted masks in {folder}, found: {names}."
        )
    file = predicted[0]
    try:
        with np.load(file, allow_pickle=False) as arrays:
            row = {_key(str(path)): i for i, path in enumerate(arrays["paths"])}
            height, width = (int(n) for n in arrays["shape"])
            bits = arrays["bits"]
        if bits.dtype != np.uint8 or bits.shape != (len(row), -(-height * width // 8)):
            raise ValueError(f"bits {bits.dtype} {bits.shape} for {len(row)} paths of {height} x {width}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CVSAError(
            one_line(f"Cannot read predicted masks from {file}: {error}; expected paths, bits, shape.")
        ) from error

    def read(path: str, size: Size) -> Image.Image | None:
        if _key(path) not in row:
            return None
        mask = np.unpackbits(bits[row[_key(path)]], count=height * width).reshape(height, width)
        return Image.fromarray(mask * np.uint8(255))

    return Saliency("predicted", read, lambda path: str(file))


def from_folder(folder: Path) -> Saliency:
    """Maps as PNG under the paths of the images: FOLDER/train/CLASS/x.png for train/CLASS/x.jpg.

    Raises:
        CVSAError: no such folder.
    """
    if not folder.is_dir():
        raise CVSAError(f"saliency 'masks' needs the folder {folder} with PATH.png for each image PATH.")
    return from_masks(lambda path: f"{folder}/{os.path.splitext(path)[0]}.png")


def from_table(table: Path) -> Saliency:
    """Boxes from a CSV with the columns path,x,y,w,h in pixels of the image, one row per object.

    Raises:
        CVSAError: the table cannot be read; a box is no box (names the line).
    """
    boxes: dict[str, list[Box]] = defaultdict(list)
    for line, record in read_csv(table, ("path", "x", "y", "w", "h")):
        where = f"{table}, line {line}"
        x, y, w, h = numbers(where, *(record[name] for name in ("x", "y", "w", "h")))
        boxes[record["path"]].append(corner_box(where, x, y, x + w, y + h))
    return from_boxes(boxes, table)


def _key(path: str) -> str:
    # macOS may spell an accented letter as two characters where the table has one.
    return unicodedata.normalize("NFC", path)
