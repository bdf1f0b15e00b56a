"""What goes to ``book/_generated``, and how numbers are written there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from cvsa.records import atomic_write


@dataclass
class Page:
    """Collects what goes to ``book/_generated``."""

    folder: Path
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def number(self, key: str, text: str, runs: Iterable[str] = ()) -> None:
        """A number for the prose, with the runs it comes from."""
        self.numbers[key] = {"text": text, "runs": sorted(set(runs))}

    def table(self, name: str, table: pd.DataFrame) -> None:
        """A Markdown table."""
        atomic_write(self.folder / "tables" / f"{name}.md", markdown(table) + "\n")

    def text(self, name: str, sentences: list[str]) -> None:
        """Generated sentences, one bullet each."""
        atomic_write(
            self.folder / "text" / f"{name}.md", "".join(f"- {sentence}\n" for sentence in sentences)
        )

    def html(self, name: str, fragment: str) -> None:
        """A self-contained piece of HTML, such as an interactive figure."""
        atomic_write(self.folder / "html" / f"{name}.html", fragment)

    def figure(self, name: str, figure: Figure) -> None:
        """A figure; the suffix of the name chooses SVG or PNG."""
        path = self.folder / "figures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without dates and random ids the same records give the same file.
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})


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
    return "–" if pd.isna(low) else f"[{show(low)}, {show(high)}]"


def cell(line: pd.Series[Any]) -> str:
    """Mean, interval and every seed of a line of ``tables.by_row``, in percent."""
    mean = f"**{percent(line['mean'])}**"
    if len(line["seeds"]) == 1:
        return f"{mean}<br><small>one seed</small>"
    seeds = ", ".join(percent(value) for value in line["seeds"])
    # A share lies in [0, 1]; the t interval of two seeds does not know.
    spread = interval(max(line["low"], 0.0), min(line["high"], 1.0), percent)
    return f"{mean}<br>{spread}<br><small>{seeds}</small>"


def contrast_table(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Lines of ``tables.differences``, with a column metric, as people read them."""

    def intervals(low: str, high: str) -> list[str]:
        return [interval(a, b, points) for a, b in zip(contrasts[low], contrasts[high], strict=True)]

    pairs = zip(contrasts["row"], contrasts["against"], strict=True)
    return pd.DataFrame({
        "measure": contrasts["metric"],
        "rows": [f"{row} − {against}" for row, against in pairs],
        "difference": contrasts["difference"].map(points),
        "over seeds": intervals("low", "high"),
        "over test images": intervals("image_low", "image_high"),
        "separated": contrasts["separated"],
    })  # fmt: skip
