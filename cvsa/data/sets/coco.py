"""COCO 2017: everyday scenes, whose labels are not used: images for the first stage."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvsa.data.sets.base import UNLABELLED, DataSet, Index
from cvsa.data.sets.card import Archive, Card
from cvsa.errors import CVSAError
from cvsa.io.tables import numbers, read_json

if TYPE_CHECKING:
    from cvsa.saliency.stored import Saliency

TABLE = "annotations/instances_train2017.json"


class COCO(DataSet):
    """COCO train2017 as images without labels: one class, no test images.

    train2017/x.jpg                           the images
    annotations/instances_train2017.json      images: id, file_name; annotations: image_id, iscrowd,
                                              bbox [x, y, width, height] from 0,
                                              segmentation [[x1, y1, x2, y2, ...], ...]

    Source: https://cocodataset.org/#format-data. All instances of an image are salient together, except
    crowds, whose regions are coarse [O]. torchvision.datasets.CocoDetection is not used: it needs
    pycocotools, which polygons alone do not.
    """

    card = Card(
        name="coco",
        title="COCO 2017 (train)",
        url="https://cocodataset.org/#download",
        citation="Lin, Maire, Belongie, Hays, Perona, Ramanan, Dollar, Zitnick: Microsoft COCO: Common "
        "Objects in Context. ECCV 2014.",
        terms="annotations CC BY 4.0; each image under its own licence on Flickr, listed in the annotations",
        classes=1,
        splits={"train": 118287},
        about_splits="first stage only: train2017 without labels, a part of it held out; no test images",
        truth="masks and boxes of the instances of 80 categories (optional)",
        files=("train2017",),
        archives=(
            Archive("train2017.zip", "train2017", "http://images.cocodataset.org/zips/train2017.zip"),
            Archive(
                "annotations_trainval2017.zip",
                "annotations",
                "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
                optional=True,
            ),
        ),
    )
    kinds = {"masks": TABLE, "boxes": TABLE}

    def index(self, home: Path) -> Index:
        names = sorted(entry.name for entry in os.scandir(home / "train2017") if entry.name.endswith(".jpg"))
        return Index(UNLABELLED, [(f"train2017/{name}", 0, "train") for name in names])

    def annotated(self, home: Path, kind: str) -> Saliency:
        file = self.place(home, kind)
        images, annotations = read_json(file, "images", "annotations")
        try:
            paths = {image["id"]: f"train2017/{image['file_name']}" for image in images}
            instances: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for annotation in annotations:
                if not annotation["iscrowd"]:
                    instances[paths[annotation["image_id"]]].append(annotation)
        except (KeyError, TypeError) as error:
            raise CVSAError(f"{file} is malformed: {error!r}.") from error
        return _boxes(instances, file) if kind == "boxes" else _masks(instances, file)


def _boxes(instances: dict[str, list[dict[str, Any]]], file: Path) -> Saliency:
    from cvsa.saliency.stored import corner_box, from_boxes

    boxes = defaultdict(list)
    for path, objects in instances.items():
        for annotation in objects:
            where, box = f"{file}, annotation {annotation.get('id')} of {path!r}", annotation.get("bbox")
            if not isinstance(box, list) or len(box) != 4:
                raise CVSAError(f"{where}: the bbox should be [x, y, width, height].")
            x, y, width, height = numbers(where, *box)
            if width and height:  # a few published boxes are empty
                boxes[path].append(corner_box(where, x, y, x + width, y + height))
    return from_boxes(boxes, file)


def _masks(instances: dict[str, list[dict[str, Any]]], file: Path) -> Saliency:
    from PIL import Image, ImageDraw

    from cvsa.saliency.stored import Saliency

    def read(path: str, size: tuple[int, int]) -> Image.Image | None:
        if path not in instances:
            return None
        canvas = Image.new("L", size)
        for annotation in instances[path]:
            where = f"{file}, annotation {annotation.get('id')} of {path!r}"
            polygons = annotation.get("segmentation")
            if not isinstance(polygons, list):
                raise CVSAError(f"{where}: the segmentation of a single object should be polygons.")
            for polygon in polygons:
                points = numbers(where, *polygon)
                if len(points) < 6 or len(points) % 2:
                    raise CVSAError(f"{where}: a polygon has {len(points)} coordinates.")
                ImageDraw.Draw(canvas).polygon(points, fill=255)
        return canvas

    return Saliency("masks", read, lambda path: str(file))
