"""Measurements that are no runs, one JSON file each: validated, sealed on write, checked on read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from cvsa.errors import CVSAError, one_line
from cvsa.records.schema import seal
from cvsa.records.store import atomic_write


class Sealed(BaseModel):
    """What such a file holds.

    Attributes:
        digest: see :func:`cvsa.records.schema.seal`; set when it is written.
    """

    digest: str | None = None


S = TypeVar("S", bound=Sealed)


def write_sealed(measured: Sealed, path: Path) -> None:
    """Seal a measurement and write it, atomically."""
    content = measured.model_dump(mode="json")
    content["digest"] = seal(content)
    atomic_write(path, json.dumps(content, indent=1) + "\n")


def read_sealed(model: type[S], path: Path, what: str, remedy: str) -> S:
    """Read and check one file.

    Args:
        model: of what it holds.
        path: the file.
        what: it is, for the message: "Benchmark".
        remedy: what to do about a bad one, for the message: "Measure it again."

    Raises:
        CVSAError: no such file; it is truncated, edited or of another schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        measured = model.model_validate(content)
    except (OSError, ValueError) as error:  # a ValidationError is a ValueError
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise CVSAError(f"{what} {path} is not valid: {one_line(said)[:200]}. {remedy}") from None
    if measured.digest != seal(content):
        raise CVSAError(f"{what} {path} was edited after it was written. {remedy}")
    return measured


def read_all_sealed(model: type[S], folder: Path, what: str, remedy: str) -> list[S]:
    """Every measurement in a folder, by name; none where there is no folder.

    Raises:
        CVSAError: see :func:`read_sealed`.
    """
    return [read_sealed(model, path, what, remedy) for path in sorted(folder.glob("*.json"))]
