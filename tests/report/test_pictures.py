"""The pictures of the competitors' views: the book shows every one that is drawn, and none that is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cvsa.config import PretrainConfig, resolve
from cvsa.data.datasets import load_splits
from cvsa.report import pictures
from cvsa.report.page import Page

CHAPTER = Path(__file__).parents[2] / "book" / "competitors.md"


def test_the_chapter_shows_the_views_of_every_competitor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = load_splits(resolve(PretrainConfig, train_images=12, queue_size=8))["train"]
    grids: list[tuple[list[str], set[int]]] = []
    draw_grid = pictures.image_grid

    def watched(rows, titles, *others):  # type: ignore[no-untyped-def]
        grids.append((list(titles), {len(row) for row in rows}))
        return draw_grid(rows, titles, *others)

    monkeypatch.setattr(pictures, "image_grid", watched)
    pictures.competitors(Page(tmp_path), "tiny", bank, count=6)
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn == set(re.findall(r"figures/(views_\w+\.png)", CHAPTER.read_text(encoding="utf-8")))
    assert len(grids) == len(drawn) - 1  # ContrastiveCrop's is drawn by view_pairs
    for titles, counts in grids:
        assert len(set(titles)) == len(titles) and counts == {6}
