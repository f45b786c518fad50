"""Norms over positions: torch's on unpadded input, padding changes nothing, no decoder has them."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from normlab.errors import UserError
from normlab.models.rnnsearch import RNNSearch
from normlab.models.transformer import Transformer
from normlab.norms import BatchNorm, GroupNorm, InstanceNorm, LayerNorm

X = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(1)) * 2 + 0.5
IMAGES = torch.randn(2, 12, 4, 5, generator=torch.Generator().manual_seed(2)) + 1
KINDS = {
    "batchnorm": BatchNorm,
    "groupnorm": partial(GroupNorm, groups=4),
    "instancenorm": InstanceNorm,
}
every_kind = pytest.mark.parametrize("name", KINDS)


def randomised(norm):
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(-1, 2)
    return norm


def torchs(name, x, norm, eps=1e-6):
    """Returns torch's result of x (batch, features, ...)."""
    if name == "batchnorm":
        return F.batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=eps)
    if name == "groupnorm":
        return F.group_norm(x, 4, norm.weight, norm.bias, eps)
    return F.instance_norm(x, weight=norm.weight, bias=norm.bias, eps=eps)


@every_kind
def test_equals_torchs_norm_on_unpadded_text(name):
    norm = randomised(KINDS[name](12))
    torch.testing.assert_close(norm(X), torchs(name, X.mT, norm).mT)
    everything = torch.ones(3, 7, dtype=torch.bool)
    torch.testing.assert_close(norm(X, everything), torchs(name, X.mT, norm).mT)


@every_kind
def test_equals_torchs_norm_on_images(name):
    norm = randomised(KINDS[name](12, axes=(-2, -1), parameter_axis=-3))
    torch.testing.assert_close(norm(IMAGES), torchs(name, IMAGES, norm))


@every_kind
@pytest.mark.parametrize("filling", [0.0, 1e4])
def test_what_stands_at_padded_positions_changes_no_result(name, filling):
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3, [True] + [False] * 6])
    padded = X.masked_fill(~mask[..., None], filling)
    longer = torch.cat((padded, torch.full((3, 2, 12), filling)), dim=1)
    more = torch.cat((mask, torch.zeros(3, 2, dtype=torch.bool)), dim=1)
    norm = randomised(KINDS[name](12))
    expected = norm(X, mask)[mask]
    torch.testing.assert_close(norm(padded, mask)[mask], expected)
    torch.testing.assert_close(norm(longer, more)[more], expected)
    if name == "batchnorm":  # as if the real positions stood alone
        alone = F.batch_norm(X[mask], None, None, norm.weight, norm.bias, training=True, eps=1e-6)
    else:  # as if each sentence stood alone
        alone = torch.cat([norm(x[None, : m.sum()])[0] for x, m in zip(X, mask, strict=True)])
    torch.testing.assert_close(expected, alone, rtol=1e-4, atol=1e-4)


def test_running_statistics_are_torchs_and_used_in_evaluation():
    ours, theirs = BatchNorm(12, momentum=0.3), torch.nn.BatchNorm1d(12, eps=1e-6, momentum=0.3)
    for seed in range(4):
        x = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(seed)) * 3 + seed
        ours(x)
        theirs(x.mT)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    ours.eval(), theirs.eval()
    before = ours.running_mean.clone()
    torch.testing.assert_close(ours(X), theirs(X.mT).mT)
    torch.testing.assert_close(ours(X)[:1], ours(X[:1]))  # a sentence does not see its batch
    assert torch.equal(ours.running_mean, before)


def test_running_statistics_see_no_padding():
    norm, mask = BatchNorm(12, momentum=1.0), torch.arange(7) < torch.tensor([[7], [4], [2]])
    norm(X.masked_fill(~mask[..., None], 99.0), mask)
    torch.testing.assert_close(norm.running_mean, X[mask].mean(0))
    torch.testing.assert_close(norm.running_var, X[mask].var(0))


def test_a_batch_of_one_position_is_no_division_by_zero():
    norm = BatchNorm(12)
    assert norm(X[:1, :1]).isfinite().all() and norm.running_var.isfinite().all()
    assert norm(X[:1], torch.zeros(1, 7, dtype=torch.bool)).isfinite().all()


@every_kind
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_are_fp32_and_the_dtype_stays(name, dtype):
    x, norm = (X * 300).to(dtype), KINDS[name](12)
    y = norm(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, KINDS[name](12).double()(x.double()).to(dtype))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GroupNorm(12, groups=5), "groups=5 does not divide the 12 features"),
        (lambda: GroupNorm(12, groups=0), "groups=0 does not divide"),
        (lambda: BatchNorm(12, momentum=0.0), r"momentum=0.0 is out of range"),
        (lambda: BatchNorm(12, impl="native"), "impl=native does not exist for BatchNorm"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


def transformer(norm, **changes):
    sizes = {"d_model": 12, "d_ff": 8, "heads": 2, "encoder_layers": 2, "decoder_layers": 1}
    return Transformer(
        20,
        norm,
        **sizes,
        dropout=0.0,
        attention_dropout=0.0,
        share_embeddings=True,
        max_length=16,
        **{"norm_placement": "pre"} | changes,
    )


@every_kind
def test_decoders_and_recurrent_networks_refuse_it_in_one_sentence(name):
    with pytest.raises(UserError, match="takes statistics over positions.*decoder_norm"):
        transformer(KINDS[name])
    with pytest.raises(UserError, match="takes statistics over positions"):
        RNNSearch(
            20,
            KINDS[name],
            d_embedding=12,
            d_hidden=12,
            dropout=0.0,
            share_embeddings=True,
            max_length=9,
        )
    with pytest.raises(UserError, match="qk_norm=.* takes statistics over positions"):
        transformer(LayerNorm, qk_norm=lambda dim: KINDS[name](12))


@every_kind
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_in_an_encoder_padding_changes_no_feature_and_no_later_token_an_earlier_one(
    name, placement
):
    model = transformer(KINDS[name], norm_placement=placement, decoder_norm=LayerNorm)
    src, lengths = torch.tensor([[5, 6, 7, 2], [8, 2, 0, 0]]), torch.tensor([4, 2])
    wider = torch.cat((src, torch.zeros(2, 3, dtype=torch.long)), dim=1)
    narrow, wide = model.encode(src, lengths), model.encode(wider, lengths)
    real = src != 0
    torch.testing.assert_close(narrow.features[real], wide.features[:, :4][real])
    tgt = torch.tensor([[1, 9, 10], [1, 11, 12]])
    changed = tgt.clone()
    changed[:, 2] = 13
    torch.testing.assert_close(
        model.decode(narrow, tgt)[:, :2], model.decode(narrow, changed)[:, :2]
    )
