"""Arithmetic of measurements of speed: spread over rounds, ratios within them, exponents of growth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """Values of several rounds."""

    median: float
    low: float
    high: float

    def words(self, form: str = ",.0f") -> str:
        """ "150 (140 to 160)", or the median alone where there is one value."""
        middle, low, high = (format(value, form) for value in self)
        return middle if self.low == self.high else f"{middle} ({low} to {high})"


def spread(values: Iterable[float]) -> Spread:
    """Median, least and greatest of at least one value."""
    found = list(values)
    return Spread(statistics.median(found), min(found), max(found))


def ratios(over: Mapping[int, float], under: Mapping[int, float]) -> list[float]:
    """Quotients within each round that both have, in order: what slows a round slows both."""
    return [over[number] / under[number] for number in sorted(over.keys() & under.keys())]


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """Slope of the least-squares line through log(cost) against log(size).

    None with fewer than two sizes, or where a cost is not positive.
    """
    if len(set(sizes)) < 2 or min(costs) <= 0:
        return None
    return statistics.linear_regression(list(map(math.log, sizes)), list(map(math.log, costs))).slope
