"""NABirds: 555 visual categories of North American birds in a hierarchy, with boxes and 11 parts."""

from __future__ import annotations

from pathlib import Path

from cvsa.data.sets.base import Index
from cvsa.data.sets.caltech import TABLES, CaltechTables
from cvsa.data.sets.card import Archive, Card
from cvsa.errors import CVSAError
from cvsa.io.tables import read_columns


class NABirds(CaltechTables):
    """NABirds as the Cornell Lab publishes it; torchvision has no class for it.

    The tables are those of `caltech.py`, with image ids like 0000139e-21dc-4d0c-bfe1-4cae3c85c829 and paths
    like 0817/0000139e21dc4d0cbfe14cae3c85c829.jpg. classes.txt also names the inner nodes of the hierarchy,
    which have no images; hierarchy.txt has a line <class id> <parent's class id> for each node but the root.
    """

    card = Card(
        name="nabirds",
        title="NABirds",
        url="https://dl.allaboutbirds.org/nabirds",
        citation="Van Horn, Branson, Farrell, Haber, Barry, Ipeirotis, Perona, Belongie: Building a bird "
        "recognition app and large scale dataset with citizen scientists. CVPR 2015, pp. 595-604.",
        terms="the Cornell Lab's usage agreement, to be accepted on the page before the download",
        classes=555,
        splits={"train": 23929, "test": 24633},
        about_splits="the published ones; validation images are held out of the training images",
        truth="one box and 11 parts per image, a hierarchy of the classes; no masks",
        files=(*TABLES, "hierarchy.txt"),
        archives=(Archive("nabirds.tar.gz", "nabirds"),),
        inner="nabirds",
    )
    kinds = {"boxes": "bounding_boxes.txt", "parts": "parts/part_locs.txt"}
    used_only = True

    def index(self, home: Path) -> Index:
        self.parents(home)  # a hierarchy that contradicts the classes is an error of the set
        return super().index(home)

    def parents(self, home: Path) -> dict[str, str]:
        """Class id -> class id of its parent; the root is no key.

        Raises:
            CVSAError: malformed, an unknown class, or a circle.
        """
        names = read_columns(home / "classes.txt")
        parents = {}
        for key, (where, (parent,)) in read_columns(home / "hierarchy.txt").items():
            for node in (key, parent):
                if node not in names:
                    raise CVSAError(f"{where}: class {node} is not in {home / 'classes.txt'}.")
            parents[key] = parent
        for key in parents:
            node, steps = key, 0
            while node in parents:
                node, steps = parents[node], steps + 1
                if steps > len(parents):
                    raise CVSAError(f"{home / 'hierarchy.txt'}: class {key} is its own ancestor.")
        return parents
