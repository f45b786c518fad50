"""The formulas of the paper, checked in float64 against sums written out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normlab.norms import functional as F

X = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3 + 1
GAIN = torch.linspace(0.5, 2, 12, dtype=torch.float64)
BIAS = torch.linspace(-1, 1, 12, dtype=torch.float64)
NORMS = {
    "layernorm": lambda x, g=None, b=None, eps=0.0: F.layer_norm(x, g, b, eps),
    "rmsnorm": lambda x, g=None, b=None, eps=0.0: F.rms_norm(x, g, b, eps),
    "prmsnorm": lambda x, g=None, b=None, eps=0.0: F.prms_norm(x, g, b, eps, k=4),
    "l2norm": lambda x, g=None, b=None, eps=0.0: F.l2_norm(x, g, b, eps),
}


def test_worked_case():
    x = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    expected = torch.tensor([[0.4629, 0.9258, 1.3887], [0.7895, 0.9869, 1.1843]])
    assert torch.allclose(F.rms_norm(x, torch.ones(3), None, 1e-6), expected, atol=5e-5)
    centred = torch.tensor([[-1.2247, 0, 1.2247]]).expand(2, 3)
    assert torch.allclose(F.layer_norm(x, None, None, 1e-6), centred, atol=5e-5)


@pytest.mark.parametrize("eps", [0.0, 1e-6, 0.1])
def test_formulas_written_out(eps):
    for row in X:
        a = row.tolist()
        n = len(a)
        mean = sum(a) / n
        sigma = math.sqrt(sum((v - mean) ** 2 for v in a) / n + eps)
        rms = math.sqrt(sum(v * v for v in a) / n + eps)
        partial_rms = math.sqrt(sum(v * v for v in a[:4]) / 4 + eps)
        length = math.sqrt(sum(v * v for v in a) + eps)
        affine = list(zip(a, GAIN.tolist(), BIAS.tolist(), strict=True))
        expected = {
            "layernorm": [(v - mean) / sigma * g + b for v, g, b in affine],
            "rmsnorm": [v / rms * g + b for v, g, b in affine],
            "prmsnorm": [v / partial_rms * g + b for v, g, b in affine],
            "l2norm": [v / length * g + b for v, g, b in affine],
        }
        for name, norm in NORMS.items():
            want = torch.tensor(expected[name], dtype=torch.float64)
            torch.testing.assert_close(norm(row, GAIN, BIAS, eps), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NORMS)
def test_gradients(name):
    x = X[:2].clone().requires_grad_()
    gain, bias = GAIN.clone().requires_grad_(), BIAS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: NORMS[name](*a, eps=1e-6), (x, gain, bias))


@given(scale=st.floats(1e-3, 1e3))
@settings(max_examples=30)
def test_rescaling_the_input_changes_no_output(scale):
    for norm in NORMS.values():
        torch.testing.assert_close(norm(scale * X), norm(X), rtol=1e-9, atol=1e-9)


def test_only_layernorm_ignores_recentering():
    moved = X + 7
    torch.testing.assert_close(NORMS["layernorm"](moved), NORMS["layernorm"](X))
    assert not torch.allclose(NORMS["rmsnorm"](moved), NORMS["rmsnorm"](X), atol=0.1)


def test_rmsnorm_is_layernorm_for_centred_input():
    centred = X - X.mean(-1, keepdim=True)
    torch.testing.assert_close(NORMS["rmsnorm"](centred), NORMS["layernorm"](centred))


def test_prmsnorm_with_all_inputs_is_rmsnorm():
    torch.testing.assert_close(
        F.prms_norm(X, GAIN, None, 1e-6, 12), F.rms_norm(X, GAIN, None, 1e-6)
    )


def test_l2norm_is_rmsnorm_over_the_root_of_n():
    torch.testing.assert_close(NORMS["l2norm"](X) * math.sqrt(12), NORMS["rmsnorm"](X))
    torch.testing.assert_close(NORMS["l2norm"](X).norm(dim=-1), torch.ones(5, dtype=X.dtype))


@pytest.mark.parametrize(
    ("n", "p", "k"),
    [(512, 0.0625, 32), (12, 0.0625, 1), (17, 0.0625, 2), (100, 0.07, 7), (5, 1, 5), (1, 0.01, 1)],
)
def test_partial_size_is_the_ceiling(n, p, k):
    assert F.partial_size(n, p) == k


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NORMS)
def test_half_precision_statistics_are_fp32_and_the_dtype_stays(name, dtype):
    # 300^2 * 12 overflows fp16; of bf16 only the dtype is asked.
    x = (X * 300).to(dtype)
    y = NORMS[name](x, eps=1e-6)
    assert y.dtype == dtype
    torch.testing.assert_close(y, NORMS[name](x.double(), eps=1e-6).to(dtype))


@pytest.mark.parametrize("name", NORMS)
def test_zero_rows_stay_zero_and_have_finite_gradients(name):
    x = torch.zeros(2, 12, requires_grad=True)
    y = NORMS[name](x, eps=1e-6)
    y.sum().backward()
    assert torch.equal(y, torch.zeros_like(y))
    assert x.grad.isfinite().all()


def test_layernorm_ignores_a_constant_added_to_the_matrix_before_it_and_rmsnorm_does_not():
    """Table 1, re-centring the weight matrix: init.mean on the matrix that a norm follows."""
    weight = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    plain, shifted = x @ weight.T, x @ (weight + 0.2).T
    torch.testing.assert_close(NORMS["layernorm"](shifted), NORMS["layernorm"](plain))
    for name in ("rmsnorm", "prmsnorm"):
        assert not torch.allclose(NORMS[name](shifted), NORMS[name](plain), atol=0.05)
