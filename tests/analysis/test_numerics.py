"""Errors of norms against float64 as the inputs' mean grows."""

import pytest
import torch

from normlab.analysis import numerics
from normlab.runs.components import stock_norm


def error(name, offset, dtype=torch.float32, impl="composed"):
    norm = stock_norm(name, impl=impl)(numerics.WIDTH)
    exact = stock_norm(name)(numerics.WIDTH).double()
    return numerics.errors(norm, exact, numerics.inputs(offset, dtype))


def test_errors_written_out():
    x = torch.tensor([[[1.0, 3.0]]])
    found = numerics.errors(lambda x: x + 0.1, lambda x: x, x)
    assert found.output == pytest.approx((0.02 / 10) ** 0.5)
    assert found.spread < 1e-6  # both entries are wrong by the same
    found = numerics.errors(lambda x: 1.1 * x, lambda x: x, x)
    assert found == pytest.approx((0.1, 0.1), rel=1e-5)


@pytest.mark.parametrize("impl", ["composed", "native"])
def test_layernorm_loses_digits_with_the_offset_and_rmsnorm_none_of_its_output(impl):
    assert error("layernorm", 0.0, impl=impl).output < 1e-6
    assert error("layernorm", 1e4, impl=impl).output > 1e-4
    assert error("rmsnorm", 1e4, impl=impl).output < 1e-6


def test_of_what_differs_between_entries_rmsnorm_loses_more():
    """LayerNorm's error there is one number a row: the mean that it subtracts is rounded."""
    layernorm, rmsnorm = (error(name, 1e4).spread for name in ("layernorm", "rmsnorm"))
    assert layernorm < 1e-6 and rmsnorm > 1e-4


def test_a_variance_in_one_pass_loses_twice_the_digits():
    exact = stock_norm("layernorm")(numerics.WIDTH).double()
    at = {o: numerics.inputs(o, torch.float32) for o in (0.0, 1000.0)}
    one_pass = {o: numerics.errors(numerics.one_pass_layer_norm, exact, x) for o, x in at.items()}
    assert one_pass[0.0].output < 1e-6
    assert one_pass[1000.0].output > 100 * error("layernorm", 1000.0).output


def test_what_overflows_or_has_no_spread_has_no_error():
    assert error("layernorm", 1e6, torch.float16) == (None, None)
    assert error("rmsnorm", 1e6, torch.bfloat16).spread is None


def test_the_table_has_a_column_for_each_offset():
    exact = stock_norm("layernorm")(numerics.WIDTH).double()
    norm = stock_norm("layernorm", impl="composed")(numerics.WIDTH)
    records = numerics.measure({"layernorm composed": (norm, exact)}, offsets=[0.0, 1e6])
    lines = numerics.table(records, "fp16").split("\n")
    assert lines[0] == "| norm | 0 | 1e+06 |"
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| layernorm composed",
        "| layernorm one-pass",
    ]
    assert lines[2].endswith("| - / - |")
