"""The kernel for norms of images: the formula again, its gradients, what torch asks of it."""

import pytest
import torch

from normlab.norms.functional import layer_norm, prms_norm
from normlab.norms.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.load() is not None, reason=f"no kernels: {cpu.load()}")

EPS = 1e-6
NORMS = {"layernorm": (20, True), "rmsnorm": (20, False), "prmsnorm": (3, False)}  # k of 20, centre


def norm(*arguments):
    return torch.ops.normlab.plane_norm(*arguments)[0]


def reference(x, gain, bias, k, centre):
    """The formula for x (batch, 20, channels) in fp64."""
    planes, (gain, bias) = x.double().transpose(1, 2), (gain.double(), bias.double())
    whole = layer_norm(planes, None, None, EPS)
    y = whole if centre else prms_norm(planes, None, None, EPS, k)
    return y.transpose(1, 2) * gain + bias


def parameters(channels, dtype=torch.float32):
    gain = torch.rand(channels, dtype=dtype) + 0.5
    return gain.requires_grad_(), torch.randn(channels, dtype=dtype).requires_grad_()


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("batch", [0, 1, 100])
def test_values_and_gradients_are_those_of_the_formula(name, dtype, batch):
    k, centre = NORMS[name]
    gain, bias = parameters(37)
    x = (torch.randn(batch, 20, 37) + 2).to(dtype).requires_grad_()
    dy = torch.randn_like(x)
    y, expected = norm(x, gain, bias, EPS, k, centre), reference(x, gain, bias, k, centre)
    assert y.dtype == dtype
    tolerance = 2e-2 if x.element_size() == 2 else 1e-4
    torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=tolerance)
    ours = torch.autograd.grad(y, (x, gain, bias), dy)
    theirs = torch.autograd.grad(expected, (x, gain, bias), dy.double())
    for got, want in zip(ours, theirs, strict=True):
        assert got.dtype == want.dtype
        scale = want.abs().max().clamp(min=1e-30) if want.numel() else 1
        torch.testing.assert_close(got / scale, want / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize(("with_gain", "with_bias"), [(True, True), (True, False), (False, False)])
def test_gradcheck_in_fp64(name, with_gain, with_bias):
    k, centre = NORMS[name]
    gain, bias = parameters(3, torch.float64)
    inputs = [torch.randn(2, 20, 3, dtype=torch.float64, requires_grad=True)]
    inputs += [gain] * with_gain + [bias] * with_bias
    assert torch.autograd.gradcheck(
        lambda x, gain=None, bias=None: norm(x, gain, bias, EPS, k, centre), inputs
    )


def test_the_same_bits_for_any_number_of_threads():
    x, (gain, bias), dy = torch.randn(64, 20, 96), parameters(96), torch.randn(64, 20, 96)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            y = norm(x, gain, bias, EPS, 20, True)
            results.append((y, *torch.autograd.grad(y, (gain, bias), dy)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_non_finite_input_comes_out_as_such():
    x = torch.randn(2, 20, 3)
    x[1, 4, 2] = float("nan")
    nan = norm(x, None, None, EPS, 20, True).isnan()
    assert nan[1, :, 2].all() and nan.sum() == 20


@pytest.mark.slow
def test_torch_accepts_the_operator():
    x, gain, bias = torch.randn(5, 20, 3, requires_grad=True), *parameters(3)
    torch.library.opcheck(torch.ops.normlab.plane_norm, (x, gain, bias, EPS, 20, True))
    torch.library.opcheck(torch.ops.normlab.plane_norm, (x, gain, None, EPS, 5, False))


def test_a_second_derivative_is_refused_not_wrong():
    x = torch.randn(3, 20, 8, requires_grad=True)
    (dx,) = torch.autograd.grad(
        norm(x, None, None, EPS, 20, False).square().sum(), x, create_graph=True
    )
    with pytest.raises(RuntimeError, match="composed"):
        dx.sum().backward()


X = torch.ones(5, 4, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[0], None, None, EPS, 4, False), r"x must be \(batch, positions, channels\), got \["),
        ((X[:, :0], None, None, EPS, 1, False), "x must have a position"),
        ((X, X[0, 0, :4], None, EPS, 4, False), r"gain must be \[8\], got \[4\]"),
        ((X, None, X[0], EPS, 4, False), r"bias must be \[8\], got \[4, 8\]"),
        ((X, None, None, EPS, 5, False), r"k must lie in 1 ... 4, got 5"),
        ((X.int(), None, None, EPS, 4, False), "x must have a floating-point dtype"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(RuntimeError, match=message):
        norm(*arguments)


def test_gradients_of_another_shape_are_refused():
    statistics = torch.ones(5, 8)
    with pytest.raises(RuntimeError, match=r"dy must be \[5, 4, 8\]"):
        torch.ops.normlab.plane_norm_backward(X[:4], X, None, statistics, 4, False, False)
    with pytest.raises(RuntimeError, match=r"statistics must be \[2, 5, 8\]"):
        torch.ops.normlab.plane_norm_backward(X, X, None, statistics, 4, True, False)
