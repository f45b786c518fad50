"""The fused GRU step against the same cell written out in torch."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module

from normlab.models.gru import GRU
from normlab.norms import L2Norm, LayerNorm, NoNorm, PRMSNorm, RMSNorm, WeightNorm
from normlab.norms.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.load() is not None, reason=f"no kernels: {cpu.load()}")

CPU = torch.device("cpu")
HOOKS = {  # name: what registers a hook, on the module or for all modules
    "forward": lambda norm, hook: norm.register_forward_hook(hook),
    "pre-forward": lambda norm, hook: norm.register_forward_pre_hook(hook),
    "backward": lambda norm, hook: norm.register_full_backward_hook(hook),
    "pre-backward": lambda norm, hook: norm.register_full_backward_pre_hook(hook),
    "global forward": lambda _, hook: torch_module.register_module_forward_hook(hook),
    "global pre-forward": lambda _, hook: torch_module.register_module_forward_pre_hook(hook),
    "global backward": lambda _, hook: torch_module.register_module_full_backward_hook(hook),
}
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
            *inputs, gates.weight, gates.bias, candidate.weight, candidate.bias,
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


@pytest.mark.slow
def test_torch_accepts_the_operator():
    gru = cell(LayerNorm, 8, torch.float32)
    gates, candidate = gru.recurrent_gates_norm, gru.recurrent_candidate_norm
    inputs = [torch.randn(3, size, requires_grad=True) for size in (24, 16, 8, 8)]
    rest = (gates.weight, gates.bias, candidate.weight, candidate.bias, 1e-6, 16, 8, True)
    torch.library.opcheck(torch.ops.normlab.gru, (*inputs, *rest))


@pytest.mark.parametrize(
    "norm",
    [lambda dim: RMSNorm(dim, impl="composed"), lambda dim: LayerNorm(dim, impl="native"), L2Norm],
)
def test_other_implementations_and_norms_leave_the_cell_as_written(norm):
    assert not cell(norm, 4, torch.float32).fused(CPU)


def mixed(gates, candidate):
    """A factory: the GRU's norms are of two kinds."""
    return lambda dim: gates(dim) if dim == 8 else candidate(dim)


DIFFERENT = {
    "eps": mixed(partial(RMSNorm, eps=1.0), RMSNorm),
    "centring": mixed(LayerNorm, partial(RMSNorm, bias=True)),
    "bias": mixed(partial(RMSNorm, bias=True), RMSNorm),
    "none and one": mixed(NoNorm, RMSNorm),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_two_norms_that_differ_leave_the_cell_as_written(what):
    gru = cell(DIFFERENT[what], 4, torch.float64)
    h, x = torch.randn(3, 4).double(), gru.read(torch.randn(3, 5).double())
    assert not gru.fused(CPU)
    summed = torch.nn.functional.linear(h, *gru.recurrent_weights())
    r, u = torch.sigmoid(x[0] + gru.recurrent_gates_norm(summed[:, :8])).chunk(2, dim=-1)
    c = torch.tanh(x[1] + r * gru.recurrent_candidate_norm(summed[:, 8:]))
    torch.testing.assert_close(gru(h, x, *gru.recurrent_weights()), u * h + (1 - u) * c)


class Doubled(NoNorm):
    def forward(self, x, mask=None):
        return 2 * x


class DoubledRMSNorm(RMSNorm):
    def forward(self, x, mask=None):
        return 2 * super().forward(x, mask)


@pytest.mark.parametrize("norm", [Doubled, DoubledRMSNorm])
def test_a_norm_with_a_forward_of_its_own_leaves_the_cell_as_written(norm):
    assert not cell(norm, 4, torch.float32).fused(CPU)


@pytest.mark.parametrize("kind", [NoNorm, RMSNorm])
@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_leave_the_cell_as_written_while_they_are_there(kind, hook):
    gru, seen = cell(kind, 4, torch.float32), []
    assert gru.fused(CPU) and gru.implementation(CPU) == "fused-gru"
    handle = HOOKS[hook](gru.recurrent_candidate_norm, lambda *_: seen.append(hook))
    try:
        assert not gru.fused(CPU) and gru.implementation(CPU) is None
        x = gru.read(torch.randn(3, 5))
        gru(torch.randn(3, 4, requires_grad=True), x, *gru.recurrent_weights()).sum().backward()
    finally:
        handle.remove()
    assert seen and gru.fused(CPU)


def test_weightnorm_has_the_kernel_too():
    assert cell(WeightNorm, 4, torch.float32).fused(CPU)
