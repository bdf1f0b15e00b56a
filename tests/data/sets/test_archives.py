"""Archives: unpacked whole or not at all, and never outside their folder."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from cvsa.data.sets.archives import check, unpack
from cvsa.errors import CVSAError

Members = list[tuple[str, str]]
GOOD: Members = [("set/images/a b ü.txt", "one"), ("set/classes.txt", "two"), ("readme.txt", "three")]


def tar(path: Path, members: Members, mode: str = "w:gz", links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, text in members:
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


def zipped(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members:
            archive.writestr(name, text)
    return path


def content(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["tgz", "tar", "txz", "zip"])
def test_all_is_unpacked(tmp_path: Path, kind: str) -> None:
    file, folder = tmp_path / f"set.{kind}", tmp_path / "mes données"
    modes = {"tgz": "w:gz", "tar": "w", "txz": "w:xz"}
    zipped(file, GOOD) if kind == "zip" else tar(file, GOOD, modes[kind])
    assert unpack(file, folder) == ["readme.txt", "set"]
    assert content(folder) == dict(GOOD)


@pytest.mark.parametrize("kind", ["tgz", "zip"])
@pytest.mark.parametrize(
    "name", ["/etc/evil.txt", "../evil.txt", "set/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"]
)
def test_paths_out_of_the_folder_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    folder = tmp_path / "data" / "set"
    make = zipped if kind == "zip" else tar
    file = make(tmp_path / f"set.{kind}", [*GOOD, (name, "evil")])
    with pytest.raises(
        CVSAError, match="nothing was unpacked: .*evil.txt.* leads out of the folder"
    ) as caught:
        unpack(file, folder)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    assert not list(folder.iterdir()) and not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret.txt"])
def test_links_out_of_the_folder_are_refused(tmp_path: Path, target: str) -> None:
    file = tar(tmp_path / "set.tgz", GOOD, links={"set/link.txt": target})
    with pytest.raises(CVSAError, match="nothing was unpacked: .*set/link.txt"):
        unpack(file, tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_devices_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        info = tarfile.TarInfo("set/null")
        info.type = tarfile.CHRTYPE
        archive.addfile(info)
    with pytest.raises(CVSAError, match="refused.*set/null"):
        unpack(tmp_path / "set.tar", tmp_path / "data")


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        info = zipfile.ZipInfo("set/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(CVSAError, match="'set/link' is a link"):
        unpack(tmp_path / "set.zip", tmp_path / "data")


def test_links_inside_the_folder_are_kept(tmp_path: Path) -> None:
    unpack(tar(tmp_path / "set.tgz", GOOD, links={"set/link.txt": "classes.txt"}), tmp_path / "data")
    assert (tmp_path / "data/set/link.txt").read_text() == "two"


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
@pytest.mark.parametrize("kind", ["tgz", "zip"])
def test_damaged_archive_leaves_nothing(tmp_path: Path, kind: str, damage: str) -> None:
    make = zipped if kind == "zip" else tar
    file = make(tmp_path / f"set.{kind}", [(f"set/{i}.txt", str(i) * 5000) for i in range(50)])
    whole = file.read_bytes()
    file.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"404 not found", "empty": b""}[damage])
    with pytest.raises(CVSAError, match=f"set.{kind}") as caught:
        unpack(file, tmp_path / "data")
    assert "\n" not in str(caught.value) and not list((tmp_path / "data").iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data/set").mkdir(parents=True)
    (tmp_path / "data/set/mine.txt").write_text("mine")
    with pytest.raises(CVSAError, match="holds set, which is in .* already"):
        unpack(tar(tmp_path / "set.tgz", GOOD), tmp_path / "data")
    assert content(tmp_path / "data") == {"set/mine.txt": "mine"}


def test_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(CVSAError, match="none.tgz"):
        unpack(tmp_path / "none.tgz", tmp_path / "data")


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    file = tar(tmp_path / "set.tgz", GOOD)
    monkeypatch.setattr("tarfile.copyfileobj", write)
    with pytest.raises(CVSAError, match="Cannot unpack .*set.tgz into .*No space left on device") as caught:
        unpack(file, tmp_path / "data")
    assert "\n" not in str(caught.value) and not list((tmp_path / "data").iterdir())


def test_checksum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    check(tmp_path / "a", "5d41402abc4b2a76b9719d911017c592")
    with pytest.raises(CVSAError, match="md5 5d41402abc4b2a76b9719d911017c592, published 0000"):
        check(tmp_path / "a", "0000")
