"""The initialisation under study: a base scheme, then a shift of its mean (Figure 4)."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from normlab.errors import UserError
from normlab.models.network import Network, Role
from normlab.norms.base import outside_norms
from normlab.types import NameList, Positive

Scheme = Literal["xavier_uniform", "uniform", "normal", "nematus"]
EMBEDDINGS = "embeddings"
# Common readings of "the weights" in Figure 4. `all`: every role. `matrices`: the maps between
# layers, without what is looked up or scored against: embeddings, softmax matrix (which is the
# embedding matrix where they are tied) and attention score vector. `gaussian`: what Nematus draws
# from 0.01 N(0, 1), all but the square matrices that it makes orthogonal; the likeliest edit of the
# authors' code shifts these. `norms`: gains and biases of the norms, drawn like the weights.
GROUPS = ("all", "matrices", "gaussian", "norms")
NO_MATRICES = {EMBEDDINGS, "softmax", "score"}


def initialize(
    model: Network, *, scheme: Scheme, scale: Positive, mean: float, apply_to: NameList
) -> list[str]:
    """Initialises `model` in place and returns the names of the parameters that `apply_to` selects.

    scheme: `xavier_uniform` (scale = gain; embeddings are N(0, 1/d_model), as in the paper's
    Transformer), `uniform` in (-scale, scale), `normal` with standard deviation `scale`, the last
    two for embeddings too, or `nematus`: as `normal`, but the square matrices that the model names
    are random orthogonal. Then `mean` is added to every parameter that `apply_to` selects: role
    names of the model, or GROUPS, above. Biases of linear
    maps become 0, others keep what their module gave them (an LSTM its forget gates'); what
    belongs to a norm stays as the norm made it, unless `apply_to` holds `norms`: then gains and
    biases are drawn from N(mean, scale²) too. Raises UserError for a role the model does not have.
    """
    roles = model.roles()
    wanted = _expand(apply_to, roles)
    parameters = dict(model.named_parameters())
    shifted = []
    with torch.no_grad():
        for _, module in outside_norms(model):
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
        for name, role in roles.items():
            for matrix in parameters[name].chunk(role.blocks):
                _fill(matrix, role, scheme, scale)
            if name in wanted:
                parameters[name].add_(mean)
                shifted.append(name)
        if "norms" in apply_to:
            for name in sorted(parameters.keys() - _outside(model)):
                parameters[name].normal_(mean, scale)
                shifted.append(name)
    return shifted


def _fill(matrix: Tensor, role: Role, scheme: Scheme, scale: float) -> None:
    if scheme == "uniform":
        matrix.uniform_(-scale, scale)
    elif scheme == "nematus" and role.orthogonal:
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


def _expand(apply_to: Sequence[str], roles: Mapping[str, Role]) -> set[str]:
    """Returns the names of the parameters, of those with a role, that `apply_to` selects."""
    kinds = {role.kind for role in roles.values()}
    if unknown := [name for name in apply_to if name not in kinds | set(GROUPS)]:
        choices = ", ".join((*GROUPS, *sorted(kinds)))
        raise UserError(
            f"apply_to={unknown[0]} names no weights of this model: use {choices}, or [] for none."
        )

    def selected(role: Role, name: str) -> bool:
        return (
            name in ("all", role.kind)
            or (name == "matrices" and role.kind not in NO_MATRICES)
            or (name == "gaussian" and not role.orthogonal)
        )

    return {n for n, role in roles.items() if any(selected(role, name) for name in apply_to)}


def _outside(model: Network) -> set[str]:
    """Returns the names of the parameters that belong to no norm."""
    modules = dict(outside_norms(model))
    return {
        f"{name}.{own}" if name else own
        for name, module in modules.items()
        for own, _ in module.named_parameters(recurse=False)
    }
