"""Uncertainty of what few seeds show. Everything numerical comes from scipy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
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


def paired_t_interval(
    first: Sequence[float], second: Sequence[float], level: float = 0.95
) -> tuple[float, float] | None:
    """t interval of the mean difference first - second over the same seeds, in order."""
    return t_interval([a - b for a, b in zip(first, second, strict=True)], level)


def wilson_interval(share: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson interval of an accuracy on ``count`` test images: what the test set's size allows to know."""
    interval = stats.binomtest(round(share * count), count).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def paired_image_interval(
    first: np.ndarray, second: np.ndarray, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of the accuracy difference over test images, both rows judged on the same images.

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
