"""The notebook on saliency: both parts at tiny sizes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import nbformat
from tests_support import papermill

from cvsa.evaluation.comparison import read_comparisons
from cvsa.records import find_records
from cvsa.report.training_maps import read_maps

NOTEBOOK = "saliency_quality.ipynb"


def shown(notebook: Path) -> list[dict[str, object]]:
    cells = [cell for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code"]
    return [output.get("data", {}) for cell in cells for output in cell.outputs]


def test_rows_are_trained_with_each_kind_of_map_and_the_curve_is_drawn(tmp_path: Path) -> None:
    yaml = "{conditions: [exact, box], detectors: [], train_images: 50, test_images: 20}"
    out = tmp_path / "runs"
    result = papermill(NOTEBOOK, tmp_path / "a.ipynb", yaml, epochs=2, finetune_epochs=2, out=out)
    assert result.returncode == 0, result.stderr[-2000:]
    names = {path.name for path in (out / "probe").iterdir()}
    assert names == {"byol-s0", "byol-cvsa-s0", "byol-cvsa-s0-saliency_error-box"}
    assert {run.condition for run in read_maps(out).runs} == {"", "exact", "box"}
    # Only the box of a map reaches the views.
    accuracy = {folder.name: record.metrics for folder, record in find_records(out / "finetune")}
    assert accuracy["byol-cvsa-s0"] == accuracy["byol-cvsa-s0-saliency_error-box"]
    outputs = shown(tmp_path / "a.ipynb")
    assert sum("image/png" in data for data in outputs) == 1
    assert any("| exact |" in str(data.get("text/markdown")) for data in outputs)


def test_detectors_are_compared_on_a_folder(photographs: Path, tmp_path: Path) -> None:
    result = papermill(
        NOTEBOOK, tmp_path / "a.ipynb", "{conditions: []}", root=photographs, images=8, out=tmp_path / "out"
    )
    assert result.returncode == 0, result.stderr[-2000:]
    (found,) = read_comparisons(tmp_path / "out")
    assert (found.data, found.description["images"]) == (photographs.name, 8)
    assert found.lines[0].detector == "classical" and found.lines[0].quality is not None
    assert (tmp_path / "out" / f"maps-{photographs.name}.png").is_file()
    assert not (tmp_path / "out" / "pretrain").exists()


def test_an_unknown_kind_of_map_ends_in_one_line_before_anything_runs(tmp_path: Path) -> None:
    result = papermill(
        NOTEBOOK, tmp_path / "a.ipynb", "{conditions: [exact, dilatd:0.5]}", out=tmp_path / "runs"
    )
    assert result.returncode != 0
    assert any(line.startswith("CVSAError: ") and "dilated" in line for line in result.stderr.splitlines())
    assert not (tmp_path / "runs").exists()
