"""The initialisation under study: a base scheme, then a shift of its mean (Figure 4)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from normlab.errors import UserError
from normlab.models.network import Network, Role
from normlab.norms.base import outside_norms

EMBEDDINGS = "embeddings"
# Common readings of "the weights" in Figure 4. `all`: every role. `matrices`: the maps between
# layers, without what is looked up or scored against: embeddings, softmax matrix (which is the
# embedding matrix where they are tied) and attention score vector.
GROUPS = ("all", "matrices")
NO_MATRICES = {EMBEDDINGS, "softmax", "score"}


def initialize(
    model: Network, *, scheme: str, scale: float, mean: float, apply_to: Sequence[str]
) -> list[str]:
    """Initialises `model` in place and returns the names of the parameters whose mean was shifted.

    scheme: `xavier_uniform` (scale = gain; embeddings are N(0, 1/d_model), as in the paper's
    Transformer), `uniform` in (-scale, scale), `normal` with standard deviation `scale`, the last
    two for embeddings too, or `nematus`: as `normal`, but square matrices are random orthogonal.
    Then `mean` is added to every parameter whose role is in `apply_to`: role names of the model,
    `matrices` (all roles but embeddings, softmax and attention score) or `all`. Biases become 0;
    what belongs to a norm stays as the norm made it. Raises UserError for a role the model does
    not have.
    """
    roles = model.roles()
    wanted = _expand(apply_to, {role.kind for role in roles.values()})
    parameters = dict(model.named_parameters())
    shifted = []
    with torch.no_grad():
        for _, module in outside_norms(model):
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
        for name, role in roles.items():
            for matrix in parameters[name].chunk(role.blocks):
                _fill(matrix, role, scheme, scale)
            if role.kind in wanted:
                parameters[name].add_(mean)
                shifted.append(name)
    return shifted


def _fill(matrix: Tensor, role: Role, scheme: str, scale: float) -> None:
    if scheme == "uniform":
        matrix.uniform_(-scale, scale)
    elif scheme == "nematus" and matrix.shape[0] == matrix.shape[1]:
        nn.init.orthogonal_(matrix)
    elif scheme in ("normal", "nematus"):
        matrix.normal_(0, scale)
    elif scheme != "xavier_uniform":
        raise UserError(
            f"scheme={scheme} is unknown: use xavier_uniform, uniform, normal or nematus."
        )
    elif role.kind == EMBEDDINGS:
        matrix.normal_(0, 1 / math.sqrt(matrix.shape[1]))
    else:
        nn.init.xavier_uniform_(matrix, gain=scale)


def _expand(apply_to: Sequence[str], known: set[str]) -> set[str]:
    wanted: set[str] = set()
    for name in apply_to:
        if name == "all":
            wanted |= known
        elif name == "matrices":
            wanted |= known - NO_MATRICES
        elif name in known:
            wanted.add(name)
        else:
            choices = ", ".join((*GROUPS, *sorted(known)))
            raise UserError(f"apply_to={name} names no weights of this model: use {choices}.")
    return wanted
