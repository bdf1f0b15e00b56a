"""The book's sources: every figure described, every page reachable, no result typed by hand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from book_support import ROOT, extension

BOOK = ROOT / "book"
PAGES = sorted(BOOK.glob("*.md"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
RESULTS = [page for page in PAGES if page.stem in CONFIG["cvsa_results"]]


def test_every_page_is_in_the_table_of_contents() -> None:
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    listed = {toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])}
    assert listed == {page.stem for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_figure_has_alt_text_name_and_caption(page: Path) -> None:
    for block in re.findall(r"```\{figure\}(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        options = dict(re.findall(r"^:(\w+): *(.+)$", block, re.MULTILINE))
        assert len(options.get("alt", "")) > 40, f"alt text of {block.split()[0]}"
        assert options.get("name", "").startswith("fig-")
        assert block.split("\n\n", 1)[1].strip(), f"caption of {block.split()[0]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_equation_is_numbered(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "$$" not in text
    for block in re.findall(r"```\{math\}\n(.*?)```", text, re.DOTALL):
        assert block.startswith(":label: eq-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_accuracy_is_typed(page: Path) -> None:
    """Percentages and numbers like 12.34 are results; parameters stand in code, formulas in mathematics."""
    assert extension("lint").typed_results(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", RESULTS, ids=lambda page: page.stem)
def test_numbers_of_results_are_bound_to_records(page: Path) -> None:
    assert extension("lint").unbound_numbers(page.read_text(encoding="utf-8")) == []


def test_worked_example_prints_what_the_page_shows() -> None:
    script = BOOK / "examples" / "alignment.py"
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout == script.with_suffix(".txt").read_text(encoding="utf-8")


def test_every_bibliography_entry_is_complete() -> None:
    from pybtex.database import parse_file

    for key, entry in parse_file(str(BOOK / "references.bib")).entries.items():
        assert "title" in entry.fields and entry.persons.get("author"), key
