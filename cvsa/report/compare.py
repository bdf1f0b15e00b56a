"""Two runs, or two sets of runs, side by side: what differs in how they were made and in what came out."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cvsa.config import WHERE, DataConfig
from cvsa.errors import CVSAError
from cvsa.records import RECORD, Collection, Record, atomic_write, collect, config_of, read_record
from cvsa.records.arrivals import set_aside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 110
# What a configuration says about where a run lies; what it started from is compared by itself.
NONE = "–"


@dataclass(frozen=True)
class Notice:
    """One sentence above everything else; ``loud`` where it forbids to read the rest as usual."""

    text: str
    loud: bool = False


@dataclass(frozen=True)
class Drawing:
    """A figure of the page: made only for it.

    Attributes:
        draw: makes it.
        alt: what it shows, for those who do not see it.
        caption: begins with "Measured".
    """

    draw: Callable[[], Figure]
    alt: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A piece of a comparison.

    Attributes:
        title: a heading.
        sentences: above the table.
        table: cells are text; empty where there is nothing to list.
        most: lines of the table shown as text; the page shows all.
        drawings: figures of the page.
        sketched: columns of the table that only stand for figures where there are none, as text.
        folded: closed at first in the page, and left out as text.
    """

    title: str
    sentences: list[str] = field(default_factory=list)
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    most: int = 40
    drawings: list[Drawing] = field(default_factory=list)
    sketched: tuple[str, ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Comparison:
    """What was found, ready to be written as text or as a page."""

    title: str
    about: list[str]
    notices: list[Notice]
    sections: list[Section]

    def lines(self) -> list[str]:
        """As text, at most 110 characters wide where its names allow."""
        lines = [self.title, *_wrapped(self.about, "  "), ""]
        for notice in self.notices:
            lines += _wrapped([notice.text], "!!! " if notice.loud else "* ")
        for section in self.sections:
            if section.folded:
                continue
            lines += ["", section.title, *_wrapped(section.sentences, "  ")]
            lines += [f"  {line}" for line in aligned(section.table.head(section.most))]
            if (hidden := len(section.table) - section.most) > 0:
                lines.append(f"  … and {hidden} more: --out PAGE.html shows all")
        return lines


def run_comparison(
    first: Path, second: Path, out: Path | None = None, metrics: Sequence[str] = ()
) -> list[str]:
    """Compare two run folders, or two folders of many runs; what `cvsa compare` does.

    Args:
        first, second: A and B.
        out: also write a page there, complete in itself.
        metrics: of two sets, as "finetune.test_*"; none: the tables' own.

    Returns:
        Lines of text.

    Raises:
        CVSAError: one of them is not there, holds no run, or not what the other holds; a run whose record is
            damaged; two runs of different kinds.
    """
    comparison = compare(first, second, metrics)
    lines = comparison.lines()
    if out is not None:
        from cvsa.report.compare_page import page

        if out.suffix != ".html":
            raise CVSAError(f"--out {out}: the page's name must end in .html.")
        atomic_write(out, page(comparison))
        lines += ["", f"Page: {out}"]
    return lines


def compare(first: Path, second: Path, metrics: Sequence[str] = ()) -> Comparison:
    """Compare two runs or two sets; see :func:`run_comparison`."""
    from cvsa.report.compare_runs import compare_runs
    from cvsa.report.compare_sets import compare_sets

    folders = [_find(first), _find(second)]
    single = [(folder / RECORD).is_file() for folder in folders]
    if single[0] != single[1]:
        run, group = (folders[0], folders[1]) if single[0] else (folders[1], folders[0])
        raise CVSAError(f"{run} is one run and {group} holds many: compare two runs, or two sets of runs.")
    if not single[0]:
        one, other = ((folder, _collect(folder)) for folder in folders)
        return compare_sets(one, other, metrics)
    a, b = (read_record(folder) for folder in folders)
    if a.kind != b.kind:
        raise CVSAError(
            f"{folders[0]} is a {a.kind} run and {folders[1]} a {b.kind} run: compare runs of one kind."
        )
    return compare_runs((folders[0], a), (folders[1], b))


def _wrapped(sentences: Iterable[str], start: str) -> list[str]:
    wrap = partial(textwrap.wrap, width=WIDTH, initial_indent=start, subsequent_indent=" " * len(start))
    return [line for sentence in sentences for line in wrap(sentence, break_on_hyphens=False)]


def _find(path: Path) -> Path:
    folder = path.parent if path.name == RECORD and path.is_file() else path
    if not folder.is_dir():
        raise CVSAError(f"{path} is not there: give the folder of a run, or one that holds runs.")
    if not (folder / RECORD).is_file() and next(folder.rglob(RECORD), None) is None:
        raise CVSAError(f"{path} holds no finished run ({RECORD}): give the folder of a run, or of many.")
    return folder


def _collect(folder: Path) -> Collection:
    """All runs of a set, without those that were damaged and made again."""
    found = collect(folder)
    kept = [excluded for excluded in found.excluded if not set_aside(excluded.folder, folder)]
    return Collection(found.runs, kept)


def fields_of(record: Record, without: Iterable[str] = WHERE) -> dict[str, Any]:
    """A record's configuration with the defaults of fields that came later, as plain values.

    A configuration that is not valid any more is taken as it was written.
    """
    try:
        fields = config_of(record).model_dump(mode="json")
    except CVSAError:
        fields = record.config
    skipped = set(without)
    return {name: value for name, value in fields.items() if name not in skipped}


def changed_code(a: Record, b: Record) -> list[str]:
    """Files that shaped one of the runs and are not the same in the other; empty for the same code."""
    then, now = a.code.get("files") or {}, b.code.get("files") or {}
    if then and now:
        return [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    same = a.code.get("hash") == b.code.get("hash")
    return [] if same else [f"not recorded by file (code {a.code.get('hash')}, {b.code.get('hash')})"]


def changed_values(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Name -> both values, where they differ; None stands for what one of them lacks."""
    names = [*a, *(name for name in b if name not in a)]
    return {name: (a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)}


def other_data(a: Record, b: Record) -> list[str]:
    """Splits that both used and whose images, or saliency maps, are not the same."""
    return [
        split
        for split, fingerprint in a.data_fingerprints.items()
        if b.data_fingerprints.get(split, fingerprint) != fingerprint
    ]


def same_data_wanted(a: Record, b: Record) -> bool:
    """Whether both configurations ask for the same images and saliency maps."""
    one, other = (fields_of(record) for record in (a, b))
    return all(one.get(name) == other.get(name) for name in DataConfig.model_fields)


def differ(a: Record, b: Record) -> bool:
    """Whether a metric that both have is not equal to the last digit."""
    return any(b.metrics.get(name, value) != value for name, value in a.metrics.items())


def explanations(a: Record, b: Record) -> str:
    """What is recorded that could make equal configurations give different results."""
    found = []
    if code := changed_code(a, b):
        found.append(f"code ({_some([name.partition(' (')[0] for name in code])})")
    if splits := other_data(a, b):
        found.append(f"data ({', '.join(splits)})")
    if libraries := changed_values(a.libraries, b.libraries):
        found.append(f"libraries ({_some(list(libraries))})")
    if hardware := changed_values(a.hardware, b.hardware):
        found.append(f"machine ({_some(list(hardware))})")
    return f"What differs: {', '.join(found)}." if found else "Nothing that is recorded explains it."


def _some(names: list[str], most: int = 3) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def show(value: Any) -> str:
    """A value in a cell: numbers short, nothing as a dash."""
    if value is None or (isinstance(value, float) and value != value):
        return NONE
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".") if 1e-3 <= abs(value) < 1e4 else f"{value:.4g}"
    return str(value)


def signed(value: float | None, digits: int = 4) -> str:
    """A difference with its sign; zero without."""
    if value is None or value != value:
        return NONE
    if value == 0:
        return "0"
    return f"{value:+.{digits}f}" if abs(value) >= 0.5 * 10**-digits else f"{value:+.1e}"


def aligned(table: pd.DataFrame) -> list[str]:
    """A table as text, columns as wide as they need and long cells of the widest one cut."""
    if table.empty:
        return []
    cells = [list(map(str, table.columns)), *([str(cell) for cell in line] for line in table.to_numpy())]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    while sum(widths) + 2 * len(widths) > WIDTH and max(widths) > 16:
        widths[widths.index(max(widths))] -= 1
    return [
        "  ".join(_fit(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _fit(cell: str, width: int) -> str:
    return f"{cell if len(cell) <= width else cell[: width - 1] + '…':<{width}}"
