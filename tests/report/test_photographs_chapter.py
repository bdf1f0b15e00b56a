"""Runs on photographs: what is kept beside their records, and what the book gets of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests_support import example_record

from cvsa.config import PretrainConfig, resolve
from cvsa.errors import CVSAError
from cvsa.records import write_record
from cvsa.report import photographs as module
from cvsa.report.keep import keep
from cvsa.report.page import Page
from cvsa.report.photographs import SHOWN, keep_photographs, photograph_presets, photographs
from cvsa.training.pretrain import pretrain


@pytest.fixture(scope="module")
def config(photographs: Path) -> PretrainConfig:
    return resolve(
        PretrainConfig, row="BYOL+CVSA", dataset="folder", root=photographs, bank_size=32, image_size=32,
        batch_size=4, epochs=1, warmup_epochs=0, projector_hidden=16, projector_dim=8, align_dim=8,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(config: PretrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    pretrain(config, folder)
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


NUMBERS = {"dataset/findings.json", "dataset/verify.txt", "dataset/counts.png"}


@pytest.mark.parametrize("preset", ["butterfly100", "another"])
def test_pictures_are_kept_of_listed_presets_only(
    preset: str, config: PretrainConfig, run: Path, tmp_path: Path
) -> None:
    keep_photographs(tmp_path / preset, run, config)
    assert files(tmp_path / preset) == NUMBERS
    assert preset not in SHOWN


def test_what_is_kept_lands_in_the_book(config: PretrainConfig, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "pets3"
    keep_photographs(folder, run, config)
    pictures = {f"dataset/{name}.png" for name in ("images", "views", "views_as_trained")}
    assert files(folder) == NUMBERS | pictures | {"attention.png"}
    module._kept(Page(tmp_path / "book"), folder)
    names = {f"pets3_{Path(name).name}" for name in files(folder) if name.endswith(".png")}
    assert {path.name for path in (tmp_path / "book" / "figures").iterdir()} == names
    assert "no problems" in (tmp_path / "book" / "text" / "pets3_verify.txt").read_text()
    told = (tmp_path / "book" / "text" / "pets3_verdict.md").read_text()
    assert told.startswith(f"- **{json.loads((folder / 'dataset/findings.json').read_text())['verdict']}**")


def test_where_the_folder_lies_is_not_passed_on(
    config: PretrainConfig, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERE", str(config.root))
    keep_photographs(tmp_path / "other", run, config.model_copy(update={"root": Path("$HERE")}))
    for path in (tmp_path / "other" / "dataset").glob("[fv]*"):
        assert str(config.root) not in path.read_text() and "$HERE" in path.read_text()


def records(folder: Path, dataset: str = "folder", seeds: tuple[int, ...] = (0,)) -> None:
    """Three rows of a preset, made up."""
    number = 0
    for seed in seeds:
        for row, accuracy in (("Random", 0.25), ("BYOL", 0.5), ("BYOL+CVSA", 0.75)):
            shared: dict[str, Any] = {"row": row, "seed": seed, "stage2": None if row == "Random" else row}
            kinds: dict[str, dict[str, float]] = {
                "finetune": {"test_accuracy": accuracy}, "probe": {"linear_test": 0.4, "knn_test": 0.3},
            }  # fmt: skip
            if row != "Random":
                kinds["pretrain"] = {"loss": 1.0}
            for kind, metrics in kinds.items():
                place = folder / kind / f"{row}-{seed}"
                write_record(
                    example_record(
                        kind=kind, metrics=metrics, run_id=f"{number:012x}",
                        config={"dataset": dataset, "epochs": 3, "image_size": 32, "swap_scale": 0.5},
                        counts={"train_images": 8, "test_images": 4, "classes": 2}, **shared,
                    ),
                    place,
                )  # fmt: skip
                number += 1
                (place / "history.csv").write_text("epoch,contrastive,embedding_std\n1,2.0,0.9\n2,1.0,0.8\n")
                hits = "".join(f"test,{i},1,{int(i < 4 * accuracy)}\n" for i in range(4))
                (place / "predictions.csv").write_text(f"split,image,label,predicted\n{hits}")


def test_every_preset_of_photographs_is_found_by_its_records(tmp_path: Path) -> None:
    for name, dataset in (("birds", "synthbirds"), ("b", "folder"), ("a", "cub200")):
        records(tmp_path / name, dataset)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    assert [folder.name for folder in photograph_presets(tmp_path)] == ["a", "b"]


def test_records_become_table_findings_numbers_and_curves(tmp_path: Path) -> None:
    records(tmp_path / "mine")
    page = Page(tmp_path / "book")
    photographs(page, tmp_path / "mine")
    assert files(tmp_path / "book") == {
        "tables/mine.md", "tables/contrasts_mine.md", "text/mine.md", "figures/mine_curves.svg",
    }  # fmt: skip
    lines = (tmp_path / "book/tables/mine.md").read_text().splitlines()
    assert lines[0] == "| row | fine-tuned | linear probe | kNN |"
    assert lines[2:] == ["| Random | 25.0 | 40.0 | 30.0 |", "| BYOL | 50.0 | 40.0 | 30.0 |",
                         "| BYOL+CVSA | 75.0 | 40.0 | 30.0 |"]  # fmt: skip
    text = (tmp_path / "book/text/mine.md").read_text()
    assert "guessing gives 50 %" in text and "between 25.0 and 75.0 %, one run each" in text
    assert "BYOL+CVSA against BYOL, fine-tuned: +25.0 points" in text
    numbers = {key: number["text"] for key, number in page.numbers.items()}
    assert numbers["mine.finetuned.BYOL+CVSA"] == "75.0 %" and numbers["mine.chance"] == "50 %"


def test_seeds_have_a_column(tmp_path: Path) -> None:
    records(tmp_path / "mine", seeds=(0, 1))
    photographs(Page(tmp_path / "book"), tmp_path / "mine")
    lines = (tmp_path / "book/tables/mine.md").read_text().splitlines()
    assert lines[0].startswith("| row | seed |") and len(lines) == 2 + 6
    assert "2 runs each" in (tmp_path / "book/text/mine.md").read_text()


def test_without_records_the_message_says_so(tmp_path: Path) -> None:
    with pytest.raises(CVSAError, match="No committed records"):
        photographs(Page(tmp_path), tmp_path / "none")


def test_keep_looks_at_photographs(config: PretrainConfig, run: Path, tmp_path: Path) -> None:
    made = tmp_path / "book" / "results" / "pets3"
    shutil.copytree(run, made / "pretrain" / "byol-cvsa-s0")
    for kind in ("finetune", "probe"):
        write_record(example_record(kind=kind, row="BYOL+CVSA"), made / kind / "byol-cvsa-s0")
    (tmp_path / "workflow").mkdir()
    grid = "pets3: {second_stage_only: [{rows: [BYOL+CVSA], seeds: [0]}]}"
    (tmp_path / "workflow" / "grid.yaml").write_text(grid)
    assert keep("pets3", tmp_path) == {"pets3": 3}
    kept = files(tmp_path / "results" / "pets3")
    assert {"pretrain/byol-cvsa-s0/record.json", "attention.png"} | NUMBERS < kept
    assert not [name for name in kept if "weights" in name or "checkpoint" in name]
