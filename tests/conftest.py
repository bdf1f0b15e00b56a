"""Shared by all tests: one thread per process, caches of their own, small runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests_support import SMALL

from cvsa.config import PretrainConfig, resolve


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Two spinning threads per xdist worker are slower than one.
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVSA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def small() -> dict[str, Any]:
    """Fields of a run that takes about a second."""
    return dict(SMALL)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, _own_cache: None, _one_thread: None) -> Path:
    """Folder of a finished BYOL+CVSA pre-training run."""
    from cvsa.training.pretrain import pretrain

    folder = tmp_path_factory.mktemp("trained")
    pretrain(resolve(PretrainConfig, row="BYOL+CVSA", **SMALL), folder)
    return folder


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature folder in ImageFolder layout with masks: two classes of coloured rectangles."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 3)):
        for label, colour in (("red bird", (200, 30, 30)), ("blue bird", (30, 30, 200))):
            for folder in (root / split / label, root / "masks" / split / label):
                folder.mkdir(parents=True)
            for number in range(count):
                picture = generator.integers(60, 160, (48, 60, 3), dtype=np.uint8)
                mask = np.zeros((48, 60), dtype=np.uint8)
                y, x = generator.integers(5, 20, 2)
                picture[y : y + 20, x : x + 24] = colour
                mask[y : y + 20, x : x + 24] = 255
                Image.fromarray(picture).save(root / split / label / f"{number}.jpg")
                Image.fromarray(mask).save(root / "masks" / split / label / f"{number}.png")
    return root
