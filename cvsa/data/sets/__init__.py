"""Data sets of photographs: published ones in their official layouts, and any folder.

Each is a small class (see `base.DataSet`) with a card (see `card.Card`). Reading the cards imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from cvsa.data.sets.base import DataSet
from cvsa.errors import CVSAError

SETS = {
    "cub200": "cub:CUB",
    "nabirds": "nabirds:NABirds",
    "aircraft": "aircraft:Aircraft",
    "cars": "cars:Cars",
    "inat2018": "inat:INaturalist2018",
    "pets": "pets:Pets",
    "coco": "coco:COCO",
    "imagenet": "imagenet:ImageNet",
    "folder": "plain:Folder",
}


def find_set(name: str) -> DataSet:
    """A data set by name.

    Raises:
        CVSAError: no such set.
    """
    if name not in SETS:
        raise CVSAError(f"Unknown data set {name!r}. Data sets: {', '.join(SETS)}; or the path of a folder.")
    module, _, attribute = SETS[name].partition(":")
    found: DataSet = getattr(import_module(f"{__name__}.{module}"), attribute)()
    return found


def locate(name: str, root: Path | None = None) -> tuple[DataSet, Path | None]:
    """What a user means by a name: a data set, with its folder if given, or the path of a folder.

    Raises:
        CVSAError: neither a data set nor a folder; a folder's path given twice.
    """
    if name in SETS:
        return find_set(name), root
    if root is None and Path(name).expanduser().is_dir():
        return find_set("folder"), Path(name).expanduser()
    return find_set(name), root


def overview() -> list[str]:
    """One line for each data set."""
    lines = []
    for name in SETS:
        card = find_set(name).card
        classes = {0: "any number of", 1: "no"}.get(card.classes, f"{card.classes:,}")
        lines.append(f"{name:<9} {card.title}: {classes} classes; {card.truth}")
    return lines
