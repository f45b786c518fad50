"""ConvPool-CNN-C: its shapes, where its norm and its biases stand."""

import pytest
import torch
from torch import nn

from normlab import norms
from normlab.models.convpool import Convolution, ConvPool
from normlab.models.initialization import initialize


def convpool(norm=norms.RMSNorm, **arguments):
    sizes = {"channels": 3, "classes": 10, "width": 4, "noise": 0.0, "dropout": 0.0}
    return ConvPool(norm=norm, **{**sizes, "channels_last": False, **arguments})


KINDS = [norms.NoNorm, norms.WeightNorm, norms.BatchNorm, norms.LayerNorm, norms.RMSNorm]


def test_the_papers_network_has_its_layers_and_number_of_weights():
    model = convpool(width=96)
    shapes = [tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert shapes == [
        (96, 3, 3, 3),
        (96, 96, 3, 3),
        (96, 96, 3, 3),
        (192, 96, 3, 3),
        (192, 192, 3, 3),
        (192, 192, 3, 3),
        (192, 192, 3, 3),
        (192, 192, 1, 1),
        (192, 192, 1, 1),
    ]
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("kind", KINDS)
def test_every_norm_gets_gradients_everywhere_and_has_one_bias_a_channel(kind):
    model = convpool(kind)
    initialize(model, scheme="xavier_uniform", scale=1.4, mean=0.0, apply_to=["matrices"])
    norms.reparameterise(model)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    for layer in model.modules():
        if isinstance(layer, Convolution):
            biases = [b for b in (layer.bias, layer.norm.bias) if b is not None]
            assert [b.numel() for b in biases] == [layer.convolution.out_channels]


@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_bf16_under_autocast_whatever_the_norm(kind):
    layer = Convolution(3, 4, kind, size=3, padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 3, 8, 8)).dtype == torch.bfloat16


def test_a_norm_sees_each_image_and_channel_alone():
    layer = Convolution(3, 4, norms.RMSNorm, size=3, padding=1)
    with torch.no_grad():
        y = layer.norm(layer.convolution(torch.randn(2, 3, 6, 6)))
    torch.testing.assert_close(y.square().mean((2, 3)), torch.ones(2, 4), rtol=1e-3, atol=0)


def test_batchnorm_sees_all_images_of_a_batch_as_torchs_does():
    layer = Convolution(3, 4, norms.BatchNorm, size=3, padding=1)
    theirs = nn.BatchNorm2d(4, eps=layer.norm.eps, momentum=layer.norm.momentum)
    x = layer.convolution(torch.randn(5, 3, 6, 6))
    torch.testing.assert_close(layer.norm(x), theirs(x))
    layer.eval(), theirs.eval()
    torch.testing.assert_close(layer.norm(x), theirs(x))


def test_an_image_times_a_number_has_the_same_logits_with_a_norm_only():
    images = torch.randn(2, 3, 32, 32)
    for kind, same in ((norms.RMSNorm, True), (norms.LayerNorm, True), (norms.NoNorm, False)):
        torch.manual_seed(1)
        model = convpool(kind).eval()
        initialize(model, scheme="xavier_uniform", scale=1.4, mean=0.0, apply_to=["matrices"])
        assert torch.allclose(model(images), model(3 * images), atol=1e-3) == same


def test_channels_last_changes_no_number():
    torch.manual_seed(1)
    model = convpool()
    images = torch.randn(2, 3, 32, 32)
    there = model(images)
    model.format = torch.channels_last
    torch.testing.assert_close(model(images), there, rtol=1e-4, atol=1e-5)


def test_noise_and_dropout_act_in_training_only():
    model = convpool(noise=0.5, dropout=0.5)
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))
    noisy = convpool(noise=0.5)
    assert not torch.equal(noisy(images), noisy(images))


def test_roles_are_all_weights():
    model = convpool()
    weights = {name for name, p in model.named_parameters() if p.dim() > 1 and "bias" not in name}
    assert set(model.roles()) == weights
    assert initialize(
        model, scheme="xavier_uniform", scale=1.0, mean=0.2, apply_to=["matrices"]
    ) == sorted(weights - {"dense.weight"}, key=list(model.roles()).index)
