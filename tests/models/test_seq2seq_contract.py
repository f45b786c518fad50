"""What every Seq2Seq model owes those who train it and search with it, whatever its norm."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from normlab.models.initialization import initialize
from normlab.models.rnnsearch import RNNSearch
from normlab.models.transformer import Transformer
from normlab.norms import LayerNorm, NoNorm, PRMSNorm, RMSNorm
from normlab.tasks.translation.search import reorder

VOCAB = 20
SRC = torch.tensor([[5, 6, 7, 8, 2], [9, 10, 2, 0, 0], [4, 2, 0, 0, 0]])
LENGTHS = torch.tensor([5, 3, 2])
TGT = torch.tensor([[1, 11, 12, 13], [1, 14, 15, 16], [1, 17, 18, 19]])

TRANSFORMER = partial(
    Transformer, VOCAB, d_model=16, d_ff=24, heads=4, encoder_layers=2, decoder_layers=2,
    dropout=0.3, attention_dropout=0.3, share_embeddings=True, max_length=32,
)  # fmt: skip
RNNSEARCH = partial(RNNSearch, VOCAB, d_embedding=6, d_hidden=8, dropout=0.3, max_length=32)
MODELS = {
    "transformer, post-norm": partial(TRANSFORMER, norm_placement="post"),
    "transformer, pre-norm": partial(TRANSFORMER, norm_placement="pre"),
    "rnnsearch": partial(RNNSEARCH, share_embeddings=False),
    "rnnsearch, tied": partial(RNNSEARCH, share_embeddings=True),
}
NORMS = {"none": NoNorm, "layernorm": LayerNorm, "rmsnorm": RMSNorm, "prmsnorm": PRMSNorm}


@pytest.fixture(params=NORMS)
def norm(request):
    return NORMS[request.param]


@pytest.fixture(params=MODELS)
def model(request, norm):
    """Returns an initialised model in double precision, in evaluation mode."""
    torch.manual_seed(1)
    model = MODELS[request.param](norm=norm)
    initialize(model, scheme="xavier_uniform", scale=1.0, mean=0.0, apply_to=["matrices"])
    return model.double().eval()


def logits(model, src=SRC, lengths=LENGTHS, tgt=TGT):
    return F.linear(model.decode(model.encode(src, lengths), tgt), *model.output_layer())


def by_steps(model, state, tgt):
    """Returns the logits (rows, tgt_len, vocab) of one step per target position, and the state."""
    steps = []
    for tokens in tgt.unbind(1):
        step, state = model.step(tokens, state)
        steps.append(step)
    return torch.stack(steps, dim=1), state


def test_shapes(model):
    features = model.decode(model.encode(SRC, LENGTHS), TGT)
    weight, bias = model.output_layer()
    assert features.shape == (3, 4, weight.shape[1])
    assert weight.shape[0] == VOCAB and (bias is None or bias.shape == (VOCAB,))
    step, _ = model.step(TGT[:, 0], model.initial_state(model.encode(SRC, LENGTHS)))
    assert step.shape == (3, VOCAB)
    assert model.max_length == 32


def test_what_stands_in_the_padding_changes_nothing(model):
    other = SRC.clone()
    other[1, 3:], other[2, 2:] = 17, 18
    torch.testing.assert_close(logits(model, src=other), logits(model))


def test_more_padding_changes_nothing(model):
    wider = torch.cat((SRC, torch.full((3, 4), 18)), dim=1)
    torch.testing.assert_close(logits(model, src=wider), logits(model))


def test_a_sentence_is_computed_alike_alone_and_in_a_batch(model):
    together = logits(model)
    for i, length in enumerate(LENGTHS.tolist()):
        row = slice(i, i + 1)
        alone = logits(model, SRC[row, :length], LENGTHS[row], TGT[row])
        torch.testing.assert_close(alone, together[row])


def test_every_source_token_matters(model):
    before = logits(model)[0]
    for position in range(5):
        changed = SRC.clone()
        changed[0, position] = 3
        assert not torch.allclose(logits(model, src=changed)[0], before, atol=1e-9)


def test_later_target_tokens_change_no_earlier_logit(model):
    changed = TGT.clone()
    changed[:, 2:] = 3
    before, after = logits(model), logits(model, tgt=changed)
    torch.testing.assert_close(before[:, :2], after[:, :2], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(before[:, 2:], after[:, 2:])


def test_step_by_step_equals_all_at_once(model):
    state = model.initial_state(model.encode(SRC, LENGTHS))
    torch.testing.assert_close(by_steps(model, state, TGT)[0], logits(model))


def test_a_states_rows_can_be_repeated_reordered_and_dropped(model):
    """As beam search does: two hypotheses per sentence, then another order, then one sentence."""
    state = model.initial_state(model.encode(SRC, LENGTHS))
    _, state = by_steps(model, state, TGT[:, :1])
    twice = state._replace(past=reorder(state.past, torch.tensor([0, 0, 1, 1, 2, 2])))
    second = torch.tensor([11, 3, 14, 4, 17, 5])
    step, twice = model.step(second, twice)
    expected = logits(model)[:, 1]
    torch.testing.assert_close(step[::2], expected)  # the tokens of TGT
    # The second sentence leaves; in the others the two hypotheses change places.
    left = twice._replace(
        memory=reorder(twice.memory, torch.tensor([0, 2])),
        past=reorder(twice.past, torch.tensor([1, 0, 5, 4])),
    )
    step, _ = model.step(torch.tensor([6, 12, 7, 18]), left)
    torch.testing.assert_close(step[[1, 3]], logits(model)[[0, 2], 2])
    other = torch.tensor([[1, 3, 6], [1, 5, 7]])
    expected = logits(model, SRC[[0, 2]], LENGTHS[[0, 2]], other)[:, 2]
    torch.testing.assert_close(step[[0, 2]], expected)


def test_a_step_leaves_the_state_before_it_as_it_was(model):
    state = model.initial_state(model.encode(SRC, LENGTHS))
    first, _ = model.step(TGT[:, 0], state)
    again, _ = model.step(TGT[:, 0], state)
    assert torch.equal(first, again)


def test_every_matrix_outside_the_norms_has_a_role(model):
    parameters = dict(model.named_parameters())
    roles = model.roles()
    assert set(roles) == {name for name, p in parameters.items() if p.dim() == 2}
    for name, role in roles.items():
        assert len(parameters[name]) % role.blocks == 0, name


def test_dropout_acts_in_training_only(model):
    assert torch.equal(logits(model), logits(model))
    model.train()
    assert not torch.allclose(logits(model), logits(model))


def test_every_parameter_learns(model):
    F.cross_entropy(logits(model).flatten(0, 1), TGT.flatten()).backward()
    norms = [m for m in model.modules() if isinstance(m, tuple(NORMS.values()))]
    of_norms = {id(p) for m in norms for p in m.parameters()}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # A bias before a norm that subtracts the mean, or the softmax, may have no effect.
        if parameter.dim() == 2 or id(parameter) in of_norms:
            assert parameter.grad.abs().sum() > 0, name


def test_weights_come_back_from_a_state_dict(model, request):
    torch.manual_seed(2)
    other = MODELS[request.node.callspec.params["model"]](norm=type_of_norm(request))
    other = other.double().eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(logits(other), logits(model))


def type_of_norm(request):
    return NORMS[request.node.callspec.params["norm"]]
