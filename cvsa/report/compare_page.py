"""A comparison as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files

import pandas as pd

from cvsa import __version__
from cvsa.report.compare import Comparison, Drawing, Section
from cvsa.report.figures import use_house_style

_NUMBER = re.compile(r"^[-+–\d.\[\], e]+$")


def page(comparison: Comparison) -> str:
    """The page, with all lines of all tables and the figures inside it."""
    use_house_style()
    body = [f'<p class="about">{escape(line)}</p>' for line in comparison.about]
    body += [
        f'<p class="notice{" loud" if notice.loud else ""}">{escape(notice.text)}</p>'
        for notice in comparison.notices
    ]
    names = map("f{}".format, itertools.count())
    for section in comparison.sections:
        inner = "\n".join([
            *(f"<p>{escape(sentence)}</p>" for sentence in section.sentences),
            _figures(section, names),
            _table(section.table.drop(columns=[*section.sketched], errors="ignore"), section.title),
        ])  # fmt: skip
        title = escape(section.title)
        body.append(
            f"<details><summary>{title}</summary>\n{inner}</details>"
            if section.folded
            else f"<section>\n<h2>{title}</h2>\n{inner}</section>"
        )
    template = (files("cvsa.report") / "templates" / "compare.html").read_text(encoding="utf-8")
    parts = {
        "title": escape(comparison.title),
        "body": "\n".join(body),
        "footer": f"Made by cvsa compare, version {escape(__version__)}. Differences are B − A.",
    }
    return re.sub(r"{{(\w+)}}", lambda found: parts[found[1]], template)


def _figures(section: Section, names: Iterator[str]) -> str:
    drawn = [_figure(drawing, next(names)) for drawing in section.drawings]
    return f'<div class="figures">{"".join(drawn)}</div>' if drawn else ""


def _figure(drawing: Drawing, name: str) -> str:
    """An SVG inside the page; its ids get a name of their own, since all figures use the same."""
    buffer = io.StringIO()
    drawing.draw().savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    label = f'<svg role="img" aria-label="{escape(drawing.alt)}" '
    begin, _, rest = drawing.caption.partition(":")
    caption = f"<strong>{escape(begin)}:</strong>{escape(rest)}"
    return f"<figure>{label}{svg.removeprefix('<svg')}<figcaption>{caption}</figcaption></figure>"


def _table(table: pd.DataFrame, title: str) -> str:
    """A table in a frame of its own, which scrolls where it is wider than the page."""
    if table.empty:
        return ""
    numbers = ["class=number" if all(map(_NUMBER.match, table[name].map(str))) else "" for name in table]
    head = _line("th", map(str, table.columns), numbers)
    lines = "\n".join(_line("td", map(str, values), numbers) for values in table.to_numpy())
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        f"<table><thead>{head}</thead>\n<tbody>{lines}</tbody></table></div>"
    )


def _line(tag: str, cells: Iterable[str], classes: Iterable[str]) -> str:
    told = (f"<{tag} {kind}>{escape(cell)}</{tag}>" for cell, kind in zip(cells, classes, strict=True))
    return f"<tr>{''.join(told).replace(' >', '>')}</tr>"
