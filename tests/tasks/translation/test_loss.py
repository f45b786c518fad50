"""The chunked projection and loss equal the ones written out."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from normlab.tasks.translation import loss
from normlab.tasks.translation.loss import token_loss


@pytest.fixture(params=[1, 20, 10**6], ids=["row by row", "two rows", "one chunk"])
def chunk(request, monkeypatch):
    monkeypatch.setitem(loss.CHUNK_ELEMENTS, "cpu", request.param)


def inputs(dtype=torch.float64):
    torch.manual_seed(8)
    features, weight = torch.randn(7, 4, dtype=dtype), torch.randn(10, 4, dtype=dtype)
    return features, weight, torch.randn(10, dtype=dtype), torch.randint(0, 10, (7,))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_cross_entropy(chunk, smoothing, with_bias):
    features, weight, bias, labels = inputs()
    leaves = [features, weight] + [bias] * with_bias
    gradients = []
    for fused in (True, False):
        a = [x.clone().requires_grad_() for x in leaves]
        b = a[2] if with_bias else None
        if fused:
            total, nll = token_loss(a[0], a[1], b, labels, smoothing)
        else:
            logits = F.linear(a[0], a[1], b)
            total = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
            expected = (total.item(), F.cross_entropy(logits, labels, reduction="sum").item())
        (total / 3).backward()
        gradients.append([x.grad for x in a])
    assert (total.item(), nll.item()) == pytest.approx(expected)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradcheck(chunk):
    features, weight, bias, labels = inputs()
    leaves = [x.requires_grad_() for x in (features, weight, bias)]
    assert torch.autograd.gradcheck(lambda *x: token_loss(*x, labels, 0.1)[0], leaves)


def test_bf16_autocast_is_close_and_keeps_gradient_dtypes():
    features, weight, bias, labels = inputs(torch.float32)
    exact, _ = token_loss(features, weight, bias, labels, 0.1)
    features.requires_grad_(), weight.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = token_loss(features, weight, bias, labels, 0.1)
    rough.backward()
    assert rough.item() == pytest.approx(exact.item(), rel=0.02)
    assert rough.dtype == features.grad.dtype == weight.grad.dtype == torch.float32


def test_huge_logits_stay_finite():
    features, weight, _, labels = inputs(torch.float32)
    total, nll = token_loss(features * 1e4, weight, None, labels, 0.1)
    assert total.isfinite() and nll.isfinite()


def test_evaluation_makes_no_gradients():
    features, weight = torch.randn(30, 8), torch.randn(50, 8, requires_grad=True)
    labels, flops = torch.randint(50, (30,)), {}
    for training in (True, False):
        with FlopCounterMode(display=False) as counter, torch.inference_mode(not training):
            token_loss(features, weight, None, labels, 0.1)
        flops[training] = counter.get_total_flops()
    assert flops[True] > flops[False] == 2 * 30 * 8 * 50  # the logits only
