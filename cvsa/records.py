"""Run records: one JSON file per run, validated on write and on read, written atomically.

The book reads nothing else. A record says what ran (configuration, seed, data), what came out (metrics; the
per-epoch history lies beside it as CSV), and where it ran (code, libraries, hardware, seconds, memory).
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

import cvsa
from cvsa.config import RunConfig
from cvsa.errors import CVSAError, one_line

if TYPE_CHECKING:
    import torch

    from cvsa.training.runtime import Runtime

SCHEMA_VERSION: Literal[1] = 1
RECORD = "record.json"
HISTORY = "history.csv"
WEIGHTS = "weights.safetensors"
PREDICTIONS = "predictions.csv"

# What shapes a result. The command line, the report and the book do not; config.py and the catalogue do so
# only through the configuration, which a record holds whole.
SHAPING = ("data", "evaluation", "methods", "saliency", "training", "views")


class Record(BaseModel):
    """One run. ``metrics`` are finite numbers; shares are in [0, 1], not percent."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["pretrain", "finetune", "probe"]
    run_id: str = Field(pattern=r"^[0-9a-f]{12}$")
    row: str
    preset: str
    protocol: str = "second_stage_only"
    seed: int
    config: dict[str, Any]
    metrics: dict[str, float]
    counts: dict[str, int] = Field(default_factory=dict)
    data_fingerprints: dict[str, str]
    code: dict[str, Any]
    libraries: dict[str, str]
    hardware: dict[str, Any]
    started: datetime
    seconds: float = Field(ge=0)
    peak_memory_mib: float = Field(ge=0)
    images_per_second: float = Field(ge=0)
    parents: list[str] = Field(default_factory=list)

    @field_validator("metrics")
    @classmethod
    def _finite(cls, metrics: dict[str, float]) -> dict[str, float]:
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise ValueError(f"metrics must be finite numbers: {', '.join(bad)}")
        return metrics


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old or the new content and nothing between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_record(record: Record, folder: Path) -> None:
    """Write ``record.json`` into the run's folder; it is written last, so its presence means complete."""
    atomic_write(folder / RECORD, record.model_dump_json(indent=1) + "\n")


def read_record(folder: Path) -> Record:
    """Read and validate the record of a run's folder.

    Raises:
        CVSAError: no such folder, no record in it, or a record that is truncated, edited into nonsense or of
            another schema; names the file.
    """
    path = Path(folder) / RECORD
    if not path.is_file():
        raise CVSAError(
            f"No finished run in {folder}: {RECORD} is missing. "
            "Run the notebook that makes it first, or give the folder of another run."
        )
    try:
        return Record.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        raise CVSAError(f"Record {path} is not valid: {one_line(str(error))[:300]}") from None


def find_records(*roots: Path) -> Iterator[tuple[Path, Record]]:
    """All finished runs below the given folders, in a stable order."""
    for root in roots:
        for path in sorted(Path(root).rglob(RECORD)):
            yield path.parent, read_record(path.parent)


def finished(config: RunConfig, folder: Path) -> Record | None:
    """The record of this very run if the folder holds it; None if the folder is free.

    Raises:
        CVSAError: the folder holds a finished run of another configuration or of other code.
    """
    if not (folder / RECORD).is_file():
        return None
    record = read_record(folder)
    if record.run_id != config.identity():
        raise CVSAError(
            f"{folder} holds another run ({record.row}, seed {record.seed}, {record.run_id}). "
            "Choose another out, or delete that folder."
        )
    if record.code["hash"] != code_hash():
        raise CVSAError(
            f"{folder} holds this run made by other code ({record.code['hash']}, now {code_hash()}). "
            "Choose another out, or delete that folder."
        )
    return record


def shaping_files() -> list[Path]:
    """The package files that shape results, in a stable order."""
    root = Path(cvsa.__file__).parent
    return [
        file
        for part in SHAPING
        for file in sorted((root / part).rglob("*.py"))
        if file.name != "catalogue.py"
    ]


@cache
def code_hash() -> str:
    """Twelve hex digits over the package files that shape results."""
    digest = hashlib.sha256()
    for file in shaping_files():
        digest.update(file.relative_to(Path(cvsa.__file__).parent).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _git(*arguments: str) -> str | None:
    # Only a checkout of this project counts: an installed copy may lie inside somebody else's repository.
    root = Path(cvsa.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else None


@cache
def code_version() -> dict[str, Any]:
    """Version, commit, whether the package differs from that commit, and the hash of what shapes results."""
    status = _git("status", "--porcelain", "--", "cvsa")
    return {
        "version": cvsa.__version__,
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        "hash": code_hash(),
    }


def library_versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "torchvision", "timm", "numpy", "scipy")},
    }


def hardware(device: torch.device, bf16: bool) -> dict[str, Any]:
    """Device, precision, processor, cores, threads in use, and the GPU when it is the device."""
    import torch

    info = {
        "device": str(device),
        "precision": "bf16" if bf16 else "fp32",
        "system": platform.system(),
        "cpu": _cpu_name(),
    }
    counts = {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    return {
        **info,
        **counts,
        **({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory, MiB: allocated on the GPU when it is the device, else resident in this process."""
    import resource

    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024.0**2 if sys.platform == "darwin" else 1024.0)


def make_record(
    config: RunConfig,
    kind: Literal["pretrain", "finetune", "probe"],
    *,
    started: datetime,
    seconds: float,
    runtime: Runtime,
    **rest: Any,
) -> Record:
    """Fill in what every record has; ``rest`` are the fields that depend on the run."""
    return Record(
        kind=kind,
        run_id=config.identity(),
        row=config.row,
        preset=config.preset,
        seed=config.seed,
        config=config.model_dump(mode="json"),
        code=code_version(),
        libraries=library_versions(),
        hardware=hardware(runtime.device, runtime.bf16),
        started=started,
        seconds=round(seconds, 2),
        peak_memory_mib=round(peak_memory_mib(runtime.device), 1),
        **rest,
    )


def now() -> datetime:
    """The current time, with its zone."""
    return datetime.now(UTC)
