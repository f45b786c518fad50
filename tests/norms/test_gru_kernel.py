"""The fused GRU step against the same cell written out in torch."""

import pytest
import torch
from torch import nn

from normlab.models.rnnsearch import GRU
from normlab.norms import L2Norm, LayerNorm, NoNorm, PRMSNorm, RMSNorm, WeightNorm
from normlab.norms.kernels import build

pytestmark = pytest.mark.skipif(build.error() is not None, reason=f"no kernels: {build.error()}")

CPU = torch.device("cpu")
NORMS = {
    "none": NoNorm,
    "layernorm": LayerNorm,
    "rmsnorm": RMSNorm,
    "rmsnorm without gain": lambda dim: RMSNorm(dim, gain=False),
    "rmsnorm with bias": lambda dim: RMSNorm(dim, bias=True),
    "prmsnorm": lambda dim: PRMSNorm(dim, p=0.3),
}


def cell(norm, n, dtype, bias="input"):
    gru = GRU(5, n, norm, bias).to(dtype)
    for parameter in gru.parameters():
        nn.init.normal_(parameter, 0.3)
    return gru


def step(gru, h, x, one_kernel):
    gru.one_kernel = one_kernel
    assert gru.fused(CPU) == one_kernel
    return gru(h, x, *gru.recurrent_weights())


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize(("rows", "n"), [(3, 7), (1, 16), (700, 33)])
def test_values_and_gradients_are_those_of_the_cell(name, rows, n):
    gru = cell(NORMS[name], n, torch.float64, bias="recurrent")
    h = torch.randn(rows, n, dtype=torch.float64, requires_grad=True)
    raw = torch.randn(rows, 5, dtype=torch.float64)
    d = torch.randn(rows, n, dtype=torch.float64)
    results = []
    for one_kernel in (True, False):
        out = step(gru, h, gru.read(raw), one_kernel)
        results.append((out, *torch.autograd.grad(out, (h, *gru.parameters()), d)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NORMS)
def test_gradcheck(name):
    gru = cell(NORMS[name], 4, torch.float64)
    summed, x_gates, x_candidate, h = (
        torch.randn(3, size, dtype=torch.float64, requires_grad=True) for size in (12, 8, 4, 4)
    )
    gates, candidate = gru.recurrent_gates_norm, gru.recurrent_candidate_norm

    def function(*inputs):
        return torch.ops.normlab.gru(
            *inputs, gates.gain, gates.bias, candidate.gain, candidate.bias,
            gates.eps, gates.k, candidate.k, gates.centre,
        )[0]  # fmt: skip

    assert torch.autograd.gradcheck(function, (summed, x_gates, x_candidate, h))


def test_bf16_inputs_keep_an_fp32_state():
    gru = cell(RMSNorm, 32, torch.float32)
    h, raw = torch.randn(9, 32), torch.randn(9, 5)
    outs = []
    for one_kernel in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            outs.append(step(gru, h, gru.read(raw), one_kernel))
    assert outs[0].dtype == torch.float32
    torch.testing.assert_close(*outs, rtol=0, atol=3e-2)


def test_a_non_finite_input_comes_out_as_such():
    gru = cell(RMSNorm, 8, torch.float32)
    h = torch.randn(3, 8)
    h[1, 2] = float("nan")
    out = step(gru, h, gru.read(torch.randn(3, 5)), True)
    assert out[1].isnan().all() and out[[0, 2]].isfinite().all()


def test_torch_accepts_the_operator():
    gru = cell(LayerNorm, 8, torch.float32)
    gates, candidate = gru.recurrent_gates_norm, gru.recurrent_candidate_norm
    inputs = [torch.randn(3, size, requires_grad=True) for size in (24, 16, 8, 8)]
    rest = (gates.gain, gates.bias, candidate.gain, candidate.bias, 1e-6, 16, 8, True)
    torch.library.opcheck(torch.ops.normlab.gru, (*inputs, *rest))


@pytest.mark.parametrize(
    "norm",
    [lambda dim: RMSNorm(dim, impl="composed"), lambda dim: LayerNorm(dim, impl="native"), L2Norm],
)
def test_other_implementations_and_norms_leave_the_cell_as_written(norm):
    assert not cell(norm, 4, torch.float32).fused(CPU)


def test_weightnorm_has_the_kernel_too():
    assert cell(WeightNorm, 4, torch.float32).fused(CPU)
