"""Intervals on simulated data with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from cvsa.report.statistics import paired_image_interval, paired_t_interval, t_interval, wilson_interval


@pytest.mark.parametrize("count", [2, 3, 5])
def test_t_intervals_cover_the_mean_as_often_as_they_say(count: int) -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        interval = t_interval(list(generator.normal(0.5, 0.1, count)))
        assert interval is not None
        inside += interval[0] <= 0.5 <= interval[1]
    assert abs(inside / 2000 - 0.95) < 0.02


def test_two_seeds_by_hand() -> None:
    interval = t_interval([0.4, 0.6])
    assert interval == pytest.approx((0.5 - 12.7062 * 0.1, 0.5 + 12.7062 * 0.1), abs=1e-4)


def test_one_seed_has_no_interval_and_equal_seeds_a_point() -> None:
    assert t_interval([0.4]) is None
    assert t_interval([0.4, 0.4]) == (0.4, 0.4)


def test_pairing_removes_what_seeds_share() -> None:
    first, second = [0.50, 0.60, 0.70], [0.40, 0.51, 0.60]
    low, high = paired_t_interval(first, second) or (0, 0)
    assert 0 < low < 0.0967 < high


def test_wilson_by_hand() -> None:
    assert wilson_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson_interval(0.0, 10)[0] == 0.0


def test_image_bootstrap_covers_a_known_difference() -> None:
    generator = np.random.default_rng(1)
    inside = 0
    for trial in range(200):
        first, second = generator.random(300) < 0.6, generator.random(300) < 0.5
        low, high = paired_image_interval(first, second, resamples=300, seed=trial)
        inside += low <= 0.1 <= high
    assert inside / 200 > 0.88
    assert paired_image_interval(np.ones(5), np.ones(5)) == (0.0, 0.0)
