"""The training loop's order of images, for banks in memory and for those that are streamed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cvsa.training.loop as loop
from cvsa.config import PretrainConfig, resolve
from cvsa.data.bank import BankWriter, ImageBank, open_or_build
from cvsa.training.loop import fit
from cvsa.training.runtime import Runtime

COUNT, R = 330, 8


class Mean(torch.nn.Module):
    """The least that the loop can train."""

    weights = {"distance": 1.0}

    def __init__(self) -> None:
        super().__init__()
        self.guess = torch.nn.Parameter(torch.zeros(3))
        self.diagnostics: dict[str, torch.Tensor] = {}

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"distance": (images[:, :3].mean((2, 3)) - self.guess).square().mean()}

    def after_step(self, progress: float) -> None:
        pass


@pytest.fixture(params=["in memory", "streamed"])
def bank(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageBank:
    def fill(writer: BankWriter) -> None:
        images = np.random.default_rng(0).integers(0, 256, (COUNT, 3, R, R), np.uint8)
        writer.add(images, images[:, 0], np.arange(COUNT) % 2)

    monkeypatch.setenv(
        "CVSA_MEMORY", "1" if request.param == "in memory" else str(0.3 * COUNT * 4e-9 * R * R)
    )
    bank = open_or_build(tmp_path / "bank", fill, resolution=R, classes=["a", "b"])
    assert bool(bank.shards) == (request.param == "streamed")
    return bank


def train(
    bank: ImageBank, folder: Path, stop_at: int | None = None
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The batches that were visited, and what was learned."""
    config = resolve(PretrainConfig, epochs=3, batch_size=50, seed=4, lr=0.5, device="cpu", queue_size=1)
    module, visited = Mean(), []

    def make_batch(index: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if len(visited) == stop_at:
            raise KeyboardInterrupt
        visited.append(index)
        return bank.gather(index)

    folder.mkdir(exist_ok=True)
    fit(module, make_batch, bank, config, Runtime.of(config), folder, "test")
    return visited, module.guess.detach()


def test_every_epoch_has_a_new_order_without_the_last_partial_batch(bank: ImageBank, tmp_path: Path) -> None:
    visited, _ = train(bank, tmp_path / "run")
    assert [len(index) for index in visited] == [50] * 18  # 3 epochs, 6 of 6.6 batches
    epochs = [torch.cat(visited[start : start + 6]) for start in (0, 6, 12)]
    assert all(len(epoch.unique()) == 300 for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1]) and not torch.equal(epochs[1], epochs[2])
    if not bank.shards:
        generator = torch.Generator().manual_seed(4)
        expected = [torch.randperm(COUNT, generator=generator)[:300] for _ in range(3)]
        assert all(torch.equal(a, b) for a, b in zip(epochs, expected, strict=True))


def test_an_interrupted_run_visits_the_same_images(
    bank: ImageBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    whole, learned = train(bank, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(bank, tmp_path / "run", stop_at=9)  # in the second epoch
    rest, resumed = train(bank, tmp_path / "run")
    assert torch.equal(torch.cat(rest), torch.cat(whole[6:])) and torch.equal(resumed, learned)


@pytest.mark.parametrize("row", ["BYOL+CVSA", "MoCo.v2+SS"])
def test_a_row_trains_on_a_streamed_bank(
    row: str, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cvsa.training.pretrain import pretrain

    monkeypatch.setenv("CVSA_MEMORY", "0.0001")  # 100 kB of 240
    config = resolve(PretrainConfig, row=row, **small)
    first, again = (pretrain(config, tmp_path / name) for name in "ab")
    assert first.metrics == again.metrics and all(np.isfinite(list(first.metrics.values())))
    monkeypatch.setenv("CVSA_MEMORY", "1")
    assert pretrain(config, tmp_path / "c").data_fingerprints == first.data_fingerprints
