"""Configuration: layers, one-line errors, the parameters cell."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cvsa.config import (
    ADDED_LATER,
    KINDS,
    PRESETS,
    FinetuneConfig,
    PretrainConfig,
    ProbeConfig,
    parameter_cell,
    parameters,
    resolve,
)
from cvsa.errors import CVSAError
from cvsa.methods.catalogue import ALIASES, ROWS, find_row, plain_row
from cvsa.records import find_records
from cvsa.report.paper import chosen_rates


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("protocol", ["second_stage_only", "dual_stage"])
@pytest.mark.parametrize("row", [name for name, row in ROWS.items() if row.base != "none"])
def test_every_row_resolves_in_every_protocol_and_preset(row: str, protocol: str, preset: str) -> None:
    start: dict[str, str] = {}
    if protocol == "dual_stage":
        first = resolve(PretrainConfig, row=plain_row(ROWS[row].base), preset=preset, stage=1)
        start = {"pretrained": "first", "parent": first.identity()}
        assert first.view != "saliency_swap"
    config = resolve(PretrainConfig, row=row, preset=preset, **start)
    if start:
        assert (config.dataset, config.root) != (first.dataset, first.root)
    assert (config.base, config.view, config.align_weight) == (
        ROWS[row].base,
        ROWS[row].view,
        ROWS[row].align_weight,
    )
    for model in (FinetuneConfig, ProbeConfig):
        assert resolve(model, row=row, preset=preset).preset == preset


def test_layers_override_in_order() -> None:
    assert resolve(PretrainConfig, row="BYOL", preset="paper").optimizer == "lars"
    assert resolve(PretrainConfig, row="MoCo.v2", preset="paper").optimizer == "sgd"
    # The base given by the caller brings its own recipe along.
    assert resolve(PretrainConfig, row="BYOL", base="moco_v2", preset="paper").queue_size == 4096
    assert resolve(PretrainConfig, row="BYOL", preset="paper", lr=0.7).lr == 0.7
    assert resolve(PretrainConfig, row="BYOL", align_weight=2).align_weight == 2
    assert resolve(PretrainConfig, epochs=None) == resolve(PretrainConfig)


def test_one_recipe_for_all_rows_of_the_tiny_preset() -> None:
    # What makes the row, and the rate that every base had chosen for it by the same sweep.
    differing = {"row", "base", "view", "align_weight", "lr"}
    recipes = [
        resolve(PretrainConfig, row=name).model_dump(exclude=differing)
        for name, row in ROWS.items()
        if row.base != "none"
    ]
    assert all(recipe == recipes[0] for recipe in recipes)


def test_the_rates_of_the_small_presets_are_those_the_sweep_chose() -> None:
    chosen = chosen_rates(list(find_records(Path(__file__).parents[1] / "results" / "sweep")))
    assert len(chosen) == 7
    for name, row in ROWS.items():
        if row.base in chosen:
            assert resolve(PretrainConfig, row=name).lr == chosen[row.base], name


SIZES = {"num_classes", "train_images", "test_images", "epochs"}
IMAGES = {"dataset", "root", "split_file", "saliency", "bank_size"}


@pytest.mark.parametrize(
    ("preset", "other", "fields"),
    [
        ("small_cpu", "tiny", SIZES),
        ("small_butterfly", "small", IMAGES),
        ("small_grocery", "small", IMAGES - {"split_file", "saliency"} | {"queue_size"}),
        ("small_resnet50", "small", {"backbone"}),
        ("small_sweep", "small", {"data_seed", "epochs"}),
    ],
)
@pytest.mark.parametrize("row", ["BYOL+CVSA", "MoCo.v2"])
def test_presets_of_one_family_share_the_recipe(preset: str, other: str, fields: set[str], row: str) -> None:
    one, two = (resolve(PretrainConfig, preset=name, row=row).model_dump() for name in (preset, other))
    assert {key for key in one if one[key] != two[key]} == {"preset", *fields}


@pytest.mark.parametrize(("preset", "images"), [("small", "synthscenes"), ("small_butterfly", "folder")])
def test_the_first_stage_of_small_is_on_generic_images(preset: str, images: str) -> None:
    first = resolve(PretrainConfig, preset=preset, row="BYOL", stage=1)
    second = resolve(PretrainConfig, preset=preset, row="BYOL")
    assert first.dataset == images and (first.dataset, first.root) != (second.dataset, second.root)
    assert (first.split_file, first.image_size) == (None, second.image_size)


def test_aliases_name_rows() -> None:
    for alias, name in ALIASES.items():
        assert find_row(alias) == (name, ROWS[name])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"row": "BYOL+CVAS"}, ["BYOL+CVAS", "Did you mean 'BYOL+CVSA'", "MoCo.v2+SS"]),
        ({"row": "Random"}, ["nothing to pre-train", "finetune"]),
        ({"preset": "huge"}, ["huge", "tiny"]),
        ({"epochs": "abc"}, ["epochs", "abc", "integer"]),
        ({"epochs": 0}, ["epochs", "greater than or equal to 1"]),
        ({"lr": float("nan")}, ["lr", "finite"]),
        ({"epoch": 3}, ["epoch", "Did you mean 'epochs'"]),
        ({"dataset": "cub"}, ["cub", "synthbirds", "folder"]),
        ({"dataset": "folder"}, ["root"]),
        ({"root": "somewhere"}, ["root", "folder"]),
        ({"base": "byoll"}, ["unknown base 'byoll'", "Did you mean 'byol'"]),
        ({"view": "mosaic"}, ["unknown view 'mosaic'", "saliency_swap"]),
        ({"row": "Rot-Pred", "align_weight": 1}, ["align_weight", "rot_pred", "byol"]),
        ({"row": "Rel-Loc", "view": "saliency_swap"}, ["rel_loc", "does not take", "neighbouring_patches"]),
        ({"row": "LooC", "view": "random_resized_crop"}, ["looc", "leave_one_out"]),
        ({"row": "BYOL", "view": "leave_one_out"}, ["byol", "does not take view 'leave_one_out'"]),
        ({"row": "MoCo.v2", "queue_size": 2000}, ["queue_size 2000", "1000 images"]),
        ({"dataset": "folder", "root": "x", "saliency": "none"}, ["saliency_swap", "where the object is"]),
        (
            {"row": "BYOL", "align_weight": 1, "dataset": "folder", "root": "x", "saliency": "none"},
            ["alignment", "saliency is 'none'"],
        ),
        ({"row": "BYOL+DiLo", "dataset": "folder", "root": "x", "saliency": "none"}, ["dilo"]),
        ({"stage": 3}, ["stage", "less than or equal to 2"]),
        ({"epochs": 2, "warmup_epochs": 2}, ["warmup_epochs", "below epochs"]),
        ({"swap_scale": 1.5}, ["swap_scale", "less than or equal to 1"]),
        ({"swap_crop": 0}, ["swap_crop", "greater than 0"]),
        ({"swap_area": "object"}, ["swap_area", "'box' or 'image'"]),
        ({"swap_backgrounds": "sky"}, ["swap_backgrounds", "'same', 'scenes' or 'blank'"]),
        ({"align_depth": 4}, ["align_depth", "less than or equal to 3"]),
    ],
)
def test_bad_input_is_one_clear_line(given: dict[str, object], words: list[str]) -> None:
    with pytest.raises(CVSAError) as error:
        resolve(PretrainConfig, **given)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_identity_depends_on_what_is_run_only() -> None:
    config = resolve(PretrainConfig)
    assert config.identity() == resolve(PretrainConfig, device="cpu").identity()
    assert config.identity() != resolve(PretrainConfig, seed=1).identity()
    evaluation = resolve(FinetuneConfig, row="BYOL", pretrained="a", parent="0" * 12)
    assert (
        evaluation.identity()
        == resolve(FinetuneConfig, row="BYOL", pretrained="b", parent="0" * 12).identity()
    )
    assert (
        evaluation.identity()
        != resolve(FinetuneConfig, row="BYOL", pretrained="a", parent="1" * 12).identity()
    )


@pytest.mark.parametrize(
    ("given", "identity"),
    # As they were before any field of ADDED_LATER of this kind existed.
    [
        ({}, "8159de2796ee"),
        ({"row": "MoCo.v2+SS"}, "2e84eae81f4a"),
        ({"row": "BYOL", "stage": 1}, "911fd814db5e"),
    ],
)
def test_fields_that_came_later_leave_the_names_of_earlier_runs(given: dict[str, Any], identity: str) -> None:
    config = resolve(PretrainConfig, **given)
    assert config.identity() == identity
    changes = {
        "swap_area": "image", "swap_crop": 0.8, "swap_backgrounds": "scenes", "align_symmetric": False,
        "align_depth": 3,
    }  # fmt: skip
    assert set(changes) == set(ADDED_LATER) & set(PretrainConfig.model_fields)
    for name, value in changes.items():
        assert PretrainConfig.model_fields[name].default == getattr(config, name) == ADDED_LATER[name]
        assert resolve(PretrainConfig, **given, **{name: ADDED_LATER[name]}).identity() == identity
        assert resolve(PretrainConfig, **given, **{name: value}).identity() != identity


@pytest.mark.parametrize("model", KINDS)
def test_parameter_cell_is_plain_python_with_help(model: type[PretrainConfig]) -> None:
    namespace: dict[str, object] = {}
    exec("from typing import Optional\n" + parameter_cell(model), namespace)
    assert {*parameters(model), "out"} <= set(namespace)
    # papermill reads one assignment per line, annotated, with a comment as help.
    assert all(
        re.fullmatch(r"\w+: [\w\[\]]+ = \S.*  # \S.*", line) for line in parameter_cell(model).splitlines()
    )


def test_configuration_and_command_line_start_without_torch() -> None:
    code = "import sys, cvsa.cli, cvsa.config, cvsa.grid; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
