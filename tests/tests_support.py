"""Helpers that several test files use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cvsa.records import Record

# A configuration that trains in about a second.
SMALL: dict[str, Any] = {
    "bank_size": 32, "image_size": 32, "train_images": 60, "val_images": 20, "test_images": 20,
    "batch_size": 20, "epochs": 3, "warmup_epochs": 1,
    "projector_hidden": 32, "projector_dim": 16, "align_dim": 16, "queue_size": 40,
}  # fmt: skip


def example_record(**changes: Any) -> Record:
    """A valid record, with fields replaced."""
    fields: dict[str, Any] = {
        "kind": "finetune", "run_id": "0123456789ab", "row": "BYOL", "preset": "tiny", "seed": 0,
        "config": {"epochs": 1}, "metrics": {"test_accuracy": 0.5},
        "counts": {"test_images": 1000, "classes": 10}, "data_fingerprints": {"train": "f" * 64},
        "code": {"hash": "a" * 12, "commit": "c" * 40, "dirty": False, "version": "0"},
        "libraries": {"torch": "2"}, "hardware": {"cpu": "a CPU", "device": "cpu"},
        "started": datetime(2026, 1, 1, tzinfo=UTC), "seconds": 1.5,
        "peak_memory_mib": 100.0, "images_per_second": 10.0,
    }  # fmt: skip
    return Record(**{**fields, **changes})
