"""Pre-training: resuming, refusing, learning."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import cvsa.training.loop as loop
from cvsa.config import PretrainConfig, resolve
from cvsa.data.datasets import load_splits
from cvsa.errors import CVSAError
from cvsa.records import Record
from cvsa.training.checkpoint import CHECKPOINT, load_checkpoint, load_weights
from cvsa.training.pretrain import attention_maps, build_views, initialise, load_method, pretrain
from cvsa.training.runtime import Runtime

# The history holds seconds, so its checksum differs, and with it the seal.
TIMES = {"seconds", "started", "images_per_second", "peak_memory_mib", "energy_joules", "files", "digest"}


def outcome(record: Record, folder: Path) -> tuple[dict[str, Any], pd.DataFrame, bytes]:
    """All of a run but its timings."""
    history = pd.read_csv(folder / "history.csv").drop(columns="seconds")
    return record.model_dump(exclude=TIMES), history, (folder / "weights.safetensors").read_bytes()


def assert_same(first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    assert first[0] == second[0]
    pd.testing.assert_frame_equal(first[1], second[1], check_exact=True)
    assert first[2] == second[2]


@pytest.mark.parametrize("row", ["BYOL+CVSA", "MoCo.v2+SS"])
def test_the_same_seed_gives_the_same_run_bit_for_bit(
    row: str, small: dict[str, Any], tmp_path: Path
) -> None:
    config = resolve(PretrainConfig, row=row, **small)
    runs = [outcome(pretrain(config, tmp_path / name), tmp_path / name) for name in "ab"]
    assert_same(*runs)
    other = pretrain(resolve(PretrainConfig, row=row, **{**small, "seed": 1}), tmp_path / "c")
    assert other.metrics != runs[0][0]["metrics"]


@pytest.mark.parametrize("row", ["BYOL+CVSA", "MoCo.v2"])
def test_a_killed_run_resumes_and_ends_the_same(row: str, small: dict[str, Any], tmp_path: Path) -> None:
    fields = {**small, "epochs": 6, "row": row}
    whole = outcome(pretrain(resolve(PretrainConfig, **fields), tmp_path / "whole"), tmp_path / "whole")
    killed = tmp_path / "killed"
    # A process of its own, killed without warning once its first checkpoint is there.
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "import cvsa.training.loop as loop; loop.CHECKPOINT_SECONDS = 0.0\n"
        "import time; save = loop.save_checkpoint\n"
        "def slow(*a):\n    save(*a); time.sleep(0.3)\n"
        "loop.save_checkpoint = slow\n"
        "from pathlib import Path; from cvsa.config import *; from cvsa.training.pretrain import pretrain\n"
        f"pretrain(resolve(PretrainConfig, **{fields!r}), Path({str(killed)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, env=os.environ)
    deadline = time.monotonic() + 60
    while not (killed / CHECKPOINT).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "record.json").exists()
    config = resolve(PretrainConfig, **fields)
    state = load_checkpoint(killed, config.identity(), loop.code_hash(config))
    assert state is not None and 0 < state["epoch"] < 6
    assert_same(whole, outcome(pretrain(config, killed), killed))
    assert not (killed / CHECKPOINT).exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"swap_area": "image"}, {"swap_crop": 0.7, "view_mask": "saliency"}, {"swap_backgrounds": "blank"},
        {"align_symmetric": False}, {"align_depth": 3}, {"backbone": "vit_slim"},
    ],
    ids=str,
)  # fmt: skip
def test_what_may_be_ablated_trains_and_differs(
    changes: dict[str, Any], trained: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    record = pretrain(resolve(PretrainConfig, row="BYOL+CVSA", **small, **changes), tmp_path)
    usual = pd.read_csv(trained / "history.csv")["alignment"]
    assert abs(record.metrics["alignment"] - usual.iloc[-1]) > 1e-6
    if changes.get("align_symmetric") is False:  # from the same start, half of the terms
        first = pd.read_csv(tmp_path / "history.csv")["alignment"].iloc[0]
        assert 0.35 < first / usual.iloc[0] < 0.65


def test_scenes_are_drawn_for_birds_and_photographs_and_named_in_the_record(
    small: dict[str, Any], photographs: Path, tmp_path: Path
) -> None:
    fields = {**small, "row": "BYOL+CVSA", "swap_backgrounds": "scenes", "epochs": 2}
    record = pretrain(resolve(PretrainConfig, **fields), tmp_path / "birds")
    stage1 = resolve(PretrainConfig, **small, row="BYOL", dataset="synthscenes", object_size=0.3, data_seed=1)
    scenes = load_splits(stage1)["train"]
    assert record.data_fingerprints["scenes"] == scenes.fingerprint != record.data_fingerprints["train"]
    given = {"dataset": "folder", "root": photographs, "batch_size": 8, "queue_size": 8}
    config = resolve(PretrainConfig, **{**fields, **given})
    maker = build_views(config, load_splits(config)["train"])
    assert maker.settings.scenes is not None and len(maker.settings.scenes) == small["train_images"]
    assert maker.settings.scenes.resolution == small["bank_size"]
    views = maker(torch.arange(4), torch.Generator().manual_seed(0))
    assert views[0].images.shape == (4, 3, 32, 32) and 0 < float(views[0].masks.mean()) < 1


def test_a_checkpoint_of_another_run_is_not_resumed(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "atomic_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    config = resolve(PretrainConfig, **small)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, tmp_path)
    assert load_checkpoint(tmp_path, config.identity(), loop.code_hash(config)) is not None
    assert (
        load_checkpoint(
            tmp_path, resolve(PretrainConfig, **{**small, "seed": 3}).identity(), loop.code_hash(config)
        )
        is None
    )
    assert load_checkpoint(tmp_path, config.identity(), "other code") is None


def test_a_finished_run_returns_at_once_and_is_never_overwritten(
    trained: Path, small: dict[str, Any]
) -> None:
    before = (trained / "record.json").stat().st_mtime_ns
    started = time.monotonic()
    pretrain(resolve(PretrainConfig, row="BYOL+CVSA", **small), trained)
    assert time.monotonic() - started < 0.5
    with pytest.raises(CVSAError, match="another run"):
        pretrain(resolve(PretrainConfig, row="BYOL+CVSA", **{**small, "seed": 9}), trained)
    assert (trained / "record.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 61}, ["Too small a data set", "60", "61"]),
        ({"row": "MoCo.v2", "queue_size": 61}, ["queue_size", "61", "60"]),
        ({"device": "cuda:77"}, ["device", "cuda:77"]),
        ({"backbone": "resnet_slam"}, ["resnet_slam", "resnet_slim"]),
        ({"lr": 1e30}, ["diverged", "lr"]),
    ],
)
def test_bad_runs_end_in_one_line_and_leave_no_record(
    changes: dict[str, Any], words: list[str], small: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(CVSAError) as error:
        pretrain(resolve(PretrainConfig, **{**small, **changes}), tmp_path)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)
    assert not (tmp_path / "record.json").exists()


def test_the_record_tells_what_ran(trained: Path, small: dict[str, Any]) -> None:
    from cvsa.records import read_record

    record = read_record(trained)
    assert record.counts["train_images"] == small["train_images"]
    assert record.config["base"] == "byol" and record.kind == "pretrain"
    assert len(record.data_fingerprints["train"]) == 64
    assert record.seconds > 0 and record.images_per_second > 0 and record.peak_memory_mib > 50
    assert {"contrastive", "alignment", "embedding_std", "gradient_norm"} <= set(record.metrics)
    history = pd.read_csv(trained / "history.csv")
    assert list(history["epoch"]) == [1, 2, 3]


def test_weights_go_with_their_architecture_only(trained: Path, small: dict[str, Any]) -> None:
    config = resolve(PretrainConfig, row="BYOL+CVSA", **small)
    runtime = Runtime.of(config)
    loaded = load_method(config, trained, runtime)
    fresh = initialise(config, runtime)
    assert any(not torch.equal(a, b) for a, b in zip(loaded.parameters(), fresh.parameters(), strict=True))
    with pytest.raises(CVSAError, match="do not fit"):
        load_weights(trained, initialise(resolve(PretrainConfig, row="MoCo.v2", **small), runtime))
    with pytest.raises(CVSAError, match="No weights"):
        load_weights(trained / "nowhere", loaded)


def test_attention_has_the_shape_of_the_map_and_needs_the_module(
    trained: Path, small: dict[str, Any]
) -> None:
    from cvsa.data.datasets import load_splits

    config = resolve(PretrainConfig, row="BYOL+CVSA", **small)
    runtime = Runtime.of(config)
    maker = build_views(config, load_splits(config)["train"])
    views, maps = attention_maps(load_method(config, trained, runtime), maker, torch.arange(4), seed=0)
    assert views.images.shape == (4, 3, 32, 32) and maps.shape[:2] == (4, 1)
    assert float(maps.min()) >= 0 and float(maps.max()) <= 1
    with pytest.raises(CVSAError, match="no alignment module|No alignment module"):
        attention_maps(
            initialise(resolve(PretrainConfig, row="BYOL", **small), runtime), maker, torch.arange(4), seed=0
        )
