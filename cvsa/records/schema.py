"""What a record holds, how older ones are read, and the seal that shows when one was edited."""

from __future__ import annotations

import hashlib
import json
import math
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cvsa.config import KINDS, RunConfig, validate

SCHEMA_VERSION: Literal[3] = 3


class Imported(BaseModel):
    """How a record of another machine came here.

    Attributes:
        file: name of the file it was in.
        on: when it was taken in.
        digest: its seal before; None for records of the first two schemas.
        by: version of the package that checked it.
    """

    model_config = ConfigDict(extra="forbid")

    file: str
    on: datetime
    digest: str | None
    by: str


class Record(BaseModel):
    """One run. ``metrics`` are finite numbers; shares are in [0, 1], not percent.

    ``stage1`` and ``stage2`` say what its network has learnt from before any labels: the row (and data) of a
    first stage on generic images, the row of the second on the fine-grained ones; None where there was none.
    ``unavailable`` names what could not be measured, and why. ``parents`` are the run ids of the pre-training
    and of the fine-tuning it uses. ``files`` are the CSV files beside it with their SHA-256, ``digest`` seals
    all the rest: :func:`seal`. ``code["files"]`` has the files that shaped the run, each with its hash;
    ``lock`` is that of the lock file. ``energy_joules`` is None where the device reports no power.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[3] = SCHEMA_VERSION
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
    saliency_fingerprints: dict[str, str] = Field(default_factory=dict)
    code: dict[str, Any]
    lock: str | None = None
    libraries: dict[str, str]
    hardware: dict[str, Any]
    started: datetime
    seconds: float = Field(ge=0)
    peak_memory_mib: float = Field(ge=0)
    images_per_second: float = Field(ge=0)
    energy_joules: float | None = Field(None, ge=0)
    parents: list[str] = Field(default_factory=list)
    files: dict[str, str] = Field(default_factory=dict)
    imported: Imported | None = None
    digest: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _migrate(cls, data: Any) -> Any:
        """Version 1 knew second stages only; version 2 neither files nor seals."""
        if not isinstance(data, dict):
            return data
        if data.get("schema_version") == 1:
            data = {name: value for name, value in data.items() if name != "protocol"}
            data |= {"schema_version": 2, "stage2": None if data["row"] == "Random" else data["row"]}
        if data.get("schema_version") == 2:
            data = {**data, "schema_version": SCHEMA_VERSION}
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


def seal(content: dict[str, Any]) -> str:
    """SHA-256 (hex) of a record's JSON content without its digest: one changed digit changes it.

    It guards against accidents and edits by hand, not against forgery: anyone can compute it.
    """
    rest = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def config_of(record: Record) -> RunConfig:
    """The configuration a record holds; fields that came later have their defaults.

    Raises:
        CVSAError: it is not valid any more; names the field.
    """
    model = next(model for model, kind in KINDS.items() if kind == record.kind)
    return validate(model, record.config)
