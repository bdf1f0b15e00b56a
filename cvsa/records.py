"""Run records: one JSON file per run, validated on write and on read, written atomically.

The book reads nothing else. A record says what ran (configuration, seed, data), what came out (metrics; the
per-epoch history lies beside it as CSV), and where it ran (code, libraries, hardware, seconds, memory).
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cvsa.config import KINDS, PUBLISHED, PretrainConfig, RunConfig
from cvsa.errors import CVSAError, one_line
from cvsa.provenance import code_hash, commit, hardware, library_versions, peak_memory_mib

if TYPE_CHECKING:
    from cvsa.training.runtime import Runtime

SCHEMA_VERSION: Literal[2] = 2
RECORD = "record.json"
HISTORY = "history.csv"
WEIGHTS = "weights.safetensors"
PREDICTIONS = "predictions.csv"


class Record(BaseModel):
    """One run. ``metrics`` are finite numbers; shares are in [0, 1], not percent.

    ``stage1`` and ``stage2`` say what its network has learnt from before any labels: the row (and data) of a
    first stage on generic images, the row of the second on the fine-grained ones; None where there was none.
    ``unavailable`` names what could not be measured, and why. ``parents`` are the run ids of the pre-training
    and of the fine-tuning it uses.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[2] = SCHEMA_VERSION
    kind: Literal["pretrain", "finetune", "probe", "evaluate"]
    run_id: str = Field(pattern=r"^[0-9a-f]{12}$")
    row: str
    preset: str
    stage1: str | None = None
    stage2: str | None = None
    seed: int
    config: dict[str, Any]
    metrics: dict[str, float]
    unavailable: dict[str, str] = Field(default_factory=dict)
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

    @model_validator(mode="before")
    @classmethod
    def _migrate(cls, data: Any) -> Any:
        """Version 1 knew second stages only."""
        if isinstance(data, dict) and data.get("schema_version") == 1:
            data = {name: value for name, value in data.items() if name != "protocol"}
            data |= {"schema_version": 2, "stage2": None if data["row"] == "Random" else data["row"]}
        return data

    @field_validator("metrics")
    @classmethod
    def _finite(cls, metrics: dict[str, float]) -> dict[str, float]:
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise ValueError(f"metrics must be finite numbers: {', '.join(bad)}")
        return metrics

    @property
    def protocol(self) -> str:
        """The paper's name for it: "dual_stage" where generic images came first."""
        return "dual_stage" if self.stage1 else "second_stage_only"


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
    code = code_hash(config)
    if record.code["hash"] != code:
        raise CVSAError(
            f"{folder} holds this run made by other code ({record.code['hash']}, now {code}). "
            "Choose another out, or delete that folder."
        )
    return record


def make_record(
    config: RunConfig,
    *,
    parent: Record | None = None,
    classifier: Record | None = None,
    started: datetime,
    seconds: float,
    runtime: Runtime,
    **rest: Any,
) -> Record:
    """Fill in what every record has.

    ``parent`` is the pre-training it started from, ``classifier`` the fine-tuning it looks at; ``rest``
    depends on the run.
    """
    stage1, stage2 = _stages(config, parent)
    return Record(
        kind=KINDS[type(config)],  # type: ignore[arg-type]
        run_id=config.identity(),
        row=config.row,
        preset=config.preset,
        stage1=stage1,
        stage2=stage2,
        seed=config.seed,
        config=config.model_dump(mode="json"),
        code=commit(config),
        libraries=library_versions(),
        hardware=hardware(runtime.device, runtime.bf16),
        started=started,
        seconds=round(seconds, 2),
        peak_memory_mib=round(peak_memory_mib(runtime.device), 1),
        parents=[record.run_id for record in (parent, classifier) if record],
        **rest,
    )


def _stages(config: RunConfig, parent: Record | None) -> tuple[str | None, str | None]:
    stage1, stage2 = (parent.stage1, parent.stage2) if parent else (None, None)
    if getattr(config, "pretrained", None) == PUBLISHED:
        stage1 = f"published weights of {config.backbone}"
    if isinstance(config, PretrainConfig):
        if config.stage == 1:
            data = config.root.name if config.root else config.dataset
            return f"{config.row} on {data}", None
        return stage1, config.row
    return stage1, stage2


def now() -> datetime:
    """The current time, with its zone."""
    return datetime.now(UTC)
