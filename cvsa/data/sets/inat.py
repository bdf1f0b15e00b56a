"""iNaturalist 2018: 8,142 species in their natural, long-tailed frequency."""

from __future__ import annotations

from pathlib import Path

from cvsa.data.sets.base import DataSet, Index
from cvsa.data.sets.card import Archive, Card
from cvsa.errors import CVSAError, one_line
from cvsa.io.tables import inside, read_json

_FILES = "https://ml-inat-competition-datasets.s3.amazonaws.com/2018/"


class INaturalist2018(DataSet):
    """iNaturalist 2018 as its competition published it.

    train2018.json, val2018.json         images: id, file_name; annotations: image_id, category_id;
                                         categories: id, name
    train_val2018/GROUP/CATEGORY/x.jpg   the images, at file_name

    Source: https://github.com/visipedia/inat_comp/tree/master/2018. torchvision.datasets.INaturalist is not
    used because it reads folders only, so it cannot tell training from validation images.
    """

    card = Card(
        name="inat2018",
        title="iNaturalist 2018",
        url="https://github.com/visipedia/inat_comp/tree/master/2018",
        citation="Van Horn, Mac Aodha, Song, Cui, Sun, Shepard, Adam, Perona, Belongie: The iNaturalist "
        "Species Classification and Detection Dataset. CVPR 2018.",
        terms="non-commercial research and education; the images must not be passed on",
        classes=8142,
        splits={"train": 437513, "test": 24426},
        about_splits="the published validation images are the test images (labels of the published test "
        "images are secret); validation images are held out of the training images",
        truth="species only; no boxes, no masks",
        files=("train2018.json", "val2018.json", "train_val2018"),
        archives=(
            Archive("train_val2018.tar.gz", "train_val2018", f"{_FILES}train_val2018.tar.gz",
                    "b1c6952ce38f31868cc50ea72d066cc3"),
            Archive("train2018.json.tar.gz", "train2018.json", f"{_FILES}train2018.json.tar.gz",
                    "bfa29d89d629cbf04d826a720c0a68b0"),
            Archive("val2018.json.tar.gz", "val2018.json", f"{_FILES}val2018.json.tar.gz",
                    "f2ed8bfe3e9901cdefceb4e53cd3775d"),
        ),
    )  # fmt: skip

    def index(self, home: Path) -> Index:
        names: dict[int, str] = {}
        found = []
        for split, name in (("train", "train2018.json"), ("test", "val2018.json")):
            file = home / name
            images, annotations, categories = read_json(file, "images", "annotations", "categories")
            try:
                names |= {int(c["id"]): str(c["name"]) for c in categories}
                paths = {image["id"]: inside(str(file), image["file_name"]) for image in images}
                for annotation in annotations:
                    label, image = int(annotation["category_id"]), annotation["image_id"]
                    if label not in names:
                        raise CVSAError(f"{file}: category {label} of image {image} is not in categories.")
                    found.append((paths[image], label, split))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise CVSAError(one_line(f"{file} is malformed: {error!r}.")) from error
        ids = sorted(names)
        number = {key: label for label, key in enumerate(ids)}
        return Index([names[key] for key in ids], [(path, number[key], split) for path, key, split in found])
