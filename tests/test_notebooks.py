"""Notebooks: committed clean, parameters in step with the configuration, each runs alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from tests_support import papermill

from cvsa.config import KINDS, PretrainConfig, parameter_cell, parameters
from cvsa.errors import CVSAError
from cvsa.notebook import given, refuse_unknown
from cvsa.records import read_record
from cvsa.report.dataset import judge, read
from cvsa.report.examine import PARAMETERS

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = {
    "bank_size": 32, "image_size": 32, "train_images": 60, "val_images": 20, "test_images": 20,
    "batch_size": 20, "epochs": 2, "projector_hidden": 32, "projector_dim": 16, "align_dim": 16,
}  # fmt: skip


def parameters_cell(notebook: Path) -> str:
    cells = [
        cell for cell in nbformat.read(notebook, 4).cells if "parameters" in cell.metadata.get("tags", [])
    ]
    assert len(cells) == 1
    return str(cells[0].source)


def shown_pictures(notebook: Path) -> list[Any]:
    cells = [cell for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code"]
    return [output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]


def test_the_notebooks_are_there() -> None:
    others = {"ablation", "dataset", "figure", "pilot", "saliency_quality"}
    assert {path.stem for path in NOTEBOOKS} == {*KINDS.values(), *others}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_outputs_for_a_python_kernel(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells)
    assert notebook.metadata.kernelspec.language == "python"


@pytest.mark.parametrize("model", KINDS)
def test_parameter_cells_are_those_of_the_configuration(model: Any) -> None:
    # Mend with the output of `cvsa params KIND`.
    assert parameters_cell(ROOT / "notebooks" / f"{KINDS[model]}.ipynb") == parameter_cell(model)


def test_the_dataset_notebook_takes_parameters_of_training() -> None:
    *lines, out = parameters_cell(ROOT / "notebooks" / "dataset.ipynb").splitlines()
    assert out.startswith("out: ") and set(lines) <= set(parameter_cell(PretrainConfig).splitlines())
    assert {line.partition(":")[0] for line in lines} == set(PARAMETERS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_is_typed_and_explained(path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "papermill", "--help-notebook", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    listed = [line for line in result.stdout.splitlines() if "(default" in line]
    assert len(listed) == len(parameters_cell(path).splitlines())
    assert not [line for line in listed if "Unknown type" in line]


def test_unknown_parameters_are_refused() -> None:
    model = next(iter(KINDS))
    namespace: dict[str, Any] = dict.fromkeys([*parameters(model), "out"])
    assert given(namespace, model) == dict.fromkeys(parameters(model))
    with pytest.raises(CVSAError, match="Unknown parameter 'epoch'. Did you mean 'epochs'"):
        given({**namespace, "epoch": 3}, model)
    refuse_unknown({"rows": [], "_private": 1, "Path": Path, "In": [], "Out": {}}, ["rows"])


def test_pretrain_finetune_probe_and_evaluate_run_one_after_the_other(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = papermill("pretrain.ipynb", tmp_path / "a.ipynb", row="BYOL+CVSA", out=run, **SMALL)
    assert result.returncode == 0, result.stderr
    for kind in ("finetune", "probe"):
        fast = {"epochs": 1, "warmup_epochs": 0, "batch_size": 20} if kind == "finetune" else {}
        result = papermill(
            f"{kind}.ipynb", tmp_path / f"{kind}.ipynb", pretrained=run, out=tmp_path / kind, **fast
        )
        assert result.returncode == 0, result.stderr
        assert read_record(tmp_path / kind).parents == [read_record(run).run_id]
    target = tmp_path / "evaluate.ipynb"
    result = papermill(
        "evaluate.ipynb", target, finetuned=tmp_path / "finetune", images=6, out=tmp_path / "e"
    )
    assert result.returncode == 0, result.stderr
    assert read_record(tmp_path / "e").parents[1] == read_record(tmp_path / "finetune").run_id
    assert len(shown_pictures(target)) == 2  # gallery, accuracies by condition
    assert len(shown_pictures(tmp_path / "a.ipynb")) >= 3  # view pairs, curves, attention


def test_a_folder_of_photographs_trains(tmp_path: Path, photographs: Path) -> None:
    result = papermill(
        "pretrain.ipynb", tmp_path / "a.ipynb", row="BYOL+SS", dataset="folder",
        root=photographs, out=tmp_path / "run", bank_size=32, image_size=32, batch_size=8, epochs=2,
        projector_hidden=32, projector_dim=16,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert read_record(tmp_path / "run").config["dataset"] == "folder"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": "abc"}, "Parameter epochs"),
        ({"epoch": 3}, "Unknown parameter 'epoch'"),
        ({"row": "BYOL+CVAS"}, "Did you mean 'BYOL+CVSA'"),
    ],
)
def test_bad_parameters_end_in_one_line_and_leave_nothing(
    given: dict[str, Any], words: str, tmp_path: Path
) -> None:
    result = papermill("pretrain.ipynb", tmp_path / "a.ipynb", out=tmp_path / "run", **given)
    assert result.returncode != 0
    assert any(line.startswith("CVSAError: ") and words in line for line in result.stderr.splitlines()), (
        result.stderr[-2000:]
    )
    assert not (tmp_path / "run").exists()


def shown_text(notebook: Path) -> str:
    """All that an executed notebook printed."""
    cells = nbformat.read(notebook, 4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs)


def test_the_dataset_notebook_shows_a_folder_and_gives_a_verdict(tmp_path: Path, photographs: Path) -> None:
    size = {"bank_size": 32, "image_size": 32, "batch_size": 8}
    flags = {"dataset": "folder", "root": photographs, "out": tmp_path / "seen", **size}
    result = papermill("dataset.ipynb", tmp_path / "a.ipynb", **flags)
    assert result.returncode == 0, result.stderr
    pictures = {"images.png", "counts.png", "views.png", "views_as_trained.png"}
    assert {path.name for path in (tmp_path / "seen").iterdir()} == pictures | {"findings.json"}
    assert "Ready to pre-train." in shown_text(tmp_path / "a.ipynb")


def test_the_dataset_notebook_tells_what_to_fix_in_a_broken_folder(tmp_path: Path) -> None:
    (tmp_path / "one" / "train" / "only").mkdir(parents=True)
    flags = {"dataset": "folder", "root": tmp_path / "one", "out": tmp_path / "seen"}
    result = papermill("dataset.ipynb", tmp_path / "a.ipynb", **flags)
    assert result.returncode == 0, result.stderr
    assert "Not ready; to fix: bank." in shown_text(tmp_path / "a.ipynb")
    assert "no test/" in judge(read(tmp_path / "seen"))[0].found
