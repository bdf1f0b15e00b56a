"""Every loader on its miniature: class, split, box, mask and parts of each image against what was drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import BREEDS, CLASSES, NAMES, TEST, TRAIN, WNIDS, WRITERS, Drawn
from PIL import Image

from cvsa.data.photographs import decode
from cvsa.data.sets import SETS, find_set
from cvsa.errors import CVSAError
from cvsa.saliency import map_to_box

Originals = dict[str, tuple[Path, Drawn]]
EXPECTED = {
    "cub200": ["001.Black_Wren", "002.Cedar_Finch", "003.Ådal-Hauk"],
    "nabirds": [NAMES[1], NAMES[0], NAMES[2]],  # by class id
    "pets": BREEDS,
    "coco": ["image"],
    "imagenet": WNIDS,
    "folder": ["Großer Wren", "a'b, c", "鳥 finch"],
}
LABELLED = [name for name in WRITERS if name != "coco"]
KINDS = [
    ("cub200", "masks"), ("cub200", "boxes"), ("cub200", "parts"), ("nabirds", "boxes"), ("nabirds", "parts"),
    ("aircraft", "boxes"), ("cars", "boxes"), ("pets", "masks"), ("coco", "masks"), ("coco", "boxes"),
    ("folder", "masks"), ("folder", "boxes"),
]  # fmt: skip


def at(originals: Originals, name: str) -> tuple[Any, Path, Drawn]:
    source = find_set(name)
    root, drawn = originals[name]
    return source, source.home(root), drawn


def test_every_set_has_a_miniature() -> None:
    assert list(WRITERS) == list(SETS)


@pytest.mark.parametrize("name", WRITERS)
def test_class_and_split_of_each_image(originals: Originals, name: str) -> None:
    source, home, drawn = at(originals, name)
    listing = source.listing(home, val_fraction=0.25)
    assert listing.classes == EXPECTED.get(name, NAMES)
    seen = {}
    for split, paths in listing.paths.items():
        assert paths == sorted(paths) and len(paths) == len(listing.labels[split])
        assert listing.labels[split].dtype == np.int64
        for path, label in zip(paths, listing.labels[split].tolist(), strict=True):
            assert path not in seen and (home / path).is_file()
            seen[path] = label
            assert drawn[path].split == ("test" if split == "test" else "train")
    assert set(seen) == set(drawn)
    # One class number here for each class there.
    assert len({(drawn[path].label, label) for path, label in seen.items()}) == len(listing.classes)
    if name in LABELLED:
        assert np.bincount(listing.labels["train"]).tolist() == [TRAIN - 1] * CLASSES
        assert np.bincount(listing.labels["val"]).tolist() == [1] * CLASSES
        assert np.bincount(listing.labels["test"]).tolist() == [TEST] * CLASSES


@pytest.mark.parametrize("name", ["cub200", "aircraft", "cars", "inat2018", "pets"])
def test_labels_have_the_right_names(originals: Originals, name: str) -> None:
    source, home, drawn = at(originals, name)
    assert all(drawn[path].label == label for path, label, _ in source.index(home).rows)


def test_nabirds_classes_by_name(originals: Originals) -> None:
    source, home, drawn = at(originals, "nabirds")
    index = source.index(home)
    assert all(NAMES[drawn[path].label] == index.classes[label] for path, label, _ in index.rows)
    assert source.parents(home) == {"22": "0", "817": "22", "295": "22", "1010": "0"}


@pytest.mark.parametrize("name", WRITERS)
def test_held_out_images_follow_the_seed(originals: Originals, name: str) -> None:
    source, home, _ = at(originals, name)
    first, again, other = (source.listing(home, 0.25, seed).paths for seed in (0, 0, 5))
    assert first == again and first["val"] != other["val"] and first["test"] == other["test"]


def test_no_labels_no_test_images(originals: Originals) -> None:
    source, home, drawn = at(originals, "coco")
    listing = source.listing(home)
    assert listing.paths["test"] == [] and not source.card.labelled
    assert len(listing.paths["val"]) == round(0.1 * len(drawn))


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_saliency_of_each_image(originals: Originals, name: str, kind: str) -> None:
    source, home, drawn = at(originals, name)
    saliency = source.saliency(home, kind)
    assert saliency.kind == kind and not saliency.clipped
    for path, picture in drawn.items():
        assert Path(saliency.source(path)).is_file()
        with Image.open(home / path) as image:
            size = image.size
        found = np.asarray(saliency.read(path, size))
        assert found.dtype == np.uint8 and found.shape[1] == picture.mask.shape[1] == size[0]
        salient = found[: len(picture.mask)] >= 128
        if kind == "masks":
            assert np.array_equal(salient, picture.mask)
        elif kind == "boxes":
            x1, y1, x2, y2 = picture.box
            assert map_to_box(salient).tolist() == [x1, y1, x2, y2] and salient[y1:y2, x1:x2].all()
        else:
            assert all(salient[round(float(y)), round(float(x))] for x, y in picture.parts)
            assert (salient & picture.mask).sum() > 0.6 * picture.mask.sum()  # no part is at the belly
            assert (salient & picture.mask).sum() > 0.4 * (salient | picture.mask).sum()
    assert saliency.read("images/unknown.jpg", (78, 64)) is None


@pytest.mark.parametrize("name", WRITERS)
def test_auto_takes_the_most_exact(originals: Originals, name: str) -> None:
    source, home, _ = at(originals, name)
    kinds = [kind for set_name, kind in KINDS if set_name == name]
    assert source.available(home) == kinds
    assert source.saliency(home).kind == (kinds[0] if kinds else "none")
    assert source.saliency(home, "none").kind == "none"


def test_saliency_a_set_does_not_have(originals: Originals) -> None:
    source, home, _ = at(originals, "cars")
    with pytest.raises(CVSAError, match="Stanford Cars has no masks; it has boxes"):
        source.saliency(home, "masks")
    source, home, _ = at(originals, "inat2018")
    with pytest.raises(CVSAError, match="has no boxes; it has no such annotation"):
        source.saliency(home, "boxes")


def test_banner_is_cut_off(originals: Originals) -> None:
    source, home, drawn = at(originals, "aircraft")
    for path, picture in drawn.items():
        with Image.open(home / path) as image:
            whole = np.asarray(image).astype(int)
            cut = np.asarray(image.crop(source.crop(image.size))).astype(int)
        assert cut.shape == picture.image.shape and np.abs(cut - picture.image).mean() < 12
        assert (whole[-16:] > 240).all()  # what was cut is the banner
    with pytest.raises(CVSAError, match="78 x 20.*banner"):
        source.crop((78, 20))
    assert find_set("cars").crop((78, 20)) is None


@pytest.mark.parametrize(("name", "kind"), [("cub200", "masks"), ("cars", "boxes"), ("pets", "masks")])
def test_images_and_maps_enter_a_bank_together(originals: Originals, name: str, kind: str) -> None:
    source, home, drawn = at(originals, name)
    path, picture = next(iter(drawn.items()))
    block, present = decode(home, path, 64, source.saliency(home, kind).read)
    left = (78 - 64) // 2
    x1, y1, x2, y2 = picture.box
    assert present
    assert np.abs(map_to_box(block[3]).numpy() - [x1 - left, y1, x2 - left, y2]).max() <= 1


def test_a_home_is_found_with_and_without_the_archive_s_folder(originals: Originals) -> None:
    source, home, _ = at(originals, "cub200")
    assert home.name == "CUB_200_2011" and source.home(home) == home
    assert source.place(home, "masks") == home.parent / "segmentations"


def test_places_come_from_the_environment(originals: Originals, monkeypatch: pytest.MonkeyPatch) -> None:
    source, home, _ = at(originals, "pets")
    monkeypatch.setenv("CVSA_DATA", str(home.parents[1]))
    assert source.home() == home
    monkeypatch.delenv("CVSA_DATA")
    with pytest.raises(CVSAError, match="environment variable CVSA_DATA .* holds pets/"):
        source.home()


# --- torchvision reads the same files ----------------------------------------------------------


def rows(source: Any, home: Path, split: str) -> set[tuple[str, int]]:
    return {(str(home / path), label) for path, label, at in source.index(home).rows if at == split}


def test_torchvision_reads_aircraft_alike(originals: Originals) -> None:
    from torchvision.datasets import FGVCAircraft

    source, home, _ = at(originals, "aircraft")
    for ours, theirs in (("train", "trainval"), ("test", "test")):
        peer = FGVCAircraft(str(home.parent), theirs)
        assert rows(source, home, ours) == set(zip(peer._image_files, peer._labels, strict=True))
        assert source.index(home).classes == peer.classes


def test_torchvision_reads_cars_alike(originals: Originals) -> None:
    from torchvision.datasets import StanfordCars

    source, home, _ = at(originals, "cars")
    for split in ("train", "test"):
        peer = StanfordCars(str(home.parent), split)
        assert rows(source, home, split) == set(peer._samples)
        assert source.index(home).classes == peer.classes


def test_torchvision_reads_pets_alike(originals: Originals) -> None:
    from torchvision.datasets import OxfordIIITPet

    source, home, _ = at(originals, "pets")
    for ours, theirs in (("train", "trainval"), ("test", "test")):
        peer = OxfordIIITPet(str(home.parent), theirs)
        assert rows(source, home, ours) == set(zip(map(str, peer._images), peer._labels, strict=True))


def test_torchvision_reads_imagenet_s_folders_alike(originals: Originals) -> None:
    from torchvision.datasets import ImageFolder

    source, home, _ = at(originals, "imagenet")
    for ours, theirs in (("train", "train"), ("test", "val")):
        peer = ImageFolder(str(home / theirs))
        assert rows(source, home, ours) == set(peer.samples) and source.index(home).classes == peer.classes
