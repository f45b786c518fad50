"""The LSTM with norms and the attentive reader."""

import pytest
import torch
from torch import nn

from normlab import norms
from normlab.models.initialization import initialize
from normlab.models.lstm import LSTM
from normlab.models.reader import AttentiveReader

KINDS = [norms.NoNorm, norms.LayerNorm, norms.RMSNorm, norms.PRMSNorm]


def reader(norm=norms.RMSNorm):
    sizes = {"d_embedding": 5, "d_hidden": 6, "dropout": 0.0, "forget": 1.0}
    model = AttentiveReader(20, 4, norm, **sizes)
    initialize(model, scheme="xavier_uniform", scale=1.0, mean=0.0, apply_to=["matrices"])
    return model


def test_without_a_norm_the_lstm_is_torchs():
    ours, theirs = LSTM(5, 6, norms.NoNorm, forget=0.5), nn.LSTM(5, 6)

    def in_torchs_order(matrix):  # f, i, o, g -> i, f, g, o
        f, i, o, g = matrix.chunk(4)
        return torch.cat((i, f, g, o))

    with torch.no_grad():
        theirs.weight_ih_l0.copy_(in_torchs_order(ours.input.weight))
        theirs.weight_hh_l0.copy_(in_torchs_order(ours.recurrent.weight))
        theirs.bias_ih_l0.copy_(in_torchs_order(ours.bias))
        theirs.bias_hh_l0.zero_()
    x = torch.randn(7, 3, 5)
    state = torch.zeros(3, 6), torch.zeros(3, 6)
    states = []
    for at in ours.read(x):
        state = ours(state, at, ours.recurrent.weight)
        states.append(state[0])
    expected, (_, cell) = theirs(x)
    torch.testing.assert_close(torch.stack(states), expected)
    torch.testing.assert_close(state[1], cell[0])


def test_norms_stand_in_the_three_places():
    lstm = LSTM(5, 6, norms.RMSNorm, forget=0.0)
    seen = {}
    for name in ("input_norm", "recurrent_norm", "cell_norm"):
        getattr(lstm, name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.setdefault(name, inputs[0])
        )
    h, c, x = torch.randn(3, 6), torch.randn(3, 6), torch.randn(3, 5)
    _, after = lstm((h, c), lstm.read(x), lstm.recurrent.weight)
    torch.testing.assert_close(seen["input_norm"], x @ lstm.input.weight.T)
    torch.testing.assert_close(seen["recurrent_norm"], h @ lstm.recurrent.weight.T)
    torch.testing.assert_close(seen["cell_norm"], after)


@pytest.mark.parametrize("norm", KINDS)
def test_a_question_is_answered_as_it_is_alone(norm):
    model = reader(norm)
    document, query = torch.randint(1, 20, (3, 8)), torch.randint(1, 20, (3, 4))
    lengths, asked = torch.tensor([8, 5, 1]), torch.tensor([2, 4, 1])
    together = model(document, lengths, query, asked)
    for i in range(3):
        alone = model(
            document[i : i + 1, : lengths[i]],
            lengths[i : i + 1],
            query[i : i + 1, : asked[i]],
            asked[i : i + 1],
        )
        torch.testing.assert_close(together[i], alone[0])


@pytest.mark.parametrize("norm", [*KINDS, norms.WeightNorm])
def test_every_weight_gets_a_gradient_and_every_matrix_a_role(norm):
    model = reader(norm)
    assert set(model.roles()) == {name for name, p in model.named_parameters() if p.dim() > 1}
    norms.reparameterise(model)
    tokens, lengths = torch.randint(1, 20, (3, 8)), torch.tensor([8, 5, 3])
    model(tokens, lengths, tokens, lengths).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_forget_gates_start_where_they_are_told():
    lstm = reader().document.ahead
    assert lstm.bias[:6].tolist() == [1.0] * 6 and not lstm.bias[6:].any()
