"""Sentences on speed, from the records: where it was measured, what limits each step, what grows."""

from __future__ import annotations

from collections.abc import Sequence

from cvsa.report.speed_numbers import Spread, exponent, ratios, spread
from cvsa.report.speed_records import AXES, CVSA, PARTS, Contender, Point, Speed, Work
from cvsa.report.where import hardware_words

NOT_MEASURED = "not measured"
SOURCES = {"fixed": "views made once", "files": "PNG files", "memory": "decoded in memory"}
VIEWS = PARTS[:3]
FULL = 0.95  # of the processor's time; below, somebody else used the machine
LEAST_MIB = 5.0  # less than this is the noise of an allocator


def label(work: Work) -> str:
    """A contender in words: "ceiling", "ours", "lightly, PNG files"."""
    if work.library == CVSA:
        return "ceiling" if work.images == "fixed" else "ours"
    return f"{work.library}, {SOURCES[work.images]}"


def state(measured: Sequence[Speed]) -> list[str]:
    """Where it was measured, and what was not."""
    told = []
    for kind, found in (
        ("On a CPU", [m for m in measured if not m.on_gpu]),
        ("On a GPU", [m for m in measured if m.on_gpu]),
    ):
        if not found:
            told.append(f"{kind}: {NOT_MEASURED}.")
        for each in found:
            told.append(f"{kind}: {each.setting}, {each.about}; {hardware_words(each.hardware)}.")
    for each in measured:
        if not each.complete:
            told.append(
                f"`{each.name}` is partial: it was stopped before its end, and what it lacks is left out."
            )
        if each.share is not None and each.share < FULL:
            told.append(
                f"Others used the machine of `{each.name}` at the same time: it got {100 * each.share:.0f} % "
                "of the processor's time, so its seconds tell little."
            )
        told += [f"`{each.name}` lacks {name}: {why}." for name, why in each.left_out.items()]
    return told


def limits(measured: Sequence[Speed]) -> list[str]:
    """What limits each step: network or views."""
    told = [sentence for speed in measured for sentence in _limits(speed)]
    return told or [f"What limits a step: {NOT_MEASURED}."]


def _limits(speed: Speed) -> list[str]:
    told = []
    for ours in speed.measured("ours"):
        ceiling = speed.ceiling(ours.row)
        if ceiling and (shares := ratios(ours.rates(), ceiling.rates())):
            share = spread(shares)
            gain = max(1.0, 1 / share.median)
            told.append(
                f"{speed.setting}, {ours.row}: ours reaches {_percent(share)} of its ceiling. Views and "
                f"network take turns; views that cost nothing would make it {gain:.2f} times as fast."
            )
    for each in speed.parts:
        if each.rounds:
            told.append(_parts(speed, each.row, {part: each.median(part) for part in PARTS}))
    told += _fed(speed)
    told += _against_peers(speed)
    return told


def _parts(speed: Speed, row: str, parts: dict[str, float]) -> str:
    whole = sum(parts.values())
    making = sum(parts[part] for part in VIEWS) / whole
    first, second = sorted(set(PARTS) - set(VIEWS), key=lambda part: -parts[part])[:2]
    told = (
        f"{speed.setting}, {row}: of a step's time {100 * making:.0f} % make the views, "
        f"{100 * parts[first] / whole:.0f} % is {first}, {100 * parts[second] / whole:.0f} % {second}."
    )
    if speed.on_gpu:
        told += " The GPU is waited for between parts, so their sum exceeds the step."
    return told


def _fed(speed: Speed) -> list[str]:
    """A sentence for every row and reason: which peers are held up by what."""
    groups: dict[tuple[str, str], list[str]] = {}
    for peer in speed.measured("peer"):
        ceiling = speed.ceiling(peer.row)
        shared = ratios(peer.feed_rates(), ceiling.rates()) if ceiling else []
        if shared:
            alone = spread(shared).median
            groups.setdefault((peer.row, _held_up(speed, peer, alone)), []).append(
                f"{label(peer)} ({alone:.2f})"
            )
    return [
        f"{speed.setting}, {row}, in brackets how fast the views come alone, in ceilings: {why} for "
        f"{'; '.join(names)}."
        for (row, why), names in groups.items()
    ]


def _held_up(speed: Speed, peer: Contender, alone: float) -> str:
    if alone < 1:
        return "the views are the limit"
    if speed.on_gpu:
        return "the network is the limit"
    shared = "workers and network share the cores" if peer.workers else "views and network take turns"
    return f"the views would be quick enough, but {shared}"


def _against_peers(speed: Speed) -> list[str]:
    """Our own step against the slowest and the quickest peer of the same row."""
    told = []
    for ours in speed.measured("ours"):
        times = {
            label(peer): spread(shared)
            for peer in speed.measured("peer", ours.row)
            if (shared := ratios(ours.rates(), peer.rates()))
        }
        if not times:
            continue
        low, high = (pick(times, key=lambda name: times[name].median) for pick in (min, max))
        text = (
            f"{speed.setting}, {ours.row}: ours takes in {times[low].words('.2f')} times the images of {low}"
        )
        if high != low:
            text += f", and {times[high].words('.2f')} times those of {high}"
        told.append(f"{text}.")
    return told


def growth(measured: Sequence[Speed]) -> list[str]:
    """Exponents of a step's seconds and memory."""
    told = []
    for speed in measured:
        for axis, name in AXES.items():
            points = [point for point in speed.growth if point.axis == axis]
            time, memory = map(power, fitted(points))
            if time is None:
                continue
            what = "the alignment alone" if axis == "map" else f"a step of {points[0].what}"
            extent = f"from {min(p.value for p in points):,} to {max(p.value for p in points):,}"
            text = f"{speed.setting}: the seconds of {what} grow with the {name}, {extent}, "
            text += f"to the power {time:.2f}"
            text += f"; its memory to the power {memory:.2f}" if memory is not None else ""
            told.append(f"{text}.")
    return told or [f"What a step's cost grows with: {NOT_MEASURED}."]


Pairs = list[tuple[int, float]]


def fitted(points: Sequence[Point]) -> tuple[Pairs, Pairs]:
    """Sizes with the median seconds, and those with the median MiB where these are more than noise."""
    timed = [(p.value, spread(p.seconds).median) for p in points if p.seconds]
    held = [(p.value, spread(p.memory_mib).median) for p in points if p.memory_mib]
    return timed, [(value, mib) for value, mib in held if mib >= LEAST_MIB]


def power(pairs: Pairs) -> float | None:
    """Exponent fitted on log-log axes; None where there is too little to fit."""
    return exponent([size for size, _ in pairs], [cost for _, cost in pairs]) if pairs else None


def _percent(share: Spread) -> str:
    middle, low, high = (f"{100 * value:.0f}" for value in share)
    return f"{middle} %" if low == high else f"{middle} % ({low} to {high})"
