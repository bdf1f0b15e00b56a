"""Helpers that several test files use."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cvsa.records import Record

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"

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


def papermill(
    notebook: str, target: Path, yaml: str = "{}", /, **given: Any
) -> subprocess.CompletedProcess[str]:
    """Run a notebook of the project beside its output, on one thread."""
    flags = [part for name, value in given.items() for part in ("-p", name, str(value))]
    command = [sys.executable, "-m", "papermill", "-k", "python3", "--no-progress-bar", "-y", yaml, *flags]
    return subprocess.run(
        [*command, str(NOTEBOOKS / notebook), str(target)],
        capture_output=True, text=True, check=False, cwd=target.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
