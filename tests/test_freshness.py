"""A record is stale when the code that shapes it changed, and only then."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests_support import example_record

import cvsa
from cvsa.config import PretrainConfig, resolve
from cvsa.freshness import freshness
from cvsa.provenance import code_hash, file_hashes, without_remarks
from cvsa.records import Record

BYOL = resolve(PretrainConfig, row="BYOL")


def record_of(code: dict[str, object]) -> Record:
    return example_record(
        kind="pretrain", run_id=BYOL.identity(), config=BYOL.model_dump(mode="json"), code=code
    )


def test_the_same_code_is_fresh() -> None:
    assert freshness(record_of({"hash": code_hash(BYOL), "files": file_hashes(BYOL)})).state == "fresh"
    assert freshness(record_of({"hash": code_hash(BYOL)})).state == "fresh"


def test_reasons_name_the_files() -> None:
    then = file_hashes(BYOL) | {"cvsa/views/swap.py": "0" * 12, "cvsa/views/gone.py": "1" * 12}
    del then["cvsa/views/crop.py"]
    found = freshness(record_of({"hash": "x", "files": then}))
    assert found.state == "stale"
    assert found.reasons == [
        "cvsa/views/swap.py was changed",
        "cvsa/views/crop.py was added",
        "cvsa/views/gone.py is no longer used",
    ]  # fmt: skip
    assert freshness(record_of({"hash": "x"})).reasons == ["made by an earlier state of the code"]


def test_another_configuration_is_stale() -> None:
    record = record_of({"hash": code_hash(BYOL), "files": file_hashes(BYOL)})
    assert freshness(record.model_copy(update={"run_id": "0" * 12})).reasons == [
        "parameters were added or their meaning changed"
    ]
    broken = record.model_copy(update={"config": {**record.config, "lr": -1}})
    assert "not valid any more" in freshness(broken).reasons[0]


def test_remarks_do_not_count() -> None:
    code = 'def f(x):\n    """Doc\n    string."""\n\n    # why\n    return "# kept", x  # how   \n'
    assert without_remarks(code) == 'def f(x):\n    return "# kept", x'
    assert without_remarks('"""Module."""\nx = """kept"""\n') == 'x = """kept"""'
    assert without_remarks("class A:\n    'é: one line'; y = 1\n") == "class A:\n    ; y = 1"


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [('"""Saliency Swap:', '"""The Saliency Swap:', False), ("0.5,", "0.25,", True)],
    ids=["docstring", "digit"],
)
def test_touching_a_method_file_is_noticed(tmp_path: Path, old: str, new: str, stale: bool) -> None:
    """In a copy of the package, by a process of its own: hashes are kept for the life of a process."""
    copy = tmp_path / "cvsa"
    shutil.copytree(Path(cvsa.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    swap = copy / "views" / "swap.py"
    assert old in swap.read_text()
    swap.write_text(swap.read_text().replace(old, new, 1))
    record = record_of({"hash": code_hash(BYOL), "files": file_hashes(BYOL)})
    program = (
        "import sys; from cvsa.freshness import freshness; from cvsa.records import Record; "
        "found = freshness(Record.model_validate_json(sys.stdin.read())); print(found.state, *found.reasons)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], input=record.model_dump_json(), capture_output=True, text=True,
        check=True, cwd=tmp_path,
    )  # fmt: skip
    assert result.stdout.split() == ("stale cvsa/views/swap.py was changed" if stale else "fresh").split()
