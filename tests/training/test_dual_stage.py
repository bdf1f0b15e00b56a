"""Every line of the dual-stage table, small: first stage, second stage, fine-tuning, table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests_support import SMALL

from cvsa.config import PretrainConfig, resolve
from cvsa.evaluation.finetune import finetune
from cvsa.lineage import resolve_run
from cvsa.methods.catalogue import TABLES
from cvsa.report.evidence import named
from cvsa.report.ledger_tables import row_name
from cvsa.training.pretrain import pretrain

FAST: dict[str, Any] = {**SMALL, "epochs": 2}
DATA = {name: SMALL[name] for name in ("bank_size", "train_images", "val_images", "test_images")}


@pytest.mark.parametrize("line", TABLES["dual_stage"], ids=str)
def test_every_line_trains_and_lands_in_the_table(line: tuple[str, str | None], tmp_path: Path) -> None:
    stage1, stage2 = line
    start = tmp_path / "first"
    pretrain(resolve(PretrainConfig, row=stage1, stage=1, **FAST), start)
    if stage2:
        config, _ = resolve_run(PretrainConfig, row=stage2, pretrained=start, **FAST)
        start = tmp_path / "second"
        pretrain(config, start)
    record = finetune(
        tmp_path / "fine", pretrained=start, epochs=1, warmup_epochs=0, batch_size=20,
        **({} if stage2 else DATA),
    )  # fmt: skip
    (name,) = set(named([(tmp_path / "fine", record)])["row"])
    assert name == row_name(line)
