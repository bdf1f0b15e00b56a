"""A small book with the project's own configuration and extensions, for the tests of this folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

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
    numbers = {"n": {"text": "12.3 %", "runs": ["aaaa", "bbbb"]}}
    (folder / "book" / "_generated" / "numbers.json").write_text(json.dumps(numbers))
    return folder


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
