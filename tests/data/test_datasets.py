"""From a configuration to disjoint, reproducible splits."""

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cvsa.config import DataConfig
from cvsa.data.bank import ImageBank
from cvsa.data.datasets import load_splits
from cvsa.data.listing import list_folder, stratified
from cvsa.errors import CVSAError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CVSA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def photographs(root: Path, counts: dict[str, int]) -> Path:
    """Plain pictures, all different; keys are folders below root."""
    value = 0
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            value += 1
            Image.new("RGB", (40, 33), (value % 256, value // 256, 7)).save(root / folder / f"{i}.png")
    return root


def split_folder(root: Path, train: int = 10, test: int = 4) -> Path:
    return photographs(
        root, {f"{s}/{c}": n for s, n in (("train", train), ("test", test)) for c in ("a", "b", "c")}
    )


def folder(root: Path, **fields: object) -> DataConfig:
    return DataConfig(dataset="folder", root=root, bank_size=32, **fields)


def paths(banks: dict[str, ImageBank]) -> dict[str, set[str]]:
    return {split: set(bank.extras["path"].tolist()) for split, bank in banks.items()}


# --- stratified drawing ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_stratified_gives_each_class_its_share(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(6), rng.integers(4, 40, 6)))
    count = int(rng.integers(0, len(labels) // 2))
    drawn = stratified(labels, count, seed)
    assert len(drawn) == count == len(set(drawn.tolist())) and (np.diff(drawn) > 0).all()
    share = np.bincount(labels) * count / len(labels)
    assert np.abs(np.bincount(labels[drawn], minlength=6) - share).max() < 1
    assert np.array_equal(drawn, stratified(labels, count, seed))
    if count > 5:
        assert not np.array_equal(drawn, stratified(labels, count, seed + 1))


def test_stratified_empties_no_class() -> None:
    labels = np.array([0] * 10 + [1] + [2] * 2)
    assert np.bincount(labels[stratified(labels, 13, 0)], minlength=3).tolist() == [9, 0, 1]


# --- folders -----------------------------------------------------------------------------------


def test_splits_of_a_folder(tmp_path: Path) -> None:
    root = split_folder(tmp_path / "pets")
    banks = load_splits(folder(root, val_fraction=0.2))
    assert {split: len(bank) for split, bank in banks.items()} == {"train": 24, "val": 6, "test": 12}
    assert banks["val"].labels.bincount().tolist() == [2, 2, 2] and banks["train"].classes == ["a", "b", "c"]
    found = paths(banks)
    assert not found["train"] & found["val"]
    assert found["train"] | found["val"] == {p.relative_to(root).as_posix() for p in root.glob("train/*/*")}
    assert found["test"] == {p.relative_to(root).as_posix() for p in root.glob("test/*/*")}
    for bank in banks.values():
        for path, label in zip(bank.extras["path"], bank.labels.tolist(), strict=True):
            assert bank.classes[label] == path.split("/")[1]


def test_splits_are_reproducible_and_seeded(tmp_path: Path, cache: Path) -> None:
    root = split_folder(tmp_path / "pets")
    first = load_splits(folder(root))
    shutil.rmtree(cache)
    again, other = load_splits(folder(root)), load_splits(folder(root, data_seed=1))
    assert {s: b.fingerprint for s, b in first.items()} == {s: b.fingerprint for s, b in again.items()}
    assert paths(first)["val"] != paths(other)["val"] and paths(first)["test"] == paths(other)["test"]


def test_fingerprint_does_not_depend_on_the_path(tmp_path: Path) -> None:
    root = split_folder(tmp_path / "pets")
    shutil.copytree(root, tmp_path / "elsewhere")
    here, there = load_splits(folder(root)), load_splits(folder(tmp_path / "elsewhere"))
    assert [b.fingerprint for b in here.values()] == [b.fingerprint for b in there.values()]


def test_cache_is_used_and_follows_the_files(tmp_path: Path, cache: Path) -> None:
    root = split_folder(tmp_path / "pets")
    load_splits(folder(root))
    built = {p: p.stat().st_mtime_ns for p in cache.glob("*/images.npy")}
    assert len(built) == 3 and all(p.parent.name.startswith("pets-") for p in built)
    load_splits(folder(root))
    assert {p: p.stat().st_mtime_ns for p in cache.glob("*/images.npy")} == built
    Image.new("RGB", (40, 33), "white").save(root / "test/a/0.png")
    changed = load_splits(folder(root))["test"]
    assert len(set(cache.glob("*/images.npy"))) == 4
    assert changed.images[0, :3].min() == 255
    for path in root.glob("*/*/*.png"):  # saliency appears
        mask = root / "masks" / path.relative_to(root)
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.new("1", (40, 33), 1).save(mask)
    assert load_splits(folder(root))["test"].found.all() and not changed.found.any()
    (root / "masks/test/a/0.png").unlink()
    with pytest.warns(UserWarning, match="1 of 12 images .* no entry in its masks"):
        assert load_splits(folder(root))["test"].no_object == 1


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_own_validation_folder_is_used(tmp_path: Path, name: str) -> None:
    root = split_folder(tmp_path / "pets")
    photographs(root / name, {"a": 2, "c": 1})  # not every class needs to be in it
    banks = load_splits(folder(root))
    assert {split: len(bank) for split, bank in banks.items()} == {"train": 30, "val": 3, "test": 12}
    assert banks["val"].labels.tolist() == [0, 0, 2] and banks["val"].classes == ["a", "b", "c"]


def test_folder_without_splits(tmp_path: Path) -> None:
    root = photographs(tmp_path / "pets", {"a": 20, "b": 30, ".hidden": 3, "masks/a": 20, "c/deeper": 10})
    (root / "a/notes.txt").write_text("not an image")
    (root / "a/._0.png").write_bytes(b"left by a Mac")
    listing = list_folder(root, val_fraction=0.25, seed=3)
    assert listing.classes == ["a", "b", "c"]
    counts = {split: Counter(labels.tolist()) for split, labels in listing.labels.items()}
    assert counts["test"] == {0: 4, 1: 6, 2: 2}
    assert sum(counts["val"].values()) == 12 and sum(counts["train"].values()) == 36
    together = [path for part in listing.paths.values() for path in part]
    assert len(together) == len(set(together)) == 60
    assert "c/deeper/0.png" in together


def test_split_file(tmp_path: Path) -> None:
    root = split_folder(tmp_path / "pets")
    rows = [f"{'train' if i % 2 else 'test'}/{c}/{i % 4}.png" for c in "abc" for i in range(4)]
    table = root / "alt_split.csv"
    table.write_text(
        "path,split\n" + "".join(f"{path},{'test' if path[-5] in '01' else 'train'}\n" for path in rows)
    )
    banks = load_splits(folder(root, split_file="alt_split.csv", val_fraction=0.4))
    found = paths(banks)
    assert found["test"] == {path for path in rows if path[-5] in "01"}
    assert found["train"] | found["val"] == {path for path in rows if path[-5] in "23"}
    assert len(found["val"]) == 2 and not found["train"] & found["val"]
    assert banks["train"].classes == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("train/a/0.png,training", "line 2: split 'training' is none of train, test, val"),
        ("train/a/0.png,train\ntrain/a/99.png,train", "line 3: there is no file .*99.png"),
        ("train/a/0.png,train\ntrain/a/0.png,test", "line 3.*twice"),
        ("0.png,train", "line 2.*class folder"),
        ("../x/0.png,train", "line 2.*class folder"),
        ("train/a/0.png,test", "0 class"),
        ("train/a/0.png,train\ntrain/b/0.png,train\ntest/c/0.png,test", "'c' .* no training images"),
    ],
)
def test_bad_split_files_are_named(tmp_path: Path, rows: str, message: str) -> None:
    root = split_folder(tmp_path / "pets", train=2, test=1)
    (root / "s.csv").write_text(f"path,split\n{rows}\n")
    with pytest.raises(CVSAError, match=message):
        list_folder(root, split_file="s.csv")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "0 class"),
        ({"a": 5}, "1 class"),
        ({"a": 5, "b": 1}, "'b' .* no test images"),
        ({"a": 5, "b": 0}, r"class folder .*b has no images \(\.bmp"),
        ({"train/a": 5, "train/b": 5}, "no test/"),
        ({"test/a": 5, "test/b": 5}, "no train/"),
        ({"train/a": 5, "train/b": 0, "test/a": 1}, "class folder .*b has no images"),
        ({"train/a": 5, "train/b": 5, "test/a": 1}, "'b' .* no test images"),
        ({"train/a": 5, "train/b": 5, "test/a": 1, "test/b": 1, "test/z": 1}, "'z' .* no training images"),
    ],
)
def test_bad_layouts_are_named(tmp_path: Path, counts: dict[str, int], message: str) -> None:
    (tmp_path / "pets").mkdir()
    with pytest.raises(CVSAError, match=message) as caught:
        load_splits(folder(photographs(tmp_path / "pets", counts)))
    assert "\n" not in str(caught.value)


def test_a_class_may_have_a_single_training_image(tmp_path: Path) -> None:
    counts = {"train/a": 10, "train/b": 1, "test/a": 2, "test/b": 1}
    banks = load_splits(folder(photographs(tmp_path / "pets", counts), val_fraction=0.5))
    assert banks["train"].labels.tolist().count(1) == 1 and 1 not in banks["val"].labels
    assert banks["test"].labels.tolist() == [0, 0, 1]


def test_missing_folder_and_no_validation(tmp_path: Path) -> None:
    with pytest.raises(CVSAError, match="There is no folder .*nowhere.*expected root/train/CLASS"):
        load_splits(folder(tmp_path / "nowhere"))
    with pytest.raises(CVSAError, match="val_fraction"):
        load_splits(folder(split_folder(tmp_path / "pets"), val_fraction=0.0))


# --- drawn sets --------------------------------------------------------------------------------

SMALL = {"bank_size": 32, "train_images": 30, "val_images": 12, "test_images": 20}


def test_synthbirds() -> None:
    from cvsa.data.birds import SynthBirds

    banks = load_splits(DataConfig(dataset="synthbirds", **SMALL))
    assert {s: len(b) for s, b in banks.items()} == {"train": 30, "val": 12, "test": 20, "test_swapped": 20}
    for split, bank in banks.items():
        birds = SynthBirds(num_images=len(bank), image_size=32, split=split)
        drawn = birds.draw(torch.arange(len(bank)))
        assert torch.equal(bank.images[:, :3], drawn.images)
        assert torch.equal(bank.images[:, 3:], drawn.masks)
        assert bank.no_object == 0 and bank.classes == birds.classes
        assert np.array_equal(bank.labels, birds.labels) and np.array_equal(
            bank.extras["habitat"], birds.habitats
        )
        assert np.array_equal(bank.extras["attributes"], birds.attributes)
        assert bank.extras["parts"].shape == (len(bank), 5, 2)
        # A box from the map is the drawn bird's own, but where the map falls into parts at this size.
        same = (bank.boxes - drawn.boxes).abs().max(1).values <= 1
        assert same.float().mean() > 0.8
    assert len({bank.fingerprint for bank in banks.values()}) == 4


def test_drawn_sets_are_cached_by_what_defines_them(cache: Path) -> None:
    load_splits(DataConfig(**SMALL))
    load_splits(DataConfig(**SMALL))
    assert len(list(cache.glob("*/meta.json"))) == 4
    other = load_splits(DataConfig(**SMALL, data_seed=1))
    assert len(list(cache.glob("*/meta.json"))) == 8
    assert other["train"].description["seed"] == 1


def test_synthscenes() -> None:
    banks = load_splits(DataConfig(dataset="synthscenes", **SMALL))
    assert {split: len(bank) for split, bank in banks.items()} == {"train": 30, "val": 12, "test": 20}
    assert banks["train"].resolution == 32 and int(banks["train"].labels.max()) < len(banks["train"].classes)


# --- photographs -------------------------------------------------------------------------------


@pytest.mark.skipif("CVSA_DATA" not in os.environ, reason="photographs are not part of the repository")
def test_pets(tmp_path: Path) -> None:
    root = Path(os.environ["CVSA_DATA"]) / "pets3"
    banks = load_splits(folder(root))
    assert {split: len(bank) for split, bank in banks.items()} == {"train": 270, "val": 30, "test": 298}
    assert banks["train"].description["saliency"] == "masks" and banks["train"].no_object == 0


@pytest.mark.skipif("CVSA_DATA" not in os.environ, reason="photographs are not part of the repository")
def test_alternative_split_of_the_butterflies() -> None:
    root = Path(os.environ["CVSA_DATA"]) / "butterfly100"
    listing = list_folder(root, split_file="alt_split.csv")
    sizes = {split: len(part) for split, part in listing.paths.items()}
    assert sizes == {"train": 6144, "val": 683, "test": 6767} and len(listing.classes) == 100
    sizes = {split: len(part) for split, part in list_folder(root).paths.items()}
    assert sizes == {"train": 12594, "val": 500, "test": 500}
