"""The initialisation: base schemes, and a mean that moves exactly what was chosen."""

import math

import pytest
import torch

from normlab.errors import UserError
from normlab.models.initialization import initialize
from normlab.models.transformer import Transformer
from normlab.norms import LayerNorm


def make(d_model=64):
    return Transformer(
        50, LayerNorm, d_model=d_model, d_ff=128, heads=4, encoder_layers=1, decoder_layers=1,
        dropout=0.0, attention_dropout=0.0, norm_placement="post", share_embeddings=False,
        max_length=16,
    )  # fmt: skip


def matrices(model):
    return {name: p for name, p in model.named_parameters() if p.dim() == 2}


@pytest.mark.parametrize("scheme", ["xavier_uniform", "uniform", "normal"])
@pytest.mark.parametrize("mean", [0.0, 0.2])
def test_empirical_mean_of_every_matrix(scheme, mean):
    model = make()
    shifted = initialize(model, scheme=scheme, scale=0.5, mean=mean, apply_to=["matrices"])
    for name, weight in matrices(model).items():
        expected = mean if name in shifted else 0.0
        four_sigma = 4 * weight.std() / math.sqrt(weight.numel())
        assert abs(weight.mean() - expected) < four_sigma, name
        assert (name in shifted) == ("embedding" not in name)


@pytest.mark.parametrize(
    ("scheme", "embeddings", "others"),
    [
        ("xavier_uniform", 64**-0.5, 0.5 * (2 / (64 + 64)) ** 0.5),
        ("uniform", 0.5 / 3**0.5, 0.5 / 3**0.5),
        ("normal", 0.5, 0.5),
    ],
)
def test_empirical_spread_of_every_matrix(scheme, embeddings, others):
    model = make(d_model=64)
    initialize(model, scheme=scheme, scale=0.5, mean=0.2, apply_to=["matrices"])
    for name, weight in matrices(model).items():
        if "embedding" not in name and weight.shape != (64, 64):
            continue
        expected = embeddings if "embedding" in name else others
        assert weight.std().item() == pytest.approx(expected, rel=0.1), name


@pytest.mark.parametrize(
    ("apply_to", "chosen"),
    [
        (["all"], {"attention", "feed_forward", "embeddings"}),
        (["embeddings"], {"embeddings"}),
        (["attention", "embeddings"], {"attention", "embeddings"}),
        ([], set()),
    ],
)
def test_apply_to_chooses_by_role(apply_to, chosen):
    model = make()
    shifted = initialize(model, scheme="uniform", scale=0.1, mean=1.0, apply_to=apply_to)
    roles = model.roles()
    assert {roles[name].kind for name in shifted} == chosen
    for name, weight in matrices(model).items():
        assert (weight.mean() > 0.9) == (roles[name].kind in chosen)


def test_joined_matrices_are_initialised_one_by_one():
    model = make()
    initialize(model, scheme="xavier_uniform", scale=1.0, mean=0.0, apply_to=["matrices"])
    bound = math.sqrt(6 / (64 + 64))  # of a 64 x 64 block, not of the joined 192 x 64
    qkv = model.encoder[0].self_attention.qkv.weight
    assert 0.98 * bound < qkv.abs().max() <= bound


def test_gains_stay_one_and_biases_zero():
    model = make()
    initialize(model, scheme="normal", scale=0.1, mean=0.2, apply_to=["all"])
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert parameter.abs().max() == 0, name
        if name.endswith("norm.weight"):
            assert torch.equal(parameter, torch.ones_like(parameter)), name


def test_same_seed_same_weights():
    states = []
    for _ in range(2):
        torch.manual_seed(4)
        model = make()
        initialize(model, scheme="xavier_uniform", scale=1.0, mean=0.1, apply_to=["all"])
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_unknown_roles_are_named():
    with pytest.raises(UserError, match="apply_to=atention names no weights"):
        initialize(make(), scheme="normal", scale=1.0, mean=0.0, apply_to=["atention"])
