"""Docstrings of the package are plain text with a few ``literals``: |p| and a * b are shown as written."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx


def escape(line: str) -> str:
    """Escape what reStructuredText would read as substitution or emphasis, outside of ``literals``."""
    parts = re.split(r"(``.*?``)", line)
    return "".join(part if part.startswith("``") else re.sub(r"([|*])", r"\\\1", part) for part in parts)


def escape_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Escape every line, before napoleon reads the sections."""
    lines[:] = [escape(line) for line in lines]


def setup(app: Sphinx) -> dict[str, Any]:
    """Run before napoleon, whose priority is the default 500."""
    app.connect("autodoc-process-docstring", escape_docstring, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
