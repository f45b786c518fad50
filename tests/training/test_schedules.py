"""Learning rates at the steps that define them."""

import pytest

from normlab.training.schedules import constant, inverse_sqrt


def test_inverse_sqrt_rises_linearly_peaks_at_warmup_and_falls_as_a_root():
    rate = [inverse_sqrt(step, lr=0.5, warmup=100) for step in range(1, 1001)]
    assert rate[0] == pytest.approx(0.005)
    assert rate[49] == pytest.approx(0.25)
    assert max(rate) == rate[99] == 0.5
    assert rate[399] == pytest.approx(0.25)  # four times the warm-up: half the peak


def test_constant_with_and_without_warmup():
    assert {constant(step, lr=0.1, warmup=0) for step in (1, 5, 10**6)} == {0.1}
    assert constant(1, lr=0.1, warmup=4) == pytest.approx(0.025)
    assert constant(9, lr=0.1, warmup=4) == 0.1
