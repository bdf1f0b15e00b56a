"""A small book with the project's own configuration and extensions, for the tests of this folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]

PAGE = """# A book in small

A number {measured}`n`, a formula {eq}`eq-e`, a source {cite}`byol`, a table {numref}`tbl-t`.

::::{table} A caption
:name: tbl-t
```{include} _generated/tables/t.md
```
::::

```{math}
:label: eq-e
e = m c^2
```

```{figure} figures/idea.svg
:name: fig-idea
:alt: the idea

A caption.
```

```{catalogue}
```

```{parameters} PretrainConfig
:without: RunConfig
```

```{launch} pretrain
```

```{eval-rst}
.. autofunction:: cvsa.methods.byol.byol_loss
```

```{bibliography}
```
"""


def write_book(folder: Path, page: str = PAGE) -> Path:
    """A book of one page with the project's own configuration; returns its top folder."""
    shutil.copy(ROOT / "_config.yml", folder)
    for part in ("_ext", "_static", "figures"):
        shutil.copytree(
            ROOT / "book" / part, folder / "book" / part, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "book" / "references.bib", folder / "book")
    (folder / "book" / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (folder / "book" / "index.md").write_text(page)
    (folder / "book" / "_generated" / "tables").mkdir(parents=True)
    (folder / "book" / "_generated" / "tables" / "t.md").write_text(
        "| row | value |\n|:--|--:|\n| BYOL | 1 |\n"
    )
    write_sources(folder / "book" / "_generated")
    return folder


def write_sources(folder: Path, **changes: dict[str, object]) -> None:
    """What the report tells: number n and table t come from two runs.

    Args:
        folder: ``_generated``.
        **changes: fields of a run that differ, by its id.
    """
    runs = ["aaaa", "bbbb"]
    usual = {
        "kind": "finetune", "row": "BYOL", "preset": "tiny", "seed": 0, "commit": "c" * 8, "dirty": False,
        "hardware": "a CPU, 1 thread", "seconds": 30.0, "started": "2026-01-01 00:00", "state": "fresh",
        "reasons": [], "folder": "results/x", "parents": [], "parameters": {"dataset": "synthbirds"},
        "command": "papermill notebooks/finetune.ipynb out.ipynb -p row BYOL",
    }  # fmt: skip
    entry = {
        "kind": "tables", "section": "live", "runs": runs,
        "command": "papermill notebooks/figure.ipynb out.ipynb -p name tables/t.md -p preset tiny",
    }  # fmt: skip
    for name, content in (
        ("numbers.json", {"n": {"text": "12.3 %", "runs": runs}, "p": {"text": "0.5", "runs": []}}),
        ("where.json", {"tables/t.md": entry, "figures/f.svg": {**entry, "kind": "figures", "runs": []}}),
        (
            "runs.json",
            {run: {**usual, "seed": seed, **changes.get(run, {})} for seed, run in enumerate(runs)},
        ),
    ):
        (folder / name).write_text(json.dumps(content))


def extension(name: str) -> ModuleType:
    """One of the book's own Sphinx extensions."""
    folder = str(ROOT / "book" / "_ext")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return import_module(name)


def build_book(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build as `make book` does: warnings are errors."""
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        "build",
        "book",
        "-W",
        "-n",
        "--keep-going",
        "-q",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
