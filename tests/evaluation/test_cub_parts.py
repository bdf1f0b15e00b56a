"""Parts of CUB-200-2011 in the coordinates of a bank, from a small copy of its layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cvsa.config import DataConfig
from cvsa.data.bank import ImageBank
from cvsa.data.datasets import load_splits
from cvsa.errors import CVSAError
from cvsa.evaluation.localization import truth_of
from cvsa.evaluation.parts import part_locations

NAMES = ["back", "beak", "left eye"]


def write_set(root, sizes, places, orientation=None):
    """A set of red dots: images of these sizes (w, h), in each a dot at each of its places (x, y) or None."""
    home = root / "CUB_200_2011"
    (home / "parts").mkdir(parents=True)
    tables = {name: "" for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")}
    locations = ""
    for number, ((width, height), points) in enumerate(zip(sizes, places, strict=True), 1):
        path = home / f"images/{number % 2 + 1:03d}.Bird/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.full((height, width, 3), number, dtype=np.uint8)  # no two are alike
        for part, point in enumerate(points, 1):
            x, y = point or (0, 0)
            locations += f"{number} {part} {x}.0 {y}.0 {int(point is not None)}\n"
            if point:
                picture[y, x, part - 1] = 255
        image = Image.fromarray(picture)
        if orientation:  # stored turned, displayed upright
            exif = Image.Exif()
            exif[0x0112] = orientation
            image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
        else:
            image.save(path)
        tables["images"] += f"{number} {path.relative_to(home / 'images')}\n"
        tables["image_class_labels"] += f"{number} {number % 2 + 1}\n"
        tables["train_test_split"] += f"{number} {int(number <= len(sizes) // 2)}\n"
        tables["bounding_boxes"] += f"{number} 0.0 0.0 {width}.0 {height}.0\n"
    for name, text in {**tables, "parts/part_locs": locations, "classes": "1 001.Bird\n2 002.Bird\n"}.items():
        (home / f"{name}.txt").write_text(text)
    (home / "parts/parts.txt").write_text("".join(f"{n} {name}\n" for n, name in enumerate(NAMES, 1)))
    return root


def test_parts_lie_where_they_are_in_the_banks_pictures(tmp_path):
    sizes = [(48, 32), (32, 48), (32, 32), (39, 32), (48, 32), (32, 48), (32, 32), (39, 32)]
    points = [(15, 5), (20, 17), None]
    places = [[points[0], points[1], points[2]] for _ in sizes]
    places[0] = [(1, 5), (20, 17), (47, 3)]  # the sides are cut off
    places[1] = [(15, 43), (3, 17), (20, 8)]  # top and bottom are: 8 to 40 remain
    root = write_set(tmp_path / "cub", sizes, places)
    banks = load_splits(DataConfig(dataset="cub200", root=root, bank_size=32, val_fraction=0.5))
    seen = 0
    for bank in banks.values():
        parts = part_locations(bank, root)
        assert parts.names == NAMES and parts.points.shape == (len(bank), 3, 2)
        for path, image, xy in zip(bank.extras["path"], bank.images, parts.points, strict=True):
            number = int(str(path).split("/")[-1][:-4]) - 1
            for part, (place, point) in enumerate(zip(places[number], xy, strict=True)):
                dots = image[part].numpy()
                if np.isnan(point).any():
                    assert place is None or number in (0, 1, 5)
                    assert dots.max() < 20
                    continue
                x, y = point.astype(int)
                assert dots[y, x] == dots.max() > 100
                seen += 1
    assert seen == 1 + 2 + 1 + 5 * 2  # of images 0, 1, 5 and the rest


def test_whole_pixels_are_found_by_arithmetic(tmp_path):
    root = write_set(tmp_path / "cub", [(96, 64)] * 8, [[(16, 0), (79, 63), (15, 3)]] * 8)
    bank = load_splits(DataConfig(dataset="cub200", root=root, bank_size=32, val_fraction=0.5))["test"]
    xy = part_locations(bank, root).points[0]
    # 16 columns are cut off at the left, then two pixels become one.
    np.testing.assert_allclose(xy[:2], [[0.25, 0.25], [31.75, 31.75]])
    assert np.isnan(xy[2]).all()
    truth = truth_of(bank, torch.tensor([1]), part_locations(bank, root))
    assert list(truth.part_names) == NAMES
    np.testing.assert_array_equal(truth.parts[0], xy)


def test_images_that_are_stored_turned(tmp_path):
    sizes, places = [(48, 32)] * 8, [[(15, 5), (20, 17), None]] * 8
    upright = write_set(tmp_path / "upright", sizes, places)
    turned = write_set(tmp_path / "turned", sizes, places, orientation=6)
    for root in (upright, turned):
        bank = load_splits(DataConfig(dataset="cub200", root=root, bank_size=32, val_fraction=0.5))["test"]
        xy = part_locations(bank, root).points[0]
        np.testing.assert_allclose(xy[:2], [[7.5, 5.5], [12.5, 17.5]])
        assert bank.images[0, 0, 5, 7] > 200 and bank.images[0, 1, 17, 12] > 200


def bank_with(path):
    images = torch.zeros(1, 4, 8, 8, dtype=torch.uint8)
    extras = {"path": np.array([path])}
    return ImageBank(images, torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64), ["a"], extras=extras)


def test_errors_say_what_is_wrong(tmp_path):
    root = write_set(tmp_path / "cub", [(40, 24)] * 4, [[(15, 5), (20, 17), None]] * 4)
    with pytest.raises(CVSAError, match=r"images/x.png of the bank is not in .*images.txt"):
        part_locations(bank_with("images/x.png"), root)
    with pytest.raises(CVSAError, match="no table of parts"):
        part_locations(bank_with("x"), root, "cars")
    table = root / "CUB_200_2011/parts/part_locs.txt"
    table.write_text(table.read_text() + "1 9 3.0 3.0 1\n")
    with pytest.raises(CVSAError, match=r"part_locs.txt, line 13: .*part 9"):
        part_locations(bank_with("images/002.Bird/1.png"), root)
    (root / "CUB_200_2011/parts/parts.txt").unlink()
    with pytest.raises(CVSAError, match=r"parts.txt"):
        part_locations(bank_with("images/002.Bird/1.png"), root)
