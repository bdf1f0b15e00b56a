"""The README's table on speed, from the records; a test holds the README to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cvsa.errors import CVSAError
from cvsa.report.speed_numbers import ratios, spread
from cvsa.report.speed_records import Contender, Speed
from cvsa.report.speed_text import NOT_MEASURED, label
from cvsa.report.where import hardware_words

BEGIN, END = "<!-- speed: python -m benchmarks --readme -->", "<!-- /speed -->"


def table(measured: Sequence[Speed]) -> str:
    """A line for each record and row that peers have too, and which kind of machine was not measured.

    Ratios are medians over rounds, with the least and the greatest.
    """
    lines = [
        "| step, machine | ceiling, images/s | ours | of the ceiling | quickest peer | ours is faster by |",
        "|:--|--:|--:|--:|:--|--:|",
    ]
    for speed in measured:
        place = f"{speed.backbone}, {speed.image_size} px; {hardware_words(speed.hardware)}"
        for ours in speed.measured("ours"):
            peers = [peer for peer in speed.measured("peer", ours.row) if _ratio(ours, peer)]
            ceiling = speed.ceiling(ours.row)
            if not peers or ceiling is None:
                continue
            best = max(peers, key=_rate)
            share = spread(ratios(ours.rates(), ceiling.rates())).median
            lines.append(
                f"| {ours.row}, {place} | {_rate(ceiling):,.0f} | {_rate(ours):,.0f} | {100 * share:.0f} % | "
                f"{label(best)}: {_rate(best):,.0f} | {spread(_ratio(ours, best)).words('.2f')} times |"
            )
    for kind, found in (
        ("CPU", any(not speed.on_gpu for speed in measured)),
        ("GPU", any(speed.on_gpu for speed in measured)),
    ):
        if not found:
            lines.append(f"| on a {kind} | {NOT_MEASURED} | | | | |")
    return "\n".join(lines)


def update(readme: Path, measured: Sequence[Speed]) -> None:
    """Write the table between the README's two marks.

    Raises:
        CVSAError: the marks are not there.
    """
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise CVSAError(f"{readme} has no table to renew: it lies between {BEGIN} and {END}.")
    readme.write_text(f"{before}{BEGIN}\n{table(measured)}\n{END}{after}", encoding="utf-8")


def _rate(work: Contender) -> float:
    return spread(work.rates().values()).median


def _ratio(ours: Contender, peer: Contender) -> list[float]:
    return ratios(ours.rates(), peer.rates())
