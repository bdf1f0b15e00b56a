"""The tables that CUB-200-2011 and NABirds share.

    images.txt              <image id> <path below images/>
    image_class_labels.txt  <image id> <class id>
    train_test_split.txt    <image id> <1 for training, 0 for test>
    classes.txt             <class id> <name>
    bounding_boxes.txt      <image id> <x> <y> <width> <height>, pixels
    parts/part_locs.txt     <image id> <part id> <x> <y> <1 if visible>, pixels

Source: the README that CUB-200-2011 brings along. Boxes and parts are taken to count pixels from 0.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cvsa.data.sets.base import DataSet, Index
from cvsa.errors import CVSAError
from cvsa.io.tables import inside, numbers, read_columns, read_rows

if TYPE_CHECKING:
    from cvsa.saliency.stored import Saliency

TABLES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt", "images")


class CaltechTables(DataSet):
    """Reads the shared tables.

    Attributes:
        used_only: classes without any image are inner nodes of a hierarchy, not empty classes.
    """

    used_only: ClassVar[bool] = False

    def paths(self, home: Path) -> dict[str, str]:
        """Image id -> path relative to the home."""
        table = read_columns(home / "images.txt")
        return {key: f"images/{inside(where, path)}" for key, (where, (path,)) in table.items()}

    def index(self, home: Path) -> Index:
        names = {key: name for key, (_, (name,)) in read_columns(home / "classes.txt").items()}
        labels = read_columns(home / "image_class_labels.txt")
        splits = read_columns(home / "train_test_split.txt")
        for where, (key,) in labels.values():
            if key not in names:
                raise CVSAError(f"{where}: class {key} is not in {home / 'classes.txt'}.")
        used = {key for _, (key,) in labels.values()}
        keys = sorted(used if self.used_only else names, key=lambda key: (len(key), key))
        number = {key: label for label, key in enumerate(keys)}
        rows = []
        for key, path in self.paths(home).items():
            for table, file in ((labels, "image_class_labels.txt"), (splits, "train_test_split.txt")):
                if key not in table:
                    raise CVSAError(f"Image {key} ({path}) is not in {home / file}.")
            where, (training,) = splits[key]
            if training not in ("0", "1"):
                raise CVSAError(f"{where}: {training!r} is neither 1 (training) nor 0 (test).")
            rows.append((path, number[labels[key][1][0]], "train" if training == "1" else "test"))
        return Index([names[key] for key in keys], rows)

    def boxes(self, home: Path) -> Saliency:
        """The one box of each image."""
        from cvsa.saliency.stored import corner_box, from_boxes

        file, paths, boxes = self.place(home, "boxes"), self.paths(home), {}
        for key, (where, row) in read_columns(file, 5).items():
            x, y, width, height = numbers(where, *row)
            boxes[_known(paths, key, where)] = [corner_box(where, x, y, x + width, y + height)]
        return from_boxes(boxes, file)

    def parts(self, home: Path) -> Saliency:
        """The visible parts of each image."""
        from cvsa.saliency.stored import from_parts

        file, paths, parts = self.place(home, "parts"), self.paths(home), defaultdict(list)
        for where, (key, _, *row) in read_rows(file, 5):
            x, y, visible = numbers(where, *row)
            if visible:
                parts[_known(paths, key, where)].append((x, y))
        return from_parts(parts, file)

    def annotated(self, home: Path, kind: str) -> Saliency:
        return self.boxes(home) if kind == "boxes" else self.parts(home)


def _known(paths: dict[str, str], key: str, where: str) -> str:
    if key not in paths:
        raise CVSAError(f"{where}: image {key} is not in images.txt.")
    return paths[key]
