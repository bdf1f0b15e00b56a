"""Any folder of photographs in ImageFolder layout, as one of the data sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cvsa.data.sets.base import DataSet, Index
from cvsa.data.sets.card import Card
from cvsa.errors import CVSAError

if TYPE_CHECKING:
    from cvsa.data.listing import Listing


@dataclass(frozen=True)
class Folder(DataSet):
    """A folder of the user's own: train/CLASS/x and test/CLASS/x, or CLASS/x (see `cvsa.data.listing`).

    Beside them may lie masks/PATH.png (white = object, the paths of the images), boxes.csv (path,x,y,w,h in
    pixels), or an .npz of predicted masks; see `cvsa.saliency.stored`.

    Attributes:
        split_file: CSV with the columns path,split, relative to the folder; None: the folders say.
    """

    split_file: str | None = None

    card = Card(
        name="folder",
        title="A folder of photographs",
        url="the chapter on your own images",
        citation="as the photographs' author asks",
        terms="as the photographs' author states",
        classes=0,
        splits={},
        about_splits="train/, test/ and, if there is one, valid/; or a split file; else parts are held out",
        truth="what lies beside the images: masks/, boxes.csv, or predicted masks in an .npz",
        files=("root/train/CLASS/image and root/test/CLASS/image, or root/CLASS/image",),
    )
    kinds = {"masks": "masks", "boxes": "boxes.csv"}

    def base(self, root: Path | None = None) -> Path:
        if root is None:
            raise CVSAError("Which folder? Give its path.")
        return root

    def find(self, root: Path | None = None) -> Path | None:
        return self.base(root) if self.base(root).is_dir() else None

    def home(self, root: Path | None = None) -> Path:
        base = self.base(root)
        if not base.is_dir():
            raise CVSAError(f"There is no folder {base}; expected {self.card.files[0]}.")
        return base

    def index(self, home: Path) -> Index:
        listing = self.listing(home)
        rows = [
            (path, int(label), "test" if split == "test" else "train")
            for split, paths in listing.paths.items()
            for path, label in zip(paths, listing.labels[split], strict=True)
        ]
        return Index(listing.classes, rows)

    def listing(self, home: Path, val_fraction: float = 0.1, seed: int = 0) -> Listing:
        from cvsa.data.listing import list_folder

        return list_folder(home, val_fraction=val_fraction, split_file=self.split_file, seed=seed)
