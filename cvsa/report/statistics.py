"""Uncertainty of what few seeds show. Everything numerical comes from scipy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

LEVEL = 0.95
ALPHA, POWER = 0.05, 0.8
# From this many values on an interval is a bootstrap one. Simulated with 1,500 samples each: where it says
# 95 %, BCa covers 93 % of 20 normal values, 89 of 10 and 83 of 5; of 20 skewed ones (gamma, shape 2) 91 %.
# Student's t covers 95 % and 94 %, and was no worse up to 40. tests/report/test_statistics.py repeats a part.
BCA_SEEDS = 20
RESAMPLES = 2000
# A spread below this is the rounding of floating-point numbers: the values are the same.
SAME = 1e-12


class Interval(NamedTuple):
    """An interval of a mean, and how it was made: "t" (Student) or "BCa" (bootstrap)."""

    low: float
    high: float
    kind: str


def t_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Student t interval of the mean over seeds; None for fewer than two values.

    With two seeds it is wide (t = 12.7 at 95 %), and says so honestly: two runs know little of their spread.
    """
    if len(values) < 2:
        return None
    spread = stats.sem(values)
    if spread == 0:
        return float(values[0]), float(values[0])
    low, high = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=spread)
    return float(low), float(high)


def mean_interval(values: Sequence[float], level: float = LEVEL, seed: int = 0) -> Interval | None:
    """Interval of the mean over seeds: BCa bootstrap from ``BCA_SEEDS`` values on, Student's t below.

    Args:
        values: one per seed.
        level: coverage.
        seed: of the resampling.

    Returns:
        The interval and its kind; None for fewer than two values.
    """
    if len(values) >= BCA_SEEDS and np.ptp(values) > SAME:
        found = stats.bootstrap(
            (np.asarray(values, float),),
            np.mean,
            confidence_level=level,
            n_resamples=RESAMPLES,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        return Interval(float(found.low), float(found.high), "BCa")
    student = t_interval(values, level)
    return None if student is None else Interval(*student, "t")


def paired_t_interval(
    first: Sequence[float], second: Sequence[float], level: float = LEVEL
) -> tuple[float, float] | None:
    """t interval of the mean difference first - second over the same seeds, in order."""
    return t_interval([a - b for a, b in zip(first, second, strict=True)], level)


def t_test(differences: Sequence[float]) -> float:
    """Two-sided p of Student's t test that the mean of paired differences is zero, over seeds.

    NaN for fewer than two values, and for values that are all the same: without a spread there is no test.
    """
    if len(differences) < 2 or np.ptp(differences) <= SAME:
        return float("nan")
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def adjusted(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """p-values corrected for their number by Benjamini and Hochberg; those that are NaN stay so.

    Rows that share a baseline give p-values that depend on each other. For most such families the procedure
    is known to hold the share of false findings nevertheless; it is not proven for all.
    """
    found = np.asarray(p_values, float).copy()
    known = ~np.isnan(found)
    if known.any():
        found[known] = stats.false_discovery_control(found[known], method="bh")
    return found


def power(effect: float, count: int, alpha: float = ALPHA) -> float:
    """Power of the two-sided paired t test, from the noncentral t distribution of its statistic.

    By the square of the statistic, whose noncentral F distribution scipy evaluates where its noncentral t
    gives NaN.

    Args:
        effect: true mean difference in units of the standard deviation of the differences.
        count: of seeds, at least 2.
        alpha: level of the test.
    """
    edge = stats.t.isf(alpha / 2, count - 1) ** 2
    return float(stats.ncf.sf(edge, 1, count - 1, count * effect**2))


def detectable(spread: float, count: int, alpha: float = ALPHA, wanted: float = POWER) -> float:
    """Minimal detectable difference: the true one that ``count`` seeds would separate in ``wanted`` of cases.

    Args:
        spread: standard deviation of the paired differences.
        count: of seeds.
        alpha: level of the two-sided test.
        wanted: its power.

    Returns:
        In units of ``spread``'s; NaN for fewer than two seeds, or where no spread was seen.
    """
    return _detectable_effect(count, alpha, wanted) * spread if count > 1 and spread > SAME else float("nan")


@cache
def _detectable_effect(count: int, alpha: float, wanted: float) -> float:
    most = 10 / alpha  # beyond what two seeds need: about a dozen standard deviations at the usual level
    return float(optimize.brentq(lambda effect: power(effect, count, alpha) - wanted, 1e-6, most))


def seeds_needed(difference: float, spread: float, most: int = 1000) -> int | None:
    """Smallest number of seeds that would separate ``difference`` with power 0.8; None beyond ``most``."""
    if not spread > SAME or abs(difference) <= SAME:
        return None
    effect, few, many = abs(difference) / spread, 2, most
    if power(effect, most) < POWER:
        return None
    while few < many:  # power grows with the number of seeds
        middle = (few + many) // 2
        few, many = (few, middle) if power(effect, middle) >= POWER else (middle + 1, many)
    return few


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact McNemar test: are two classifiers right equally often on the same images?

    Args:
        first, second: whether each image was classified right, (N,), same images in the same order.

    Returns:
        Two-sided p; 1 where they are right and wrong on the same images. It holds for these two trained
        networks: another seed would train others.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    won, lost = int((first & ~second).sum()), int((second & ~first).sum())
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0


def wilson_interval(share: float, count: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson interval of an accuracy on ``count`` test images: what the test set's size allows to know."""
    interval = stats.binomtest(round(share * count), count).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def paired_image_interval(
    first: np.ndarray, second: np.ndarray, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of the accuracy difference over test images, both rows judged on the same images.

    By percentiles: with the hundreds of images of a test set, BCa differs from it by less than the noise of
    resampling, and takes a jackknife over all images.

    Args:
        first, second: share of seeds that got each image right, (N,), same images in the same order.
        level: coverage.
        resamples: bootstrap samples of the images.
        seed: of the resampling.

    Returns:
        Low and high of mean(first) - mean(second). It holds for these trained networks; the spread between
        seeds is not in it.
    """
    difference = np.asarray(first, float) - np.asarray(second, float)
    if not difference.any():
        return 0.0, 0.0
    result = stats.bootstrap(
        (difference,),
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
