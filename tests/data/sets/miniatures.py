"""Miniature copies of published data sets: a few drawn birds in each official layout and file format.

A function per set writes its files below a root and returns what it drew, by path from the set's home.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cvsa.data.birds import SynthBirds

CLASSES, TRAIN, TEST = 3, 4, 2  # images of each class in training and test
NAMES = ["Black Wren", "Cedar Finch", "Ådal-Hauk/B"]
LEFT, RIGHT = 9, 5  # pixels added to the square drawing, so that width and height differ


@dataclass(frozen=True)
class Picture:
    """A drawn bird: image (H, W, 3) uint8, mask (H, W) bool, parts (5, 2) xy, its class and split."""

    image: np.ndarray
    mask: np.ndarray
    parts: np.ndarray
    label: int
    split: str

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Extent of the mask, x2 and y2 exclusive."""
        ys, xs = np.nonzero(self.mask)
        return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def pictures(size: int = 64) -> list[Picture]:
    """All birds of a miniature, class by class in turn, training images first."""
    rounds = TRAIN + TEST
    birds = SynthBirds(num_classes=10, num_images=10 * rounds, image_size=size, seed=3)
    chosen = np.flatnonzero(birds.labels < CLASSES)
    drawn = birds.draw(chosen)
    pad = ((0, 0), (LEFT, RIGHT))
    return [
        Picture(
            np.pad(drawn.images[i].permute(1, 2, 0).numpy(), (*pad, (0, 0)), mode="edge"),
            np.pad(drawn.masks[i, 0].numpy() > 127, pad),
            drawn.parts[i].numpy() + np.array([LEFT, 0]),
            int(birds.labels[row]),
            "train" if row // 10 < TRAIN else "test",
        )
        for i, row in enumerate(chosen)
    ]


Drawn = dict[str, Picture]


def write(path: Path, text: str) -> None:
    """A text file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def save(values: np.ndarray, path: Path) -> None:
    """An image file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(
        path, **({"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg") else {})
    )


def _tables(home: Path, drawn: Drawn, ids: dict[str, str], keys: list[str], names: dict[str, str]) -> None:
    """The tables that CUB-200-2011 and NABirds share."""
    rows = {name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")}
    parts = []
    for path, picture in drawn.items():
        x1, y1, x2, y2 = picture.box
        rows["images"].append(f"{ids[path]} {path.removeprefix('images/')}")
        rows["image_class_labels"].append(f"{ids[path]} {keys[picture.label]}")
        rows["train_test_split"].append(f"{ids[path]} {int(picture.split == 'train')}")
        rows["bounding_boxes"].append(f"{ids[path]} {x1}.0 {y1}.0 {x2 - x1}.0 {y2 - y1}.0")
        parts += [f"{ids[path]} {n} {x:.1f} {y:.1f} 1" for n, (x, y) in enumerate(picture.parts, 1)]
        parts.append(f"{ids[path]} {len(picture.parts) + 1} 0.0 0.0 0")  # a part that is not visible
        save(picture.image, home / path)
    for name, lines in rows.items():
        write(home / f"{name}.txt", "\n".join(lines) + "\n")
    write(home / "parts/part_locs.txt", "\n".join(parts) + "\n")
    write(home / "classes.txt", "".join(f"{key} {name}\n" for key, name in names.items()))


def cub200(root: Path) -> Drawn:
    home = root / "CUB_200_2011"
    folders = [f"{n:03d}.{name.split('/')[0].replace(' ', '_')}" for n, name in enumerate(NAMES, 1)]
    drawn = {
        f"images/{folders[p.label]}/{folders[p.label][4:]}_{i:04d} ü.jpg": p for i, p in enumerate(pictures())
    }
    ids = {path: str(i) for i, path in enumerate(drawn, 1)}
    keys = [str(n) for n in range(1, CLASSES + 1)]
    _tables(home, drawn, ids, keys, dict(zip(keys, folders, strict=True)))
    for path, p in drawn.items():  # four of five annotators agree on most, one is too generous
        mask = np.where(p.mask, 204, 51).astype(np.uint8)
        save(mask, root / "segmentations" / Path(path).relative_to("images").with_suffix(".png"))
    return drawn


def nabirds(root: Path) -> Drawn:
    home = root / "nabirds"
    keys = ["817", "295", "1010"]  # in no order, with gaps
    drawn, ids = {}, {}
    for i, p in enumerate(pictures()):
        key = uuid.UUID(int=i * 2**64 + 77)
        path = f"images/{int(keys[p.label]):04d}/{key.hex}.jpg"
        drawn[path], ids[path] = p, str(key)
    nodes = {"0": "Birds", "22": "Ducks, Geese, and Swans", **dict(zip(keys, NAMES, strict=True))}
    _tables(home, drawn, ids, keys, nodes)
    write(home / "hierarchy.txt", "22 0\n817 22\n295 22\n1010 0\n")
    return drawn


def aircraft(root: Path, banner: int = 20) -> Drawn:
    home = root / "fgvc-aircraft-2013b"
    write(home / "data/variants.txt", "\n".join(NAMES) + "\n")
    lines: dict[str, list[str]] = {"train": [], "test": []}
    boxes, drawn = [], {}
    for i, p in enumerate(pictures()):
        name = f"{1034309 + 17 * i:07d}"
        x1, y1, x2, y2 = p.box
        lines[p.split].append(f"{name} {NAMES[p.label]}")
        boxes.append(f"{name} {x1 + 1} {y1 + 1} {x2} {y2}")
        drawn[f"data/images/{name}.jpg"] = p
        strip = np.full((banner, p.image.shape[1], 3), 255, dtype=np.uint8)
        save(np.concatenate([p.image, strip]), home / f"data/images/{name}.jpg")
    write(home / "data/images_variant_trainval.txt", "\n".join(lines["train"]) + "\n")
    write(home / "data/images_variant_test.txt", "\n".join(lines["test"]) + "\n")
    write(home / "data/images_box.txt", "\n".join(boxes) + "\n")
    return drawn


def mat_annotations(file: Path, rows: list[tuple[object, ...]]) -> None:
    """A struct array as the development kit of Stanford Cars holds it."""
    from scipy.io import savemat

    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    annotations = np.zeros((1, len(rows)), dtype=[(name, object) for name in fields])
    for i, row in enumerate(rows):
        annotations[0, i] = row
    file.parent.mkdir(parents=True, exist_ok=True)
    savemat(file, {"annotations": annotations})


def cars(root: Path) -> Drawn:
    from scipy.io import savemat

    home = root / "stanford_cars"
    rows: dict[str, list[tuple[object, ...]]] = {"train": [], "test": []}
    drawn = {}
    for p in pictures():
        name = f"{len(rows[p.split]) + 1:05d}.jpg"
        x1, y1, x2, y2 = p.box
        rows[p.split].append((x1 + 1, y1 + 1, x2, y2, p.label + 1, name))
        drawn[f"cars_{p.split}/{name}"] = p
        save(p.image, home / f"cars_{p.split}" / name)
    mat_annotations(home / "devkit/cars_train_annos.mat", rows["train"])
    mat_annotations(home / "cars_test_annos_withlabels.mat", rows["test"])
    names = np.empty((1, CLASSES), dtype=object)
    names[0] = NAMES
    savemat(home / "devkit/cars_meta.mat", {"class_names": names})
    return drawn


def inat2018(root: Path) -> Drawn:
    categories = [{"id": n, "name": name, "supercategory": "Aves"} for n, name in enumerate(NAMES)]
    files = {s: {"images": [], "annotations": [], "categories": categories} for s in ("train", "test")}
    drawn = {}
    for i, p in enumerate(pictures()):
        path = f"train_val2018/Aves/{p.label}/{uuid.UUID(int=i).hex}.jpg"
        files[p.split]["images"].append({"id": 1000 + i, "file_name": path, "width": 78, "height": 64})
        files[p.split]["annotations"].append({"id": i, "image_id": 1000 + i, "category_id": p.label})
        drawn[path] = p
        save(p.image, root / path)
    write(root / "train2018.json", json.dumps(files["train"]))
    write(root / "val2018.json", json.dumps(files["test"]))
    return drawn


BREEDS = ["Abyssinian", "american_bulldog", "Russian_Blue"]


def pets(root: Path) -> Drawn:
    home = root / "oxford-iiit-pet"
    lines: dict[str, list[str]] = {"train": [], "test": []}
    drawn = {}
    for i, p in enumerate(pictures()):
        name = f"{BREEDS[p.label]}_{i}"
        lines[p.split].append(f"{name} {p.label + 1} 1 1")
        drawn[f"images/{name}.jpg"] = p
        save(p.image, home / f"images/{name}.jpg")
        inner = p.mask.copy()
        inner[1:] &= p.mask[:-1]  # the upper edge is border
        trimap = np.where(inner, 1, np.where(p.mask, 3, 2)).astype(np.uint8)
        save(trimap, home / f"annotations/trimaps/{name}.png")
    head = "#Image CLASS-ID SPECIES BREED ID\n#ID: 1:37 Class ids\n"
    write(home / "annotations/list.txt", head + "\n".join(lines["train"] + lines["test"]) + "\n")
    write(home / "annotations/trainval.txt", "\n".join(lines["train"]) + "\n")
    write(home / "annotations/test.txt", "\n".join(lines["test"]) + "\n")
    return drawn


def coco(root: Path) -> Drawn:
    content: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
    drawn = {}
    for i, p in enumerate(pictures()):
        x1, y1, x2, y2 = p.box
        name = f"{9 + 16 * i:012d}.jpg"
        # Here the object is a rectangle: polygons of a whole bird would test the drawing, not the reader.
        mask = np.zeros_like(p.mask)
        mask[y1:y2, x1:x2] = True
        drawn[f"train2017/{name}"] = replace(p, mask=mask, label=0, split="train")
        save(p.image, root / "train2017" / name)
        content["images"].append({"id": 9 + 16 * i, "file_name": name, "width": 78, "height": 64})
        shared = {"image_id": 9 + 16 * i, "category_id": 16}
        half = (x1 + x2) // 2
        for n, (left, right) in enumerate(((x1, half), (half, x2))):  # two instances side by side
            corners = [left, y1, right - 1, y1, right - 1, y2 - 1, left, y2 - 1]
            content["annotations"].append(
                {**shared, "id": 10 * i + n, "iscrowd": 0, "bbox": [left, y1, right - left, y2 - y1],
                 "segmentation": [corners]}
            )  # fmt: skip
        crowd = {"counts": [0, 64 * 78], "size": [64, 78]}
        content["annotations"].append(
            {**shared, "id": 10 * i + 8, "iscrowd": 1, "bbox": [0, 0, 78, 64], "segmentation": crowd}
        )
    write(root / "annotations/instances_train2017.json", json.dumps(content))
    return drawn


WNIDS = ["n01440764", "n01530575", "n02007558"]


def imagenet(root: Path) -> Drawn:
    drawn = {}
    for i, p in enumerate(pictures()):
        train = p.split == "train"
        path = (
            f"train/{WNIDS[p.label]}/{WNIDS[p.label]}_{i}.JPEG"
            if train
            else f"val/{WNIDS[p.label]}/ILSVRC2012_val_{i:08d}.JPEG"
        )
        drawn[path] = p
        save(p.image, root / path)
    return drawn


def folder(root: Path) -> Drawn:
    names = ["Großer Wren", "鳥 finch", "a'b, c"]
    drawn = {}
    for i, p in enumerate(pictures()):
        path = f"{p.split}/{names[p.label]}/{i} (1).jpg"
        drawn[path] = p
        save(p.image, root / path)
        save(np.uint8(255) * p.mask, (root / "masks" / path).with_suffix(".png"))
    rows = [f'"{path}",{b[0]},{b[1]},{b[2] - b[0]},{b[3] - b[1]}' for path, b in
            ((path, p.box) for path, p in drawn.items())]  # fmt: skip
    write(root / "boxes.csv", "path,x,y,w,h\n" + "\n".join(rows) + "\n")
    return drawn


WRITERS = {
    "cub200": cub200,
    "nabirds": nabirds,
    "aircraft": aircraft,
    "cars": cars,
    "inat2018": inat2018,
    "pets": pets,
    "coco": coco,
    "imagenet": imagenet,
    "folder": folder,
}
