"""The layers: arguments, parameters, implementations that agree, one output dtype."""

import itertools
from functools import partial

import pytest
import torch
from torch.nn.modules import module as torch_module

from normlab.errors import UserError
from normlab.norms import (
    L2Norm,
    LayerNorm,
    NoNorm,
    Norm,
    PRMSNorm,
    RMSNorm,
    WeightNorm,
    functional,
    kernels,
)

HOOKS = {  # name: what registers a hook, on the module or for all modules
    "forward": lambda norm, hook: norm.register_forward_hook(hook),
    "pre-forward": lambda norm, hook: norm.register_forward_pre_hook(hook),
    "backward": lambda norm, hook: norm.register_full_backward_hook(hook),
    "pre-backward": lambda norm, hook: norm.register_full_backward_pre_hook(hook),
    "global forward": lambda _, hook: torch_module.register_module_forward_hook(hook),
    "global pre-forward": lambda _, hook: torch_module.register_module_forward_pre_hook(hook),
}
X = torch.randn(6, 32, generator=torch.Generator().manual_seed(2)) * 2 + 0.5


def randomised(norm):
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(-1, 2)
    return norm


@pytest.mark.parametrize("eps", [1e-6, 0.01])
def test_equals_torch_modules(eps):
    ours, theirs = randomised(LayerNorm(32, eps)), torch.nn.LayerNorm(32, eps)
    theirs.weight.data, theirs.bias.data = ours.weight.data, ours.bias.data
    torch.testing.assert_close(ours(X), theirs(X))
    ours, theirs = randomised(RMSNorm(32, eps)), torch.nn.RMSNorm(32, eps)
    theirs.weight.data = ours.weight.data
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


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm, PRMSNorm])
@pytest.mark.parametrize("impl", ["composed", "auto"])
def test_the_norm_of_a_sum(kind, impl):
    norm = randomised(kind(32, impl=impl))
    x, y = X.clone().requires_grad_(), X.flip(0).requires_grad_()
    inputs = (x, y, *norm.parameters())
    got, expected = norm.of_sum(x, y), norm(x + y)
    torch.testing.assert_close(got, expected)
    got, expected = (torch.autograd.grad(z.square().sum(), inputs) for z in (got, expected))
    torch.testing.assert_close(got, expected)
    assert norm.of_sum(x, y.bfloat16()).dtype == torch.float32  # as x + y has


def test_a_norm_without_kernels_adds_before_it_normalises():
    class Shift(Norm):
        def forward(self, x, mask=None):
            return x + 1

    norm = Shift(32)
    assert (norm.axes, norm.parameter_axis) == ((-1,), -1)
    torch.testing.assert_close(norm.of_sum(X, 2 * X), 3 * X + 1)


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm, PRMSNorm, L2Norm])
def test_the_last_axis_is_normalised_unless_others_are_named(kind):
    """Each vector by itself: in a batch of three axes as alone, also where all sizes are equal."""
    norm, x = randomised(kind(6)), torch.randn(6, 6, 6)
    torch.testing.assert_close(norm(x)[3, 4], norm(x[3, 4]))
    torch.testing.assert_close(norm(x)[:, 2:3], norm(x[:, 2:3]))


def test_a_layer_says_what_it_is():
    assert repr(LayerNorm(4)) == "LayerNorm(4, eps=1e-06, gain=True, bias=True, impl=auto)"
    assert "bias=False" in repr(RMSNorm(4)) and "p=0.5, k=2" in repr(PRMSNorm(4, p=0.5))


@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_see_the_norm_of_a_sum(hook):
    norm, seen = RMSNorm(32), []
    handle = HOOKS[hook](norm, lambda *_: seen.append(hook))
    try:
        norm.of_sum(X.clone().requires_grad_(), X).sum().backward()
    finally:
        handle.remove()
    assert seen == [hook]


@pytest.mark.parametrize("impl", ["auto", "composed"])
def test_a_sum_that_broadcasts_is_taken_before_the_norm(impl):
    norm = randomised(RMSNorm(32, impl=impl))
    torch.testing.assert_close(norm.of_sum(X, X[:1]), norm(X + X[:1]))


class Doubled(RMSNorm):
    def forward(self, x, mask=None):
        return 2 * super().forward(x, mask)


class Cubed(RMSNorm):
    def composed(self, x, weight, bias):
        return super().composed(x, weight, bias) ** 3


@pytest.mark.parametrize("kind", [Doubled, Cubed])
def test_a_subclass_with_a_formula_of_its_own_has_no_kernel_unless_it_names_one(kind):
    norm, plain = kind(32), RMSNorm(32, impl="composed")
    expected = 2 * plain(X + X) if kind is Doubled else plain(X + X) ** 3
    assert norm.implementation(X.device) == "composed"
    torch.testing.assert_close(norm.of_sum(X, X), expected)
    torch.testing.assert_close(norm(X + X), expected)
    with pytest.raises(UserError, match=f"impl=fused does not exist for {kind.__name__}"):
        kind(32, impl="fused")


def test_a_forward_that_is_replaced_on_the_instance_is_called():
    norm = RMSNorm(32)
    norm.forward = lambda x, mask=None: x
    assert torch.equal(norm.of_sum(X, X), X + X)


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm, PRMSNorm, L2Norm])
@pytest.mark.parametrize("shape", [(1, 256), (64, 32), ()])
def test_inputs_of_another_size_are_refused(kind, shape):
    norm, x = kind(64), torch.ones(shape)
    message = f"{kind.__name__}: x must have size 64 in axis -1, got x of shape"
    for call in (lambda: norm(x), lambda: norm.of_sum(x, x)):
        with pytest.raises(RuntimeError, match=message):
            call()


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
def test_state_dicts_exchange_with_torch_in_both_directions(kind):
    ours, theirs = randomised(kind(32)), randomised(getattr(torch.nn, kind.__name__)(32))
    state = {name: value.clone() for name, value in ours.state_dict().items()}
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(state)
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, state[name])
    assert ours.state_dict().keys() == theirs.state_dict().keys() == state.keys()


IMAGES = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(
    ("name", "impl"),
    [
        ("l2norm", "composed"),
        *itertools.product(("layernorm", "rmsnorm", "prmsnorm"), ("composed", "fused")),
    ],
)
def test_images_are_normalised_over_height_and_width_with_parameters_for_each_channel(name, impl):
    if impl == "fused" and (problem := kernels.problem("cpu")):
        pytest.skip(problem)
    kind, formula = {
        "layernorm": (LayerNorm, functional.layer_norm),
        "rmsnorm": (RMSNorm, functional.rms_norm),
        # p = 0.1 of 20 inputs: the first two pixels of a channel, not of the three channels
        "prmsnorm": (partial(PRMSNorm, p=0.1), partial(functional.prms_norm, k=2)),
        "l2norm": (L2Norm, functional.l2_norm),
    }[name]
    norm = randomised(kind(3, bias=True, impl=impl, axes=(-2, -1), parameter_axis=-3))
    for x in (IMAGES, IMAGES.to(memory_format=torch.channels_last)):
        y = norm(x)
        for sample in range(2):
            for channel in range(3):
                pixels = formula(IMAGES[sample, channel].flatten(), None, None, eps=1e-6).view(4, 5)
                expected = pixels * norm.weight[channel] + norm.bias[channel]
                torch.testing.assert_close(y[sample, channel], expected)
    assert norm(IMAGES.bfloat16()).dtype == torch.bfloat16
    assert norm(IMAGES).is_contiguous()  # and channels_last stays channels_last
    last = IMAGES.to(memory_format=torch.channels_last)
    assert norm(last).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(norm(IMAGES[0]), norm(IMAGES)[0])  # an image without a batch
    several = torch.stack((IMAGES, -IMAGES))
    torch.testing.assert_close(norm(several)[1], norm(-IMAGES))


@pytest.mark.skipif(kernels.problem("cpu") is not None, reason="no kernels")
def test_auto_takes_the_kernel_for_images_on_a_cpu():
    layout = {"axes": (-2, -1), "parameter_axis": -3}
    for kind in (LayerNorm, RMSNorm, PRMSNorm):
        assert kind(3, **layout).implementation(torch.device("cpu")) == "fused"
        assert kind(3, **layout).implementation(torch.device("cuda")) == "composed"
    assert RMSNorm(5, axes=(-2, -1), parameter_axis=-1)(IMAGES).shape == IMAGES.shape
    with pytest.raises(UserError, match="over height and width there is no kernel for cuda"):
        RMSNorm(3, impl="fused", **layout).implementation(torch.device("cuda"))


def test_other_axes_are_checked_and_have_no_kernel_by_name():
    norm = RMSNorm(3, axes=(-2, -1), parameter_axis=-3)
    with pytest.raises(RuntimeError, match="x must have size 3 in axis -3, got x of shape"):
        norm(torch.ones(2, 4, 5, 5))
    with pytest.raises(RuntimeError, match="x must have size 3 in axis -3"):
        norm(torch.ones(5, 5))
    with pytest.raises(UserError, match=r"native is not for norms over axes \(-2, -1\) with"):
        RMSNorm(3, impl="native", axes=(-2, -1), parameter_axis=-3)
    with pytest.raises(UserError, match=r"fused is not for norms over axes \(-2,\) with"):
        RMSNorm(3, impl="fused", axes=(-2,))


@pytest.mark.parametrize("norm", [LayerNorm(32), RMSNorm(32), RMSNorm(32, impl="native")])
def test_autocast_changes_no_output_dtype(norm):
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(X).dtype == torch.float32
        assert norm(X.bfloat16()).dtype == torch.bfloat16


def test_parameters_start_at_the_identity_and_can_be_switched_off():
    norm = LayerNorm(4)
    assert norm.weight.tolist() == [1] * 4
    assert norm.bias.tolist() == [0] * 4
    assert [n for n, _ in RMSNorm(4).named_parameters()] == ["weight"]  # the paper's has no bias
    assert [n for n, _ in PRMSNorm(4, bias=True).named_parameters()] == ["weight", "bias"]
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
    with pytest.raises(UserError, match=r"p must be a fraction in \(0, 1\]"):
        PRMSNorm(8, p=p)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RMSNorm(8, impl="quick"), "impl=quick does not exist for RMSNorm"),
        (
            lambda: PRMSNorm(8, impl="native"),
            "impl=native does not exist for PRMSNorm: choose one of auto, composed, fused",
        ),
        (lambda: RMSNorm(8, impl="native", bias=True), "torch's rms_norm has no bias"),
        (lambda: LayerNorm(8, eps=-1.0), "eps must be >= 0"),
        (lambda: LayerNorm(0), "dim must be >= 1, got 0"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_without_fused_kernels_auto_takes_what_is_valid_on_the_device(monkeypatch):
    monkeypatch.setattr(kernels, "problem", lambda device, dim=1: "no compiler")
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert LayerNorm(8).implementation(cpu) == "native"
    assert RMSNorm(8).implementation(cpu) == "composed"
    assert RMSNorm(8).implementation(cuda) == "native"
    assert RMSNorm(8, bias=True).implementation(cuda) == "composed"
    assert RMSNorm(8, impl="native").implementation(cpu) == "native"


def test_l2norm_has_a_gain_and_no_bias():
    norm = L2Norm(32)
    assert [n for n, _ in norm.named_parameters()] == ["weight"]
    torch.testing.assert_close(norm(X).norm(dim=-1), torch.ones(6))
    with torch.no_grad():
        norm.weight.fill_(3)
    torch.testing.assert_close(norm(X).norm(dim=-1), torch.full((6,), 3.0))


def reparameterised():
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 3), WeightNorm(3))
    before = model[1].weight.detach().clone()
    WeightNorm.reparameterise(model)
    return model, before


def test_weightnorm_keeps_values_and_reparameterises_linear_weights_only():
    model, before = reparameterised()
    torch.testing.assert_close(model[1].weight, before)
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {
        "0.weight": (5, 4),
        "1.bias": (3,),
        "1.parametrizations.weight.original0": (3, 1),  # g, a length for each row
        "1.parametrizations.weight.original1": (3, 4),  # v
    }
    assert WeightNorm(3)(X) is X


def test_weightnorm_is_g_v_over_the_length_of_v():
    model, before = reparameterised()
    g, v = model[1].parametrizations.weight.original0, model[1].parametrizations.weight.original1
    with torch.no_grad():
        v *= 7  # a direction only: its length changes nothing
        g *= 2
    torch.testing.assert_close(model[1].weight, 2 * before)
    torch.testing.assert_close(model[1].weight, g * v / v.norm(dim=1, keepdim=True))
    model[1].weight.square().sum().backward()
    torch.testing.assert_close((v.grad * v).sum(1), torch.zeros(3), atol=1e-6, rtol=0)
