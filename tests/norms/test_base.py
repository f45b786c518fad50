"""The contract: what a norm declares, models, the GRU and the trainer keep to."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from normlab.errors import UserError
from normlab.models.gru import GRU
from normlab.models.initialization import initialize
from normlab.models.rnnsearch import RNNSearch
from normlab.models.transformer import Transformer
from normlab.norms import (
    LayerNorm,
    NoNorm,
    Norm,
    RMSNorm,
    WeightNorm,
    implementation,
    kernels,
    reparameterise,
)

VOCAB = 20
SRC = torch.tensor([[5, 6, 7, 8, 2], [9, 10, 2, 0, 0]])
LENGTHS = torch.tensor([5, 3])
TGT = torch.tensor([[1, 11, 12, 13], [1, 14, 0, 0]])
CPU = torch.device("cpu")
with_kernels = pytest.mark.skipif(kernels.problem("cpu") is not None, reason="no kernels")


def transformer(norm, placement="post", **options):
    return Transformer(
        VOCAB,
        norm,
        d_model=8,
        d_ff=12,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        dropout=0.0,
        attention_dropout=0.0,
        norm_placement=placement,
        share_embeddings=True,
        max_length=16,
        **options,
    )


def rnnsearch(norm):
    sizes = {"d_embedding": 6, "d_hidden": 4, "dropout": 0.0}
    return RNNSearch(VOCAB, norm, **sizes, share_embeddings=True, max_length=16)


MODELS = {
    "post-norm": transformer,
    "pre-norm": lambda norm: transformer(norm, "pre"),
    "rnnsearch": rnnsearch,
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


class Masked(Norm):
    """The identity, which remembers the masks that it was given."""

    over_positions = True

    def __init__(self, dim):
        super().__init__(dim)
        self.seen = []

    def forward(self, x, mask=None):
        self.seen.append(mask)
        return x


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_an_encoder_tells_its_norms_which_positions_are_real(placement):
    model = transformer(Masked, placement, decoder_norm=NoNorm)
    model.decode(model.encode(SRC, LENGTHS), TGT)
    norms = [norm for norm in model.modules() if isinstance(norm, Masked)]
    assert len(norms) == (2 if placement == "post" else 3)
    for norm in norms:
        (mask,) = norm.seen
        assert torch.equal(mask, SRC != 0)


class OverTime(Norm):
    over_positions = True

    def forward(self, x, mask=None):
        return x - x.mean(1, keepdim=True)


@every_model
def test_a_decoder_refuses_statistics_over_positions(make):
    with pytest.raises(UserError, match="OverTime takes statistics over positions"):
        make(OverTime)


class Rotation(Norm):
    """A norm with a matrix, and a linear map in it, that must start as they are."""

    def __init__(self, dim):
        super().__init__(dim)
        self.matrix = nn.Parameter(torch.eye(dim))
        self.map = nn.Linear(dim, dim)
        nn.init.eye_(self.map.weight)
        nn.init.ones_(self.map.bias)

    def forward(self, x, mask=None):
        return self.map(x @ self.matrix)


@every_model
def test_what_a_norm_owns_is_not_initialised_as_a_weight_of_the_model(make):
    model = make(Rotation)
    shifted = initialize(model, scheme="normal", scale=0.1, mean=0.2, apply_to=["all"])
    assert shifted and not any("norm" in name for name in shifted)
    for module in model.modules():
        if isinstance(module, Rotation):
            assert torch.equal(module.matrix, torch.eye(module.dim))
            assert torch.equal(module.map.weight, torch.eye(module.dim))
            assert torch.equal(module.map.bias, torch.ones(module.dim))


@with_kernels
@pytest.mark.parametrize(
    ("norm", "name"),
    [
        (NoNorm, "none+fused-gru"),
        (RMSNorm, "fused+fused-gru"),
        (WeightNorm, "native+fused-gru"),
        (lambda dim: RMSNorm(dim, impl="composed"), "composed"),
        (lambda dim: LayerNorm(dim, impl="native"), "native"),
    ],
)
def test_the_implementation_names_all_that_is_fused(norm, name):
    assert implementation(rnnsearch(norm), CPU) == name


@with_kernels
def test_the_implementation_is_what_happens_now(monkeypatch):
    model = rnnsearch(NoNorm)
    handles = [
        module.recurrent_gates_norm.register_forward_pre_hook(lambda *_: None)
        for module in model.modules()
        if isinstance(module, GRU)
    ]
    assert implementation(model, CPU) == "none"
    for handle in handles:
        handle.remove()
    assert implementation(model, CPU) == "none+fused-gru"
    assert implementation(model, torch.device("cuda")) == "none"
    monkeypatch.setattr(GRU, "one_kernel", False)
    assert implementation(model, CPU) == "none"


def test_models_without_norms_have_none():
    assert implementation(nn.Linear(2, 2), CPU) == "none"


class Counted(NoNorm):
    calls = 0

    @staticmethod
    def reparameterise(model):
        Counted.calls += 1


def test_weights_are_reparameterised_once_for_each_kind_of_norm():
    reparameterise(nn.Sequential(Counted(3), RMSNorm(3), Counted(3)))
    assert Counted.calls == 1
    model = nn.Sequential(nn.Linear(3, 3), WeightNorm(3), WeightNorm(3))
    reparameterise(model)
    assert "parametrizations.weight.original0" in model[0].state_dict()


@pytest.mark.slow
def test_importing_norms_imports_no_compiler_and_builds_nothing(tmp_path):
    code = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "import normlab.norms\n"
        "added = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print('triton' in added, 'torch._dynamo' in set(sys.modules) - before)\n"
    )
    environment = {"NORMLAB_CACHE": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["False", "False"]
    assert not list(tmp_path.iterdir())
