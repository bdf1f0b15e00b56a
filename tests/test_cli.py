"""The command line: reads well, fails in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from cvsa.cli import main
from cvsa.config import PRESETS
from cvsa.methods.catalogue import ROWS


def test_rows_prints_the_catalogue() -> None:
    result = CliRunner().invoke(main, ["rows"])
    assert result.exit_code == 0
    assert all(any(line.startswith(row) for line in result.output.splitlines()) for row in ROWS)


def test_presets_and_parameters_are_listed() -> None:
    assert all(name in CliRunner().invoke(main, ["presets"]).output for name in PRESETS)
    assert "swap_scale: Optional[float] = None" in CliRunner().invoke(main, ["params", "pretrain"]).output


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert all(command in result.output for command in main.commands)


@pytest.mark.parametrize(
    ("arguments", "words"), [(["reproduce", "--preset", "huge"], "huge"), (["report"], "tiny")]
)
def test_a_users_mistake_is_one_line_and_status_two(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = tmp_path / "workflow" / "grid.yaml"
    grid.parent.mkdir()
    grid.write_text("tiny: {second_stage_only: [{rows: [Random], seeds: [0]}]}")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.output.count("\n") == 1 and result.output.startswith("error: ") and words in result.output


def test_outside_a_checkout_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["reproduce"])
    assert result.exit_code == 2 and "checkout" in result.output


def test_a_warning_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVSA_CACHE", str(tmp_path / "cache"))
    for place in ("train/a", "train/b", "test/a", "test/b"):
        folder = tmp_path / "photos" / place
        folder.mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (40, 40), (40 * number, 0, 0)).save(folder / f"{number}.png")
    result = CliRunner().invoke(main, ["data", "prepare", str(tmp_path / "photos"), "--size", "32"])
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    assert any(line.startswith("warning: ") and "also training images" in line for line in lines)
    assert "UserWarning" not in result.stderr
