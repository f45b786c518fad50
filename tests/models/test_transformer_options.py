"""Options of the Transformer: norms of queries and keys, of the decoder, softmax, main branch."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from normlab.errors import UserError
from normlab.models.attention import join_heads, split_heads
from normlab.models.initialization import initialize
from normlab.models.transformer import Transformer
from normlab.norms import CRMSNorm, DyT, LayerNorm, Norm, RMSNorm, ScaleNorm

SRC = torch.tensor([[5, 6, 7, 8, 2], [9, 10, 2, 0, 0]])
LENGTHS = torch.tensor([5, 3])
TGT = torch.tensor([[1, 11, 12, 13], [1, 14, 15, 16]])


def make(norm=LayerNorm, seed=0, **changes):
    torch.manual_seed(seed)
    arguments = {
        "d_model": 16,
        "d_ff": 24,
        "heads": 4,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "norm_placement": "pre",
        "share_embeddings": True,
        "max_length": 16,
    }
    model = Transformer(20, norm, **arguments | changes)
    initialize(model, scheme="xavier_uniform", scale=1.0, mean=0.0, apply_to=[])
    return model


def logits(model):
    return F.linear(model.decode(model.encode(SRC, LENGTHS), TGT), *model.output_layer())


def step_by_step(model):
    state, found = model.initial_state(model.encode(SRC, LENGTHS)), []
    for tokens in TGT.t():
        scores, state = model.step(tokens, state)
        found.append(scores)
    return torch.stack(found, dim=1)


def randomised(model):
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Norm):
                for parameter in module.parameters():
                    parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def test_options_that_are_off_change_nothing():
    plain, off = make(), make(qk_norm=None, decoder_norm=None, tie_softmax=True)
    assert plain.state_dict().keys() == off.state_dict().keys()
    assert not any("query_norm" in name or "softmax" in name for name in plain.state_dict())
    assert torch.equal(logits(plain), logits(off))


@pytest.mark.parametrize("kind", [RMSNorm, LayerNorm, ScaleNorm, DyT])
def test_queries_and_keys_of_every_attention_are_normalised(kind):
    model = randomised(make(qk_norm=kind)).eval()
    names = [name for name, module in model.named_modules() if isinstance(module, kind)]
    assert sum("query_norm" in name for name in names) == 2 + 2 * 2
    torch.testing.assert_close(step_by_step(model), logits(model))
    attention, x = model.encoder[0].self_attention, torch.randn(2, 5, 16)
    q, k, v = (split_heads(part, 4) for part in attention.qkv(x).chunk(3, dim=-1))
    weights = (attention.query_norm(q) @ attention.key_norm(k).mT / 2).softmax(-1)
    got, _ = attention(x, None)
    torch.testing.assert_close(got, attention.out(join_heads(weights @ v)))


def test_normalised_queries_and_keys_bound_the_scores():
    """The scale of the projections, that makes attention saturate, changes nothing."""
    model = make(qk_norm=partial(RMSNorm, eps=0.0)).eval()
    before = logits(model)
    with torch.no_grad():
        for layer in [*model.encoder, *model.decoder]:
            layer.self_attention.qkv.weight[:32] *= 1000
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)


def test_the_decoder_may_have_another_norm():
    model = make(RMSNorm, decoder_norm=LayerNorm)
    kinds = {
        name.split(".")[0]: type(module)
        for name, module in model.named_modules()
        if isinstance(module, Norm)
    }
    assert kinds["encoder"] is kinds["encoder_norm"] is RMSNorm
    assert kinds["decoder"] is kinds["decoder_norm"] is LayerNorm


def test_an_untied_softmax_has_a_matrix_and_a_bias_of_its_own():
    model = make(tie_softmax=False)
    weight, bias = model.output_layer()
    assert weight is model.softmax.weight and weight is not model.tgt_embedding.weight
    assert bias is model.softmax.bias and not bias.any()
    assert model.roles()["softmax.weight"].kind == "softmax"
    assert model.src_embedding is model.tgt_embedding


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_layernorm_is_rmsnorm_on_a_recentred_branch_also_in_training(dropout):
    """A hundred steps from equal weights, with equal dropout masks."""
    models = [
        make(LayerNorm, dropout=dropout).double(),
        make(partial(RMSNorm, bias=True), dropout=dropout, main_branch="recentred").double(),
    ]
    models[1].load_state_dict(models[0].state_dict())
    labels = torch.tensor([[11, 12, 13, 2], [14, 15, 16, 2]])
    losses = []
    for model in models:
        torch.manual_seed(3)
        optimizer, of_model = torch.optim.SGD(model.parameters(), lr=0.05), []
        for _ in range(100):
            loss = F.cross_entropy(logits(model).flatten(0, 1), labels.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            of_model.append(loss.item())
        losses.append(of_model)
    assert losses[0][-1] < losses[0][0] / 2
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-9, atol=1e-9)
    ours, theirs = (model.eval().state_dict() for model in models)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(logits(models[1]), logits(models[0]))


@pytest.mark.parametrize("branch", ["zero_mean", "compressed"])
def test_dropout_in_training_leaves_the_mean_of_the_branch_at_zero(branch):
    model = make(RMSNorm, dropout=0.5, main_branch=branch)
    seen = []
    for layer in model.encoder:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.encode(SRC, LENGTHS)
    for x in seen:
        assert x.shape[-1] == model.width == 16 - (branch == "compressed")
        if branch == "zero_mean":
            torch.testing.assert_close(x.mean(-1), torch.zeros(2, 5), atol=1e-6, rtol=0)


def test_a_compressed_branch_trains_and_decodes():
    model = make(CRMSNorm, main_branch="compressed", tie_softmax=False).eval()
    torch.testing.assert_close(step_by_step(model), logits(model))
    logits(model).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("branch", ["recentred", "zero_mean", "compressed"])
def test_post_norm_has_no_such_branch(branch):
    with pytest.raises(UserError, match=f"main_branch={branch} needs norm_placement=pre"):
        make(norm_placement="post", main_branch=branch)
