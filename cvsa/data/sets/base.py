"""What every data set can do: say where it lies, list its images and splits, and read its saliency."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cvsa.data.sets.card import Card
from cvsa.errors import CVSAError

if TYPE_CHECKING:  # both import torch, which cards do without
    from cvsa.data.listing import Listing
    from cvsa.saliency.stored import Saliency

UNLABELLED = ["image"]  # the one class of a set whose labels are not used


@dataclass(frozen=True)
class Index:
    """Content of a set as its publisher lists it.

    Attributes:
        classes: names, by label.
        rows: (path relative to the set's home, label, "train" or "test").
    """

    classes: list[str]
    rows: list[tuple[str, int, str]]


class DataSet(ABC):
    """A data set on disk.

    Attributes:
        card: what it is.
        kinds: its own saliency, the most exact first: kind -> file or folder it needs, relative to the home.
        version: to be raised when the same files give another listing or other maps.
    """

    card: ClassVar[Card]
    kinds: ClassVar[dict[str, str]] = {}
    version: ClassVar[int] = 1

    def base(self, root: Path | None = None) -> Path:
        """The folder the set is put into: `root`, or the set's own below $CVSA_DATA.

        Raises:
            CVSAError: neither is given.
        """
        if root is not None:
            return root
        if not os.environ.get("CVSA_DATA"):
            raise CVSAError(
                f"Where is {self.card.title}? Give its folder, or set the environment variable CVSA_DATA "
                f"to the folder that holds {self.card.name}/."
            )
        return Path(os.environ["CVSA_DATA"]).expanduser() / self.card.name

    def find(self, root: Path | None = None) -> Path | None:
        """The set's home, where its files lie: its folder, or the one an archive brings along; or None."""
        base = self.base(root)
        places = [base, base / self.card.inner] if self.card.inner else [base]
        return next((p for p in places if any((p / file).exists() for file in self.card.files)), None)

    def home(self, root: Path | None = None) -> Path:
        """As `find`, with all it needs.

        Raises:
            CVSAError: files are missing; says where to get them and where to put them.
        """
        base, home = self.base(root), self.find(root)
        if home is None:
            raise CVSAError(
                f"{self.card.title} is not in {base}: it has no {self.card.files[0]}. "
                + self.card.instruction(base)
            )
        missing = [file for file in self.card.files if not (home / file).exists()]
        if missing:
            raise CVSAError(
                f"{self.card.title} in {home} is incomplete: {', '.join(missing[:3])} missing. "
                + self.card.instruction(base)
            )
        return home

    @abstractmethod
    def index(self, home: Path) -> Index:
        """Read which image has which class and belongs to which published split.

        Raises:
            CVSAError: a table is missing, malformed or contradicts another; names file and line.
        """

    def listing(self, home: Path, val_fraction: float = 0.1, seed: int = 0) -> Listing:
        """Disjoint splits: the published ones, with validation images held out of the training images.

        A set without labels has one class and no test images.

        Args:
            home: of `home`.
            val_fraction: share of the training images held out, stratified by class, in (0, 1).
            seed: of the held-out images.

        Raises:
            CVSAError: as `index`; a path listed twice; a class without images; no validation images.
        """
        import numpy as np

        from cvsa.data.listing import Listing, stratified

        index = self.index(home)
        rows = sorted(index.rows)
        for (path, _, _), (other, _, _) in zip(rows, rows[1:], strict=False):
            if path == other:
                raise CVSAError(f"{path!r} is listed twice in {home}.")
        by_split = {split: [row for row in rows if row[2] == split] for split in ("train", "test")}
        for split, chosen in by_split.items():
            empty = set(range(len(index.classes))) - {label for _, label, _ in chosen}
            if empty and (chosen or split == "train"):
                raise CVSAError(f"Class {index.classes[min(empty)]!r} in {home} has no {split} images.")
        train = by_split["train"]
        labels = np.array([label for _, label, _ in train], dtype=np.int64)
        held = set(stratified(labels, round(val_fraction * len(train)), seed + 1).tolist())
        if not held:
            raise CVSAError(f"No validation images in {home}: raise val_fraction (now {val_fraction}).")
        splits = {
            "train": [row for i, row in enumerate(train) if i not in held],
            "val": [row for i, row in enumerate(train) if i in held],
            "test": by_split["test"],
        }
        return Listing(
            index.classes,
            {split: [path for path, _, _ in chosen] for split, chosen in splits.items()},
            {split: np.array([n for _, n, _ in chosen], dtype=np.int64) for split, chosen in splits.items()},
        )

    def place(self, home: Path, kind: str) -> Path:
        """The file or folder of one kind of saliency."""
        return home / self.kinds[kind]

    def available(self, home: Path) -> list[str]:
        """Kinds of saliency that are there, the most exact first."""
        own = [kind for kind in self.kinds if self.place(home, kind).exists()]
        return [*own, "predicted"] if any(home.glob("*.npz")) else own

    def saliency(self, home: Path, kind: str = "auto") -> Saliency:
        """The set's own saliency.

        Args:
            home: of `home`.
            kind: one of `kinds`; "predicted" for an .npz of predicted masks in the home; "none"; or "auto"
                for the most exact that is there.

        Raises:
            CVSAError: the set has no such annotation, its files are missing or malformed.
        """
        from cvsa.saliency.stored import NONE, from_predictions

        if kind == "auto":
            kind = next(iter(self.available(home)), "none")
        if kind == "none":
            return NONE
        if kind == "predicted":
            return from_predictions(home)
        if kind not in self.kinds:
            own = ", ".join(self.kinds) or "no such annotation of its own"
            raise CVSAError(f"{self.card.title} has no {kind}; it has {own}.")
        if self.card.archives and not self.place(home, kind).exists():
            raise CVSAError(
                f"saliency {kind!r} of {self.card.title} needs {self.place(home, kind)}. "
                + self.card.instruction(home, [a.file for a in self.card.archives])
            )
        return self.annotated(home, kind)

    def annotated(self, home: Path, kind: str) -> Saliency:
        """Read one of `kinds`, whose files are there; by default masks/PATH.png and boxes.csv."""
        from cvsa.saliency.stored import from_folder, from_table

        return (from_folder if kind == "masks" else from_table)(self.place(home, kind))

    def crop(self, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
        """What of an image of this size (width, height) is photograph: x1 y1 x2 y2, exclusive; None: all."""
        return None
