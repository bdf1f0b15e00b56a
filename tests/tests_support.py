"""Helpers that several test files use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cvsa.records import Record


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
