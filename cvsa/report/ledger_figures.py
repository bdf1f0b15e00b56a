"""Forest plots of the ledger: the reported difference and ours on one axis, narrow enough for a phone."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cvsa.report.claims import Claim, Part
from cvsa.report.evidence import Evidence, Tested

OURS, THEIRS, CLAIMED = "#0072b2", "#d55e00", "#e4e4e4"
LEAST = 1.0  # half a width of the axis, points


def forest(claim: Claim, tested: Tested | None) -> Figure:
    """Every part of a claim: the authors' differences as diamonds, ours with seeds and interval.

    Grey is the side that the claim names. An interval that is wider than the axis ends in an arrow.

    Args:
        claim: its parts, from top to bottom.
        tested: by the set of runs that speaks for it; None where none does.
    """
    evidence = tested.evidence if tested else tuple(Evidence() for _ in claim.parts)
    figure = Figure(figsize=(5.2, 1.5 + 0.52 * len(claim.parts)), layout="constrained")
    axis = figure.subplots()
    points = [100 * value for each in evidence for value in each.differences]
    points += [100 * value for part in claim.parts for value in part.reported.values()]
    margin = max(LEAST, 0.25 * (max(points, default=0) - min(points, default=0)))
    low, high = min([0.0, *points]) - margin, max([0.0, *points]) + margin
    for y, (part, each) in enumerate(zip(claim.parts, evidence, strict=True)):
        _claimed(axis, part, y, low, high)
        _line(axis, part, each, y, low, high)
    axis.axvline(0, color="black", linewidth=1)
    axis.set_yticks(range(len(claim.parts)), [_name(part) for part in claim.parts], fontsize=10)
    axis.set(xlim=(low, high), ylim=(len(claim.parts) - 0.5, -0.5), xlabel="difference, percentage points")
    axis.tick_params(axis="y", pad=9)  # room for arrows
    axis.grid(axis="y", visible=False)
    figure.legend(
        handles=_handles(claim, tested), loc="outside lower center", ncols=2, frameon=False, fontsize=10
    )
    return figure


def _claimed(axis: Axes, part: Part, y: int, low: float, high: float) -> None:
    margin = 100 * (part.margin or 0)
    left, right = {1: (0.0, high), -1: (low, 0.0), 0: (-margin, margin)}[part.direction]
    axis.barh(y, right - left, left=left, height=0.86, color=CLAIMED, edgecolor="none", zorder=0)


def _line(axis: Axes, part: Part, each: Evidence, y: int, low: float, high: float) -> None:
    if part.reported:
        reported = [100 * value for value in part.reported.values()]
        look: dict[str, Any] = {"marker": "D", "s": 30, "facecolor": "none", "edgecolor": THEIRS}
        axis.scatter(reported, [y - 0.2] * len(reported), linewidth=1.3, zorder=4, **look)
    if not each.seeds:
        axis.text(high, y + 0.15, "not tested ", ha="right", va="center", fontsize=9, color="#555555")
        return
    if each.interval:
        ends = [100 * each.interval.low, 100 * each.interval.high]
        axis.plot(
            [max(low, ends[0]), min(high, ends[1])], [y + 0.15] * 2, color=OURS, linewidth=1.5, zorder=2
        )
        for beyond, edge, marker in ((ends[0] < low, low, "<"), (ends[1] > high, high, ">")):
            if beyond:
                axis.plot(edge, y + 0.15, marker=marker, color=OURS, markersize=7, clip_on=False, zorder=5)
    seeds = [100 * value for value in each.differences]
    axis.scatter(seeds, [y + 0.15] * len(seeds), color=OURS, s=24, zorder=3, edgecolor="white", linewidth=0.6)
    if len(seeds) > 1:
        axis.plot([100 * each.mean] * 2, [y - 0.02, y + 0.32], color=OURS, linewidth=3, zorder=4)


def _name(part: Part) -> str:
    return part.measure.replace(", ", ",\n") or part.rows.replace(" − ", "\n− ")


def _handles(claim: Claim, tested: Tested | None) -> list[Any]:
    dot: dict[str, Any] = {"marker": "o", "color": OURS, "markersize": 5}
    found: list[Any] = [Patch(color=CLAIMED, label="side that the claim names")]
    if any(part.reported for part in claim.parts):
        hollow: dict[str, Any] = {"marker": "D", "markerfacecolor": "none", "markeredgecolor": THEIRS}
        found.append(Line2D([], [], linestyle="none", label="reported, a data set each", **hollow))
    if tested:
        name = tested.runs.label.replace("`", "")
        found.append(Line2D([], [], linestyle="none", label=f"seeds, {name}", **dot))
        if any(each.interval for each in tested.evidence):
            found.append(Line2D([], [], color=OURS, linewidth=1.5, label="their mean, 95 % interval"))
    return found
