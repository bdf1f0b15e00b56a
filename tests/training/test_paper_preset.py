"""The paper preset at full size: one optimisation step of every method on drawn images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cvsa.config import PretrainConfig, resolve
from cvsa.methods.catalogue import ROWS
from cvsa.training.pretrain import pretrain

# ResNet-50 at 224 px with full heads; only the images are few and drawn.
FAKE: dict[str, Any] = {
    "preset": "paper", "dataset": "synthbirds", "train_images": 2, "val_images": 2, "test_images": 2,
    "batch_size": 2, "epochs": 1, "warmup_epochs": 0, "queue_size": 2,
}  # fmt: skip


@pytest.mark.parametrize("row", [name for name, row in ROWS.items() if row.base != "none"])
def test_one_step_of_every_row(row: str, tmp_path: Path) -> None:
    config = resolve(PretrainConfig, row=row, **FAKE)
    assert (config.backbone, config.image_size) == ("resnet50", 224)
    record = pretrain(config, tmp_path)
    assert record.counts["parameters"] > 23e6
    assert 0 < record.metrics["gradient_norm"] < float("inf")
