"""Comparisons of detectors: what is measured, what is told of detectors that cannot run, and the record."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cvsa.errors import CVSAError
from cvsa.evaluation import comparison
from cvsa.evaluation.comparison import (
    compare_detectors,
    drawn_birds,
    folder_images,
    read_comparisons,
    write_comparison,
)
from cvsa.saliency.quality import rate


def red_parts(image: np.ndarray) -> np.ndarray:
    red = image[..., 0] > image[..., 2].astype(int) + 100
    return red & (red.sum() > 100)


class Threshold:
    """Finds what is red; refuses images that are not."""

    name, version, parameters, side = "red", "1", {"cut": 150}, 256

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if not red_parts(image).any():
            raise RuntimeError("no red")
        return red_parts(image).astype(np.float32)


@pytest.fixture
def red(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Threshold:
        if name == "vit":
            raise CVSAError("The weights cannot be had: connect\nto the internet once.")
        return Threshold()

    monkeypatch.setattr(comparison, "find_detector", find)


def test_a_folder_is_judged_at_the_full_images(photographs: Path, red: None) -> None:
    data = folder_images(photographs)
    assert len(data) == 22 and data.images[0].shape == (48, 60, 3) and data.masks[0].shape == (48, 60)
    found = compare_detectors(data, ["classical", "vit"])
    lines = {line.detector: line for line in found.lines}
    assert list(lines) == ["classical", "vit", "whole image", "centred box", "random box"]
    # The detector refuses blue objects: they count as images in which nothing was found.
    assert lines["classical"].failures == 11
    maps = [red_parts(image).astype(np.float32) for image in data.images]
    assert lines["classical"].quality is not None and lines["classical"].images_per_second
    expected = rate("classical", maps, data.masks, milliseconds=lines["classical"].quality.milliseconds)
    assert lines["classical"].quality == expected and expected.nothing_found == 11
    assert lines["vit"].quality is None
    assert lines["vit"].not_run == "The weights cannot be had: connect to the internet once."


def test_predicted_masks_are_one_line_more(photographs: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(photographs, root)
    data = folder_images(root)
    paths = sorted(
        p.relative_to(root).as_posix() for s in ("train", "test") for p in (root / s).rglob("*.jpg")
    )
    bits = np.stack([np.packbits(np.asarray(mask[::2, ::2] > 127)) for mask in data.masks])
    np.savez(root / "predicted.npz", paths=paths, bits=bits, shape=(24, 30))
    few = folder_images(root, 4)
    assert len(few) == 4 and set(few.stored) == {"predicted"}
    line = compare_detectors(few, []).lines[0]
    assert (line.source, line.detector) == ("stored", "predicted")
    assert line.quality is not None and line.quality.iou > 0.8


def test_the_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    data = drawn_birds(3, 32)
    found = compare_detectors(data, ["classical"])
    path = write_comparison(found, tmp_path)
    assert path.name == "detectors-synthbirds.json"
    assert read_comparisons(tmp_path) == [found]
    assert found.fingerprint == drawn_birds(3, 32).fingerprint != drawn_birds(4, 32).fingerprint
    assert found.lines[0].settings["version"] and found.libraries["numpy"] and found.hardware["cpu"]
    path.write_text(path.read_text()[:100])
    with pytest.raises(CVSAError, match="detectors-synthbirds.json is not valid"):
        read_comparisons(tmp_path)


def test_what_cannot_be_judged_is_refused(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(CVSAError, match="Did you mean 'classical'"):
        compare_detectors(drawn_birds(2, 32), ["clasical"])
    shutil.copytree(photographs, tmp_path / "bare", ignore=shutil.ignore_patterns("masks"))
    with pytest.raises(CVSAError, match="masks"):
        folder_images(tmp_path / "bare")
    with pytest.raises(CVSAError, match=r"No detectors-\*.json"):
        read_comparisons(tmp_path)


def test_a_damaged_photograph_is_named(photographs: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(photographs, root)
    damaged = next((root / "train").rglob("*.jpg"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(CVSAError, match=f"{damaged.name} or its mask cannot be read"):
        folder_images(root)
