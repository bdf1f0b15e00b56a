"""Fine-tuning: starts from the pre-trained weights, learns, refuses what contradicts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from cvsa.config import FinetuneConfig, PretrainConfig, resolve
from cvsa.errors import CVSAError
from cvsa.evaluation.features import extract_features, starting_backbone, whole_view
from cvsa.evaluation.finetune import finetune
from cvsa.lineage import resolve_run
from cvsa.training.pretrain import load_method
from cvsa.training.runtime import Runtime


def test_it_starts_from_the_pretrained_encoder(trained: Path, small: dict[str, Any]) -> None:
    config, parent = resolve_run(FinetuneConfig, pretrained=str(trained))
    assert parent is not None and config.parent == parent.run_id
    assert (config.row, config.seed, config.image_size, config.train_images) == ("BYOL+CVSA", 0, 32, 60)
    runtime = Runtime.of(config)
    method = load_method(resolve(PretrainConfig, row="BYOL+CVSA", **small), trained, runtime)
    backbone = starting_backbone(config, runtime)
    for name, value in method.encoder.state_dict().items():
        assert torch.equal(value, backbone.state_dict()[name])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"row": "BYOL"}, ["BYOL", "pretrained"]),
        ({"pretrained": "nowhere"}, ["nowhere", "record.json"]),
        ({"pretrained": "TRAINED", "image_size": 64}, ["image_size", "64", "32"]),
        ({"pretrained": "TRAINED", "habitat_bias": 0.9}, ["habitat_bias", "contradicts"]),
        ({"pretrained": "TRAINED", "epochs": "many"}, ["epochs", "many"]),
    ],
)
def test_contradictions_are_refused(given: dict[str, Any], words: list[str], trained: Path) -> None:
    given = {key: str(trained) if value == "TRAINED" else value for key, value in given.items()}
    with pytest.raises(CVSAError) as error:
        resolve_run(FinetuneConfig, **given)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def test_predictions_lie_beside_the_record(trained: Path, tmp_path: Path) -> None:
    record = finetune(tmp_path, pretrained=trained, epochs=2, warmup_epochs=0, batch_size=20)
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    for split in ("val", "test", "test_swapped"):
        part = predictions[predictions["split"] == split]
        assert (part["label"] == part["predicted"]).mean() == pytest.approx(
            record.metrics[f"{split}_accuracy"]
        )
        assert len(part) == record.counts[f"{split}_images"]


def test_supervision_beats_chance_by_a_margin(tmp_path: Path) -> None:
    # 10 classes, chance 10 %; backgrounds tell nothing here.
    record = finetune(
        tmp_path, row="Random", num_classes=10, habitat_bias=0.1, bank_size=32, image_size=32,
        train_images=600, val_images=20, test_images=300, epochs=12, batch_size=50, lr=0.1, warmup_epochs=1,
    )  # fmt: skip
    assert record.metrics["train_accuracy"] > 0.4
    assert record.metrics["test_accuracy"] > 0.25


def test_features_are_the_same_in_any_batch_size(trained: Path) -> None:
    from cvsa.data.datasets import load_splits

    config, _ = resolve_run(FinetuneConfig, pretrained=str(trained))
    runtime = Runtime.of(config)
    backbone, bank = starting_backbone(config, runtime), load_splits(config)["test"]
    whole, parts = (extract_features(backbone, bank, 32, runtime, batch=size) for size in (200, 7))
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)


def test_whole_view_averages_when_it_shrinks() -> None:
    image = torch.zeros(1, 3, 8, 8)
    image[..., ::2] = 1
    assert whole_view(image, 8) is image
    shrunk = whole_view(image, 4)
    assert shrunk.shape == (1, 3, 4, 4) and float((shrunk - 0.5).abs().max()) < 0.2
