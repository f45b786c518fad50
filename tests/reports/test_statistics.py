"""The statistics against worked cases and scipy's own tests."""

import pytest
from scipy import stats

from normlab.reports.statistics import (
    estimate,
    holm,
    p_above,
    p_below,
    p_equal,
    p_mostly,
    share_interval,
)

SIX = [0.3, 0.5, 0.1, 0.4, 0.6, 0.2]


def test_the_interval_is_students():
    found = estimate(SIX)
    expected = stats.ttest_1samp(SIX, 0).confidence_interval(0.95)
    assert (found.mean, found.n) == (pytest.approx(0.35), 6)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert str(found) == "+0.35 [+0.154, +0.546] (n=6)"


def test_one_sided_p_values_are_scipys_and_complement_each_other():
    above = stats.ttest_1samp(SIX, 0.2, alternative="greater").pvalue
    assert p_above(SIX, 0.2) == pytest.approx(above)
    assert p_below(SIX, 0.2) == pytest.approx(1 - above)


def test_equality_is_two_one_sided_tests_and_needs_both():
    assert p_equal(SIX, 1.0) == max(p_above(SIX, -1.0), p_below(SIX, 1.0)) < 0.001
    assert p_equal(SIX, 0.35) == pytest.approx(0.5)  # the mean lies on the margin
    low, high = estimate(SIX).low, estimate(SIX).high
    assert p_equal(SIX, high) == pytest.approx(0.025) and low > -high  # the interval touches it


def test_equal_differences_settle_everything_but_the_bound_itself():
    assert (p_above([1.0] * 6, 0.5), p_above([1.0] * 6, 1.0), p_below([1.0] * 6, 1.0)) == (0, 1, 1)
    assert p_above([1.0] * 6, 1.5) == 1 and p_below([1.0] * 6, 1.5) == 0


def test_holm_multiplies_the_smallest_by_the_number_of_tests_and_never_decreases():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_counts_are_exact():
    assert p_mostly(6, 6) == pytest.approx(0.5**6) and p_mostly(0, 6) == p_mostly(0, 0) == 1.0
    assert p_mostly(1, 3) == pytest.approx(7 / 8)
    low, high = share_interval(6, 6)
    assert (low, high) == (pytest.approx(0.025 ** (1 / 6)), 1.0)
