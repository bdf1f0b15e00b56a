"""Each published set in miniature, in a folder whose name has blanks and accents."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from miniatures import CLASSES, TEST, TRAIN, WRITERS, Drawn

from cvsa.data.sets import find_set


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Drawn]]:
    """All miniatures, written once; not to be changed."""
    data = tmp_path_factory.mktemp("mes données été")
    return {name: (data / name, write(data / name)) for name, write in WRITERS.items()}


@pytest.fixture
def small_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards that state the miniatures' counts."""
    for name in WRITERS:
        source = find_set(name)
        if not source.card.splits:
            continue
        splits = {"train": CLASSES * TRAIN, "test": CLASSES * TEST}
        if not source.card.labelled:
            splits = {"train": CLASSES * (TRAIN + TEST)}
        card = replace(source.card, splits=splits, classes=min(source.card.classes, CLASSES))
        monkeypatch.setattr(type(source), "card", card)


@pytest.fixture
def copy(originals: dict[str, tuple[Path, Drawn]], tmp_path: Path) -> Callable[[str], Any]:
    """A copy of a miniature that a test may damage: its root, its home and what was drawn."""

    def make(name: str) -> tuple[Path, Path, Drawn]:
        root, drawn = originals[name]
        shutil.copytree(root, tmp_path / "été data" / name)
        there = tmp_path / "été data" / name
        home = find_set(name).find(there)
        assert home is not None
        return there, home, drawn

    return make
