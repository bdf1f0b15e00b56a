"""Records that travel: taken whole or not at all, and never silently changed."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests_support import example_record

from cvsa.config import KINDS, resolve
from cvsa.errors import CVSAError
from cvsa.provenance import commit
from cvsa.records import Record, arrivals, read_record, transfer, write_record
from cvsa.records.packing import check_records, export_records
from cvsa.records.schema import seal
from cvsa.records.transfer import import_records

MODELS = {kind: model for model, kind in KINDS.items()}


def make_run(
    root: Path, kind: str, name: str, parent: Record | None = None, metrics: dict[str, float] | None = None,
    **given: Any,
) -> Record:  # fmt: skip
    """A finished run in root/kind/name with a history, as another machine would have written it."""
    config = resolve(MODELS[kind], **{"row": "BYOL", **given, "parent": parent.run_id if parent else None})
    folder = root / kind / name
    folder.mkdir(parents=True)
    (folder / "history.csv").write_text("epoch,loss\n1,0.5\n2,0.25\n")
    (folder / "weights.safetensors").write_text("large")
    return write_record(
        example_record(
            kind=kind, run_id=config.identity(), row=config.row, preset=config.preset, seed=config.seed,
            config=config.model_dump(mode="json"), metrics=metrics or {"loss": 0.25},
            parents=[parent.run_id] if parent else [], code=commit(config),
        ),
        folder,
    )  # fmt: skip


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A pre-training and its fine-tuning, of the preset tiny."""
    parent = make_run(tmp_path / "elsewhere", "pretrain", "byol-s0")
    make_run(tmp_path / "elsewhere", "finetune", "byol-s0", parent, {"test_accuracy": 0.5})
    return tmp_path / "elsewhere"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "checkout").mkdir()
    return tmp_path / "checkout"


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def tarred(source: Path, file: Path) -> Path:
    with tarfile.open(file, "w:gz") as tar:
        tar.add(source, arcname="runs")
    return file


@pytest.mark.parametrize("how", ["folder", "zip", "tar", "single files"])
def test_there_and_back(tmp_path: Path, elsewhere: Path, checkout: Path, how: str) -> None:
    files = [elsewhere]
    if how == "zip":
        files = [tmp_path / "x.zip"]
        assert "Packed 2 runs" in export_records(str(elsewhere), files[0], tmp_path)[0]
    elif how == "tar":
        files = [tarred(elsewhere, tmp_path / "x.tar.gz")]
    elif how == "single files":
        files = [elsewhere / kind / "byol-s0" / "record.json" for kind in ("finetune", "pretrain")]
    assert import_records(files, checkout) == ["Imported into results/tiny: 2 runs (1 pretrain, 1 finetune)."]
    names = ("history.csv", "record.json")
    folders = ("results/tiny/pretrain/byol-s0", "results/tiny/finetune/byol-s0")
    assert contents(checkout) == {f"{folder}/{name}" for folder in folders for name in names}
    before, after = (
        read_record(root / "finetune" / "byol-s0") for root in (elsewhere, checkout / "results/tiny")
    )
    assert after.imported is not None and after.imported.file == files[0].name
    assert after.imported.digest == before.digest != after.digest
    assert after.model_copy(update={"imported": None, "digest": before.digest}) == before
    assert import_records(files, checkout) == ["Already there, unchanged: 2 runs."]


def test_export_prefers_live_runs_and_gives_the_same_file_twice(elsewhere: Path, checkout: Path) -> None:
    import_records([elsewhere], checkout, weights=True)
    (checkout / "book" / "results").mkdir(parents=True)
    (checkout / "results" / "tiny").rename(checkout / "book" / "results" / "tiny")
    one, other = checkout / "one.zip", checkout / "other.zip"
    assert "book/results/tiny" in export_records("tiny", one, checkout, weights=True)[0]
    export_records("tiny", other, checkout, weights=True)
    assert one.read_bytes() == other.read_bytes()
    assert "tiny/pretrain/byol-s0/weights.safetensors" in zipfile.ZipFile(one).namelist()
    with pytest.raises(CVSAError, match="exists already"):
        export_records("tiny", one, checkout)
    with pytest.raises(CVSAError, match="neither a preset"):
        export_records("nothing", checkout / "x.zip", checkout)


def test_into_another_set(elsewhere: Path, checkout: Path) -> None:
    import_records([elsewhere], checkout, Path("results/theirs"))
    assert (checkout / "results" / "theirs" / "pretrain" / "byol-s0" / "record.json").is_file()
    for into in ("elsewhere/theirs", "results/a/b", "..", "/tmp/x"):
        with pytest.raises(CVSAError, match="directly in results"):
            import_records([elsewhere], checkout, Path(into))


def test_a_conflict_names_both(tmp_path: Path, elsewhere: Path, checkout: Path) -> None:
    import_records([elsewhere], checkout)
    make_run(tmp_path / "third", "pretrain", "again", metrics={"loss": 0.75})
    before = contents(checkout)
    with pytest.raises(CVSAError) as refused:
        import_records([tmp_path / "third"], checkout)
    for words in (
        "pretrain/again",
        "results/tiny/pretrain/byol-s0",
        "loss (0.75, 0.25)",
        "Nothing was imported",
    ):
        assert words in str(refused.value)
    assert contents(checkout) == before


def test_equal_results_of_another_machine_are_no_conflict(
    tmp_path: Path, elsewhere: Path, checkout: Path
) -> None:
    import_records([elsewhere], checkout)
    folder = elsewhere / "pretrain" / "byol-s0"
    write_record(read_record(folder).model_copy(update={"seconds": 99.0}), folder)
    said = import_records([folder], checkout)
    assert len(said) == 1 and "made once more with equal results" in said[0]
    assert read_record(checkout / "results" / "tiny" / "pretrain" / "byol-s0").seconds != 99.0


def test_another_run_in_its_place_is_refused(tmp_path: Path, elsewhere: Path, checkout: Path) -> None:
    import_records([elsewhere], checkout)
    make_run(tmp_path / "third", "pretrain", "byol-s0", seed=1)
    with pytest.raises(CVSAError, match="give another folder than results/tiny"):
        import_records([tmp_path / "third"], checkout)
    make_run(tmp_path / "fourth", "pretrain", "byol-s2", seed=2)
    make_run(tmp_path / "fifth", "pretrain", "byol-s2", seed=3)
    with pytest.raises(CVSAError, match=r"byol-s2 in .*fourth"):
        import_records([tmp_path / "fourth", tmp_path / "fifth"], checkout)
    assert not (checkout / "results/tiny/pretrain/byol-s2").exists()


def test_parents_must_come_too(elsewhere: Path, checkout: Path) -> None:
    with pytest.raises(CVSAError, match="started from run .* neither given nor in"):
        import_records([elsewhere / "finetune"], checkout)
    assert contents(checkout) == set()
    import_records([elsewhere / "pretrain"], checkout)
    assert import_records([elsewhere / "finetune"], checkout) == [
        "Imported into results/tiny: 1 run (1 finetune)."
    ]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("truncated", "not valid"), ("nan", "finite"), ("digit", "seal"), ("no history", "missing"),
        ("other history", "changed"), ("schema", "not valid"),
    ],
)  # fmt: skip
def test_one_damaged_record_stops_the_whole_import(
    tmp_path: Path, elsewhere: Path, checkout: Path, damage: str, words: str
) -> None:
    folder = elsewhere / "finetune" / "byol-s0"
    path = folder / "record.json"
    text = path.read_text()
    if damage == "truncated":
        path.write_text(text[: len(text) // 2])
    elif damage == "no history":
        (folder / "history.csv").unlink()
    elif damage == "other history":
        (folder / "history.csv").write_text("epoch,loss\n1,0.5\n2,0.24\n")
    else:
        changed = {"nan": ("0.5", "NaN"), "digit": ("0.5", "0.6"), "schema": ('version": 3', 'version": 9')}
        assert changed[damage][0] in text
        path.write_text(text.replace(*changed[damage]))
    file = tarred(elsewhere, tmp_path / "x.tar.gz")
    with pytest.raises(CVSAError, match=words) as refused:
        import_records([file], checkout)
    assert "x.tar.gz" in str(refused.value) and "\n" not in str(refused.value)
    assert contents(checkout) == set()
    lines, damaged = check_records([elsewhere])
    assert damaged == 1 and lines[0].startswith("damaged: ") and "finetune/byol-s0" in lines[0]
    assert lines[-1].startswith("2 records in ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"row": "Nobody"}, "Unknown row"), ({"preset": "../../huge"}, "is of preset"),
        ({"seed": 7}, "not those of"),
        ({"run_id": "0" * 12}, "does not belong"), ({"config": {"epochs": "many"}}, "no configuration"),
    ],
)  # fmt: skip
def test_what_this_companion_does_not_know_is_refused(
    elsewhere: Path, checkout: Path, change: dict[str, Any], words: str
) -> None:
    folder = elsewhere / "pretrain" / "byol-s0"
    record = read_record(folder)
    change = {n: {**record.config, **v} if n == "config" else v for n, v in change.items()}
    write_record(record.model_copy(update=change), folder)
    with pytest.raises(CVSAError, match=words):
        import_records([folder], checkout)
    assert contents(checkout.parent / "checkout") == set()


def test_archives_that_lead_out_are_refused(tmp_path: Path, elsewhere: Path, checkout: Path) -> None:
    content = (elsewhere / "pretrain" / "byol-s0" / "record.json").read_bytes()
    climbing = tmp_path / "climbing.zip"
    with zipfile.ZipFile(climbing, "w") as zipped:
        zipped.writestr("runs/../../record.json", content)
    linking = tmp_path / "linking.tar.gz"
    with tarfile.open(linking, "w:gz") as tar:
        link = tarfile.TarInfo("runs/pretrain/byol-s0/history.csv")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    linked = tmp_path / "linked.zip"
    with zipfile.ZipFile(linked, "w") as zipped:
        info = zipfile.ZipInfo("runs/record.json")
        info.external_attr = 0o120777 << 16
        zipped.writestr(info, "/etc/passwd")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 and nothing more")
    for file, words in ((climbing, "leads out"), (linking, "link"), (linked, "link"), (broken, "damaged")):
        with pytest.raises(CVSAError, match=words):
            import_records([file], checkout)
    for missing in (tmp_path / "nowhere.zip", tmp_path / "nowhere" / "record.json"):
        with pytest.raises(CVSAError, match="is not there"):
            import_records([missing], checkout)
    assert contents(checkout) == set()


def test_absurd_sizes_are_refused_unread(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "MOST_RECORD_BYTES", 1000)
    file = tmp_path / "huge.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        info = tarfile.TarInfo("runs/record.json")
        info.size = 10**6
        tar.addfile(info, io.BytesIO(b" " * 10**6))
    with pytest.raises(CVSAError, match="at most"):
        import_records([file], checkout)


def test_a_record_cannot_name_files_outside_its_folder(elsewhere: Path, checkout: Path) -> None:
    (elsewhere / "secret.csv").write_text("a")
    path = elsewhere / "pretrain" / "byol-s0" / "record.json"
    content = json.loads(path.read_text())
    content["files"]["../../secret.csv"] = hashlib.sha256(b"a").hexdigest()
    content["digest"] = seal(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CVSAError, match="no plain CSV"):
        import_records([path.parent], checkout)


def test_a_full_disk_leaves_nothing_behind(
    elsewhere: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[str] = []

    def rename(source: Path, target: Path) -> None:
        if moves:
            raise OSError(28, "No space left on device")
        moves.append(str(target))
        Path(source).rename(target)

    monkeypatch.setattr(transfer.os, "rename", rename)
    with pytest.raises(CVSAError, match="No space left"):
        import_records([elsewhere], checkout)
    assert moves and contents(checkout) == set()


def test_what_was_set_aside_is_no_damage(tmp_path: Path, elsewhere: Path) -> None:
    aside = elsewhere / "damaged" / "probe-byol-s0-20260101"
    aside.mkdir(parents=True)
    (aside / "record.json").write_text("{")
    lines, damaged = check_records([elsewhere, tmp_path / "nowhere"])
    assert damaged == 0 and "1 set aside" in lines[-1] and "2 fresh" in lines[-1]
    with pytest.raises(CVSAError, match="is there"):
        check_records([tmp_path / "nowhere"])
