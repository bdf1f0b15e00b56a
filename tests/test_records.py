"""Records: validated on write and read, atomic, tied to configuration and code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests_support import example_record

import cvsa.records.store as store
from cvsa.config import PretrainConfig, resolve
from cvsa.errors import CVSAError
from cvsa.records import (
    Record,
    atomic_write,
    collect,
    config_of,
    find_records,
    finished,
    migrate,
    read_record,
    write_record,
)


def test_round_trip(tmp_path: Path) -> None:
    record = example_record()
    write_record(record, tmp_path / "run")
    read = read_record(tmp_path / "run")
    assert read.digest and read.model_copy(update={"digest": None}) == record
    assert list(find_records(tmp_path)) == [(tmp_path / "run", read)]
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["record.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_metrics_must_be_finite(value: float) -> None:
    with pytest.raises(ValueError, match="test_accuracy"):
        Record(**{**example_record().model_dump(), "metrics": {"test_accuracy": value}})


@pytest.mark.parametrize(
    "damage", ["truncated", "schema", "nan", "extra", "missing", "list", "digit", "unsealed"]
)
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
            "list": {},
            "digit": {"metrics": {"test_accuracy": 0.6}},
            "unsealed": {"digest": None},
        }[damage]
        path.write_text(json.dumps([content] if damage == "list" else content))
    with pytest.raises(CVSAError) as error:
        read_record(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    atomic_write(path, "old")

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(store.os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_finished_knows_its_own_run_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve(PretrainConfig)
    assert finished(config, tmp_path) is None
    code = {"hash": store.code_hash(config)}
    record = Record(**{**example_record().model_dump(), "run_id": config.identity(), "code": code})
    write_record(record, tmp_path)
    assert finished(config, tmp_path) == read_record(tmp_path)
    with pytest.raises(CVSAError, match="another run"):
        finished(resolve(PretrainConfig, seed=5), tmp_path)
    monkeypatch.setattr(store, "code_hash", lambda _: "0" * 12)
    with pytest.raises(CVSAError, match="other code"):
        finished(config, tmp_path)


def test_files_beside_a_record_are_guarded(tmp_path: Path) -> None:
    atomic_write(tmp_path / "history.csv", "epoch,loss\n1,0.5\n")
    write_record(example_record(), tmp_path)
    assert list(read_record(tmp_path).files) == ["history.csv"]
    atomic_write(tmp_path / "history.csv", "epoch,loss\n1,0.4\n")
    with pytest.raises(CVSAError, match=r"history\.csv was changed after"):
        read_record(tmp_path)
    (tmp_path / "history.csv").unlink()
    with pytest.raises(CVSAError, match=r"history\.csv is missing"):
        read_record(tmp_path)


def test_damaged_records_are_left_out_and_named(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        write_record(example_record(), tmp_path / name)
    path = tmp_path / "bad" / "record.json"
    path.write_text(path.read_text().replace("0.5", "0.6"))
    found = collect(tmp_path)
    assert [folder.name for folder, _ in found.runs] == ["good"]
    assert [excluded.folder.name for excluded in found.excluded] == ["bad"]
    assert "edited" in found.excluded[0].reason and str(path) in found.excluded[0].reason
    with pytest.warns(UserWarning, match="left out.*bad"):
        assert [folder.name for folder, _ in find_records(tmp_path)] == ["good"]


def test_a_record_that_is_changed_by_its_reader_stays_as_it_is(tmp_path: Path) -> None:
    write_record(example_record(), tmp_path)
    read_record(tmp_path).metrics["test_accuracy"] = 1.0
    assert read_record(tmp_path).metrics["test_accuracy"] == 0.5


def old_record(schema: int, folder: Path) -> None:
    later = {"files", "saliency_fingerprints", "lock", "energy_joules", "imported", "digest"}
    content = json.loads(example_record(row="BYOL+SS", stage2="BYOL+SS").model_dump_json())
    if schema == 1:
        later |= {"stage1", "stage2"}
        content |= {"protocol": "second_stage_only"}
    content = {name: value for name, value in content.items() if name not in later}
    atomic_write(folder / "record.json", json.dumps(content | {"schema_version": schema}))


@pytest.mark.parametrize("schema", [1, 2])
def test_older_schemas_are_read_and_migrated(tmp_path: Path, schema: int) -> None:
    old_record(schema, tmp_path)
    record = read_record(tmp_path)
    assert (record.schema_version, record.stage1, record.stage2) == (3, None, "BYOL+SS")
    assert record.protocol == "second_stage_only" and record.digest is None
    atomic_write(tmp_path / "history.csv", "epoch\n1\n")
    assert (migrate(tmp_path), migrate(tmp_path)) == (1, 0)
    sealed = read_record(tmp_path)
    assert sealed.digest and list(sealed.files) == ["history.csv"]
    assert sealed.metrics == record.metrics and sealed.started == record.started


def test_a_configuration_is_read_back(tmp_path: Path) -> None:
    config = resolve(PretrainConfig, row="BYOL")
    record = example_record(kind="pretrain", config=config.model_dump(mode="json"), run_id=config.identity())
    assert config_of(record) == config
    with pytest.raises(CVSAError, match="lr"):
        config_of(example_record(kind="pretrain", config={"lr": -1}))
