"""FGVC-Aircraft: 100 aircraft variants with boxes, and a strip of copyright under every photograph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cvsa.data.sets.base import DataSet, Index
from cvsa.data.sets.card import Archive, Card
from cvsa.errors import CVSAError
from cvsa.io.tables import inside, numbers, read_columns, read_rows

if TYPE_CHECKING:
    from cvsa.saliency.stored import Saliency

BANNER = 20  # pixels


class Aircraft(DataSet):
    """FGVC-Aircraft 2013b, classes = variants.

    data/variants.txt                          one name a line
    data/images_variant_{trainval,test}.txt    <image> <variant>, where the variant may hold blanks
    data/images_box.txt                        <image> <xmin> <ymin> <xmax> <ymax>, the first pixel is (1, 1)
    data/images/<image>.jpg                    with 20 pixels of copyright at the bottom, to be cut off

    Source: the README that the archive brings along. torchvision.datasets.FGVCAircraft reads the same lists;
    it is not used because it knows neither boxes nor banner and gives no paths without its private fields.
    """

    card = Card(
        name="aircraft",
        title="FGVC-Aircraft",
        url="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
        citation="Maji, Kannala, Rahtu, Blaschko, Vedaldi: Fine-Grained Visual Classification of Aircraft. "
        "arXiv:1306.5151, 2013.",
        terms="for non-commercial research only; the photographers keep their rights",
        classes=100,
        splits={"train": 6667, "test": 3333},
        about_splits="published training and validation images (3,334 and 3,333) together are the training "
        "images, out of which validation images are held out",
        truth="one box per image; variant, family and manufacturer (variants are the classes); no masks",
        files=(
            "data/variants.txt",
            "data/images_variant_trainval.txt",
            "data/images_variant_test.txt",
            "data/images",
        ),
        # The page links a checksum; torchvision downloads without one, so it is left to the user.
        archives=(Archive("fgvc-aircraft-2013b.tar.gz", "fgvc-aircraft-2013b"),),
        inner="fgvc-aircraft-2013b",
    )
    kinds = {"boxes": "data/images_box.txt"}

    def index(self, home: Path) -> Index:
        classes = [name for _, (name,) in read_rows(home / "data/variants.txt", 1)]
        rows = []
        for split, file in (("train", "trainval"), ("test", "test")):
            table = home / f"data/images_variant_{file}.txt"
            for image, (where, (name,)) in read_columns(table).items():
                if name not in classes:
                    raise CVSAError(f"{where}: variant {name!r} is not in {home / 'data/variants.txt'}.")
                rows.append((inside(where, f"data/images/{image}.jpg"), classes.index(name), split))
        return Index(classes, rows)

    def annotated(self, home: Path, kind: str) -> Saliency:
        from cvsa.saliency.stored import corner_box, from_boxes

        file, boxes = self.place(home, kind), {}
        for image, (where, row) in read_columns(file, 5).items():
            x1, y1, x2, y2 = numbers(where, *row)
            # From the first to the last pixel, counted from 1 -> from 0, end exclusive.
            boxes[f"data/images/{image}.jpg"] = [corner_box(where, x1 - 1, y1 - 1, x2, y2)]
        return from_boxes(boxes, file)

    def crop(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        width, height = size
        if height <= BANNER:
            raise CVSAError(f"An image of {width} x {height} pixels has no room for the {BANNER} px banner.")
        return 0, 0, width, height - BANNER
