"""Banks larger than the memory they may hold: the same interface, the same images, another order."""

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from cvsa.data.bank import BankWriter, ImageBank, open_bank, open_or_build
from cvsa.data.stream import Shards, allowance
from cvsa.errors import CVSAError
from cvsa.limits import Memory
from cvsa.views.maker import ViewMaker, ViewSettings

R, COUNT, CLASSES = 16, 2003, 50
ROW = 4 * R * R


def fill(writer: BankWriter) -> None:
    rng = np.random.default_rng(0)
    labels = np.sort(np.arange(COUNT) % CLASSES)  # as folders are listed: class after class
    maps = np.zeros((COUNT, R, R), np.uint8)
    maps[:, 4:9, 3:12] = 255
    writer.add(rng.integers(0, 256, (COUNT, 3, R, R), np.uint8), maps, labels)


@pytest.fixture
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageBank:
    """In memory; `streamed` is the same."""
    monkeypatch.delenv("CVSA_MEMORY", raising=False)
    return open_or_build(tmp_path / "bank", fill, resolution=R, classes=[str(c) for c in range(CLASSES)])


@pytest.fixture
def streamed(bank: ImageBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageBank:
    monkeypatch.setenv("CVSA_MEMORY", str(0.2 * COUNT * ROW / 1e9))
    return open_bank(tmp_path / "bank")


def epoch(bank: ImageBank, seed: int = 0, size: int = 32) -> list[torch.Tensor]:
    return list(bank.batches(size, torch.Generator().manual_seed(seed)))


def test_the_bank_of_the_tests_is_streamed_only_when_it_is_too_large(bank, streamed):
    assert bank.shards is None and streamed.shards is not None


@pytest.mark.parametrize("size", [1, 7, 32, 600, COUNT])
def test_small_banks_are_visited_as_ever(bank: ImageBank, size: int) -> None:
    generator = torch.Generator().manual_seed(3)
    expected = torch.randperm(COUNT, generator=generator)[: COUNT // size * size].split(size)
    batches = epoch(bank, 3, size)
    assert len(batches) == len(expected) == COUNT // size
    assert all(torch.equal(a, b) for a, b in zip(batches, expected, strict=True))


@pytest.mark.parametrize("size", [1, 7, 32, 600, COUNT])
def test_an_epoch_visits_every_image_once_and_drops_the_last_partial_batch(streamed, size: int) -> None:
    batches = epoch(streamed, size=size)
    assert len(batches) == COUNT // size and {len(batch) for batch in batches} == {size}
    assert len(torch.cat(batches).unique()) == COUNT // size * size


def test_the_order_follows_the_generator_and_resumes_from_its_state(streamed: ImageBank) -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.cat(list(streamed.batches(32, generator)))
    state = generator.get_state()
    second = torch.cat(list(streamed.batches(32, generator)))
    assert torch.equal(first, torch.cat(epoch(streamed))) and not torch.equal(first, second)
    resumed = torch.Generator()
    resumed.set_state(state)
    assert torch.equal(second, torch.cat(list(streamed.batches(32, resumed))))


def test_batches_mix_classes_and_change_their_company(bank: ImageBank, streamed: ImageBank) -> None:
    mixed, ideal = (np.mean([len(b.labels[index].unique()) for index in epoch(b)]) for b in (streamed, bank))
    assert mixed > 0.8 * ideal  # sorted as on disk it would be 1 or 2
    shares = torch.stack([streamed.labels[index].float().mean() for index in epoch(streamed)])
    assert shares.std() < 6  # of labels 0 to 49; 2.6 in batches drawn freely
    first, again = (epoch(streamed, seed)[0] for seed in (0, 1))
    assert len(np.intersect1d(first, again)) < 8


def test_images_read_in_shards_are_those_in_memory(bank: ImageBank, streamed: ImageBank) -> None:
    index = torch.tensor([COUNT - 1, 0, 77, 77, 1024])
    assert torch.equal(streamed.gather(index), bank.gather(index))
    assert streamed.gather(index[:0]).shape == (0, 4, R, R)
    for wrong in (COUNT, -1):
        with pytest.raises(IndexError):
            streamed.gather(torch.tensor([0, wrong]))
    part = streamed.subset(index)
    assert torch.equal(part.images, bank.images[index]) and part.shards is None
    assert torch.equal(streamed.images, bank.images)
    streamed._fingerprint = None
    assert streamed.fingerprint == bank.fingerprint
    assert streamed.to("cpu").shards is streamed.shards


def test_views_do_not_depend_on_how_the_bank_is_read(bank: ImageBank, streamed: ImageBank) -> None:
    settings, index = ViewSettings(size=R), torch.arange(0, COUNT, 100)
    made = [
        ViewMaker(b, view="saliency_swap", augmentation="byol", settings=settings)(
            index, torch.Generator().manual_seed(0)
        )
        for b in (bank, streamed)
    ]
    for one, other in zip(*made, strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.masks, other.masks)


def test_the_fetch_stays_one_window_ahead(streamed: ImageBank, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, fetched, seen = streamed.shards, [], 0
    assert shards is not None
    monkeypatch.setattr(shards, "_fetch", lambda first, stop: fetched.extend(range(first, stop)))
    for index in streamed.batches(16, torch.Generator().manual_seed(0)):
        seen += len(index)
        assert set(index.tolist()) <= set(fetched)
        assert len(fetched) <= seen + shards._window + shards._shard
    assert sorted(fetched) == list(range(COUNT))
    assert 2 * shards._window * ROW <= allowance()


def test_a_bank_that_was_replaced_stays_readable(bank, streamed, tmp_path: Path) -> None:
    expected = bank.gather(torch.arange(9))
    (tmp_path / "bank").rename(tmp_path / "away")
    (tmp_path / "bank").mkdir()
    assert torch.equal(copy.copy(streamed).gather(torch.arange(9)), expected)


def test_a_file_that_became_shorter_is_named(streamed: ImageBank, tmp_path: Path) -> None:
    os.truncate(tmp_path / "bank/images.npy", 100 * ROW)
    with pytest.raises(OSError, match=r"images.npy ends before its image 1999"):
        streamed.gather(torch.tensor([0, 1999]))


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="needs /proc")
def test_little_of_a_large_bank_is_held(bank: ImageBank, streamed: ImageBank, tmp_path: Path) -> None:
    """Resident bytes of the mapped file, after it was hashed and visited."""

    def held() -> int:
        areas = Path("/proc/self/smaps").read_text().split(f"{tmp_path}/bank/images.npy")[1:]
        return sum(1024 * int(area.partition("Rss:")[2].split()[0]) for area in areas)

    def use(bank: ImageBank) -> None:
        bank._fingerprint = None
        assert bank.fingerprint
        for index in epoch(bank):
            bank.gather(index)

    before = held()  # what building it left
    use(streamed)
    assert held() == before
    use(bank)
    assert held() > 0.9 * bank.images.nbytes


# --- the allowance -----------------------------------------------------------------------------


def test_allowance_is_given_or_half_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVSA_MEMORY", "1.5")
    assert allowance() == 1_500_000_000
    for text in ("much", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("CVSA_MEMORY", text)
        with pytest.raises(CVSAError, match=f"CVSA_MEMORY is '{text}'"):
            allowance()
    monkeypatch.setenv("CVSA_MEMORY", "")
    assert 0 < allowance() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    monkeypatch.setattr("cvsa.data.stream.memory", lambda: Memory(8_000_000, 1_000_000, 2_000_000))
    assert allowance() == 1_000_000


def test_shards_are_read_from_a_mapped_file_only() -> None:
    with pytest.raises(TypeError, match="mapped"):
        Shards(np.zeros((3, 4, 8, 8), np.uint8), 100)  # type: ignore[arg-type]
