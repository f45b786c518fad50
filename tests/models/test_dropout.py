"""Our CPU dropout is a dropout."""

import pytest
import torch

from normlab.models.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_drops_a_share_of_p_and_keeps_the_mean(p):
    torch.manual_seed(5)
    y = Dropout(p)(torch.ones(400_000))
    dropped = (y == 0).double().mean()
    assert abs(dropped - p) < 5 * (p * (1 - p) / y.numel()) ** 0.5
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - p)))


def test_neighbours_are_independent():
    torch.manual_seed(6)
    dropped = (Dropout(0.5)(torch.ones(400_000)) == 0).double()
    for distance in (1, 2, 3, 4):
        both = (dropped[:-distance] * dropped[distance:]).mean()
        assert abs(both - 0.25) < 0.005


def test_gradient_passes_where_the_input_did():
    x = torch.ones(7, 3, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_same_seed_same_mask_and_none_outside_training():
    x = torch.ones(5, 5)
    layer = Dropout(0.5)
    torch.manual_seed(7)
    first = layer(x)
    torch.manual_seed(7)
    assert torch.equal(first, layer(x))
    assert layer.eval()(x) is x
