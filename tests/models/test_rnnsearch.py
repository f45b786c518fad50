"""RNNSearch: torch's GRU with other norms, and one result however it is computed."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from normlab.errors import UserError
from normlab.models.gru import GRU
from normlab.models.initialization import initialize
from normlab.models.rnnsearch import RNNSearch
from normlab.norms import L2Norm, LayerNorm, NoNorm, PRMSNorm, RMSNorm, WeightNorm

VOCAB = 20
NORMS = {
    "none": NoNorm,
    "layernorm": LayerNorm,
    "rmsnorm": RMSNorm,
    "prmsnorm": PRMSNorm,
    "l2norm": L2Norm,
    "weightnorm": WeightNorm,
}
every_norm = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)


def make(norm=RMSNorm, **changes):
    arguments = {
        "d_embedding": 6,
        "d_hidden": 8,
        "dropout": 0.0,
        "share_embeddings": False,
        "max_length": 32,
    }
    torch.manual_seed(1)
    model = RNNSearch(VOCAB, norm, **{**arguments, **changes}).double()
    if norm is WeightNorm:
        WeightNorm.reparameterise(model)
    return model


SRC = torch.tensor([[5, 6, 7, 8, 2], [9, 10, 2, 0, 0]])
LENGTHS = torch.tensor([5, 3])
TGT = torch.tensor([[1, 11, 12, 13], [1, 14, 15, 16]])


def logits(model, src=SRC, lengths=LENGTHS, tgt=TGT):
    return F.linear(model.decode(model.encode(src, lengths), tgt), *model.output_layer())


def torch_gru(ours: GRU):
    """Returns torch's GRU with the weights of `ours`: its u gate is ours, its candidate as well."""
    theirs = torch.nn.GRU(ours.input.in_features, ours.d_hidden, batch_first=True).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.input.weight)
        theirs.weight_hh_l0.copy_(ours.recurrent.weight)
        for bias, linear in ((theirs.bias_ih_l0, ours.input), (theirs.bias_hh_l0, ours.recurrent)):
            bias.copy_(torch.zeros_like(bias) if linear.bias is None else linear.bias)
    return theirs


@pytest.mark.parametrize("bias", ["input", "recurrent"])
def test_the_unnormalised_cell_is_torchs_gru(bias):
    torch.manual_seed(2)
    gru = GRU(5, 4, NoNorm, bias).double()
    x, h = torch.randn(3, 7, 5).double(), torch.randn(3, 4).double()
    expected, _ = torch_gru(gru)(x, h[None])
    states = []
    for x_t in x.unbind(1):
        h = gru(h, gru.read(x_t), *gru.recurrent_weights())
        states.append(h)
    torch.testing.assert_close(torch.stack(states, 1), expected, rtol=1e-12, atol=1e-12)


def test_the_unnormalised_encoder_is_torchs_bidirectional_gru():
    model = make(NoNorm)
    annotations = model.encode(SRC, LENGTHS).annotations
    for i, length in enumerate(LENGTHS.tolist()):
        x = model.src_embedding(SRC[i : i + 1, :length])
        ahead, _ = torch_gru(model.encoder[0])(x)
        back, _ = torch_gru(model.encoder[1])(x.flip(1))  # starts at the sentence's last token
        expected = torch.cat((ahead, back.flip(1)), dim=-1)[0]
        torch.testing.assert_close(annotations[i, :length], expected)


def test_the_normalised_cell_written_out():
    torch.manual_seed(3)
    gru = GRU(5, 4, LayerNorm, "recurrent").double()
    for parameter in gru.parameters():
        torch.nn.init.normal_(parameter)
    x, h = torch.randn(3, 5).double(), torch.randn(3, 4).double()
    w, u = gru.input.weight, gru.recurrent.weight
    pre = h @ u.T + gru.recurrent.bias
    gates = torch.sigmoid(gru.input_gates_norm(x @ w[:8].T) + gru.recurrent_gates_norm(pre[:, :8]))
    r, z = gates[:, :4], gates[:, 4:]
    candidate = torch.tanh(
        gru.input_candidate_norm(x @ w[8:].T) + r * gru.recurrent_candidate_norm(pre[:, 8:])
    )
    new = gru(h, gru.read(x), *gru.recurrent_weights())
    torch.testing.assert_close(new, z * h + (1 - z) * candidate)


def advance(gru, state, x):
    return gru(state[None], gru.read(x[None]), *gru.recurrent_weights())[0]


def test_a_decoder_step_written_out():
    model = make(LayerNorm)
    memory = model.encode(SRC[:1], LENGTHS[:1])
    a = memory.annotations[0]  # (src_len, 16)
    s0 = torch.tanh(model.initial(a.mean(0)))
    y = model.tgt_embedding(TGT[0, 0])
    s1 = advance(model.gru1, s0, y)
    attention = model.attention
    energy = attention.key_norm(attention.key(a)) + attention.query_norm(attention.query(s1))
    alpha = (torch.tanh(energy) @ attention.score.weight[0]).softmax(0)
    context = alpha @ a
    s2 = advance(model.gru2, s1, context)
    parts = model.from_embedding(y) + model.from_state(s2) + model.from_context(context)
    expected = model.softmax_weight @ torch.tanh(parts) + model.softmax_bias
    torch.testing.assert_close(logits(model)[0, 0], expected)


@every_norm
def test_step_by_step_equals_all_at_once(norm):
    model = make(norm).eval()
    state = model.initial_state(model.encode(SRC, LENGTHS))
    steps = []
    for tokens in TGT.unbind(1):
        step, state = model.step(tokens, state)
        steps.append(step)
    torch.testing.assert_close(torch.stack(steps, dim=1), logits(model))


@every_norm
def test_future_target_tokens_change_no_earlier_logit(norm):
    model = make(norm)
    changed = TGT.clone()
    changed[:, 2:] = 3
    before, after = logits(model), logits(model, tgt=changed)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2:], after[:, 2:])


@every_norm
def test_padding_changes_nothing(norm):
    model = make(norm)
    other_ids = SRC.clone()
    other_ids[1, 3:] = 17
    wider = torch.cat((SRC, torch.full((2, 4), 18)), dim=1)
    expected = logits(model)
    torch.testing.assert_close(logits(model, src=other_ids), expected)
    torch.testing.assert_close(logits(model, src=wider), expected)
    torch.testing.assert_close(logits(model, SRC[1:, :3], LENGTHS[1:], TGT[1:]), expected[1:])
    assert expected.isfinite().all()


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
def test_gradients_are_those_of_finite_differences(norm):
    model = make(partial(norm, eps=1e-3), d_embedding=2, d_hidden=3)
    names = [name for name, _ in model.named_parameters()]

    def features(*values):
        weights = dict(zip(names, values, strict=True))
        return torch.func.functional_call(
            Whole(model), {f"model.{n}": w for n, w in weights.items()}
        )

    assert torch.autograd.gradcheck(features, tuple(model.parameters()), fast_mode=True)


class Whole(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self):
        return logits(self.model)


@every_norm
@pytest.mark.parametrize("share", [True, False])
def test_every_parameter_learns(norm, share):
    model = make(norm, share_embeddings=share)
    logits(model).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_number_of_norms():
    # four for each GRU (two directions, two transitions), initial state, attention 2, output 3
    assert sum(isinstance(m, RMSNorm) for m in make().modules()) == 4 * 4 + 1 + 2 + 3


def test_biases_stand_where_the_paper_puts_them():
    with_bias = {n for n, _ in make(NoNorm).named_parameters() if n.endswith("bias")}
    assert with_bias == {
        "encoder.0.input.bias",
        "encoder.1.input.bias",
        "initial.linear.bias",
        "gru1.input.bias",
        "attention.key.bias",
        "gru2.recurrent.bias",
        "from_embedding.linear.bias",
        "from_state.linear.bias",
        "from_context.linear.bias",
        "softmax_bias",
    }


def test_embeddings_are_shared_or_not():
    shared, separate = make(share_embeddings=True), make()
    assert shared.src_embedding.weight is shared.tgt_embedding.weight
    assert shared.output_layer()[0] is shared.tgt_embedding.weight
    assert separate.src_embedding.weight is not separate.tgt_embedding.weight
    assert separate.output_layer()[0] is separate.softmax_weight


def test_every_weight_matrix_has_a_role():
    model = make()
    roles = model.roles()
    assert set(roles) == {name for name, p in model.named_parameters() if p.dim() == 2}
    kinds = {}
    for name, role in roles.items():
        kinds.setdefault((role.kind, role.blocks), set()).add(name)
    grus = ("encoder.0", "encoder.1", "gru1", "gru2")
    assert kinds == {
        ("input", 3): {f"{gru}.input.weight" for gru in grus},
        ("recurrent", 3): {f"{gru}.recurrent.weight" for gru in grus},
        ("input", 1): {
            f"{name}.linear.weight"
            for name in ("initial", "from_embedding", "from_state", "from_context")
        },
        ("attention", 1): {"attention.key.weight", "attention.query.weight"},
        ("score", 1): {"attention.score.weight"},
        ("embeddings", 1): {"src_embedding.weight", "tgt_embedding.weight"},
        ("softmax", 1): {"softmax_weight"},
    }
    tied = make(share_embeddings=True)
    assert "softmax" not in {role.kind for role in tied.roles().values()}


KINDS = ["input", "recurrent", "attention", "score", "embeddings", "softmax"]


@pytest.mark.parametrize(
    ("apply_to", "chosen"),
    [
        *(([kind], {kind}) for kind in KINDS),
        (["matrices"], {"input", "recurrent", "attention"}),
        (["all"], set(KINDS)),
        (["input", "attention"], {"input", "attention"}),
    ],
)
def test_the_shift_moves_the_mean_of_what_was_chosen(apply_to, chosen):
    model = make(d_embedding=32, d_hidden=48)
    shifted = initialize(model, scheme="nematus", scale=0.01, mean=0.2, apply_to=apply_to)
    assert {model.roles()[name].kind for name in shifted} == chosen
    for name, role in model.roles().items():
        weight = model.get_parameter(name).detach()
        expected = 0.2 if role.kind in chosen else 0.0
        five_sigma = 5 * weight.std() / math.sqrt(weight.numel())
        assert abs(weight.mean() - expected) < five_sigma, name


def test_nematus_draws_by_name_and_the_shift_comes_after():
    """Square by chance is not orthogonal: the authors' input and output maps are Gaussian."""
    model = make(d_embedding=64, d_hidden=64)
    initialize(model, scheme="nematus", scale=0.01, mean=0.2, apply_to=["all"])
    orthogonal = set()
    for name, role in model.roles().items():
        for block in (model.get_parameter(name).detach() - 0.2).chunk(role.blocks):
            if block.std() < 0.03:
                continue
            identity = torch.eye(len(block), dtype=torch.float64)
            torch.testing.assert_close(block @ block.T, identity)
            orthogonal.add(name)
    recurrent = {name for name, role in model.roles().items() if role.kind == "recurrent"}
    assert orthogonal == recurrent | {"attention.key.weight"}


def test_gaussian_shifts_all_that_nematus_does_not_make_orthogonal():
    model = make()
    shifted = initialize(model, scheme="nematus", scale=0.01, mean=0.2, apply_to=["gaussian"])
    recurrent = {name for name, role in model.roles().items() if role.kind == "recurrent"}
    assert set(shifted) == model.roles().keys() - recurrent - {"attention.key.weight"}


def test_norms_draws_gains_and_biases_like_the_shifted_weights():
    model = make(norm=LayerNorm)
    shifted = initialize(model, scheme="nematus", scale=0.01, mean=0.2, apply_to=["norms"])
    inside = {
        f"{name}.{own}"
        for name, module in model.named_modules()
        if isinstance(module, LayerNorm)
        for own in ("weight", "bias")
    }
    assert set(shifted) == inside
    drawn = torch.cat([model.get_parameter(name).detach() for name in shifted])
    assert abs(drawn.mean() - 0.2) < 0.002 and abs(drawn.std() - 0.01) < 0.002


def test_an_unknown_role_is_named():
    with pytest.raises(UserError, match="apply_to=feed_forward names no weights"):
        initialize(make(), scheme="nematus", scale=0.01, mean=0.2, apply_to=["feed_forward"])


@every_norm
def test_bf16_autocast_changes_little_and_keeps_the_state_in_fp32(norm):
    model = make(norm).float()
    with torch.autocast("cpu", torch.bfloat16):
        memory = model.encode(SRC, LENGTHS)
        low = logits(model)
        _, state = model.step(TGT[:, 0], model.initial_state(memory))
    assert memory.annotations.dtype == state.past.dtype == torch.float32
    torch.testing.assert_close(low.float(), logits(model), rtol=0.1, atol=0.1)
    low.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    "norm",
    [RMSNorm, *(pytest.param(norm, marks=pytest.mark.long) for norm in (NoNorm, WeightNorm))],
)
def test_compiled_steps_are_the_same_steps(norm):
    # Traced by the compiler's front end only: code generation would take a minute.
    model, compiled = make(norm), make(norm)
    traced = []

    def backend(graph, inputs):
        traced.append(graph)
        return graph

    compiled._encoder_step = torch.compile(
        compiled._encoder_step, dynamic=True, fullgraph=True, backend=backend
    )
    compiled._decoder_step = torch.compile(
        compiled._decoder_step, dynamic=True, fullgraph=True, backend=backend
    )
    torch.testing.assert_close(logits(compiled), logits(model))
    graphs = len(traced)
    longer = torch.cat((TGT, TGT), dim=1)
    torch.testing.assert_close(logits(compiled, tgt=longer), logits(model, tgt=longer))
    assert len(traced) == graphs  # another length needs no other graph
