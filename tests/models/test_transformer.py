"""The Transformer: its norms, positions and sizes; test_seq2seq_contract.py has what it shares."""

import math
from functools import partial

import pytest
import torch

from normlab.errors import UserError
from normlab.models.network import Role
from normlab.models.transformer import Transformer, sinusoidal_positions
from normlab.norms import LayerNorm, Norm, RMSNorm

VOCAB = 20


def make(norm=RMSNorm, **changes):
    arguments = {
        "d_model": 16,
        "d_ff": 24,
        "heads": 4,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "norm_placement": "post",
        "share_embeddings": True,
        "max_length": 32,
    }
    torch.manual_seed(1)
    return Transformer(VOCAB, norm, **{**arguments, **changes}).double()


SRC = torch.tensor([[5, 6, 7, 8, 2], [9, 10, 2, 0, 0]])
LENGTHS = torch.tensor([5, 3])
TGT = torch.tensor([[1, 11, 12, 13], [1, 14, 15, 16]])


def logits(model, src=SRC, lengths=LENGTHS, tgt=TGT):
    return torch.nn.functional.linear(
        model.decode(model.encode(src, lengths), tgt), *model.output_layer()
    )


both = pytest.mark.parametrize("placement", ["post", "pre"])


@pytest.mark.parametrize(
    ("placement", "count"),
    # two an encoder layer and three a decoder layer; pre-norm has one more after each stack
    [("post", 2 * 2 + 2 * 3), ("pre", 2 * 2 + 2 * 3 + 2)],
)
def test_number_of_norms(placement, count):
    model = make(norm_placement=placement)
    assert sum(isinstance(m, RMSNorm) for m in model.modules()) == count


def test_post_norm_output_is_normalised():
    features = make(norm_placement="post").decode(make().encode(SRC, LENGTHS), TGT)
    rms = features.square().mean(-1).sqrt()
    torch.testing.assert_close(rms, torch.ones_like(rms), rtol=1e-4, atol=1e-4)


class TorchLayerNorm(Norm):
    def __init__(self, dim):
        super().__init__(dim)
        self.inner = torch.nn.LayerNorm(dim)

    def forward(self, x, mask=None):
        return self.inner(x)


@both
def test_a_module_of_torch_becomes_a_norm_by_a_subclass(placement):
    ours = make(partial(LayerNorm, eps=1e-5), norm_placement=placement)
    theirs = make(TorchLayerNorm, norm_placement=placement)
    torch.testing.assert_close(logits(theirs), logits(ours))


def test_what_is_no_norm_is_refused():
    with pytest.raises(TypeError, match="must return a normlab.norms.Norm, got LayerNorm"):
        make(torch.nn.LayerNorm)


def test_every_parameter_learns():
    model = make(partial(LayerNorm, bias=True), share_embeddings=False)
    logits(model).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_embeddings_are_shared_or_not():
    shared, separate = make(), make(share_embeddings=False)
    assert shared.src_embedding.weight is shared.tgt_embedding.weight
    assert shared.output_layer()[0] is shared.tgt_embedding.weight
    assert separate.src_embedding.weight is not separate.tgt_embedding.weight
    assert separate.output_layer()[0] is separate.tgt_embedding.weight


def test_positions_are_sines_then_cosines():
    positions = sinusoidal_positions(7, 6)
    assert positions[0].tolist() == [0, 0, 0, 1, 1, 1]
    assert math.isclose(positions[5, 0], math.sin(5), rel_tol=1e-5)
    assert math.isclose(positions[5, 5], math.cos(5 / 10_000), rel_tol=1e-5)


def test_every_weight_matrix_has_a_role():
    model = make(share_embeddings=False)
    matrices = {name for name, p in model.named_parameters() if p.dim() == 2}
    roles = model.roles()
    assert set(roles) == matrices
    assert roles["encoder.0.self_attention.qkv.weight"] == Role("attention", 3, orthogonal=True)
    assert roles["decoder.1.cross_attention.key_value.weight"] == Role(
        "attention", 2, orthogonal=True
    )
    assert roles["src_embedding.weight"] == Role("embeddings")
    assert roles["encoder.0.feed_forward.0.weight"] == Role("feed_forward")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "d_model=16 must be even and divisible by heads=3"),
        ({"norm_placement": "middle"}, "norm_placement must be post or pre"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)


def test_a_sentence_beyond_the_positions_is_refused():
    model = make(max_length=4)
    with pytest.raises(UserError, match="5 tokens exceeds max_length=4"):
        model.encode(SRC, LENGTHS)
