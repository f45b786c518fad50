"""Norms of single positions beyond the paper's, against formulas written out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normlab.norms import Affine, CRMSNorm, DyT, LayerNorm, Recentre, RMSNorm, ScaleNorm
from normlab.norms import functional as F

X = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3 + 1
GAIN = torch.linspace(0.5, 2, 12, dtype=torch.float64)
BIAS = torch.linspace(-1, 1, 12, dtype=torch.float64)
KINDS = [Affine, CRMSNorm, DyT, Recentre, ScaleNorm]
every_kind = pytest.mark.parametrize("kind", KINDS)


def test_formulas_written_out():
    for row in X:
        a = row.tolist()
        mean, length = sum(a) / 12, math.sqrt(sum(v * v for v in a) + 0.1)
        full = math.sqrt((sum(v * v for v in a) + sum(a) ** 2) / 13 + 0.1)
        affine = list(zip(a, GAIN.tolist(), BIAS.tolist(), strict=True))
        three = torch.tensor([3.0], dtype=torch.float64)
        for got, want in [
            (F.affine(row, GAIN, BIAS), [v * g + b for v, g, b in affine]),
            (F.recentre(row, GAIN, BIAS), [(v - mean) * g + b for v, g, b in affine]),
            (F.crms_norm(row, GAIN, BIAS, 0.1), [v / full * g + b for v, g, b in affine]),
            (F.scale_norm(row, three, None, 0.1), [3 * v / length for v in a]),
            (F.dyt(row, three, GAIN, BIAS), [math.tanh(3 * v) * g + b for v, g, b in affine]),
        ]:
            want = torch.tensor(want, dtype=torch.float64)
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@every_kind
def test_gradients(kind):
    norm = kind(12).double()
    parameters = tuple(norm.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: norm(x), (X[:2].requires_grad_(), *parameters))
    X.requires_grad_(False)


@given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=9), eps=st.floats(1e-9, 1))
@settings(max_examples=50)
def test_crmsnorm_is_the_rmsnorm_and_layernorm_of_a_vector_of_mean_zero(values, eps):
    whole = torch.tensor(values, dtype=torch.float64)
    whole = whole - whole.mean()
    got = F.crms_norm(whole[:-1], None, None, eps)
    torch.testing.assert_close(got, F.rms_norm(whole, None, None, eps)[:-1], rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(got, F.layer_norm(whole, None, None, eps)[:-1], rtol=1e-7, atol=1e-7)


def test_layernorm_is_rescaling_after_recentring():
    layernorm, recentre, rmsnorm = LayerNorm(12).double(), Recentre(12).double(), RMSNorm(12)
    torch.testing.assert_close(rmsnorm.double()(recentre(X)), layernorm(X))


def test_scalenorm_has_one_scalar_and_starts_as_rmsnorm():
    norm = ScaleNorm(12, eps=0.0).double()
    assert [tuple(p.shape) for p in norm.parameters()] == [(1,)]
    torch.testing.assert_close(norm(X), RMSNorm(12, eps=0.0).double()(X), rtol=1e-6, atol=1e-6)


def test_dyt_is_a_tanh_with_alpha_from_a_half():
    norm = DyT(12).double()
    assert [name for name, _ in norm.named_parameters()] == ["weight", "bias", "alpha"]
    torch.testing.assert_close(norm(X), torch.tanh(X / 2))
    assert DyT(12, alpha=0.1).alpha.item() == pytest.approx(0.1)


@every_kind
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_statistics_are_fp32_and_the_dtype_stays(kind, dtype):
    x, norm = (X * 300).to(dtype), kind(12)
    y = norm(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, kind(12).double()(x.double()).to(dtype))


@every_kind
def test_images_have_their_statistics_over_height_and_width(kind):
    images = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(3))
    norm, flat = kind(3, axes=(-2, -1), parameter_axis=-3), kind(20)
    torch.testing.assert_close(norm(images), flat(images.flatten(2)).view_as(images))


@every_kind
def test_zero_rows_have_finite_gradients(kind):
    x = torch.zeros(2, 12, requires_grad=True)
    kind(12)(x).sum().backward()
    assert x.grad.isfinite().all()
