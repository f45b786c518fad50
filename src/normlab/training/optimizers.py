"""Optimisers by the name that a config gives them."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn

from normlab.types import Epsilon, Fraction, NonNegative

KINDS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def optimizer(
    parameters: Iterable[nn.Parameter],
    *,
    name: Literal["adam", "adamw"],
    betas: tuple[Fraction, Fraction],
    eps: Epsilon,
    weight_decay: NonNegative,
) -> torch.optim.Optimizer:
    """Returns the optimiser `name` over `parameters`; the loop sets its learning rate at each step."""
    # fused: one kernel for all parameters, on CPU too
    return KINDS[name](
        parameters, lr=0.0, betas=betas, eps=eps, weight_decay=weight_decay, fused=True
    )
