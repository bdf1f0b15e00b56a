"""Below every generated figure and table stands where it comes from; numbers lead to their runs."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from book_support import ROOT, extension, write_sources
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from cvsa.report.every_run import runs_table

PAGE = """# A page

A number {measured}`n` and {measured}`p`.

```{figure} _generated/figures/f.svg
:name: fig-f
:alt: a drawing

A caption.
```

::::{table} A caption
:name: tbl-t
```{include} _generated/tables/t.md
```
::::

:::{note}
```{include} _generated/tables/t.md
```
:::

```{figure} idea.svg
:alt: drawn by hand

Not generated.
```

| typed | table |
|:--|--:|
| a | b |
"""
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'


def build(folder: Path, page: str = PAGE, runs_page: bool = True, **config: Any) -> tuple[str, str]:
    """A site of one page (and the page of all runs) with the book's extensions: its HTML and the warnings."""
    extension("where")
    generated = folder / "_generated"
    for name in ("figures", "tables", "html", "text"):
        (generated / name).mkdir(parents=True, exist_ok=True)
    if not (generated / "where.json").is_file():
        write_sources(generated)
    for path in (generated / "figures" / "f.svg", folder / "idea.svg"):
        path.write_text(SVG)
    (generated / "tables" / "t.md").write_text("| row | value |\n|:--|--:|\n| BYOL | 1 |\n")
    (folder / "index.md").write_text(page)
    if runs_page:
        import json

        runs = json.loads((generated / "runs.json").read_text())
        (generated / "html" / "runs.html").write_text(runs_table(runs))
        for name in ("excluded", "stale"):
            (generated / "text" / f"{name}.md").write_text("- None.\n")
        shutil.copy(ROOT / "book" / "runs.md", folder)
    told = io.StringIO()
    settings = {
        "extensions": ["myst_parser", "where", "measured", "lint"], "myst_enable_extensions": ["colon_fence"],
        "html_theme": "basic", "root_doc": "index", "exclude_patterns": ["_generated"], **config,
    }  # fmt: skip
    with docutils_namespace():
        app = Sphinx(
            folder, None, folder / "_out", folder / "_doctrees", "html", confoverrides=settings,
            status=None, warning=told,
        )  # fmt: skip
        app.build()
    warnings = "\n".join(line for line in told.getvalue().splitlines() if "toctree" not in line)
    return (folder / "_out" / "index.html").read_text(), re.sub(r"\x1b\[[\d;]*m", "", warnings)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The usual page, of fresh runs."""
    return build(tmp_path_factory.mktemp("site"))


def folds(page: str) -> list[str]:
    return re.findall(r'<details class="where-from">.*?</details>', page, re.DOTALL)


def test_every_generated_figure_and_table_has_a_fold_out(built: tuple[str, str]) -> None:
    page, warnings = built
    assert warnings == ""
    figure, captioned, plain = folds(page)
    assert captioned == plain
    assert page.index("A caption.") < page.index(figure) < page.index("tbl-t") < page.index(captioned)
    assert "no run" in figure and "drawn by the package" in figure
    assert "2 runs, seeds 0, 1" in captioned and "cccccccc" in captioned and "a CPU, 1 thread" in captioned
    assert "dataset synthbirds" in captioned and "60 s of computing" in captioned and "fresh" in captioned
    assert 'href="runs.html#run-aaaa"' in captioned and 'href="runs.html#run-bbbb"' in captioned
    assert "-p name tables/t.md -p preset tiny\n</pre></div>" in captioned
    assert '<div class="highlight"><pre>' in captioned  # what sphinx-copybutton looks for
    assert "older code" not in page


def test_numbers_lead_to_their_runs(built: tuple[str, str]) -> None:
    number = re.search(r'<a class="measured[^>]*href="([^"]+)"><abbr[^>]*>12\.3 %</abbr></a>', built[0])
    assert number and number[1] == "runs.html?runs=aaaa,bbbb#run-aaaa"
    assert re.search(r'[^>]<abbr class="measured"[^>]*not from a run">0\.5</abbr>', built[0])


def test_without_a_page_of_runs_there_are_no_links(tmp_path: Path) -> None:
    page, _ = build(tmp_path, runs_page=False)
    assert "runs.html" not in page and len(folds(page)) == 3


def test_older_code_is_a_badge_or_a_warning_when_strict(tmp_path: Path) -> None:
    (tmp_path / "_generated").mkdir()
    write_sources(
        tmp_path / "_generated",
        aaaa={"parents": ["bbbb"]},
        bbbb={"state": "stale", "reasons": ["cvsa/views/swap.py was changed"]},
    )
    page, warnings = build(tmp_path)
    assert warnings == ""
    badges = [re.search("<summary>.*where-stale.*</summary>", fold) is not None for fold in folds(page)]
    assert badges == [False, True, True]
    assert "cvsa/views/swap.py was changed (1 run)" in folds(page)[1]
    assert re.search(r'<abbr class="measured stale" title="[^"]*; older code">12', page)
    _, warnings = build(tmp_path, cvsa_strict=True)
    found = [line for line in warnings.splitlines() if "was made by older code" in line]
    assert len(found) == 3 and all("WARNING" in line and "swap.py was changed" in line for line in found)
    assert sum("tables/t.md was" in line for line in found) == 2 and "index.md" in "".join(found)


def test_what_has_no_source_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "_generated").mkdir()
    write_sources(tmp_path / "_generated")
    (tmp_path / "_generated" / "where.json").unlink()
    (tmp_path / "_generated" / "where.json").write_text("{}")
    page, warnings = build(tmp_path)
    assert folds(page) == []
    assert warnings.count("nothing tells where") == 3 and "figures/f.svg" in warnings


def test_excluded_records_are_warnings_when_strict(tmp_path: Path) -> None:
    (tmp_path / "_generated").mkdir()
    write_sources(tmp_path / "_generated")
    (tmp_path / "_generated" / "report.json").write_text('{"excluded": ["results/x/record.json was edited"]}')
    assert build(tmp_path)[1] == ""
    assert "a record was left out: results/x/record.json was edited" in build(tmp_path, cvsa_strict=True)[1]


def test_the_switch_is_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    added: dict[str, Any] = {}

    class App:
        def add_config_value(self, name: str, default: object, *_: object, **__: object) -> None:
            added[name] = default

        def connect(self, *_: object) -> None: ...

    for value, wanted in (("1", True), ("", False), ("0", False)):
        monkeypatch.setenv("CVSA_STRICT", value)
        extension("where").setup(App())
        assert added["cvsa_strict"] is wanted


def test_typed_numbers_fail_the_page(tmp_path: Path) -> None:
    text = "# A page\n\nIt reached 71.3 % here.\n\nAbout 120 epochs.\n"
    _, warnings = build(tmp_path, text, runs_page=False)
    assert "index.md:3: WARNING: 71.3 % looks like a result that was typed" in warnings
    assert "bound to no record" not in warnings
    _, warnings = build(tmp_path, text, runs_page=False, cvsa_results=["index"])
    assert "index.md:5: WARNING: 120 is bound to no record" in warnings
