"""Gradients of the fused norms whose autograd is in Python: all Triton operators, and plane_norm.

It costs some 20 microseconds a call, which is little on a GPU and for an image.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def register(namespace: str, norm: str) -> None:
    """Makes the operator `norm` differentiable, by the one called `norm`_backward."""
    backward = f"{norm}_backward"
    by = partial(_backward, getattr(getattr(torch.ops, namespace), backward))
    torch.library.register_autograd(f"{namespace}::{norm}", by, setup_context=_setup)
    torch.library.register_autograd(f"{namespace}::{backward}", _refuse)


def save(
    ctx: Any,
    x: Tensor,
    gain: Tensor | None,
    bias: Tensor | None,
    statistics: Tensor,
    k: int,
    centre: bool,
) -> None:
    """Keeps what `of_norm` needs."""
    ctx.save_for_backward(x, gain, bias, statistics)
    ctx.k, ctx.centre = k, centre
    ctx.set_materialize_grads(False)


def of_norm(ctx: Any, dy: Tensor | None, backward: Callable[..., Any]) -> Gradients:
    """Returns the gradients of x, gain and bias; `dy` is None when the output was not used."""
    if dy is None:
        return None, None, None
    x, gain, bias, statistics = ctx.saved_tensors
    dx, d = backward(dy, x, gain, statistics, ctx.k, ctx.centre, bias is not None)
    dgain, dbias = (d, None) if bias is None else (d[0], d[1].to(bias.dtype))
    return dx, None if gain is None else dgain.to(gain.dtype), dbias


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, gain, bias, _, k, centre = inputs
    save(ctx, x, gain, bias, output[1], k, centre)


def _backward(
    backward: Callable[..., Any], ctx: Any, dy: Tensor | None, _: None
) -> tuple[Tensor | None, ...]:
    return (*of_norm(ctx, dy, backward), None, None, None)


def _refuse(ctx: Any, *_: Tensor) -> None:
    raise RuntimeError("fused norms have no second derivative: choose impl=composed.")
