"""Intervals on simulated data with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cvsa.report.statistics import (
    BCA_SEEDS,
    adjusted,
    detectable,
    mcnemar,
    mean_interval,
    paired_image_interval,
    paired_t_interval,
    power,
    seeds_needed,
    t_interval,
    t_test,
    wilson_interval,
)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_t_intervals_cover_the_mean_as_often_as_they_say(count: int) -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        interval = t_interval(list(generator.normal(0.5, 0.1, count)))
        assert interval is not None
        inside += interval[0] <= 0.5 <= interval[1]
    assert abs(inside / 300 - 0.95) < 0.03


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


def test_the_kind_of_interval_depends_on_the_number_of_seeds() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, BCA_SEEDS).tolist()
    few, many = mean_interval(values[:-1]), mean_interval(values)
    assert few is not None and few[:2] == t_interval(values[:-1]) and few.kind == "t"
    assert many is not None and many.kind == "BCa" and many.low < np.mean(values) < many.high
    assert mean_interval([0.5]) is None
    assert mean_interval([0.25] * BCA_SEEDS) == (0.25, 0.25, "t")  # nothing to resample


def test_bca_intervals_cover_enough_where_they_are_used_and_not_at_half_as_many() -> None:
    def coverage(count: int, trials: int = 400) -> float:
        values = np.random.default_rng(2).normal(0, 1, (trials, count))
        found = stats.bootstrap(
            (values,), np.mean, axis=1, n_resamples=400, method="BCa", rng=np.random.default_rng(0)
        ).confidence_interval
        return float(np.mean((found.low <= 0) & (found.high >= 0)))

    assert coverage(BCA_SEEDS) > 0.91
    assert coverage(BCA_SEEDS // 4) < 0.88


def test_t_test_is_scipy_s_and_silent_without_a_spread() -> None:
    first, second = [0.5, 0.7, 0.6], [0.4, 0.65, 0.58]
    assert t_test(np.subtract(first, second)) == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert np.isnan(t_test([0.1])) and np.isnan(t_test([0.6 - 0.5, 0.5 - 0.4]))


def test_correction_by_a_naive_loop() -> None:
    p_values = [0.01, float("nan"), 0.04, 0.03, 0.5]
    known = sorted(p for p in p_values if p == p)
    naive = {p: min(1.0, *(q * 4 / (known.index(q) + 1) for q in known if q >= p)) for p in known}
    found = adjusted(p_values)
    assert np.isnan(found[1])
    assert [found[i] for i in (0, 2, 3, 4)] == pytest.approx([naive[p_values[i]] for i in (0, 2, 3, 4)])
    assert np.isnan(adjusted([float("nan")])).all() and len(adjusted([])) == 0


@pytest.mark.parametrize(("effect", "count"), [(0.5, 2), (2.0, 3), (1.0, 8), (0.3, 40)])
def test_power_is_that_of_the_noncentral_t(effect: float, count: int) -> None:
    edge, shift = stats.t.isf(0.025, count - 1), effect * np.sqrt(count)
    both = stats.nct.sf(edge, count - 1, shift) + stats.nct.cdf(-edge, count - 1, shift)
    assert power(effect, count) == pytest.approx(both, abs=1e-9)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_the_detectable_difference_is_detected_four_times_in_five(count: int) -> None:
    true = detectable(0.02, count)
    values = np.random.default_rng(3).normal(true, 0.02, (4000, count))
    assert np.mean(stats.ttest_1samp(values, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.025)
    assert seeds_needed(true * 1.0001, 0.02) == count
    assert np.isnan(detectable(0.02, 1)) and np.isnan(detectable(0.0, 3))


def test_seeds_needed_by_a_naive_search() -> None:
    naive = next(count for count in range(2, 1000) if power(0.0066 / 0.02, count) >= 0.8)
    assert seeds_needed(-0.0066, 0.02) == naive
    assert seeds_needed(0.0001, 0.02) is None and seeds_needed(0.1, 0.0) is None


def test_mcnemar_is_the_binomial_test_of_discordant_images() -> None:
    first, second = np.array([1, 1, 1, 1, 0, 0, 1]), np.array([0, 0, 0, 1, 0, 1, 0])
    assert mcnemar(first, second) == pytest.approx(stats.binomtest(4, 5).pvalue)
    assert mcnemar(first, first) == 1.0


def test_mcnemar_errs_no_more_often_than_its_level() -> None:
    generator = np.random.default_rng(4)
    hardness = generator.random((250, 200))  # images that both find hard or easy: their hits are paired
    wrong = sum(
        mcnemar(generator.random(200) < easy, generator.random(200) < easy) < 0.05 for easy in hardness
    )
    assert wrong / 250 < 0.06
