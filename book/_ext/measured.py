"""The role ``{measured}`key` ``: a number from the records, never typed by hand.

``cvsa report`` writes ``_generated/numbers.json``: ``{key: {"text": ..., "runs": [...]}}``. The page shows
the text; hovering over it names the runs it was computed from. An unknown key is a warning, thus an error
where the book is built with -W.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

logger = logging.getLogger(__name__)

NUMBERS = Path("_generated") / "numbers.json"


def tooltip(runs: list[str], shown: int = 6) -> str:
    """What hovering over a number says: the runs behind it, shortened where they are many."""
    if not runs:
        return "from the paper's reported numbers or the package itself, not from a run"
    more = f" and {len(runs) - shown} more" if len(runs) > shown else ""
    return f"measured in {len(runs)} run{'s' if len(runs) > 1 else ''}: {', '.join(runs[:shown])}{more}"


class MeasuredRole(SphinxRole):
    """Looks the key up and renders its text with the runs as tooltip."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        path = Path(self.env.srcdir) / NUMBERS
        self.env.note_dependency(str(path))  # the page is made again when the numbers change
        try:
            numbers = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            numbers = {}
        if self.text not in numbers:
            logger.warning(
                "no number %r in %s; `cvsa report` writes that file",
                self.text,
                NUMBERS,
                location=self.get_location(),
            )
            return [nodes.problematic(self.rawtext, self.text)], []
        number = numbers[self.text]
        return [
            nodes.abbreviation("", number["text"], explanation=tooltip(number["runs"]), classes=["measured"])
        ], []


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the role."""
    app.add_role("measured", MeasuredRole())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
