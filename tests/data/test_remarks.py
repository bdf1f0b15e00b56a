"""What is said of a folder's photographs: equal ones, links, masks of another shape."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvsa.config import DataConfig
from cvsa.data.bank import ImageBank
from cvsa.data.datasets import load_splits
from cvsa.data.listing import list_folder
from cvsa.data.remarks import links_out, misfit, some
from cvsa.errors import CVSAError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CVSA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, 6 training, 2 validation and 3 test images each, all different, in a path with a space."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("valid", 2), ("test", 3)):
        for name in "ab":
            folder = tmp_path / "meine Vögel" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture = Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8))
                picture.save(folder / f"{i}.png")
    return tmp_path / "meine Vögel"


def load(root: Path, saliency: str = "none") -> tuple[dict[str, ImageBank], list[str]]:
    """The banks, and what was said while they were loaded."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        banks = load_splits(DataConfig(dataset="folder", root=root, bank_size=32, saliency=saliency))
    return banks, [str(warning.message) for warning in caught]


# --- equal images ------------------------------------------------------------------------------


def test_different_images_are_not_remarked(root: Path) -> None:
    banks, said = load(root)
    assert said == []
    assert banks["train"].description["equal_images"] == {"labels": [], "val": [], "test": []}
    assert len(np.unique(banks["train"].extras["digest"])) == 12


def test_equal_images_are_said_once_and_kept_in_the_description(root: Path) -> None:
    shutil.copy(root / "train/a/3.png", root / "test/a/new.png")  # a copy
    Image.open(root / "train/b/1.png").save(root / "test/b/other.bmp")  # another format, other bytes
    Image.open(root / "train/b/2.png").save(root / "valid/b/9.png", compress_level=0)
    shutil.copy(root / "train/a/0.png", root / "train/b/wrong.png")  # one of its labels is wrong
    shutil.copy(root / "train/a/1.png", root / "train/a/again.png")  # no contradiction
    banks, said = load(root)
    expected = {
        "labels": ["train/a/0.png = train/b/wrong.png"],
        "val": ["train/b/2.png = valid/b/9.png"],
        "test": ["train/a/3.png = test/a/new.png", "train/b/1.png = test/b/other.bmp"],
    }
    assert all(bank.description["equal_images"] == expected for bank in banks.values())
    assert len(said) == 3
    assert (
        f"1 training images in {root} are there with another label: train/a/0.png = train/b/wrong" in said[0]
    )
    assert f"1 val images in {root} are also training images: train/b/2.png = valid/b/9.png." in said[1]
    assert f"2 test images in {root} are also training images: train/a/3.png = test/a/new.png; " in said[2]
    again, silence = load(root)
    assert silence == [] and again["test"].description["equal_images"] == expected


def test_many_equal_images_are_counted_and_a_few_named(root: Path) -> None:
    shutil.rmtree(root / "test")
    shutil.copytree(root / "train", root / "test")
    banks, said = load(root)
    assert len(banks["test"].description["equal_images"]["test"]) == 12
    assert len(said) == 1 and "12 test images" in said[0] and said[0].endswith(" and 9 more.")


def test_some() -> None:
    assert some(["a", "b"]) == "a; b" and some("abcde") == "a; b; c and 2 more" and some([]) == ""


# --- links -------------------------------------------------------------------------------------


def test_links_out_of_the_folder_are_followed_and_said_once(root: Path, tmp_path: Path, cache: Path) -> None:
    expected = load(root)[0]["train"].fingerprint
    shutil.rmtree(cache)  # files that are only moved make no other bank
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    shutil.move(root / "train/a/0.png", outside / "photo.png")
    (root / "train/a/0.png").symlink_to(outside / "photo.png")
    shutil.move(root / "test/b", outside / "b")
    (root / "test/b").symlink_to(outside / "b")  # a whole class
    shutil.move(root / "train/b/5.png", root / "kept.png")
    (root / "train/b/5.png").symlink_to(root / "kept.png")  # stays inside
    banks, said = load(root)
    assert banks["train"].fingerprint == expected and len(banks["test"]) == 6
    assert len(said) == 1
    assert f"4 of 22 images in {root} are links out of it: train/a/0.png -> {outside}/photo.png" in said[0]
    assert load(root)[1] == []
    assert links_out(root, ["train/b/5.png", "train/b/1.png"]) == []


def test_a_folder_that_is_itself_a_link_is_nothing_special(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert load(tmp_path / "link")[1] == []


def test_loops_of_links_end(root: Path) -> None:
    (root / "train/a/loop").symlink_to(root / "train/a")
    (root / "train/a/up").symlink_to(root)
    with pytest.warns(UserWarning, match=r"2 links to folders inside the classes .*train/a/loop"):
        listing = list_folder(root)
    assert len(listing.paths["train"]) == 12
    (root / "train/itself").symlink_to(root / "train/itself")  # no folder at all
    with pytest.warns(UserWarning):
        assert list_folder(root).classes == ["a", "b"]


@pytest.mark.parametrize("target", ["", "..", "train"])
def test_a_class_folder_that_links_to_a_folder_above_is_refused(root: Path, target: str) -> None:
    (root / "train/c").symlink_to(root / target)
    with pytest.raises(CVSAError, match=r"class folder .*train/c is a link to .*remove it"):
        list_folder(root)


def test_links_that_lead_nowhere_are_unreadable_images(root: Path) -> None:
    (root / "train/a/gone.png").symlink_to(root / "nothing.png")
    (root / "train/a/round.png").symlink_to(root / "train/a/round.png")
    with pytest.raises(CVSAError, match=r"2 of 14 images .*train/a/gone.png .*train/a/round.png"):
        load(root)


# --- masks of another shape --------------------------------------------------------------------


def masks(root: Path, size: tuple[int, int]) -> None:
    mask = Image.new("L", size)
    mask.paste(255, (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
    for path in root.glob("*/*/*.png"):
        (root / "masks" / path.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        mask.save(root / "masks" / path.relative_to(root))


def test_masks_of_another_size_but_the_same_shape_are_fine(root: Path) -> None:
    masks(root, (100, 80))
    banks, said = load(root, "masks")
    assert said == [] and banks["train"].found.all()


def test_masks_of_another_shape_are_named(root: Path) -> None:
    masks(root, (50, 40))
    Image.new("L", (40, 50), 255).save(root / "masks/train/a/4.png")  # upright for an image that lies
    banks, said = load(root, "masks")
    assert (
        len(said) == 1 and "1 masks of images" in said[0] and "train/a/4.png (40 x 50 for 50 x 40)" in said[0]
    )
    assert banks["train"].description["misfits"] == ["train/a/4.png (40 x 50 for 50 x 40)"]
    assert banks["test"].description["misfits"] == []


def test_misfit_allows_for_rounding() -> None:
    assert misfit("x", (500, 333), (128, 85)) is None and misfit("x", (500, 333), (500, 333)) is None
    assert misfit("x", (500, 333), (333, 500)) and misfit("x", (500, 333), (128, 128))
