"""What a norm is to those who use it: models, the GRU's kernel, the trainer.

A norm declares what it needs, with the defaults of `Norm`, and nobody asks which norm it is:

- `over_positions`: its statistics go over positions, so no decoder and no recurrence can have it,
  and an encoder hands it `mask`, which says what positions are real;
- `reparameterise`: it changes the weights of the model around it;
- `implementations`: how it can be computed, of which `implementation` names the one in use;
- `in_gru_kernel`: the kernel of a GRU's step computes it too.

The model says where the norm stands: which axes of its input are normalised and which one has the
parameters. In a text model both are the last; in one of images height and width are normalised,
axes=(-2, -1), and the channels have the parameters, parameter_axis=-3.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from normlab.errors import UserError


class Implemented(nn.Module):
    """A module that says how it is computed, for tables of seconds."""

    def implementation(self, device: torch.device) -> str | None:
        """Returns the name of what computes the module on `device`, None for plain tensor ops."""
        raise NotImplementedError


class Norm(Implemented):
    """A normalisation layer of `dim` features: x to a tensor of its shape and dtype.

    `axes` are those normalised, `parameter_axis` the one of size `dim` that `weight` and `bias`
    lie along. Raises UserError for a `dim` below 1.
    """

    over_positions = False
    implementations: tuple[str, ...] = ("composed",)
    # What the fused kernels are told. k: how many inputs are measured, 0 for none; centre: whether
    # the mean is subtracted.
    eps: float = 0.0
    k: int = 0
    centre: bool = False
    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, dim: int, *, axes: tuple[int, ...] = (-1,), parameter_axis: int = -1):
        super().__init__()
        if dim < 1:
            raise UserError(f"dim must be >= 1, got {dim}.")
        self.dim, self.axes, self.parameter_axis = dim, tuple(axes), parameter_axis
        self.weight, self.bias = None, None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns `x` normalised.

        `mask` is True where a position of `x` is real: it has the shape of `x` without its last
        axis. Without one every position is. Only a norm `over_positions` looks at it.
        """
        raise NotImplementedError

    def of_sum(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the norm of x + y, a residual sum, which a kernel may take too."""
        return self(x + y, mask)

    def implementation(self, device: torch.device) -> str:
        """Returns how the norm is computed for inputs on `device`: composed, native, fused, none.

        Raises UserError when it was asked for by name and does not exist on `device`.
        """
        return "composed"

    def in_gru_kernel(self) -> bool:
        """Whether the CPU kernel of a GRU's step (kernels/gru.cpp) computes this norm."""
        return False

    @staticmethod
    def reparameterise(model: nn.Module) -> None:
        """Re-parameterises the weights of `model` in place; most norms leave them as they are."""


class NormFactory(Protocol):
    """What a model receives: norm(dim), and for other inputs than (..., dim) their axes."""

    def __call__(
        self, dim: int, /, *, axes: tuple[int, ...] = (-1,), parameter_axis: int = -1
    ) -> Norm: ...


def position_wise(norm: NormFactory) -> NormFactory:
    """Returns `norm` for where each position is normalised by itself: decoders and recurrences.

    Calling it raises UserError for a norm whose statistics go over positions, and TypeError for
    what is no Norm.
    """

    def make(dim: int, /, **layout: Any) -> Norm:
        made = norm(dim, **layout)
        if not isinstance(made, Norm):
            raise TypeError(f"norm(dim) must return a normlab.norms.Norm, got {made!r}")
        if made.over_positions:
            raise UserError(
                f"{type(made).__name__} takes statistics over positions, and a decoder must not "
                "see later ones: choose a norm of single positions, in a Transformer for the "
                "decoder alone: decoder_norm, as in norm@model.decoder_norm=layernorm."
            )
        return made

    return make


def implementation(model: nn.Module, device: torch.device) -> str:
    """Returns how `model` is computed on `device`: its norms', then what else is fused.

    As in "composed", "none+fused-gru", "native": names joined by "+", "none" without a norm.
    """
    norms, others = set(), set()
    for module in model.modules():
        if isinstance(module, Norm):
            norms.add(module.implementation(device))
        elif isinstance(module, Implemented) and (name := module.implementation(device)):
            others.add(name)
    return "+".join((*(sorted(norms) or ["none"]), *sorted(others)))


def reparameterise(model: nn.Module) -> None:
    """Re-parameterises the weights of `model` in place if its norms ask for it, once for each kind.

    Comes after initialisation, which acts on the weights themselves, and before a checkpoint is
    loaded, which holds what they were re-parameterised to.
    """
    for kind in dict.fromkeys(type(m) for m in model.modules() if isinstance(m, Norm)):
        kind.reparameterise(model)


def outside_norms(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Returns every named module of `model` but its norms and what is inside them.

    They are what an initialisation acts on: a norm's parameters are its own. The order is that of
    `named_modules`, and a module that stands in two places comes once.
    """
    inside = {part for m in model.modules() if isinstance(m, Norm) for part in m.modules()}
    return (pair for pair in model.named_modules() if pair[1] not in inside)


def observed(module: nn.Module) -> bool:
    """Whether a call of `module` does more than its class's forward: it has hooks, or another one.

    A kernel that stands for the call would skip them. Asks what nn.Module asks in each call.
    """
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
        or "forward" in module.__dict__
    )
