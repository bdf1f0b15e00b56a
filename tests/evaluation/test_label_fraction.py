"""Fine-tuning with a share of the labels: which images keep them, and what the run records."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from cvsa.config import ADDED_LATER, KINDS, WHERE, FinetuneConfig, resolve, validate
from cvsa.data.datasets import load_splits
from cvsa.errors import CVSAError
from cvsa.evaluation.finetune import finetune, labelled_subset
from cvsa.records import find_records

RESULTS = Path(__file__).parents[2] / "results"


def test_every_class_keeps_the_same_share_and_at_least_one_image() -> None:
    labels = torch.tensor([0] * 40 + [2] * 10 + [3] * 3)[
        torch.randperm(53, generator=torch.Generator().manual_seed(1))
    ]
    kept = labelled_subset(labels, 0.2, seed=0)
    assert Counter(labels[kept].tolist()) == {0: 8, 2: 2, 3: 1}
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert labelled_subset(labels, 1.0, seed=0).tolist() == list(range(53))
    assert Counter(labels[labelled_subset(labels, 1e-6, seed=0)].tolist()) == {0: 1, 2: 1, 3: 1}


def test_smaller_shares_lie_in_larger_ones_and_the_seed_decides() -> None:
    labels = torch.arange(7).repeat_interleave(30)
    kept = [set(labelled_subset(labels, share, seed=3).tolist()) for share in (0.01, 0.1, 0.2, 0.25, 0.9)]
    assert all(small < large for small, large in zip(kept, kept[1:], strict=False))
    assert kept[1] == set(labelled_subset(labels, 0.1, seed=3).tolist())
    assert kept[1] != set(labelled_subset(labels, 0.1, seed=4).tolist())


def test_every_image_is_as_likely_to_be_kept() -> None:
    labels = torch.tensor([0] * 4 + [1] * 8)
    drawn = Counter(i for seed in range(400) for i in labelled_subset(labels, 0.5, seed).tolist())
    assert all(abs(drawn[image] / 400 - 0.5) < 0.1 for image in range(12))


def test_a_run_uses_these_images_only(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cvsa.evaluation import finetune as module

    seen: dict[str, Any] = {}

    def spy(model: Any, make_batch: Any, bank: Any, config: Any, *rest: Any) -> Any:
        seen.update(bank=bank, batch_size=config.batch_size)
        return module_fit(model, make_batch, bank, config, *rest)

    module_fit = module.fit
    monkeypatch.setattr(module, "fit", spy)
    record = finetune(
        tmp_path, pretrained=trained, label_fraction=0.5, epochs=2, warmup_epochs=0, batch_size=40
    )
    config = validate(FinetuneConfig, record.config)
    whole = load_splits(config)["train"]
    kept = labelled_subset(whole.labels, 0.5, config.data_seed)
    assert torch.equal(seen["bank"].images, whole.images[kept])
    assert record.counts["train_images"] == len(kept) < len(whole)
    # The batch is larger than what is left: it becomes all of it, and an epoch is one step.
    assert seen["batch_size"] == len(kept) < 40 and record.config["batch_size"] == 40
    assert record.data_fingerprints["train"] == whole.fingerprint
    assert len(pd.read_csv(tmp_path / "history.csv")) == 2
    assert finetune(
        tmp_path, pretrained=trained, label_fraction=0.5, epochs=2, warmup_epochs=0, batch_size=40
    )


def test_with_all_labels_a_batch_that_is_too_large_is_still_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(CVSAError, match="batch_size"):
        finetune(tmp_path, pretrained=trained, epochs=1, warmup_epochs=0, batch_size=100)


@pytest.mark.parametrize("share", [0, -0.1, 1.1, "some"])
def test_impossible_shares_are_refused(share: Any) -> None:
    with pytest.raises(CVSAError, match="label_fraction") as error:
        resolve(FinetuneConfig, row="Random", label_fraction=share)
    assert "\n" not in str(error.value)


def test_a_share_changes_the_identity_and_all_labels_do_not() -> None:
    config = resolve(FinetuneConfig, row="Random")
    assert config.identity() == resolve(FinetuneConfig, row="Random", label_fraction=1).identity()
    assert config.identity() != resolve(FinetuneConfig, row="Random", label_fraction=0.1).identity()


def test_recorded_runs_keep_their_identity() -> None:
    kinds = {kind: model for model, kind in KINDS.items()}
    checked = Counter()
    for folder, record in find_records(RESULTS):
        model = kinds[record.kind]
        # Records made before other fields existed name a configuration that this version cannot spell.
        if set(model.model_fields) - set(record.config) <= {*ADDED_LATER, *WHERE}:
            assert validate(model, record.config).identity() == record.run_id, folder
            checked[record.kind] += 1
    assert min(checked[kind] for kind in ("pretrain", "finetune", "probe")) > 10
