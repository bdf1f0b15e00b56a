"""Where the parts of CUB-200-2011 and NABirds lie in the pictures of a bank.

    parts/parts.txt      <part id> <name>
    parts/part_locs.txt  <image id> <part id> <x> <y> <1 if visible>, pixels of the image

Source: the README that CUB-200-2011 brings along; NABirds uses the same tables. Places are taken to be those
of pixels counted from 0, as everywhere in `cvsa.data.sets.caltech`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from cvsa.data.bank import ImageBank
from cvsa.data.sets import find_set
from cvsa.data.sets.caltech import CaltechTables
from cvsa.errors import CVSAError
from cvsa.io.tables import numbers, read_columns, read_rows

TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


@dataclass(frozen=True, eq=False)
class PartLocations:
    """Parts of the N images of a bank.

    Attributes:
        points: (N, P, 2) xy in pixels of the bank, NaN where a part is not visible or was cut off.
        names: P names, in the order of the set's part numbers.
    """

    points: np.ndarray
    names: list[str]


def part_locations(bank: ImageBank, root: Path | None = None, name: str = "cub200") -> PartLocations:
    """Parts in bank coordinates: the central square of the image is the bank's square.

    Args:
        bank: of photographs of that set.
        root: the set's folder; None: the one below $CVSA_DATA.
        name: "cub200" (15 parts) or "nabirds" (11).

    Raises:
        CVSAError: another set; files are missing or malformed; the bank is of other images.
    """
    source = find_set(name)
    if not isinstance(source, CaltechTables):
        raise CVSAError(f"{source.card.title} has no table of parts; cub200 and nabirds have.")
    home = source.home(root)
    names = _names(home)
    places = _places(source, home, list(names))
    points = np.full((len(bank), len(names), 2), np.nan)
    for row, path in enumerate(bank.extras.get("path", [])):
        if str(path) not in places:
            raise CVSAError(f"{path!s} of the bank is not in {home / 'images.txt'}.")
        width, height = _size(home / str(path))
        side = min(width, height)
        corner = np.array([(width - side) / 2, (height - side) / 2])
        xy = (places[str(path)] + 0.5 - corner) * bank.resolution / side  # the pixel's centre
        outside = ~((xy >= 0) & (xy < bank.resolution)).all(axis=-1)
        points[row] = np.where(outside[:, None], np.nan, xy)
    return PartLocations(points, list(names.values()))


def _names(home: Path) -> dict[str, str]:
    """Part id -> name, in the table's order."""
    return {key: name for key, (_, (name,)) in read_columns(home / "parts/parts.txt").items()}


def _places(source: CaltechTables, home: Path, ids: list[str]) -> dict[str, np.ndarray]:
    """Path of an image -> (P, 2) xy in its pixels, NaN where not visible."""
    paths, table = source.paths(home), source.place(home, "parts")
    places = {path: np.full((len(ids), 2), np.nan) for path in paths.values()}
    column = {key: number for number, key in enumerate(ids)}
    for where, (image, part, *row) in read_rows(table, 5):
        x, y, visible = numbers(where, *row)
        if image not in paths or part not in column:
            raise CVSAError(f"{where}: image {image} or part {part} is not listed in {home}.")
        if visible:
            places[paths[image]][column[part]] = x, y
    return places


def _size(file: Path) -> tuple[int, int]:
    """Width and height of an image as it is displayed, from its header."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation) in TURNED
    except OSError as error:
        raise CVSAError(f"Cannot read {file}: {error}.") from error
    return (height, width) if turned else (width, height)
