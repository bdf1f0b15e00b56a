"""CUB-200-2011: 200 bird species with boxes, 15 parts and, in an archive of their own, segmentations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cvsa.data.sets.caltech import TABLES, CaltechTables
from cvsa.data.sets.card import Archive, Card

if TYPE_CHECKING:
    from cvsa.saliency.stored import Saliency


class CUB(CaltechTables):
    """CUB-200-2011 as CaltechDATA publishes it; torchvision has no class for it.

    The tables are those of `caltech.py`. segmentations.tgz unpacks to segmentations/CLASS/IMAGE.png beside
    the other archive's CUB_200_2011/; either place will do. Its grey values say how many annotators took a
    pixel for bird; as everywhere, one half and more is salient.
    """

    card = Card(
        name="cub200",
        title="CUB-200-2011",
        url="https://www.vision.caltech.edu/datasets/cub_200_2011/",
        citation="Wah, Branson, Welinder, Perona, Belongie: The Caltech-UCSD Birds-200-2011 Dataset. "
        "Technical report CNS-TR-2011-001, California Institute of Technology, 2011.",
        terms="non-commercial research and education; the photographers keep their rights",
        classes=200,
        splits={"train": 5994, "test": 5794},
        about_splits="the published ones; validation images are held out of the training images",
        truth="one box, 15 parts and one segmentation per image",
        files=TABLES,
        archives=(
            Archive(
                "CUB_200_2011.tgz",
                "CUB_200_2011",
                "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                "97eceeb196236b17998738112f37df78",
            ),
            Archive(
                "segmentations.tgz",
                "segmentations",
                "https://data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz",
                "4d47ba1228eae64f2fa547c47bc65255",
                optional=True,
            ),
        ),
        inner="CUB_200_2011",
    )
    kinds = {"masks": "segmentations", "boxes": "bounding_boxes.txt", "parts": "parts/part_locs.txt"}

    def place(self, home: Path, kind: str) -> Path:
        place, beside = super().place(home, kind), home.parent / "segmentations"
        return beside if kind == "masks" and not place.exists() and beside.exists() else place

    def annotated(self, home: Path, kind: str) -> Saliency:
        if kind != "masks":
            return super().annotated(home, kind)
        from cvsa.saliency.stored import from_masks

        folder = self.place(home, "masks")
        return from_masks(lambda path: folder / Path(path).relative_to("images").with_suffix(".png"))
