"""The layers: arguments, parameters, implementations that agree, one output dtype."""

import pytest
import torch

from normlab.errors import UserError
from normlab.norms import LayerNorm, NoNorm, PRMSNorm, RMSNorm

X = torch.randn(6, 32, generator=torch.Generator().manual_seed(2)) * 2 + 0.5


def randomised(norm):
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(-1, 2)
    return norm


@pytest.mark.parametrize("eps", [1e-6, 0.01])
def test_equals_torch_modules(eps):
    ours, theirs = randomised(LayerNorm(32, eps)), torch.nn.LayerNorm(32, eps)
    theirs.weight.data, theirs.bias.data = ours.gain.data, ours.bias.data
    torch.testing.assert_close(ours(X), theirs(X))
    ours, theirs = randomised(RMSNorm(32, eps)), torch.nn.RMSNorm(32, eps)
    theirs.weight.data = ours.gain.data
    torch.testing.assert_close(ours(X), theirs(X))


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
@pytest.mark.parametrize("gain", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_native_and_composed_agree_forward_and_backward(kind, gain, dtype):
    results = []
    for impl in ("composed", "native"):
        torch.manual_seed(3)
        norm = randomised(kind(32, gain=gain, impl=impl))
        x = X.to(dtype, copy=True).requires_grad_()
        y = norm(x)
        assert y.dtype == dtype
        y.float().square().sum().backward()
        results.append([y, x.grad, *(p.grad for p in norm.parameters())])
    tolerance = {} if dtype is torch.float32 else {"rtol": 0.05, "atol": 0.2}
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@pytest.mark.parametrize("norm", [LayerNorm(32), RMSNorm(32), RMSNorm(32, impl="native")])
def test_autocast_changes_no_output_dtype(norm):
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(X).dtype == torch.float32
        assert norm(X.bfloat16()).dtype == torch.bfloat16


def test_parameters_start_at_the_identity_and_can_be_switched_off():
    norm = LayerNorm(4)
    assert norm.gain.tolist() == [1] * 4
    assert norm.bias.tolist() == [0] * 4
    assert [n for n, _ in RMSNorm(4).named_parameters()] == ["gain"]  # the paper's has no bias
    assert [n for n, _ in PRMSNorm(4, bias=True).named_parameters()] == ["gain", "bias"]
    assert not list(LayerNorm(4, gain=False, bias=False).parameters())
    assert not list(NoNorm(4).parameters())


def test_none_is_the_identity():
    assert NoNorm(32)(X) is X


def test_prmsnorm_reads_the_first_k_only():
    norm = PRMSNorm(32)
    assert norm.k == 2
    changed = X.clone()
    changed[:, 2:] *= 5
    torch.testing.assert_close(norm(changed)[:, :2], norm(X)[:, :2])


@pytest.mark.parametrize("p", [0, -0.5, 1.01])
def test_p_outside_its_range_is_refused(p):
    with pytest.raises(UserError, match=r"norm\.p must be a fraction in \(0, 1\]"):
        PRMSNorm(8, p=p)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RMSNorm(8, impl="quick"), "norm.impl=quick does not exist for RMSNorm"),
        (lambda: PRMSNorm(8, impl="native"), "norm.impl=native does not exist for PRMSNorm"),
        (lambda: RMSNorm(8, impl="native", bias=True), "torch's rms_norm has no bias"),
        (lambda: LayerNorm(8, eps=-1.0), "norm.eps must be >= 0"),
        (lambda: LayerNorm(0), "dim >= 1"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_auto_takes_what_is_valid_on_the_device():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert LayerNorm(8).implementation(cpu) == "native"
    assert RMSNorm(8).implementation(cpu) == "composed"
    assert RMSNorm(8).implementation(cuda) == "native"
    assert RMSNorm(8, bias=True).implementation(cuda) == "composed"
    assert RMSNorm(8, impl="native").implementation(cpu) == "native"
