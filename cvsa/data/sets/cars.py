"""Stanford Cars: 196 makes, models and years with boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvsa.data.sets.base import DataSet, Index
from cvsa.data.sets.card import Archive, Card
from cvsa.errors import CVSAError
from cvsa.io.tables import inside, numbers, read_mat

if TYPE_CHECKING:
    from cvsa.saliency.stored import Saliency

TABLES = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")


class Cars(DataSet):
    """Stanford Cars in the places where torchvision.datasets.StanfordCars reads it.

    devkit/cars_meta.mat               class_names
    devkit/cars_train_annos.mat        annotations: bbox_x1, bbox_y1, bbox_x2, bbox_y2, class, fname
    cars_test_annos_withlabels.mat     the same for the test images
    cars_train/, cars_test/            the images

    Source: the README of the development kit, and torchvision's reader. Boxes and classes count from 1, as
    MATLAB does. torchvision's class is not used because it knows no boxes.
    """

    card = Card(
        name="cars",
        title="Stanford Cars",
        url="https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
        citation="Krause, Stark, Deng, Fei-Fei: 3D Object Representations for Fine-Grained Categorization. "
        "IEEE Workshop on 3D Representation and Recognition, 2013.",
        terms="no licence stated; the photographers keep their rights. The original page is no longer served",
        classes=196,
        splits={"train": 8144, "test": 8041},
        about_splits="the published ones; validation images are held out of the training images",
        truth="one box per image; no masks",
        files=("devkit/cars_meta.mat", *TABLES.values(), "cars_train", "cars_test"),
        # Checksums as torchvision had them while the page was served.
        archives=(
            Archive("car_devkit.tgz", "devkit", md5="c3b158d763b6e2245038c8ad08e45376"),
            Archive("cars_train.tgz", "cars_train", md5="065e5b463ae28d29e77c1b4b166cfe61"),
            Archive("cars_test.tgz", "cars_test", md5="4ce7ebf6a94d07f1952d94dd34c4d501"),
            Archive(TABLES["test"], TABLES["test"], md5="b0a2b23655a3edd16d84508592a98d10"),
        ),
        inner="stanford_cars",
    )
    kinds = {"boxes": TABLES["train"]}

    def index(self, home: Path) -> Index:
        classes = [str(name) for name in read_mat(home / "devkit/cars_meta.mat", "class_names")]
        rows = []
        for split in TABLES:
            for where, path, annotation in self._annotations(home, split):
                label = int(annotation["class"])
                if not 1 <= label <= len(classes):
                    raise CVSAError(f"{where}: class {label} of {path!r} is none of 1 to {len(classes)}.")
                rows.append((path, label - 1, split))
        return Index(classes, rows)

    def annotated(self, home: Path, kind: str) -> Saliency:
        from cvsa.saliency.stored import corner_box, from_boxes

        boxes = {}
        for split in TABLES:
            for where, path, annotation in self._annotations(home, split):
                x1, y1, x2, y2 = numbers(where, *(annotation[field] for field in FIELDS[:4]))
                boxes[path] = [corner_box(where, x1 - 1, y1 - 1, x2, y2)]
        return from_boxes(boxes, self.place(home, kind))

    def _annotations(self, home: Path, split: str) -> list[tuple[str, str, Any]]:
        file = home / TABLES[split]
        records = read_mat(file, "annotations")
        if missing := set(FIELDS) - set(records.dtype.names or ()):
            raise CVSAError(f"{file}: the annotations have no {', '.join(sorted(missing))}.")
        return [
            (
                f"{file}, annotation {i}",
                inside(f"{file}, annotation {i}", f"cars_{split}/{record['fname']}"),
                record,
            )
            for i, record in enumerate(records, 1)
        ]
