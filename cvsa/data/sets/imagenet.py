"""ImageNet-1K: 1,000 categories, one folder each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cvsa.data.sets.base import DataSet, Index
from cvsa.data.sets.card import Archive, Card
from cvsa.errors import CVSAError, one_line

SUFFIXES = (".jpeg", ".jpg", ".png")


class ImageNet(DataSet):
    """ImageNet-1K (ILSVRC 2012) in the folders that torchvision.datasets.ImageNet makes of the archives.

    train/WNID/x.JPEG    val/WNID/x.JPEG

    Classes are the WordNet ids. `arrange` leaves sorting the archives (validation images come without
    folders) to torchvision, which checks them first; its class is not used to read, as it needs the
    development kit to do so.
    """

    card = Card(
        name="imagenet",
        title="ImageNet-1K (ILSVRC 2012)",
        url="https://image-net.org/challenges/LSVRC/2012/2012-downloads.php",
        citation="Russakovsky et al.: ImageNet Large Scale Visual Recognition Challenge. International "
        "Journal of Computer Vision 115, 2015.",
        terms="non-commercial research and education, after registration; the images must not be passed on",
        classes=1000,
        splits={"train": 1281167, "test": 50000},
        about_splits="the published validation images are the test images (labels of the published test "
        "images are secret); validation images are held out of the training images",
        truth="category only; boxes of a part of the images are published and not read",
        files=("train", "val"),
        archives=(
            Archive("ILSVRC2012_img_train.tar", "train", md5="1d675b47d978889d74fa0da5fadfb00e"),
            Archive("ILSVRC2012_img_val.tar", "val", md5="29b22e2961454d5413ddabcf34fc5622"),
            Archive("ILSVRC2012_devkit_t12.tar.gz", "train", md5="fa75699e90414af021442c21a62c3abf"),
        ),
    )

    def index(self, home: Path) -> Index:
        classes = sorted(entry.name for entry in os.scandir(home / "train") if entry.is_dir())
        number = {name: label for label, name in enumerate(classes)}
        rows = []
        for split, folder in (("train", "train"), ("test", "val")):
            names = [entry.name for entry in os.scandir(home / folder) if entry.is_dir()]
            if not names:
                raise CVSAError(
                    f"{home / folder} has no class folders, one for each WordNet id; remove it and leave the "
                    f"archives in {home} to have them sorted by `cvsa data prepare imagenet`."
                )
            for name in names:
                if name not in number:
                    raise CVSAError(f"The class {home / folder / name} is not in {home / 'train'}.")
                rows += [
                    (f"{folder}/{name}/{entry.name}", number[name], split)
                    for entry in os.scandir(home / folder / name)
                    if entry.name.lower().endswith(SUFFIXES)
                ]
        return Index(classes, rows)

    def arrange(self, base: Path) -> Iterator[str]:
        """Have torchvision check and sort the archives in `base`; yields what was done.

        Raises:
            CVSAError: an archive is missing or damaged.
        """
        from torchvision.datasets import ImageNet as Torchvision

        for split in ("train", "val"):
            if (base / split).exists():
                continue
            try:
                Torchvision(str(base), split)
            except (RuntimeError, OSError) as error:
                raise CVSAError(one_line(f"{error} {self.card.instruction(base)}")) from error
            yield f"sorted {base / split} by class"
