"""Tables read from the package while the book is built: ``{parameters}``, ``{catalogue}`` and ``{cards}``."""

from __future__ import annotations

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def table(header: list[str], rows: list[list[str | nodes.Node]], widths: list[int]) -> nodes.table:
    """A docutils table; a plain string becomes a paragraph."""

    def line(cells: list[str | nodes.Node]) -> nodes.row:
        row = nodes.row()
        for cell in cells:
            row += nodes.entry(
                "", nodes.paragraph("", "", nodes.Text(cell) if isinstance(cell, str) else cell)
            )
        return row

    group = nodes.tgroup("", *[nodes.colspec(colwidth=width) for width in widths], cols=len(header))
    group += nodes.thead("", line(list(header)))
    group += nodes.tbody("", *[line(row) for row in rows])
    return nodes.table("", group, classes=["package-table"])


def type_name(annotation: Any) -> str:
    """A type as people read it: "int", "sgd, lars or adamw", "Path or empty"."""
    if get_origin(annotation) is Literal:
        *most, last = (str(value) for value in get_args(annotation))
        return f"{', '.join(most)} or {last}" if most else last
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(type_name(part) for part in get_args(annotation))
    return "empty" if annotation is type(None) else annotation.__name__


class Parameters(SphinxDirective):
    """The fields of a configuration model: name, type, default, help."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        from cvsa import config

        self.env.note_dependency(config.__file__)
        model = getattr(config, self.arguments[0])
        inherited = getattr(config, self.options["without"]).model_fields if "without" in self.options else {}
        rows: list[list[str | nodes.Node]] = []
        for name in config.parameters(model):
            if name not in inherited:
                field = model.model_fields[name]
                kind, default = (
                    type_name(field.annotation),
                    "" if field.default is None else str(field.default),
                )
                about = field.description or ""
                rows.append(
                    [nodes.literal("", name), kind, nodes.literal("", default) if default else "empty", about]
                )
        return [table(["parameter", "type", "default", "meaning"], rows, [18, 18, 14, 50])]

    option_spec = {"without": str}


class Catalogue(SphinxDirective):
    """The rows of the paper's tables as the catalogue holds them."""

    def run(self) -> list[nodes.Node]:
        from cvsa.methods import catalogue

        self.env.note_dependency(catalogue.__file__)
        rows: list[list[str | nodes.Node]] = [
            [nodes.literal("", name), nodes.literal("", row.base), nodes.literal("", row.view),
             nodes.literal("", f"{row.align_weight:g}"), row.source, row.about]
            for name, row in catalogue.ROWS.items()
        ]  # fmt: skip
        header = ["row", "base", "view", "weight of L_Align", "in the paper", "what it is"]
        return [table(header, rows, [14, 12, 20, 10, 18, 30])]


class Cards(SphinxDirective):
    """The cards of the published data sets."""

    def run(self) -> list[nodes.Node]:
        from cvsa.data import sets

        rows: list[list[str | nodes.Node]] = []
        for name in sets.SETS:
            card = sets.find_set(name).card
            if not card.splits:  # any folder
                continue
            title = nodes.reference("", card.title, refuri=card.url)
            size = ", ".join(f"{count:,} {split}" for split, count in card.splits.items())
            classes = f"{card.classes:,} classes" if card.labelled else "no labels used"
            rows.append([nodes.literal("", name), title, f"{size}; {classes}", card.truth, card.terms])
        header = ["name", "data set", "images", "what is annotated", "terms"]
        return [table(header, rows, [10, 16, 20, 30, 24])]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("parameters", Parameters)
    app.add_directive("catalogue", Catalogue)
    app.add_directive("cards", Cards)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
