"""Checking a set before it is used: what is right passes, each damage gives one line that names the file."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import CLASSES, TEST, TRAIN, WRITERS, Drawn, mat_annotations
from PIL import Image

from cvsa.data.sets import find_set
from cvsa.data.sets.verify import fingerprint, verify
from cvsa.errors import CVSAError

Copy = Callable[[str], tuple[Path, Path, Drawn]]
pytestmark = pytest.mark.usefixtures("small_cards")


@pytest.mark.parametrize("name", WRITERS)
def test_miniatures_pass(originals: dict[str, tuple[Path, Drawn]], name: str) -> None:
    report = verify(name, originals[name][0], decode=True)
    assert not report.problems, report.problems
    assert not report.notes, report.notes
    text = "\n".join(report.lines())
    assert f"{CLASSES * (TRAIN + TEST)} images (decoded)" in text and text.endswith("no problems")


@pytest.mark.parametrize("name", WRITERS)
def test_a_set_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(CVSAError) as caught:
        verify(name, tmp_path / "nothing")
    text = str(caught.value)
    assert str(tmp_path / "nothing") in text and "\n" not in text
    assert "https://" in text or name == "folder"


def test_a_path_is_a_folder(originals: dict[str, tuple[Path, Drawn]]) -> None:
    root, _ = originals["folder"]
    assert verify(str(root)).lines() == verify("folder", root).lines()
    with pytest.raises(CVSAError, match="Unknown data set 'cub300'. Data sets: cub200, .*path of a folder"):
        verify("cub300")


def change(file: Path, old: str, new: str) -> None:
    """Replace the first match of a pattern in a text file."""
    text, count = re.subn(old, new, file.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE)
    assert count == 1, (file, old)
    file.write_text(text, encoding="utf-8")


def problem(name: str, root: Path) -> str:
    """The only problem of a set."""
    report = verify(name, root)
    assert len(report.problems) == 1 and "\n" not in report.problems[0], report.problems
    return report.problems[0]


TABLES = [
    ("cub200", "image_class_labels.txt", r"^5 \d+$", "5 999", "labels.txt, line 5: class 999 is not in"),
    ("cub200", "image_class_labels.txt", r"^5 \d+$", "5", "labels.txt, line 5: 1 fields, expected 2"),
    ("cub200", "image_class_labels.txt", r"^5 \d+\n", "", "Image 5 .* is not in .*image_class_labels.txt"),
    ("cub200", "train_test_split.txt", r"^5 \d$", "5 2", "train_test_split.txt, line 5: '2' is neither"),
    ("cub200", "images.txt", r"^5 .*$", "5 ../../x.jpg", r"images.txt, line 5: '../../x.jpg' leads out"),
    ("cub200", "images.txt", r"^5 .*$", "5 /etc/x.jpg", r"images.txt, line 5: '/etc/x.jpg' leads out"),
    ("cub200", "images.txt", r"^5 ", "4 ", "images.txt, line 5: '4' is listed twice"),
    ("cub200", "classes.txt", r"\Z", "4 004.Empty\n", "Class '004.Empty' .* has no train images"),
    ("cub200", "bounding_boxes.txt", r"^5 (\S+ \S+) \S+", r"5 \1 -7.0", "boxes.txt, line 5: .*size -7 x"),
    ("cub200", "bounding_boxes.txt", r"^5 \S+", "5 900.0", "boxes.txt, line 5: .*outside its 78 x 64"),
    ("cub200", "bounding_boxes.txt", r"^5 \S+", "5 left", "boxes.txt, line 5: .*should be numbers"),
    ("cub200", "bounding_boxes.txt", r"^5 ", "500 ", "boxes.txt, line 5: image 500 is not in images.txt"),
    ("cub200", "parts/part_locs.txt", r"^5 2 \S+", "5 2 nan", "part_locs.txt, line .*should be numbers"),
    ("nabirds", "hierarchy.txt", r"^22 0$", "22 817", "hierarchy.txt: class .* is its own ancestor"),
    ("nabirds", "hierarchy.txt", r"^22 0$", "22 4711", "hierarchy.txt, line 1: class 4711 is not in"),
    ("aircraft", "data/images_variant_test.txt", r" .*$", " Boeing 007", "test.txt, line 1: variant"),
    ("aircraft", "data/images_box.txt", r"^(\S+ \S+ \S+) \S+", r"\1 -4", "box.txt, line 1: .*size -"),
    ("pets", "annotations/test.txt", r" 1 1 1$", " 38 1 1", "test.txt, line .: class 38 is none of 1 to 3"),
    ("pets", "annotations/trainval.txt", r" 1 1 1$", " 2 1 1", "class 2 is '.*' and '.*'"),
    ("inat2018", "train2018.json", r'"category_id": 2', '"category_id": 12', "json: category 12 of image"),
    ("inat2018", "val2018.json", r'"annotations"', '"notes"', "val2018.json: .*annotations"),
    ("inat2018", "val2018.json", r"\A.", "", "Cannot read .*val2018.json"),
    ("inat2018", "val2018.json", r'"image_id": \d+', '"image_id": 5', "val2018.json is malformed"),
    ("folder", "boxes.csv", r"(\d+),(\d+)$", r"-3,\2", "boxes.csv, line 2: .*size -3 x"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "old", "new", "message"), TABLES)
def test_bad_tables(copy: Copy, name: str, file: str, old: str, new: str, message: str) -> None:
    root, home, _ = copy(name)
    change(home / file, old, new)
    assert re.search(message, problem(name, root)), problem(name, root)


@pytest.mark.parametrize(
    ("row", "message"),
    [((1, 1, 9, 9, 4, "00001.jpg"), "class 4 of 'cars_train/00001.jpg' is none of 1 to 3"),
     ((1, 1, 9, 9, 0, "00001.jpg"), "class 0 of"),
     ((1, 1, 9, 9, 1, "../x.jpg"), "'cars_train/../x.jpg' leads out")],
)  # fmt: skip
def test_bad_annotations_of_cars(copy: Copy, row: tuple[Any, ...], message: str) -> None:
    root, home, _ = copy("cars")
    mat_annotations(home / "devkit/cars_train_annos.mat", [row])
    assert re.search(f"cars_train_annos.mat, annotation 1: .*{message}", problem("cars", root))


@pytest.mark.parametrize("content", [b"no mat file", b""])
def test_damaged_mat_file(copy: Copy, content: bytes) -> None:
    root, home, _ = copy("cars")
    (home / "cars_test_annos_withlabels.mat").write_bytes(content)
    assert "cars_test_annos_withlabels.mat" in problem("cars", root)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("bbox", [5, 5, -3, 4], "size -3 x 4"), ("bbox", [500, 5, 3, 4], "outside its 78 x 64"),
     ("bbox", 7, "bbox should be"), ("bbox", [1, 2, 3, "x"], "numbers")],
)  # fmt: skip
def test_bad_boxes_of_coco(copy: Copy, field: str, value: Any, message: str) -> None:
    root, home, _ = copy("coco")
    file = home / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0][field] = value
    file.write_text(json.dumps(content))
    assert re.search(
        f"instances_train2017.json, annotation 0 of 'train2017/.*{message}", problem("coco", root)
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [({"counts": "abc", "size": [64, 78]}, "should be polygons"), ([[1, 2, 3, 4]], "4 coordinates")],
)
def test_bad_polygons_of_coco(copy: Copy, value: Any, message: str) -> None:
    root, home, _ = copy("coco")
    file = home / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["segmentation"] = value
    file.write_text(json.dumps(content))
    assert re.search(f"annotation 0 of 'train2017/.*{message}", problem("coco", root))


def test_empty_boxes_of_coco_are_left_out(copy: Copy) -> None:
    root, home, _ = copy("coco")
    file = home / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][3] = 0
    file.write_text(json.dumps(content))
    assert not verify("coco", root).problems


# --- images ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cub200", "aircraft", "cars", "pets", "inat2018"])
def test_missing_images_are_named_with_where_to_get_them(copy: Copy, name: str) -> None:
    root, home, drawn = copy(name)
    for path in list(drawn)[:5]:
        (home / path).unlink()
    text = problem(name, root)
    assert text.startswith("5 listed images are missing: ") and "and 2 more. Get " in text
    assert sorted(drawn)[0] in text or any(path in text for path in list(drawn)[:5])
    assert "https://" in text


@pytest.mark.parametrize(
    ("name", "damage"),
    [("cub200", "empty"), ("cub200", "text"), ("cub200", "gone"), ("coco", "empty"), ("folder", "text")],
)
def test_damaged_images_are_named(copy: Copy, name: str, damage: str) -> None:
    root, home, drawn = copy(name)
    path = list(drawn)[4]
    (home / path).unlink()
    if damage != "gone":
        (home / path).write_bytes(b"" if damage == "empty" else b"<html>404</html>")
    text = problem(name, root)
    assert (
        path in text and {"empty": "it is empty", "text": "Unidentified", "gone": "missing"}[damage] in text
    )


def test_truncated_image_needs_decoding(copy: Copy) -> None:
    root, home, drawn = copy("pets")
    path = list(drawn)[4]
    (home / path).write_bytes((home / path).read_bytes()[:900])
    assert not verify("pets", root).problems
    assert path in verify("pets", root, decode=True).problems[0]


def test_wrong_extension_is_noted(copy: Copy) -> None:
    root, home, drawn = copy("folder")
    path = list(drawn)[4]
    Image.open(home / path).save(home / "x.png")
    (home / "x.png").rename(home / path)
    report = verify("folder", root)
    assert not report.problems and report.notes == [
        f"1 images have another format than their name says: {path} is PNG."
    ]


def test_files_that_are_no_images_are_left_out(copy: Copy) -> None:
    root, home, drawn = copy("folder")
    (home / list(drawn)[0]).with_name("Thumbs.db").write_bytes(b"x")
    assert not verify("folder", root).problems


def test_links_out_of_the_folder_are_noted(copy: Copy, tmp_path: Path) -> None:
    root, home, drawn = copy("folder")
    path, other = list(drawn)[4], list(drawn)[5]
    shutil.move(home / path, tmp_path / "outside.jpg")
    (home / path).symlink_to(tmp_path / "outside.jpg")
    (home / other).unlink()
    (home / other).symlink_to(home / list(drawn)[6])  # inside: no matter
    report = verify("folder", root)
    assert not report.problems
    assert f"links out of the folder: {path} -> {tmp_path / 'outside.jpg'}" in report.notes[0]
    (tmp_path / "outside.jpg").unlink()
    assert path in problem("folder", root)


def test_exif_orientation_counts(copy: Copy) -> None:
    """A mask fits the image as it is displayed."""
    root, home, drawn = copy("pets")
    path = list(drawn)[4]
    with Image.open(home / path) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(home / path, exif=exif)
    assert not verify("pets", root).problems


# --- masks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "folder"), [("cub200", "../segmentations"), ("pets", "annotations/trimaps"), ("folder", "masks")]
)
def test_masks_of_another_size(copy: Copy, name: str, folder: str) -> None:
    root, home, _ = copy(name)
    first, second, third, *_ = sorted((home / folder).rglob("*.png"))
    with Image.open(first) as mask:
        mask.resize((39, 32), Image.Resampling.NEAREST).save(first)
    report = verify(name, root)
    assert not report.problems and "1 masks have another resolution: " in report.notes[0]
    assert first.stem in report.notes[0] and "39 x 32 for 78 x 64" in report.notes[0]
    with Image.open(second) as mask:
        mask.resize((64, 78), Image.Resampling.NEAREST).save(second)
    third.write_bytes(b"")
    text = problem(name, root)
    assert "2 masks do not fit" in text and second.stem in text and third.name in text


def test_missing_masks_are_counted(copy: Copy) -> None:
    root, home, _ = copy("cub200")
    next((home.parent / "segmentations").rglob("*.png")).unlink()
    assert "  saliency     masks: 17 of 18 images" in verify("cub200", root).lines()


def test_predicted_masks_are_checked(copy: Copy) -> None:
    root, home, drawn = copy("inat2018")
    bits = np.full((len(drawn) - 1, 8), 1, dtype=np.uint8)
    bits[4] = 0
    np.savez(home / "p.npz", paths=list(drawn)[1:], bits=bits, shape=[8, 8])
    report = verify("inat2018", root)
    assert "  saliency     predicted: 17 of 18 images" in report.lines()
    assert report.notes == [f"1 predicted maps show nothing salient: {list(drawn)[5]}."]
    (home / "p.npz").write_bytes(b"PK")
    assert "p.npz" in problem("inat2018", root)


# --- counts and classes ------------------------------------------------------------------------


def test_counts_are_held_against_the_card(copy: Copy) -> None:
    root, home, drawn = copy("imagenet")
    shutil.rmtree(home / "train/n02007558")
    shutil.rmtree(home / "val/n02007558")
    problems = verify("imagenet", root).problems
    assert "8 train images listed, published are 12." in problems
    assert "2 classes, published are 3." in problems and "4 test images listed" in problems[1]


def test_unknown_class_in_val(copy: Copy) -> None:
    root, home, _ = copy("imagenet")
    (home / "val/n99999999").mkdir()
    assert re.search("class .*val/n99999999 is not in .*train", problem("imagenet", root))


def test_validation_images_without_folders(copy: Copy) -> None:
    root, home, _ = copy("imagenet")
    shutil.rmtree(home / "val")
    (home / "val").mkdir()
    assert "has no class folders" in problem("imagenet", root)


def test_empty_and_one_image_classes(copy: Copy) -> None:
    root, home, drawn = copy("folder")
    lonely = sorted((home / "train/鳥 finch").iterdir())
    for file in lonely[1:]:
        file.unlink()
    notes = verify("folder", root).notes
    assert notes == ["1 class(es) have one training image: 鳥 finch."]
    lonely[0].unlink()
    assert "鳥 finch has no images" in problem("folder", root)


def test_duplicates_across_training_and_test(copy: Copy) -> None:
    root, home, drawn = copy("folder")
    train = next(path for path, p in drawn.items() if p.split == "train")
    test = [path for path, p in drawn.items() if p.split == "test"]
    for path in test[:2]:
        shutil.copy(home / train, home / path)
    notes = verify("folder", root).notes
    assert notes[-1].startswith("2 test images are also training images: ")
    assert f"{train} = {test[0]}" in notes[-1] or f"{train} = {test[1]}" in notes[-1]


def test_fingerprint_follows_the_content_only(copy: Copy, originals: dict[str, tuple[Path, Drawn]]) -> None:
    root, home, drawn = copy("pets")
    listing = find_set("pets").listing(home)
    before = fingerprint(home, listing)
    other = originals["pets"][0] / "oxford-iiit-pet"
    assert before == fingerprint(other, find_set("pets").listing(other, val_fraction=0.3, seed=4))
    assert f"  fingerprint  {before[:12]} " in "\n".join(verify("pets", root).lines())
    with open(home / list(drawn)[0], "ab") as file:
        file.write(b"x")
    assert before != fingerprint(home, listing)
