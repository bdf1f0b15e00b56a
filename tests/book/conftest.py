"""The small book is built once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from book_support import build_book, write_book


@pytest.fixture(scope="session")
def small_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small book's pages."""
    folder = write_book(tmp_path_factory.mktemp("book"))
    result = build_book(folder)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder / "_build" / "html"
