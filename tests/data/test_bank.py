"""The bank: what goes in comes out, whatever happens while it is written."""

import errno
import hashlib
import io
import json
import multiprocessing
import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from cvsa.data import bank as bank_module
from cvsa.data.bank import BankWriter, ImageBank, bank_directory, open_bank, open_or_build
from cvsa.errors import CVSAError
from cvsa.io.paths import cache_root

R, CLASSES = 12, ["café", "b c", "d"]


def content(count: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random images, one rectangular object each (none in the last image), labels."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 3, R, R), dtype=np.uint8)
    maps = np.zeros((count, R, R), dtype=np.uint8)
    for i in range(count - 1):
        x, y = rng.integers(0, R - 3, 2)
        maps[i, y : y + 2, x : x + 3] = 255
    return images, maps, np.arange(count) % len(CLASSES)


def fill(writer: BankWriter, count: int = 10, seed: int = 0, batch: int = 4) -> None:
    images, maps, labels = content(count, seed)
    for start in range(0, count, batch):
        rows = slice(start, start + batch)
        names = np.array([f"imäge {i}" for i in range(count)])[rows]
        writer.add(images[rows], maps[rows], labels[rows], path=names)


def build(directory: Path, **options: object) -> ImageBank:
    description = {"note": "test"}
    return open_or_build(
        directory,
        lambda writer: fill(writer, **options),
        resolution=R,
        classes=CLASSES,
        description=description,
    )


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.endswith(".tmp")]


def test_round_trip(tmp_path: Path) -> None:
    images, maps, labels = content()
    bank = build(tmp_path / "a")
    assert len(bank) == 10 and bank.resolution == R and bank.classes == CLASSES
    assert bank.images.dtype == torch.uint8 and bank.boxes.dtype == torch.float32
    assert np.array_equal(bank.images[:, :3], images)
    assert np.array_equal(bank.images[:9, 3], maps[:9])
    assert bank.labels.tolist() == labels.tolist() and bank.labels.dtype == torch.int64
    assert bank.extras["path"].tolist() == [f"imäge {i}" for i in range(10)]
    assert bank.description == {"note": "test"}
    for box, map in zip(bank.boxes[:9].int().tolist(), maps, strict=False):
        x1, y1, x2, y2 = box
        assert map[y1:y2, x1:x2].all() and map.sum() == 255 * (x2 - x1) * (y2 - y1)


def test_nothing_salient_makes_the_whole_image_the_object(tmp_path: Path) -> None:
    bank = build(tmp_path / "a")
    assert bank.no_object == 1 and bank.found.tolist() == [True] * 9 + [False]
    assert bank.boxes[9].tolist() == [0, 0, R, R] and (bank.images[9, 3] == 255).all()


def test_gather(tmp_path: Path) -> None:
    bank = build(tmp_path / "a")
    index = torch.tensor([7, 0, 7, 3])
    batch = bank.gather(index)
    assert batch.dtype == torch.float32 and batch.shape == (4, 4, R, R)
    assert torch.equal(batch, bank.images[index].float() / 255)
    assert batch.min() >= 0 and batch.max() == 1
    assert bank.gather(index[:0]).shape == (0, 4, R, R)
    with pytest.raises(IndexError):
        bank.gather(torch.tensor([10]))


def test_subset(tmp_path: Path) -> None:
    bank = build(tmp_path / "a")
    index = torch.tensor([9, 2, 5])
    part = bank.subset(index)
    assert torch.equal(part.images, bank.images[index]) and torch.equal(part.boxes, bank.boxes[index])
    assert part.labels.tolist() == bank.labels[index].tolist() and part.no_object == 1
    assert part.extras["path"].tolist() == ["imäge 9", "imäge 2", "imäge 5"]
    assert part.fingerprint != bank.fingerprint
    assert bank.subset(torch.arange(10)).fingerprint == bank.fingerprint


def test_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    first = build(tmp_path / "a")
    again = build(tmp_path / "deep" / "er", batch=3)
    other_images = build(tmp_path / "c", seed=1)
    labels = first.labels.clone()
    labels[0] += 1
    relabelled = ImageBank(first.images, first.boxes, labels, CLASSES)
    assert first.fingerprint == again.fingerprint
    assert len({first.fingerprint, other_images.fingerprint, relabelled.fingerprint}) == 3
    in_memory = ImageBank(first.images.clone(), first.boxes, first.labels, CLASSES)
    assert in_memory.fingerprint == first.fingerprint == bytes.fromhex(first.fingerprint).hex()


def test_opening_is_memory_mapped_and_leaves_the_file_alone(tmp_path: Path) -> None:
    bank = build(tmp_path / "a")
    before = hashlib.sha256((tmp_path / "a/images.npy").read_bytes()).digest()
    bank.images[0] = 0  # copy-on-write
    assert hashlib.sha256((tmp_path / "a/images.npy").read_bytes()).digest() == before
    assert open_bank(tmp_path / "a").images[0].any()
    with open(tmp_path / "a/images.npy", "rb") as file:  # an ordinary NumPy file
        assert np.load(file).shape == (10, 4, R, R)


def test_second_call_does_not_build(tmp_path: Path) -> None:
    build(tmp_path / "a")

    def never(writer: BankWriter) -> None:
        raise AssertionError("built twice")

    assert len(open_or_build(tmp_path / "a", never, resolution=R, classes=CLASSES)) == 10


@pytest.mark.parametrize("name", ["images.npy", "index.npz", "meta.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty"])
def test_damaged_bank_is_rebuilt_with_a_warning(tmp_path: Path, name: str, damage: str) -> None:
    fingerprint = build(tmp_path / "a").fingerprint
    file = tmp_path / "a" / name
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        if name == "meta.json":
            data[0] ^= 1
    file.write_bytes(data[: len(data) // 2] if damage == "cut" else b"" if damage == "empty" else data)
    if damage == "remove":
        file.unlink()
    with pytest.raises(CVSAError, match="cannot be used"):
        open_bank(tmp_path / "a")
    with pytest.warns(UserWarning, match="Rebuilding") as caught:
        assert build(tmp_path / "a").fingerprint == fingerprint
    assert len(caught) == 1 and not leftovers(tmp_path)


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fails(writer: BankWriter) -> None:
        fill(writer)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_or_build(tmp_path / "a", fails, resolution=R, classes=CLASSES)
    assert not (tmp_path / "a").exists() and not leftovers(tmp_path)
    with pytest.raises(CVSAError, match="No image"):
        open_or_build(tmp_path / "a", lambda writer: None, resolution=R, classes=CLASSES)
    assert not (tmp_path / "a").exists() and not leftovers(tmp_path)


def _killed_while_building(directory: str) -> None:
    def dies(writer: BankWriter) -> None:
        fill(writer)
        os.kill(os.getpid(), signal.SIGKILL)

    open_or_build(Path(directory), dies, resolution=R, classes=CLASSES)


def _build_and_tell(directory: str, barrier: object, queue: object) -> None:
    def slow(writer: BankWriter) -> None:
        queue.put(("built", os.getpid()))  # type: ignore[attr-defined]
        fill(writer)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        barrier.wait()  # type: ignore[attr-defined]
        bank = open_or_build(Path(directory), slow, resolution=R, classes=CLASSES)
    queue.put((bank.fingerprint, len(caught)))  # type: ignore[attr-defined]


FORK = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")


def test_killed_build_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    process = FORK.Process(target=_killed_while_building, args=(str(tmp_path / "a"),))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert leftovers(tmp_path) and not (tmp_path / "a").exists()
    assert len(build(tmp_path / "a")) == 10
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("damaged", [False, True])
def test_concurrent_builders_build_once(tmp_path: Path, damaged: bool) -> None:
    expected = build(tmp_path / "reference").fingerprint
    if damaged:
        build(tmp_path / "a")
        (tmp_path / "a" / "images.npy").write_bytes(b"no longer an array")
    barrier, queue = FORK.Barrier(3), FORK.Queue()
    processes = [
        FORK.Process(target=_build_and_tell, args=(str(tmp_path / "a"), barrier, queue)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    messages = [queue.get(timeout=60) for _ in range(4)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sum(message[0] == "built" for message in messages) == 1
    assert {message[0] for message in messages if message[0] != "built"} == {expected}
    assert sum(message[1] for message in messages if message[0] != "built") == damaged  # one warning, once
    assert not leftovers(tmp_path)


def test_without_locks_the_loser_uses_the_winners_bank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    inodes = []

    def overtaken(writer: BankWriter) -> None:
        fill(writer)
        build(tmp_path / "a")  # another process finishes the same bank in the meantime
        inodes.append((tmp_path / "a").stat().st_ino)

    bank = open_or_build(tmp_path / "a", overtaken, resolution=R, classes=CLASSES)
    assert len(bank) == 10 and inodes == [(tmp_path / "a").stat().st_ino]
    assert not leftovers(tmp_path)


class FullDisk(io.FileIO):
    """A file on a disk with room for 2 kB."""

    def write(self, data: object) -> int:
        if self.tell() > 2000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)  # type: ignore[arg-type]


def test_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_module, "open", lambda path, mode: FullDisk(path, mode), raising=False)
    with pytest.raises(CVSAError, match="No space left.*CVSA_CACHE") as caught:
        build(tmp_path / "a", count=40)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists() and not leftovers(tmp_path)


@pytest.mark.parametrize("step", ["index", "meta", "rename"])
def test_disk_that_fills_up_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    other = build(tmp_path / "other")
    place = {"index": (np, "savez"), "meta": (Path, "write_text"), "rename": (os, "replace")}[step]
    monkeypatch.setattr(*place, full)
    with pytest.raises(CVSAError, match=f"{tmp_path}/a: No space left.*CVSA_CACHE"):
        build(tmp_path / "a")
    assert not (tmp_path / "a").exists() and not leftovers(tmp_path)
    monkeypatch.undo()
    assert open_bank(tmp_path / "other").fingerprint == other.fingerprint == build(tmp_path / "a").fingerprint


def test_full_disk_leaves_the_damaged_bank_and_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = build(tmp_path / "other")
    build(tmp_path / "a", count=40)
    (tmp_path / "a" / "meta.json").write_text("{}")
    before = {p: p.read_bytes() for p in sorted(tmp_path.glob("*/*"))}
    monkeypatch.setattr(bank_module, "open", lambda path, mode: FullDisk(path, mode), raising=False)
    with pytest.warns(UserWarning, match="Rebuilding"), pytest.raises(CVSAError, match="No space left"):
        build(tmp_path / "a", count=40)
    assert {p: p.read_bytes() for p in sorted(tmp_path.glob("*/*"))} == before and not leftovers(tmp_path)
    monkeypatch.undo()
    assert open_bank(tmp_path / "other").fingerprint == other.fingerprint


def _built_under_a_limit(directory: str, queue: object) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
    try:
        build(Path(directory), count=40)
    except CVSAError as error:
        queue.put(str(error))  # type: ignore[attr-defined]


def test_a_write_that_the_system_refuses(tmp_path: Path) -> None:
    """As on a full disk, but by the kernel."""
    queue = FORK.Queue()
    process = FORK.Process(target=_built_under_a_limit, args=(str(tmp_path / "a"), queue))
    process.start()
    assert queue.get(timeout=60).startswith(f"Cannot write the bank {tmp_path}/a: File too large; free some")
    process.join(60)
    assert process.exitcode == 0 and not (tmp_path / "a").exists() and not leftovers(tmp_path)


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_outside_the_range_are_named(tmp_path: Path, label: int) -> None:
    def wrong(writer: BankWriter) -> None:
        images, maps, labels = content()
        labels[4] = label
        writer.add(images, maps, labels, path=np.array([f"c/{i}.png" for i in range(10)]))

    with pytest.raises(CVSAError, match=f"c/4.png has the label {label}, .*3 class.* are 0 to 2"):
        open_or_build(tmp_path / "a", wrong, resolution=R, classes=CLASSES)
    assert not (tmp_path / "a").exists() and not leftovers(tmp_path)


def test_cache_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CVSAError, match="CVSA_CACHE"):
        build(tmp_path / "file" / "a")


def test_cache_root_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVSA_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    one = bank_directory("my bïrds/train", {"size": 1, "kind": "x"})
    assert one.parent == tmp_path and one.name.startswith("my-b-rds-train-")
    assert one == bank_directory("my bïrds/train", {"kind": "x", "size": 1})
    assert one != bank_directory("my bïrds/train", {"size": 2, "kind": "x"})
    monkeypatch.delenv("CVSA_CACHE")
    assert cache_root() == Path.home() / ".cache" / "cvsa"


def test_meta_tells_what_the_bank_is(tmp_path: Path) -> None:
    bank = build(tmp_path / "a")
    meta = json.loads((tmp_path / "a" / "meta.json").read_text())
    assert (meta["count"], meta["resolution"], meta["no_object"]) == (10, R, 1)
    assert meta["fingerprint"] == bank.fingerprint and meta["classes"] == CLASSES


def test_wrong_shapes_are_refused() -> None:
    images = torch.zeros(3, 4, R, R, dtype=torch.uint8)
    with pytest.raises(CVSAError, match="uint8"):
        ImageBank(images.float(), torch.zeros(3, 4), torch.zeros(3), CLASSES)
    with pytest.raises(CVSAError, match="labels has 2 rows for 3 images"):
        ImageBank(images, torch.zeros(3, 4), torch.zeros(2), CLASSES)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("share", [0.5, 0.0])
def test_on_a_gpu_resident_and_streamed_agree(tmp_path: Path, share: float) -> None:
    bank = build(tmp_path / "a")
    moved = bank.to("cuda", share=share)
    assert moved.images.is_cuda == (share > 0) and moved.labels.is_cuda and not moved.boxes.is_cuda
    for index in (torch.tensor([3, 1, 9]), torch.tensor([3, 1, 9], device="cuda")):
        assert torch.equal(moved.gather(index).cpu(), bank.gather(torch.tensor([3, 1, 9])))
    assert moved.to("cpu").images.device.type == "cpu" and moved.fingerprint == bank.fingerprint
    assert len(moved.subset(torch.tensor([1, 2]))) == 2
