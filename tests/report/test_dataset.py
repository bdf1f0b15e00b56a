"""The notebook `dataset`: every rule at its threshold, what is measured is true, a bad folder is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cvsa.config import DataConfig, PretrainConfig
from cvsa.data.bank import ImageBank
from cvsa.errors import CVSAError
from cvsa.report.dataset import Findings, judge, read, remark, sentence, table, verdict
from cvsa.report.examine import PARAMETERS, box_areas, configure, examine, figures, sheet, write


def good(**changes: Any) -> Findings:
    """Findings without fault, with fields replaced."""
    fields: dict[str, Any] = {
        "data": "my_images", "saliency": "masks", "bank_size": 64, "batch_size": 50,
        "images": {"train": 1000, "val": 100, "test": 1000},
        "per_class": {"train": [100] * 10, "val": [10] * 10, "test": [100] * 10},
        "boxes": (0.1, 0.4, 0.7), "short_side": (64.0, 200.0, 400.0),
    }  # fmt: skip
    return Findings(**{**fields, **changes})


def levels(findings: Findings) -> dict[str, str]:
    return {check.name: check.level for check in judge(findings)}


def test_a_good_folder_is_ready() -> None:
    assert set(levels(good()).values()) == {"ok"}
    assert verdict(judge(good())) == "Ready to pre-train."


@pytest.mark.parametrize(
    ("name", "level", "changes"),
    [
        ("files", "mind", {"unreadable": ["a.jpg (OSError)"]}),
        ("files", "fix", {"unreadable": ["a.jpg"] * 30}),
        ("resolution", "ok", {"enlarged": 0.1}),
        ("resolution", "mind", {"enlarged": 0.11}),
        ("resolution", "fix", {"enlarged": 0.51}),
        ("equal images", "fix", {"duplicates": ["train/a = test/b"]}),
        ("equal images", "fix", {"relabelled": ["train/a = train/b"]}),
        ("masks", "fix", {"misfits": ["a.jpg (10 x 20 for 20 x 10)"]}),
        ("training images", "fix", {"batch_size": 1001}),
        ("training images", "mind", {"batch_size": 101}),
        ("training images", "ok", {"batch_size": 100}),
        ("classes", "fix", {"per_class": {"train": [1000], "test": [1000]}}),
        ("images a class", "mind", {"per_class": {"train": [500, 4], "test": [500, 500]}}),
        ("images a class", "mind", {"per_class": {"train": [1010, 100], "test": [500, 500]}}),
        ("images a class", "ok", {"per_class": {"train": [1000, 100], "test": [500, 500]}}),
        ("test images", "mind", {"per_class": {"train": [500, 500], "test": [190, 190]}}),
        ("test images", "ok", {"per_class": {"train": [500, 500], "test": [200, 200]}}),
        ("saliency", "mind", {"saliency": "none"}),
        ("saliency", "mind", {"saliency": "masks, random_box"}),
        ("saliency", "mind", {"saliency": "classical"}),
        ("saliency", "mind", {"saliency": "predicted"}),
        ("objects", "ok", {"no_object": 50}),
        ("objects", "mind", {"no_object": 51}),
        ("objects", "mind", {"no_object": 200}),
        ("objects", "fix", {"no_object": 201}),
        ("box size", "mind", {"boxes": (0.5, 0.85, 1.0), "large_boxes": 0.6}),
        ("box size", "mind", {"boxes": (0.0, 0.01, 0.1), "small_boxes": 0.7}),
        ("box size", "ok", {"large_boxes": 0.3}),
        ("bank", "fix", {"refused": "box 3 lies outside"}),
    ],
)
def test_each_rule_at_its_threshold(name: str, level: str, changes: dict[str, Any]) -> None:
    found = levels(good(**changes))
    assert found[name] == level
    assert {other for other, its in found.items() if its != "ok"} <= {name}, "another rule was broken, too"


def test_the_verdict_names_what_to_fix_and_what_to_mind() -> None:
    checks = judge(good(duplicates=["train/a = test/b"], saliency="vit", enlarged=0.2))
    assert verdict(checks) == "Not ready; to fix: equal images. To bear in mind: resolution, saliency."
    broken = next(check for check in checks if check.name == "equal images")
    assert "train/a = test/b" in broken.found and "Rule: " in sentence(broken)
    assert remark(broken).endswith("What helps: remove one of each pair.")
    shown = table(checks)
    rules = dict(zip(shown["check"], shown["rule"], strict=True))
    assert "What helps" in rules["equal images"] and "What helps" not in rules["files"]


def test_what_does_not_apply_is_left_out() -> None:
    assert not levels(good(drawn=True, short_side=None)).keys() & {"files", "equal images", "resolution"}
    unlabelled = good(labelled=False, per_class={"train": [1000]})
    assert not levels(unlabelled).keys() & {"classes", "images a class", "test images"}
    assert "box size" not in levels(good(boxes=None, no_object=1000))
    refused = levels(good(refused="why"))
    assert not refused.keys() & {"objects", "equal images", "box size"} and "files" in refused
    assert levels(Findings("x", refused="no such folder")) == {"bank": "fix"}


def test_areas_are_those_of_boxes_that_were_found() -> None:
    images = torch.zeros(3, 4, 10, 10, dtype=torch.uint8)
    boxes = torch.tensor([[0, 0, 5, 5], [0, 0, 10, 10], [2, 2, 4, 10]])
    found = torch.tensor([True, False, True])
    bank = ImageBank(images, boxes, torch.zeros(3), ["a"], found=found)
    assert box_areas(bank).tolist() == pytest.approx([0.25, 0.16])
    axis = sheet(bank, torch.arange(3)).axes[0]
    assert len(axis.patches) == 2 * 2  # a white and a coloured outline for each box found, none for the rest


def look(root: Path, **given: Any) -> Any:
    return examine(configure({"dataset": "folder", "root": root, "bank_size": 32, "image_size": 32,
                              "batch_size": 4, **given}))  # fmt: skip


@pytest.fixture
def folder(photographs: Path, tmp_path: Path) -> Path:
    """A copy of the miniature that may be spoilt."""
    return shutil.copytree(photographs, tmp_path / "my images")


def test_a_folder_is_measured_drawn_and_stored(photographs: Path, tmp_path: Path) -> None:
    examined = look(photographs)
    found = examined.findings
    assert found.saliency == "masks" and not found.refused and found.short_side == (48, 48, 48)
    assert {split: sum(sizes) for split, sizes in found.per_class.items()} == found.images
    assert found.images["test"] == 6 and found.images["train"] + found.images["val"] == 16
    assert found.boxes is not None and 0.15 < found.boxes[1] < 0.25  # 24 x 20 of 48 x 48
    drawn = figures(examined, count=8)
    assert set(drawn) == {"images", "counts", "views", "views_as_trained"}
    write(examined, drawn, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "findings.json", *(f"{name}.png" for name in drawn)
    }  # fmt: skip
    stored = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert stored["verdict"] == verdict(judge(found))
    assert judge(read(tmp_path / "out")) == judge(found)
    (tmp_path / "out" / "findings.json").write_text('{"findings": {"colour": 3}}')
    with pytest.raises(CVSAError, match="run it again"):
        read(tmp_path / "out")


def test_the_same_seed_shows_the_same_images(photographs: Path) -> None:
    first, again, other = (figures(look(photographs, seed=seed), 4)["images"] for seed in (0, 0, 1))
    pixels = [np.asarray(f.axes[0].images[0].get_array()) for f in (first, again, other)]
    assert np.array_equal(pixels[0], pixels[1]) and not np.array_equal(pixels[0], pixels[2])


def test_faults_of_a_folder_are_found(folder: Path) -> None:
    # The very picture in training and test, and one mask of another shape.
    shutil.copy(folder / "train/red bird/0.jpg", folder / "test/red bird/9.jpg")
    shutil.copy(folder / "masks/train/red bird/0.png", folder / "masks/test/red bird/9.png")
    Image.new("L", (30, 60), 255).save(folder / "masks/train/blue bird/1.png")
    with pytest.warns(UserWarning):
        found = look(folder).findings
    assert found.duplicates == ["train/red bird/0.jpg = test/red bird/9.jpg"]
    assert len(found.misfits) == 1 and "blue bird/1.jpg" in found.misfits[0]
    assert {name for name, level in levels(found).items() if level == "fix"} == {"equal images", "masks"}


def test_what_stops_a_bank_is_a_finding(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "train" / "red bird" / "0.jpg").write_bytes(b"")
    monkeypatch.setenv("HERE", str(folder))
    examined = look(Path("$HERE"))
    found = examined.findings
    assert found.unreadable == ["train/red bird/0.jpg"] and found.data == "$HERE"
    assert "cannot be read" in found.refused and str(folder) not in json.dumps(found.refused)
    assert figures(examined) == {} and levels(found)["bank"] == levels(found)["files"] == "fix"
    shutil.rmtree(folder / "train" / "red bird")
    assert "1 class" in look(folder).findings.refused
    assert "no folder" in look(folder / "none").findings.refused


def test_without_saliency_only_crops_are_drawn(photographs: Path) -> None:
    examined = look(photographs, saliency="none")
    assert levels(examined.findings)["saliency"] == "mind"
    assert len(figures(examined, 4)["views"].axes[0].texts) == 3  # reference and a pair of crops


def test_drawn_birds_are_exact(small: dict[str, Any]) -> None:
    sizes = {name: small[name] for name in ("bank_size", "image_size", "train_images", "val_images",
                                            "test_images", "batch_size")}  # fmt: skip
    examined = examine(configure(sizes))
    assert examined.findings.saliency == "exact" and levels(examined.findings)["saliency"] == "ok"
    assert set(figures(examined, 4)) == {"images", "counts", "views", "views_as_trained"}


def test_parameters_are_those_of_training() -> None:
    assert set(DataConfig.model_fields) <= set(PARAMETERS) <= set(PretrainConfig.model_fields)
    with pytest.raises(CVSAError, match="Did you mean 'bank_size'"):
        configure({"bank_sise": 3})
