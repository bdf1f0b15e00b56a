"""From published annotations to saliency maps: boxes, masks, and the places of parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from cvsa.data.folder import Saliency, Size
from cvsa.data.sets.tables import numbers
from cvsa.errors import CVSAError, one_line

REACH = 0.15  # of the parts' extent: how far the object goes on around them


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

    def read(path: str, size: Size) -> Image.Image | None:
        if not boxes.get(path):
            return None
        canvas = Image.new("L", size)
        for x1, y1, x2, y2, where in boxes[path]:
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
    place: Callable[[str], Path], salient: Callable[[np.ndarray], np.ndarray] | None = None
) -> Saliency:
    """Masks stored as pictures.

    Args:
        place: the mask of an image.
        salient: from the mask's values to whether they are salient; None: grey values as they are, white =
            salient.
    """

    def read(path: str, size: Size) -> Image.Image | None:
        if not place(path).is_file():
            return None
        try:
            with Image.open(place(path)) as mask:
                values = np.asarray(mask.convert("L") if salient is None or mask.mode == "RGB" else mask)
        except Exception as error:  # on damaged files Pillow's plugins raise almost anything
            raise ValueError(one_line(f"its mask {place(path)} cannot be read: {error}")) from error
        return Image.fromarray(values if salient is None else np.uint8(255) * salient(values))

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
