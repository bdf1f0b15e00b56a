"""Two stages: what a second one inherits from the first, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests_support import SMALL

from cvsa.config import FinetuneConfig, PretrainConfig, ProbeConfig, resolve
from cvsa.errors import CVSAError
from cvsa.evaluation.probe import probe
from cvsa.lineage import resolve_run
from cvsa.methods.heads import MomentumCopy
from cvsa.training.pretrain import initialise, load_method, pretrain
from cvsa.training.runtime import Runtime


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished first stage: BYOL on drawn scenes."""
    folder = tmp_path_factory.mktemp("first")
    record = pretrain(resolve(PretrainConfig, row="BYOL", stage=1, **SMALL), folder)
    assert (record.stage1, record.stage2, record.protocol) == ("BYOL on synthscenes", None, "dual_stage")
    return folder


@pytest.mark.parametrize("row", ["BYOL+CVSA", "MoCo.v2"])
def test_a_second_stage_keeps_the_backbone_and_nothing_else(
    row: str, first: Path, small: dict[str, Any]
) -> None:
    config, parent = resolve_run(PretrainConfig, row=row, pretrained=first, **small)
    assert parent is not None and config.parent == parent.run_id and config.dataset == "synthbirds"
    runtime = Runtime.of(config)
    method = initialise(config, runtime)
    before = load_method(resolve(PretrainConfig, row="BYOL", stage=1, **small), first, runtime)
    fresh = initialise(resolve(PretrainConfig, row=row, **small), runtime)
    assert all(
        torch.equal(a, b) for a, b in zip(weights(before.encoder), weights(method.encoder), strict=True)
    )
    assert not torch.equal(next(weights(before.encoder)), next(weights(fresh.encoder)))
    copies = [module for module in method.modules() if isinstance(module, MomentumCopy)]
    assert copies
    for copy in copies:
        followed = copy._online[0].state_dict()
        assert all(torch.equal(value, followed[name]) for name, value in copy.module.state_dict().items())
    # Heads are those a run from scratch would draw from the same seed.
    own = {name: value for name, value in method.state_dict().items() if "encoder" not in name}
    assert own and all(torch.equal(value, fresh.state_dict()[name]) for name, value in own.items())


def weights(module: torch.nn.Module) -> Any:
    return iter(module.state_dict().values())


def test_records_tell_both_stages(first: Path, small: dict[str, Any], tmp_path: Path) -> None:
    config, parent = resolve_run(PretrainConfig, row="BYOL+SS", pretrained=first, **{**small, "epochs": 2})
    assert parent is not None
    record = pretrain(config, tmp_path / "second")
    assert (record.stage1, record.stage2, record.protocol) == ("BYOL on synthscenes", "BYOL+SS", "dual_stage")
    assert record.parents == [parent.run_id]
    told = probe(tmp_path / "probe", pretrained=tmp_path / "second")
    assert (told.row, told.stage1, told.stage2) == ("BYOL+SS", "BYOL on synthscenes", "BYOL+SS")


def test_a_first_stage_alone_is_evaluated_on_the_fine_grained_images(first: Path, tmp_path: Path) -> None:
    data = {"bank_size": 32, "train_images": 60, "val_images": 20, "test_images": 20}
    record = probe(tmp_path, pretrained=first, **data)
    assert (record.row, record.stage1, record.stage2) == ("BYOL", "BYOL on synthscenes", None)
    assert record.config["dataset"] == "synthbirds" and "linear_test_swapped" in record.metrics


def test_published_weights_have_a_row_of_their_own() -> None:
    config, parent = resolve_run(FinetuneConfig, pretrained="timm", backbone="resnet18")
    assert (config.row, config.parent, parent) == ("Published", "published weights", None)
    second, _ = resolve_run(PretrainConfig, row="BYOL", pretrained="timm", backbone="resnet18")
    assert second.identity() != resolve(PretrainConfig, row="BYOL", backbone="resnet18").identity()


@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        (
            PretrainConfig,
            {"pretrained": "FIRST", "backbone": "resnet18"},
            ["backbone", "resnet18", "resnet_slim"],
        ),
        (PretrainConfig, {"pretrained": "FIRST", "stage": 1}, ["stage 1", "leave pretrained out"]),
        (PretrainConfig, {"pretrained": "nowhere"}, ["nowhere", "record.json"]),
        (ProbeConfig, {"pretrained": "FIRST", "row": "BYOL+SS"}, ["row", "contradicts"]),
        (FinetuneConfig, {"pretrained": "timm", "row": "BYOL"}, ["row", "timm"]),
        (FinetuneConfig, {"row": "BYOL"}, ["BYOL", "pretrained"]),
    ],
)
def test_what_makes_no_sense_is_refused(
    model: Any, given: dict[str, Any], words: list[str], first: Path
) -> None:
    given = {name: first if value == "FIRST" else value for name, value in given.items()}
    with pytest.raises(CVSAError) as error:
        resolve_run(model, **given)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)
