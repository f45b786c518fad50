"""RNNSearch against a network in numpy, written from the equations of the paper's cell alone.

The equations (Nematus 0.3, with N a norm of its own at every place, rows as vectors):

    annotations a_j = [forward h_j; backward h_j], each direction a GRU from the state 0
    s_0 = tanh(N(mean_j a_j W + b))
    GRU(h, x):  (r, u) = sigmoid(N1(x W_g) + N2(h U_g)),  c = tanh(N3(x W_c) + r * N4(h U_c)),
                h' = u * h + (1 - u) * c; linear biases before the norm, on the side of x in the
                encoder and in GRU1, on the side of h in GRU2
    s'_t = GRU1(s_{t-1}, y_{t-1});  e_tj = v . tanh(N(a_j W_k + b) + N(s'_t W_q));
    alpha_t = softmax_j(e_t);  c_t = sum_j alpha_tj a_j;  s_t = GRU2(s'_t, c_t)
    o_t = tanh(N(y W_1 + b_1) + N(s_t W_2 + b_2) + N(c_t W_3 + b_3)),  logits = o_t E^T + bias
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from normlab.models.rnnsearch import RNNSearch
from normlab.norms import LayerNorm, NoNorm, RMSNorm

EPS = 1e-5
D_EMBEDDING, D_HIDDEN, VOCAB = 5, 6, 17
SENTENCES = [[5, 6, 7, 8, 2], [9, 10, 2]]
TARGETS = [[1, 11, 12, 13], [1, 14, 15, 16]]  # BOS first


def layer_norm(x, gain, bias):
    centred = x - x.mean()
    return gain * centred / np.sqrt((centred**2).mean() + EPS) + bias


def rms_norm(x, gain, bias):
    assert bias is None
    return gain * x / np.sqrt((x**2).mean() + EPS)


def no_norm(x, gain, bias):
    assert gain is None and bias is None
    return x


CASES = {
    "layernorm": (lambda dim: LayerNorm(dim, eps=EPS), layer_norm),
    "rmsnorm": (lambda dim: RMSNorm(dim, eps=EPS), rms_norm),
    "none": (NoNorm, no_norm),
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Numpy:
    """The equations, on one sentence at a time, reading parameters by their names."""

    def __init__(self, model, norm):
        self.p = {name: value.detach().numpy() for name, value in model.named_parameters()}
        self.norm = norm

    def n(self, place, x):
        return self.norm(x, self.p.get(f"{place}.weight"), self.p.get(f"{place}.bias"))

    def map(self, place, x):
        return x @ self.p[f"{place}.weight"].T + self.p.get(f"{place}.bias", 0)

    def gru(self, place, h, x):
        n = D_HIDDEN
        of_x, of_h = self.map(f"{place}.input", x), self.map(f"{place}.recurrent", h)
        gates = sigmoid(
            self.n(f"{place}.input_gates_norm", of_x[: 2 * n])
            + self.n(f"{place}.recurrent_gates_norm", of_h[: 2 * n])
        )
        r, u = gates[:n], gates[n:]
        candidate = np.tanh(
            self.n(f"{place}.input_candidate_norm", of_x[2 * n :])
            + r * self.n(f"{place}.recurrent_candidate_norm", of_h[2 * n :])
        )
        return u * h + (1 - u) * candidate

    def annotations(self, sentence):
        embedded = self.p["src_embedding.weight"][sentence]
        both = []
        for place, order in (("encoder.0", 1), ("encoder.1", -1)):
            h, states = np.zeros(D_HIDDEN), []
            for x in embedded[::order]:
                h = self.gru(place, h, x)
                states.append(h)
            both.append(np.array(states)[::order])
        return np.concatenate(both, axis=1)

    def first_state(self, a):
        return np.tanh(self.n("initial.norm", self.map("initial.linear", a.mean(0))))

    def attention(self, s, a):
        query = self.n("attention.query_norm", self.map("attention.query", s))
        keys = [self.n("attention.key_norm", self.map("attention.key", row)) for row in a]
        v = self.p["attention.score.weight"][0]
        scores = np.array([v @ np.tanh(key + query) for key in keys])
        weights = np.exp(scores - scores.max())
        return weights / weights.sum()

    def logits(self, sentence, target):
        a = self.annotations(sentence)
        s, rows = self.first_state(a), []
        for token in target:
            y = self.p["tgt_embedding.weight"][token]
            between = self.gru("gru1", s, y)
            context = self.attention(between, a) @ a
            s = self.gru("gru2", between, context)
            summed = sum(
                self.n(f"{place}.norm", self.map(f"{place}.linear", x))
                for place, x in (
                    ("from_embedding", y),
                    ("from_state", s),
                    ("from_context", context),
                )
            )
            rows.append(self.p["softmax_weight"] @ np.tanh(summed) + self.p["softmax_bias"])
        return np.array(rows)


@pytest.fixture(params=CASES)
def both(request):
    """Returns RNNSearch in fp64 with random parameters, and the equations with the same."""
    factory, norm = CASES[request.param]
    model = RNNSearch(
        VOCAB, factory, d_embedding=D_EMBEDDING, d_hidden=D_HIDDEN, dropout=0.0,
        share_embeddings=False, max_length=20,
    ).double()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():  # gains and biases too
            parameter.copy_(0.7 * torch.randn_like(parameter) + 0.1)
    return model, Numpy(model, norm)


def batch():
    lengths = torch.tensor([len(s) for s in SENTENCES])
    padded = [s + [0] * (int(lengths.max()) - len(s)) for s in SENTENCES]
    return torch.tensor(padded), lengths


def close(ours, expected):
    np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-10, atol=1e-12)


def test_annotations_of_both_directions(both):
    model, equations = both
    memory = model.encode(*batch())
    for found, sentence in zip(memory.annotations, SENTENCES, strict=True):
        close(found[: len(sentence)], equations.annotations(sentence))


def test_the_first_state(both):
    model, equations = both
    memory = model.encode(*batch())
    for found, sentence in zip(memory.s0, SENTENCES, strict=True):
        close(found, equations.first_state(equations.annotations(sentence)))


@pytest.mark.parametrize("place", ["gru1", "gru2"])
def test_a_step_of_each_decoder_gru(both, place):
    model, equations = both
    gru = getattr(model, place)
    h = torch.randn(4, D_HIDDEN).double()
    x = torch.randn(4, gru.input.in_features).double()
    found = gru(h, gru.read(x), *gru.recurrent_weights())
    close(found, [equations.gru(place, *row) for row in zip(h.numpy(), x.numpy(), strict=True)])


def test_attention(both):
    model, equations = both
    memory = model.encode(*batch())
    states = torch.randn(2, D_HIDDEN).double()
    weights = (model.attention.query.weight, model.attention.score.weight)
    found = model.attention(states, memory.keys, memory.mask, *weights)
    for alpha, state, sentence in zip(found[:, 0], states, SENTENCES, strict=True):
        expected = equations.attention(state.numpy(), equations.annotations(sentence))
        close(alpha[: len(sentence)], expected)
        assert (alpha[len(sentence) :] == 0).all()


def test_logits_of_whole_sentences(both):
    model, equations = both
    features = model.decode(model.encode(*batch()), torch.tensor(TARGETS))
    found = F.linear(features, *model.output_layer())
    for rows, sentence, target in zip(found, SENTENCES, TARGETS, strict=True):
        close(rows, equations.logits(sentence, target))


def test_logits_step_by_step_as_in_a_search(both):
    model, equations = both
    state = model.initial_state(model.encode(*batch()))
    steps = []
    for tokens in torch.tensor(TARGETS).t():
        logits, state = model.step(tokens, state)
        steps.append(logits)
    for rows, sentence, target in zip(torch.stack(steps, 1), SENTENCES, TARGETS, strict=True):
        close(rows, equations.logits(sentence, target))


def test_fp32_with_the_fused_kernels_agrees(both):
    """What a training run on CPU computes with."""
    model, equations = both
    expected = [equations.logits(s, t) for s, t in zip(SENTENCES, TARGETS, strict=True)]
    model.float()
    features = model.decode(model.encode(*batch()), torch.tensor(TARGETS))
    found = F.linear(features, *model.output_layer()).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)
