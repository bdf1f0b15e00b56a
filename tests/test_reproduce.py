"""Before anything runs, what is damaged is set aside, named, and made again."""

from __future__ import annotations

from pathlib import Path

from tests_support import example_record

from cvsa.records import DAMAGED, collect, write_record
from cvsa.reproduce import set_aside


def test_damaged_runs_are_set_aside_and_named(tmp_path: Path) -> None:
    good, bad, missing = (tmp_path / "finetune" / name for name in ("good", "bad", "missing"))
    for folder in (good, bad):
        write_record(example_record(), folder)
    record = bad / "record.json"
    record.write_text(record.read_text().replace("0.5", "0.9"))
    said = set_aside([good, bad, missing], tmp_path / DAMAGED)
    assert len(said) == 1 and str(record) in said[0] and "edited" in said[0] and "moved to" in said[0]
    assert not bad.exists() and good.is_dir()
    assert [found.folder.name[:12] for found in collect(tmp_path / DAMAGED).excluded] == ["finetune-bad"]
    assert set_aside([good, bad, missing], tmp_path / DAMAGED) == []
