"""Learning rates at the steps that define them."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import nn

from normlab.devices import autocast
from normlab.errors import UserError
from normlab.training.schedules import LinearDecay, constant, inverse_sqrt
from normlab.training.step import update


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


def test_linear_decay_falls_to_zero_and_changes_beta1_half_way():
    decay = LinearDecay(lr=0.1, start=100, end=200, late_beta1=0.5)
    rates = [decay(step) for step in (1, 100, 150, 200, 300)]
    assert rates == pytest.approx([0.1, 0.1, 0.05, 0, 0])
    assert [decay.beta1(step) for step in (100, 101)] == [None, 0.5]
    assert replace(decay, late_beta1=None).beta1(150) is None
    with pytest.raises(UserError, match="start=5 must be below end=5"):
        LinearDecay(lr=0.1, start=5, end=5, late_beta1=None)


def test_beta1_reaches_adam_and_none_leaves_it():
    weight = nn.Parameter(torch.ones(1))
    adam = torch.optim.Adam([weight], betas=(0.9, 0.98))

    class Square(nn.Module):
        def forward(self, batch):
            return {"loss": (weight.square().sum(), batch.items)}

    class Batch(NamedTuple):
        items: int = 1

    betas = []
    for beta1 in (None, 0.5):
        fp32 = autocast("fp32", torch.device("cpu"))
        update(Square(), [Batch()], [weight], adam, 0.1, clip=None, precision=fp32, beta1=beta1)
        betas.append(adam.param_groups[0]["betas"])
    assert betas == [(0.9, 0.98), (0.5, 0.98)]
