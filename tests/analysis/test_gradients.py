"""Eq. 8-10: closed forms, and what re-scaling does to the gradients of every norm."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normlab.analysis import gradients
from normlab.analysis.gradients import EXACT, residuals
from normlab.runs.components import stock_norms

NORMS = stock_norms(eps=0.0, bias=True)
NO_SCALE = {"none", "affine", "dyt", "recentre"}  # invariant to no scale
ALL = ["gain, W", "gain, x", "dW, x", "dW, W", "along W"]


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10)
def test_rmsnorms_gradients_are_those_of_the_paper(seed):
    found = gradients.against_closed_forms(NORMS["rmsnorm"], seed)
    assert found.keys() == {"weight", "gain", "bias"}
    assert max(found.values()) < EXACT


def test_layernorms_are_not():
    assert gradients.against_closed_forms(NORMS["layernorm"])["weight"] > 0.01


@pytest.mark.parametrize("name", sorted(NORMS.keys() - NO_SCALE - {"weightnorm"}))
@given(delta=st.floats(0.01, 100), seed=st.integers(0, 10**6))
@settings(max_examples=8)
def test_a_weight_matrix_is_its_own_learning_rate_adaptor(name, delta, seed):
    found = residuals(NORMS[name], delta, seed)
    assert all(found[key] is None or found[key] < EXACT for key in ALL), found


@pytest.mark.parametrize("name", sorted(NO_SCALE))
def test_without_rescaling_nothing_of_this_holds(name):
    found = residuals(NORMS[name])
    assert all(found[key] is None or found[key] > 1e-3 for key in ALL), found


def test_weightnorm_adapts_to_its_weights_and_not_to_its_data():
    found = residuals(NORMS["weightnorm"])
    assert found["dW, W"] < EXACT and found["along W"] < EXACT and found["dW, x"] > 0.1


def test_the_committed_page_is_what_the_code_measures():
    path = Path(__file__).parents[2] / "results/gradients/equations.md"
    measured = {name: residuals(norm, 3.0) for name, norm in NORMS.items()}
    closed = gradients.against_closed_forms(NORMS["rmsnorm"])
    assert path.read_text(encoding="utf-8") == gradients.page(measured, closed, 3.0)
