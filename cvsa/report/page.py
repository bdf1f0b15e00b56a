"""What goes to ``book/_generated``, from which runs it comes, and how numbers are written there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from textwrap import wrap
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from cvsa.records import Record, atomic_write
from cvsa.report.tables import with_adjusted

DASH = "–"
HEADING = 12  # letters in a line of a column's title

Source = Iterable[str | tuple[Path, Record]]
"""Runs that something comes from: run ids, or folders with records."""
FIGURES, TABLES, TEXT, HTML = "figures", "tables", "text", "html"


@dataclass(frozen=True)
class Drawn:
    """Where something on a page comes from: the section that draws it and the ids of its runs."""

    section: str
    runs: tuple[str, ...]


@dataclass
class Page:
    """Collects what goes to ``book/_generated``, and what it comes from.

    Attributes:
        folder: where it is written.
        only: write nothing but what has this name; see :func:`is_named`.
        numbers: key -> text and run ids.
        drawn: "figures/finetune.svg", "tables/table_1.md" -> where it comes from.
    """

    folder: Path
    only: str | None = None
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict)
    drawn: dict[str, Drawn] = field(default_factory=dict)
    _section: str = field(default="", repr=False)
    _usual: tuple[str, ...] = field(default=(), repr=False)
    _source: tuple[str, ...] | None = field(default=None, repr=False)

    @contextmanager
    def source(self, runs: Source) -> Iterator[None]:
        """All that is drawn inside comes from these runs, unless it names its own."""
        before, self._source = self._source, run_ids(runs)
        try:
            yield
        finally:
            self._source = before

    @contextmanager
    def section(self, name: str, runs: Source) -> Iterator[None]:
        """Inside, figures, tables and texts (not numbers) come from these runs unless told more precisely."""
        before = self._section, self._usual
        self._section, self._usual = name, run_ids(runs)
        try:
            yield
        finally:
            self._section, self._usual = before

    def number(self, key: str, text: str, runs: Source | None = None) -> None:
        """A number for the prose, with the runs it comes from; without any it comes from no run."""
        self.numbers[key] = {
            "text": text,
            "runs": list(run_ids(runs) if runs is not None else self._source or ()),
        }

    def table(self, name: str, table: pd.DataFrame, runs: Source | None = None) -> None:
        """A Markdown table."""
        self.file(f"{TABLES}/{name}.md", markdown(table) + "\n", runs)

    def text(self, name: str, sentences: list[str], runs: Source | None = None) -> None:
        """Generated sentences, one bullet each."""
        self.file(f"{TEXT}/{name}.md", "".join(f"- {sentence}\n" for sentence in sentences), runs)

    def html(self, name: str, fragment: str, runs: Source | None = None) -> None:
        """A self-contained piece of HTML, such as an interactive figure."""
        self.file(f"{HTML}/{name}.html", fragment, runs)

    def figure(self, name: str, figure: Figure, runs: Source | None = None) -> None:
        """A figure; the suffix of the name chooses SVG or PNG."""
        suffix = PurePosixPath(name).suffix
        # Without dates and random ids the same records give the same file.
        metadata = {"Date": None} if suffix == ".svg" else {"Software": None}

        def drawing() -> bytes:
            buffer = BytesIO()
            figure.savefig(buffer, format=suffix[1:], metadata=metadata)
            return buffer.getvalue()

        self.file(f"{FIGURES}/{name}", drawing, runs)

    def file(self, key: str, content: str | bytes | Callable[[], bytes], runs: Source | None = None) -> None:
        """Anything else, such as a picture that was made before.

        Args:
            key: its place: "figures/maps.png", "text/report.txt".
            content: what is in it, or what makes that; not called where it is not wanted.
            runs: where it comes from.
        """
        ids = run_ids(runs) if runs is not None else self._source if self._source is not None else self._usual
        self.drawn[key] = Drawn(self._section, ids)
        if self.only is None or is_named(key, self.only):
            atomic_write(self.folder / key, content() if callable(content) else content)

    def comes_from(self, key: str, runs: Source) -> None:
        """Correct where something comes from after it was drawn; nothing happens where it was not."""
        if key in self.drawn:
            self.drawn[key] = replace(self.drawn[key], runs=run_ids(runs))


def is_named(key: str, name: str) -> bool:
    """Whether a name means this: "finetune.svg", "table_1", "table_1.md" or "tables/table_1.md"."""
    path = PurePosixPath(key)
    return name in (key, path.name) or (path.parts[0] != FIGURES and name == path.stem)


def run_ids(runs: Source) -> tuple[str, ...]:
    """Ids of runs, each once, in alphabetical order."""
    return tuple(sorted({run if isinstance(run, str) else run[1].run_id for run in runs}))


def markdown(table: pd.DataFrame) -> str:
    """A pipe table; the first column is left-aligned, the others right-aligned."""
    lines = ["| " + " | ".join(map(str, table.columns)) + " |", "|:---|" + "---:|" * (len(table.columns) - 1)]
    lines += [
        "| " + " | ".join(str(value).replace("|", "\\|") for value in line) + " |"
        for line in table.itertuples(index=False)
    ]
    return "\n".join(lines)


def percent(value: float, digits: int = 1) -> str:
    """0.123 -> "12.3"."""
    return f"{100 * value:.{digits}f}"


def points(value: float) -> str:
    """A signed difference of shares in percentage points: 0.0123 -> "+1.2"."""
    return f"{100 * value:+.1f}"


def interval(low: float, high: float, show: Callable[[float], str]) -> str:
    """ "[low, high]", or a dash where there is none."""
    return DASH if pd.isna(low) else f"[{show(low)}, {show(high)}]"


def heading(title: str) -> str:
    """A column's title in narrow lines: six columns of seeds must fit."""
    return ",<br>".join("<br>".join(wrap(part, HEADING)) for part in title.split(", "))


def in_lines(told: Sequence[str], most: int = 2) -> str:
    """Values with commas, so many a line that a column does not grow wider than an interval."""
    return ",<br>".join(", ".join(told[n : n + most]) for n in range(0, len(told), most))


def cell(line: pd.Series[Any]) -> str:
    """Mean, interval and every seed of a line of ``tables.by_row``, in percent."""
    mean = f"**{percent(line['mean'])}**"
    if len(line["seeds"]) == 1:
        return f"{mean}<br><small>one seed</small>"
    seeds = in_lines([percent(value) for value in line["seeds"]])
    # A share lies in [0, 1]; the t interval of two seeds does not know.
    spread = interval(max(line["low"], 0.0), min(line["high"], 1.0), percent)
    return f"{mean}<br>{spread}<br><small>{seeds}</small>"


def p_value(p: float) -> str:
    """ "0.012", "< 0.001", or a dash where there was no test."""
    return DASH if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def contrast_table(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Lines of ``tables.differences``, with a column metric, as people read them.

    p is corrected for the number of lines shown; "detectable" is what so many seeds would have found.
    """
    contrasts = with_adjusted(contrasts)

    def intervals(low: str, high: str) -> list[str]:
        return [interval(a, b, points) for a, b in zip(contrasts[low], contrasts[high], strict=True)]

    pairs = zip(contrasts["row"], contrasts["against"], strict=True)
    least = [DASH if pd.isna(value) else f"{100 * value:.1f}" for value in contrasts["detectable"]]
    found = zip(contrasts["difference"].map(points), intervals("low", "high"), strict=True)
    return pd.DataFrame({
        "measure": [title.replace(", ", ",<br>") for title in contrasts["metric"]],
        "rows": [f"{row}<br>− {against}" for row, against in pairs],
        "separated": [word.replace(" ", "<br>") for word in contrasts["separated"]],
        "difference,<br>over seeds": [f"**{mean}**<br>{span}" for mean, span in found],
        "over test<br>images": intervals("image_low", "image_high"),
        "p,<br>corrected": contrasts["p_adjusted"].map(p_value),
        "detect-<br>able": least,
    })  # fmt: skip
