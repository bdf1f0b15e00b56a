"""Attention against epoch: watching changes no training, and every frame is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cvsa.config import PretrainConfig, resolve
from cvsa.data.datasets import load_splits
from cvsa.errors import CVSAError
from cvsa.evaluation import snapshots
from cvsa.evaluation.snapshots import Frames, attention_over_training, load_frames, save_frames, watch
from cvsa.records import WEIGHTS
from cvsa.training.pretrain import attention_maps, build_views, initialise, load_method
from cvsa.training.runtime import Runtime


@pytest.fixture(scope="module")
def config() -> PretrainConfig:
    from tests_support import SMALL

    return resolve(PretrainConfig, row="BYOL+CVSA", **SMALL)


@pytest.fixture(scope="module")
def frames(config: PretrainConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Frames, Path]:
    out = tmp_path_factory.mktemp("frames")
    return attention_over_training(config, out, [0, 1, 3], count=3, measured=5), out


def test_frames_have_the_shapes_they_promise(frames: tuple[Frames, Path], config: PretrainConfig) -> None:
    found, _ = frames
    assert found.epochs.tolist() == [0, 1, 3] and found.measured == 5 and found.gap.shape == (3,)
    assert found.views.shape == found.others.shape == (3, 3, 32, 32) and found.masks.shape == (3, 32, 32)
    assert found.attention.shape[:2] == (3, 3) and found.attention.dtype == found.views.dtype == np.uint8
    assert (found.row, found.run_id) == ("BYOL+CVSA", config.identity())
    assert set(np.unique(found.masks)) == {0, 255}


def test_watched_training_is_bit_identical_and_its_last_frame_is_that_of_the_finished_run(
    frames: tuple[Frames, Path], config: PretrainConfig, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `trained` is a run of pretrain() with this configuration.
    methods: list[Any] = []
    monkeypatch.setattr(snapshots, "initialise", lambda *a: methods.append(initialise(*a)) or methods[0])
    torch.manual_seed(7)
    before = torch.get_rng_state()
    folder = frames[1] / "again"
    again = attention_over_training(config, folder, range(4), count=3, measured=5)
    assert torch.equal(torch.get_rng_state(), before)
    expected, state = load_file(trained / WEIGHTS), methods[0].state_dict()
    assert set(expected) == set(state)
    assert all(torch.equal(expected[name], state[name]) for name in expected)
    assert [file.name for file in folder.iterdir()] == [snapshots.FILE]

    runtime = Runtime.of(config)
    val = load_splits(config)["val"]
    chosen = torch.randperm(len(val), generator=torch.Generator().manual_seed(0))[:5]
    for number, method in ((0, initialise(config, runtime)), (3, load_method(config, trained, runtime))):
        views, attention = attention_maps(method, build_views(config, val), chosen, seed=0)
        assert np.array_equal(again.attention[number], (attention[:3, 0] * 255).round().byte().numpy())
        assert np.array_equal(again.views, (views.images[:3] * 255).round().byte().numpy())
        inside, gaps = torch.nn.functional.adaptive_avg_pool2d(views.masks, attention.shape[2:]), []
        for a, m in zip(attention, inside, strict=True):
            gaps.append(float((a * m).sum() / m.sum() - (a * (1 - m)).sum() / (1 - m).sum()))
        assert again.gap[number] == pytest.approx(np.mean(gaps), abs=1e-5)
    # Looking more often changes nothing.
    assert np.array_equal(again.attention[[0, 1, 3]], frames[0].attention)


def test_watch_looks_once_an_epoch_after_the_update() -> None:
    class Toy:
        def __init__(self) -> None:
            self.seen: list[float] = []

        def after_step(self, progress: float) -> None:
            self.seen.append(progress)

    toy, looks = Toy(), []
    watch(toy, 7, lambda epoch: looks.append((epoch, len(toy.seen))))  # type: ignore[arg-type]
    for step in range(7 * 13):
        toy.after_step((step + 1) / (7 * 13))
    assert looks == [(epoch, 13 * epoch) for epoch in range(1, 8)]


def test_every_module_gets_its_own_mode_back(config: PretrainConfig) -> None:
    method = initialise(config, Runtime.of(config)).train()
    method.encoder.eval()
    modes = [module.training for module in method.modules()]
    pair = build_views(config, load_splits(config)["val"])(torch.arange(3), torch.Generator().manual_seed(0))
    state = {name: value.clone() for name, value in method.state_dict().items()}
    first, second = (snapshots._attention(method, pair, batch) for batch in (3, 2))
    assert [module.training for module in method.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in method.state_dict().items())
    torch.testing.assert_close(first, second)


def test_stored_frames_are_read_back_and_not_made_twice(
    frames: tuple[Frames, Path], config: PretrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found, out = frames
    save_frames(found, tmp_path / "copy.npz")
    read = load_frames(tmp_path / "copy.npz")
    for name, value in vars(found).items():
        assert np.array_equal(value, getattr(read, name)) and type(value) is type(getattr(read, name))
    monkeypatch.setattr(snapshots, "fit", None)
    stored = attention_over_training(config, out, [3, 1, 0, 1], count=3, measured=5)
    assert np.array_equal(stored.attention, found.attention)


def test_what_cannot_be_watched_is_refused(
    config: PretrainConfig, tmp_path: Path, small: dict[str, Any]
) -> None:
    plain = resolve(PretrainConfig, row="BYOL", **small)
    with pytest.raises(CVSAError, match="BYOL has no alignment module"):
        attention_over_training(plain, tmp_path, [1])
    for epochs in ([], [-1], [4]):
        with pytest.raises(CVSAError, match=r"0 \(before training\) to 3"):
            attention_over_training(config, tmp_path, epochs)
    for content in (b"", b"not frames"):
        (tmp_path / "damaged.npz").write_bytes(content)
        with pytest.raises(CVSAError, match="No attention frames in"):
            load_frames(tmp_path / "damaged.npz")
    with pytest.raises(CVSAError, match="No attention frames in"):
        load_frames(tmp_path / "missing.npz")
