"""Records: validated on write and read, atomic, tied to configuration and code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests_support import example_record

import cvsa.records as records
from cvsa.config import PretrainConfig, resolve
from cvsa.errors import CVSAError
from cvsa.records import Record, atomic_write, find_records, finished, read_record, write_record


def test_round_trip(tmp_path: Path) -> None:
    record = example_record()
    write_record(record, tmp_path / "run")
    assert read_record(tmp_path / "run") == record
    assert list(find_records(tmp_path)) == [(tmp_path / "run", record)]
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["record.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_metrics_must_be_finite(value: float) -> None:
    with pytest.raises(ValueError, match="test_accuracy"):
        Record(**{**example_record().model_dump(), "metrics": {"test_accuracy": value}})


@pytest.mark.parametrize("damage", ["truncated", "schema", "nan", "extra", "missing"])
def test_damaged_records_are_refused_by_name(tmp_path: Path, damage: str) -> None:
    write_record(example_record(), tmp_path)
    path = tmp_path / "record.json"
    content = json.loads(path.read_text())
    if damage == "truncated":
        path.write_text(path.read_text()[:200])
    elif damage == "missing":
        path.unlink()
    else:
        content |= {
            "schema": {"schema_version": 99},
            "nan": {"metrics": {"a": float("nan")}},
            "extra": {"surprise": 1},
        }[damage]
        path.write_text(json.dumps(content))
    with pytest.raises(CVSAError) as error:
        read_record(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    atomic_write(path, "old")

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(records.os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_finished_knows_its_own_run_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve(PretrainConfig)
    assert finished(config, tmp_path) is None
    code = {"hash": records.code_hash(config)}
    record = Record(**{**example_record().model_dump(), "run_id": config.identity(), "code": code})
    write_record(record, tmp_path)
    assert finished(config, tmp_path) == record
    with pytest.raises(CVSAError, match="another run"):
        finished(resolve(PretrainConfig, seed=5), tmp_path)
    monkeypatch.setattr(records, "code_hash", lambda _: "0" * 12)
    with pytest.raises(CVSAError, match="other code"):
        finished(config, tmp_path)


def test_records_of_the_first_schema_are_read(tmp_path: Path) -> None:
    old = json.loads(example_record(row="BYOL+SS").model_dump_json()) | {"schema_version": 1}
    old = {name: value for name, value in old.items() if name not in {"stage1", "stage2"}}
    (tmp_path / "record.json").write_text(json.dumps(old | {"protocol": "second_stage_only"}))
    record = read_record(tmp_path)
    assert (record.schema_version, record.stage1, record.stage2) == (2, None, "BYOL+SS")
    assert record.protocol == "second_stage_only"
