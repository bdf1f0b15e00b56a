"""Cards, and the way from published archives to banks."""

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from miniatures import WRITERS, Drawn

from cvsa.config import DataConfig
from cvsa.data.datasets import load_splits
from cvsa.data.sets import SETS, find_set, overview
from cvsa.data.sets.commands import data
from cvsa.data.sets.prepare import prepare
from cvsa.errors import CVSAError

Originals = dict[str, tuple[Path, Drawn]]
Copy = Callable[[str], tuple[Path, Path, Drawn]]


@pytest.mark.parametrize("name", SETS)
def test_cards_say_what_one_should_know(name: str) -> None:
    card = find_set(name).card
    assert card.name == name and (card.url.startswith("https://") or name == "folder")
    text = "\n".join(card.lines())
    for word in ("origin", "cite", "terms", "splits", "truth", "place"):
        assert f"  {word} " in text
    assert all(len(a.md5) == 32 for a in card.archives if a.md5)
    assert all(f"{count:,}" in text for count in card.splits.values())
    assert all(archive.file in text for archive in card.archives)


def test_overview_lists_all() -> None:
    assert [line.split()[0] for line in overview()] == list(SETS) == list(WRITERS)


def test_cards_import_no_torch() -> None:
    code = (
        "import sys; import cvsa.data.sets.commands; from cvsa.data.sets import SETS, find_set, overview;"
        "overview(); [find_set(n).card.lines() for n in SETS]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the command line --------------------------------------------------------------------------


def run(*arguments: object) -> Any:
    return CliRunner().invoke(data, [str(argument) for argument in arguments])


def test_commands_list_and_describe(originals: Originals, tmp_path: Path) -> None:
    assert run("list").output.splitlines() == overview()
    lines = run("card", "pets", "--root", originals["pets"][0]).output.splitlines()
    assert lines[: len(find_set("pets").card.lines())] == find_set("pets").card.lines()
    assert "11 train, 1 val, 6 test; 3 classes; saliency: masks" in lines[-2]
    assert len(lines[-1].split()[1]) == 64
    assert "here      no: " in run("card", "pets", "--root", tmp_path).output.splitlines()[-1]


def test_command_verify_says_whether_all_is_well(copy: Copy) -> None:
    root, home, drawn = copy("folder")
    result = run("verify", root)
    assert result.exit_code == 0 and result.output.splitlines()[-1] == "  no problems"
    (home / next(iter(drawn))).write_bytes(b"")
    result = run("verify", root, "--decode")
    assert result.exit_code == 1 and result.output.splitlines()[-1] == "  1 problem(s)"


def test_command_prepare(originals: Originals, tmp_path: Path) -> None:
    result = run("prepare", originals["folder"][0], "--size", 32, "--saliency", "boxes")
    assert result.exit_code == 0 and result.output.count("bank ") == 3
    assert run("prepare", "pets", "--root", originals["pets"][0], "--no-banks").exit_code == 0
    for arguments in (["pets", "--root", tmp_path], [originals["folder"][0], "--saliency", "guesses"]):
        result = run("prepare", *arguments)
        assert isinstance(result.exception, CVSAError) and "\n" not in str(result.exception)


# --- archives ----------------------------------------------------------------------------------


def packed(folder: Path, names: list[str], archive: Path) -> str:
    """Pack names of a folder; returns the archive's md5."""
    with tarfile.open(archive, "w:gz") as tar:
        for name in names:
            tar.add(folder / name, arcname=name)
    return hashlib.md5(archive.read_bytes()).hexdigest()


@pytest.fixture
def published(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[Path, Path]]:
    """A miniature as archives with checksums in a folder: the set's (empty) place, and that folder."""

    def make(name: str) -> tuple[Path, Path]:
        root, _ = originals[name]
        source = find_set(name)
        server, place = tmp_path / "server", tmp_path / "data" / name
        server.mkdir()
        archives = []
        for archive in source.card.archives:
            content = root if (root / archive.gives).exists() else root / source.card.inner
            if archive.gives == archive.file:
                shutil.copy(content / archive.file, server / archive.file)
                md5 = hashlib.md5((server / archive.file).read_bytes()).hexdigest()
            else:
                md5 = packed(content, [archive.gives], server / archive.file)
            archives.append(replace(archive, md5=md5 if archive.md5 else None))
        monkeypatch.setattr(type(source), "card", replace(source.card, archives=tuple(archives)))
        return place, server

    return make


PACKED = ["cub200", "nabirds", "aircraft", "cars", "inat2018", "pets", "coco"]


@pytest.mark.parametrize("name", PACKED)
def test_archives_are_checked_and_unpacked(published: Any, originals: Originals, name: str) -> None:
    place, server = published(name)
    shutil.copytree(server, place)
    lines = list(prepare(name, place))
    assert lines[-1].startswith(f"{find_set(name).card.title} is in {place}")
    source, (root, _) = find_set(name), originals[name]
    assert source.index(source.home(place)) == source.index(source.home(root))
    assert source.available(source.home(place)) == source.available(source.home(root))
    assert list(prepare(name, place)) == lines[-1:]  # nothing left to do


@pytest.mark.parametrize("name", PACKED)
def test_damaged_archive_is_refused(published: Any, name: str) -> None:
    place, server = published(name)
    shutil.copytree(server, place)
    archive = find_set(name).card.archives[0]
    (place / archive.file).write_bytes((place / archive.file).read_bytes()[:-40])
    with pytest.raises(CVSAError, match=archive.file):
        list(prepare(name, place))
    assert not (place / archive.gives).exists()


@pytest.mark.parametrize("name", PACKED)
def test_missing_archives_are_named(published: Any, name: str) -> None:
    place, _ = published(name)
    with pytest.raises(CVSAError) as caught:
        list(prepare(name, place))
    text, card = str(caught.value), find_set(name).card
    assert all((a.file in text) == (not a.optional) for a in card.archives)
    assert card.url in text and str(place) in text and "\n" not in text
    assert ("--download" in text) == (name in ("cub200", "inat2018", "pets"))


@pytest.mark.parametrize("name", ["cub200", "inat2018", "pets"])
def test_download_from_the_publisher(published: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, server = published(name)
    asked = []

    def download(url: str, root: str, filename: str, md5: str) -> None:
        asked.append(url)
        shutil.copy(server / filename, root)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    list(prepare(name, place, download=True))
    assert asked == [archive.url for archive in find_set(name).card.archives]
    assert all(url.startswith("https://") for url in asked)
    assert find_set(name).home(place)


@pytest.mark.parametrize("name", ["nabirds", "aircraft", "cars", "coco", "imagenet"])
def test_no_download_without_checksum_or_agreement(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.utils.download_url", None)  # must not be called
    with pytest.raises(CVSAError, match="https?://"):
        list(prepare(name, tmp_path / name, download=True))


def test_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*arguments: str) -> None:
        raise RuntimeError("File not found\nor corrupted.")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    with pytest.raises(CVSAError, match="Cannot download https://.*Put images.tar.gz into") as caught:
        list(prepare("pets", tmp_path / "pets", download=True))
    assert "\n" not in str(caught.value)


def test_optional_archive_is_mentioned(published: Any) -> None:
    place, server = published("cub200")
    shutil.copytree(server, place)
    (place / "segmentations.tgz").unlink()
    assert any("without segmentations.tgz" in line for line in prepare("cub200", place))
    source = find_set("cub200")
    assert source.saliency(source.home(place)).kind == "boxes"
    with pytest.raises(CVSAError, match="saliency 'masks' of CUB-200-2011 needs .*segmentations.tgz"):
        source.saliency(source.home(place), "masks")


def test_a_home_given_directly_is_not_unpacked_again(copy: Copy) -> None:
    root, home, _ = copy("cub200")
    (root / "CUB_200_2011.tgz").write_bytes(b"left over from long ago")
    assert list(prepare("cub200", home)) == [f"CUB-200-2011 is in {home}"]
    assert list(prepare("cub200", root)) == [f"CUB-200-2011 is in {home}"]


def test_archive_with_parent_paths_is_refused(published: Any) -> None:
    place, _ = published("nabirds")
    place.mkdir(parents=True)
    with tarfile.open(place / "nabirds.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("nabirds/../../evil.txt")
        tar.addfile(info, io.BytesIO())
    with pytest.raises(CVSAError, match="nabirds.tar.gz is refused.*evil.txt"):
        list(prepare("nabirds", place))
    assert not list(place.parent.rglob("evil.txt"))


def test_imagenet_s_archives_are_sorted_by_torchvision(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    from scipy.io import savemat

    root, drawn = originals["imagenet"]
    place = tmp_path / "imagenet"
    place.mkdir()
    wnids = sorted(p.name for p in (root / "train").iterdir())
    # Training images: an archive of archives, one for each class.
    with tarfile.open(place / "ILSVRC2012_img_train.tar", "w") as outer:
        for wnid in wnids:
            with tarfile.open(tmp_path / f"{wnid}.tar", "w") as inner:
                for file in sorted((root / "train" / wnid).iterdir()):
                    inner.add(file, arcname=file.name)
            outer.add(tmp_path / f"{wnid}.tar", arcname=f"{wnid}.tar")
    # Validation images: flat, with their classes in the development kit.
    validation = sorted((root / "val").rglob("*.JPEG"), key=lambda p: p.name)
    with tarfile.open(place / "ILSVRC2012_img_val.tar", "w") as tar:
        for file in validation:
            tar.add(file, arcname=file.name)
    kit = tmp_path / "ILSVRC2012_devkit_t12/data"
    kit.mkdir(parents=True)
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children")
    synsets = np.zeros((3, 1), dtype=[(name, object) for name in fields])
    for n, wnid in enumerate(wnids):
        synsets[n, 0] = (n + 1, wnid, f"bird {n}, fowl {n}", "a bird", 0)
    savemat(kit / "meta.mat", {"synsets": synsets})
    numbers = [str(wnids.index(file.parent.name) + 1) for file in validation]
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(numbers) + "\n")
    packed(tmp_path, ["ILSVRC2012_devkit_t12"], place / "ILSVRC2012_devkit_t12.tar.gz")

    from torchvision.datasets import imagenet

    source = find_set("imagenet")
    with pytest.raises(CVSAError, match="ILSVRC2012_devkit_t12.tar.gz"):  # not the published archives
        list(prepare("imagenet", place))
    names = {"train": "img_train.tar", "val": "img_val.tar", "devkit": "devkit_t12.tar.gz"}
    for key, name in names.items():
        digest = hashlib.md5((place / f"ILSVRC2012_{name}").read_bytes()).hexdigest()
        monkeypatch.setitem(imagenet.ARCHIVE_META, key, (f"ILSVRC2012_{name}", digest))
    list(prepare("imagenet", place))
    assert source.index(source.home(place)).classes == wnids
    found = {path for path, _, _ in source.index(source.home(place)).rows}
    assert found == set(drawn)


def test_banks_of_a_folder(originals: Originals) -> None:
    root, _ = originals["folder"]
    lines = list(prepare(str(root), banks={"bank_size": 32, "val_fraction": 0.25}))
    assert [line.split(",")[0] for line in lines[1:]] == [
        "bank train: 9 images at 32 px", "bank val: 3 images at 32 px", "bank test: 6 images at 32 px",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "folder"])
def test_banks_of_published_sets(originals: Originals, name: str) -> None:
    """From layout to bank: the box of each image lies where it was drawn."""
    root, drawn = originals[name]
    source = find_set(name)
    saliency = "auto" if source.kinds else "none"  # not a detector
    config = DataConfig(dataset=name, root=root, bank_size=64, val_fraction=0.25, saliency=saliency)
    banks = load_splits(config)
    assert list(banks) == ["train", "val", "test"][: 3 if source.card.labelled else 2]
    assert sum(map(len, banks.values())) == len(drawn)
    left = (78 - 64) // 2
    for bank in banks.values():
        assert bank.found.all() == bool(source.kinds)
        for box, path in zip(bank.boxes.numpy(), bank.extras["path"], strict=True):
            x1, y1, x2, y2 = drawn[path].box
            if source.kinds:
                # An outline that the bank's frame cuts may leave a smaller largest part.
                assert np.abs(box - [x1 - left, y1, x2 - left, y2]).max() <= 2


def test_banner_stays_out_of_the_bank(originals: Originals) -> None:
    root, drawn = originals["aircraft"]
    bank = load_splits(DataConfig(dataset="aircraft", root=root, bank_size=64))["train"]
    left = (78 - 64) // 2
    for image, path in zip(bank.images.numpy().astype(int), bank.extras["path"], strict=True):
        expected = drawn[path].image[:, left : left + 64].transpose(2, 0, 1)
        assert np.abs(image[:3] - expected).mean() < 12
