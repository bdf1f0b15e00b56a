"""The role ``{measured}`key` ``: a number from the records, never typed by hand.

``cvsa report`` writes ``_generated/numbers.json``: ``{key: {"text": ..., "runs": [...]}}``. The page shows
the text; hovering over it names the runs it was computed from, and it links to their lines on the page of
all runs. An unknown key is a warning, thus an error where the book is built with -W; so is, with
``cvsa_strict``, a number that older code made.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole
from where import BADGE, GENERATED, RUNS, address, load, warn_of_stale

logger = logging.getLogger(__name__)

NUMBERS = "numbers.json"


def tooltip(runs: list[str], shown: int = 6) -> str:
    """What hovering over a number says: the runs behind it, shortened where they are many."""
    if not runs:
        return "from the paper's reported numbers or the package itself, not from a run"
    more = f" and {len(runs) - shown} more" if len(runs) > shown else ""
    return f"measured in {len(runs)} run{'s' if len(runs) > 1 else ''}: {', '.join(runs[:shown])}{more}"


class MeasuredRole(SphinxRole):
    """Looks the key up and renders its text with the runs as tooltip."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        numbers = load(self.env, NUMBERS)
        if self.text not in numbers:
            logger.warning(
                "no number %r in %s/%s; `cvsa report` writes that file",
                self.text,
                GENERATED,
                NUMBERS,
                location=self.get_location(),
            )
            return [nodes.problematic(self.rawtext, self.text)], []
        number = numbers[self.text]
        runs, told, classes = number["runs"], tooltip(number["runs"]), ["measured"]
        if warn_of_stale(self.env, f"number {self.text!r}", runs, load(self.env, RUNS), self.get_location()):
            told, classes = f"{told}; {BADGE}", ["measured", "stale"]
        shown = nodes.abbreviation("", number["text"], explanation=told, classes=classes)
        if page := address(self.env, runs):
            shown = nodes.reference("", "", shown, refuri=page, internal=True, classes=["measured"])
        return [shown], []


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the role."""
    app.setup_extension("where")
    app.add_role("measured", MeasuredRole())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
