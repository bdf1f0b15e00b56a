"""Fails the build on numbers that somebody typed: results anywhere, and any number in a chapter of results.

What the records say stands in the book through figures, tables and the role ``measured``. A percentage or a
number like 12.34 in running text is a result that was typed, and a warning. In the chapters named by
``cvsa_results`` so is every number with a decimal point or at least two digits: a number there is bound to
records, or it is a parameter and stands in code or in a formula. What the report writes is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

# Fences whose content is prose; what stands in any other is code, mathematics or an option of a directive.
PROSE = {
    "admonition", "card", "caution", "div", "dropdown", "figure", "grid", "grid-item", "grid-item-card",
    "hint", "important", "margin", "note", "seealso", "sidebar", "tab-item", "tab-set", "table", "tip",
    "warning",
}  # fmt: skip
FENCE = re.compile(r"^\s*(`{3,}|~{3,}|:{3,})\s*(?:\{([\w-]+)\})?(.*)$")
OPTION = re.compile(r"^\s*:[\w-]+:( .*)?$")
TARGET = re.compile(r"^\s*\([\w:.-]+\)=\s*$")
# Roles, code, formulas, links and addresses; then HTML tags and comments.
BOUND = re.compile(
    r"\{[\w:-]+\}`[^`]*`|(`+).*?\1|\$\$.*?\$\$|\$[^$]*\$|!?\[[^\]]*\]\([^)]*\)|<https?:[^>]*>|https?://\S+|<!--.*?-->|<[^>]*>",
    re.DOTALL,
)
PERCENT = re.compile(r"\d[\d.]* ?%")
ACCURACY = re.compile(r"(?<![\d.,])\d\d\.\d+\b")
# Not those in names: ResNet-50, CUB-200-2011, C8.
NUMBER = re.compile(r"(?<![\w.,])(?<!\w-)\d(?:[\d,]*\d)?(?:\.\d+)?")
LEVELS = ("95 %", "8 %")  # of intervals; the paper's scale of crops
ALLOWED = re.compile("|".join([*map(re.escape, LEVELS), r"CC BY[\w-]* \d\.\d"]))
YEAR = re.compile(r"19[89]\d|20[0-3]\d")


def prose(text: str) -> str:
    """A page with everything blanked that is no running text; its lines stay where they were."""
    lines: list[str] = []
    open_fences: list[tuple[str, bool]] = []  # fence, whether its content is prose
    options = False  # the lines right after a directive's first are its options
    for line in text.split("\n"):
        fence = FENCE.match(line)
        verbatim = bool(open_fences) and not open_fences[-1][1]
        closing = (
            fence and open_fences and not fence[2] and not fence[3].strip() and fence[1] == open_fences[-1][0]
        )
        if closing:
            open_fences.pop()
            lines.append("")
        elif verbatim:
            lines.append("")
        elif fence:
            is_prose = fence[2] in PROSE
            open_fences.append((fence[1], is_prose))
            # What follows the name is a caption or a title, but a figure's is its file.
            lines.append(fence[3] if is_prose and fence[2] != "figure" else "")
            options = True
            continue
        elif options and OPTION.match(line) or TARGET.match(line):
            lines.append("")
            continue
        else:
            lines.append(line)
        options = False
    if lines and lines[0].strip() == "---" and "---" in (rest := [line.strip() for line in lines[1:]]):
        end = rest.index("---") + 2
        lines[:end] = [""] * end
    return BOUND.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), "\n".join(lines))


def typed_results(text: str) -> list[tuple[int, str]]:
    """Percentages and numbers like 12.34 in a page's running text, each with its line, from 1."""
    found = [hit for hit in _hits(PERCENT, text) if hit[1] not in LEVELS]
    return sorted({*found, *_hits(ACCURACY, text)})


def unbound_numbers(text: str) -> list[tuple[int, str]]:
    """Numbers of at least two digits, or with a decimal point, in a page's running text, with their lines."""
    plain = ALLOWED.sub(lambda found: " " * len(found[0]), prose(text))
    return [
        hit
        for hit in _hits(NUMBER, plain, plain=True)
        if sum(c.isdigit() for c in hit[1]) > 1 and not YEAR.fullmatch(hit[1])
    ]


def _hits(pattern: re.Pattern[str], text: str, plain: bool = False) -> Iterator[tuple[int, str]]:
    searched = text if plain else prose(text)
    for found in pattern.finditer(searched):
        yield searched.count("\n", 0, found.start()) + 1, found[0]


def look(app: Sphinx, docname: str, source: list[str]) -> None:
    """Warn of every typed number of a page."""
    typed = typed_results(source[0])
    for line, number in typed:
        logger.warning(
            "%s looks like a result that was typed: show it with {measured}`key`, or as a parameter in code",
            number, location=(docname, line),
        )  # fmt: skip
    if docname in app.config.cvsa_results:
        for line, number in unbound_numbers(source[0]):
            logger.warning(
                "%s is bound to no record: in a chapter of results numbers stand in {measured}`key`, or in "
                "code where they are parameters",
                number, location=(docname, line),
            )  # fmt: skip


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at the source of every page."""
    app.add_config_value("cvsa_results", [], "env", types=[list])
    app.connect("source-read", look)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
