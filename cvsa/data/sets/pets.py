"""Oxford-IIIT Pet: 37 breeds of cats and dogs with trimaps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cvsa.data.sets.base import DataSet, Index
from cvsa.data.sets.card import Archive, Card
from cvsa.errors import CVSAError
from cvsa.io.tables import inside, read_columns

if TYPE_CHECKING:
    from cvsa.saliency.stored import Saliency

BACKGROUND = 2  # of a trimap: 1 is the animal, 2 the background, 3 the border that was not classified
_FILES = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"


class Pets(DataSet):
    """Oxford-IIIT Pet, classes = breeds.

    annotations/trainval.txt, test.txt    <image> <class id 1 to 37> <species> <breed id>
    annotations/trimaps/<image>.png       1 animal, 2 background, 3 border
    images/<image>.jpg                    the name is the breed's, then _ and a number

    Source: the README in annotations/. The border counts as animal: it follows the outline of the fur, and
    without it thin tails and ears would be lost [O]. torchvision.datasets.OxfordIIITPet reads the same lists;
    it is not used because it keeps its paths in private fields. Boxes of the heads (annotations/xmls) are not
    read: a head is not the object.
    """

    card = Card(
        name="pets",
        title="Oxford-IIIT Pet",
        url="https://www.robots.ox.ac.uk/~vgg/data/pets/",
        citation="Parkhi, Vedaldi, Zisserman, Jawahar: Cats and Dogs. CVPR 2012.",
        terms="CC BY-SA 4.0; the photographers keep their rights",
        classes=37,
        splits={"train": 3680, "test": 3669},
        about_splits="the published ones; validation images are held out of the training images",
        truth="one trimap per image, and boxes of most heads (not read)",
        files=("annotations/trainval.txt", "annotations/test.txt", "images"),
        archives=(
            Archive("images.tar.gz", "images", f"{_FILES}images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            Archive(
                "annotations.tar.gz",
                "annotations",
                f"{_FILES}annotations.tar.gz",
                "95a8c909bbe2e81eed6a22bccdf3f68f",
            ),
        ),
        inner="oxford-iiit-pet",
    )
    kinds = {"masks": "annotations/trimaps"}

    def index(self, home: Path) -> Index:
        breeds: dict[int, str] = {}
        found = []
        for split, name in (("train", "trainval"), ("test", "test")):
            for image, (where, row) in read_columns(home / f"annotations/{name}.txt", 4).items():
                breed, label = image.rpartition("_")[0], row[0]
                if not label.isdecimal() or not 1 <= int(label) <= self.card.classes:
                    raise CVSAError(f"{where}: class {label} is none of 1 to {self.card.classes}.")
                if breeds.setdefault(int(label), breed) != breed:
                    raise CVSAError(f"{where}: class {label} is {breeds[int(label)]!r} and {breed!r}.")
                found.append((inside(where, f"images/{image}.jpg"), int(label), split))
        keys = sorted(breeds)
        number = {key: label for label, key in enumerate(keys)}
        rows = [(path, number[key], split) for path, key, split in found]
        return Index([breeds[key] for key in keys], rows)

    def annotated(self, home: Path, kind: str) -> Saliency:
        from cvsa.saliency.stored import from_masks

        folder = self.place(home, kind)
        return from_masks(lambda path: folder / f"{Path(path).stem}.png", lambda values: values != BACKGROUND)
