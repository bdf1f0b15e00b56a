"""Which files shape a run."""

from __future__ import annotations

from pathlib import Path

import pytest

import cvsa
from cvsa.config import FinetuneConfig, PretrainConfig, ProbeConfig, RunConfig, resolve
from cvsa.provenance import code_hash, shaping_files

PACKAGE = Path(cvsa.__file__).parent


def names(config: RunConfig) -> set[str]:
    return {file.relative_to(PACKAGE).as_posix() for file in shaping_files(config)}


def test_a_run_depends_on_what_it_imports_and_on_its_own_method() -> None:
    byol = names(resolve(PretrainConfig, row="BYOL"))
    assert {
        "views/swap.py", "methods/byol.py", "methods/alignment.py", "methods/heads.py", "training/loop.py",
        "data/birds.py", "data/habitats.py", "saliency/boxes.py",
    } <= byol  # fmt: skip
    assert not {"methods/moco.py", "methods/catalogue.py", "evaluation/probe.py"} & byol
    assert not [name for name in byol if "/" not in name or name.startswith("report")]
    looc = names(resolve(PretrainConfig, row="LooC"))
    assert "methods/looc.py" in looc and "methods/byol.py" not in looc


def test_evaluations_depend_on_no_method() -> None:
    finetune, probe = (names(resolve(model, row="Random")) for model in (FinetuneConfig, ProbeConfig))
    assert "evaluation/finetune.py" in finetune and "evaluation/finetune.py" not in probe
    assert "views/crop.py" in finetune
    for own in (finetune, probe):
        assert "methods/backbone.py" in own and not {"methods/byol.py", "training/pretrain.py"} & own


def test_a_method_of_ones_own_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_method.py").write_text("class Mine: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = resolve(PretrainConfig, row="BYOL", base="my_method:Mine")
    assert tmp_path / "my_method.py" in shaping_files(config)
    assert code_hash(config) != code_hash(resolve(PretrainConfig, row="BYOL"))


def test_drawn_birds_depend_on_no_photograph_code(tmp_path: Path) -> None:
    drawn, photographs = (
        names(resolve(PretrainConfig, row="BYOL", **given))
        for given in ({}, {"dataset": "folder", "root": str(tmp_path)})
    )
    assert "data/birds.py" in drawn - photographs
    assert {"data/photographs.py", "data/listing.py", "saliency/stored.py"} <= photographs - drawn
    scenes = resolve(
        PretrainConfig, row="BYOL+SS", dataset="folder", root=str(tmp_path), swap_backgrounds="scenes"
    )
    assert {"data/scenes.py", "data/photographs.py"} <= names(scenes)
