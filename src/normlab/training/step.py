"""One training step: forward, backward, clip, optimiser."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from normlab import distributed
from normlab.tasks.task import Batch, Sums
from normlab.training.matrix_speeds import Matrices


def compile_step(objective: nn.Module) -> None:
    """Compiles the forward pass of a step, and with it the backward pass, in place.

    Batches differ in their sizes, and on a GPU in whether these fit its memory accesses; after 8
    versions, torch's default, it would go on without compiling, with a warning only.
    """
    torch._dynamo.config.recompile_limit = 64
    objective.compile()


def update(
    objective: nn.Module,
    batches: Sequence[Batch],
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    lr: float,
    *,
    clip: float | None,
    precision: AbstractContextManager,
    beta1: float | None = None,
    matrices: Matrices | None = None,
) -> tuple[Sums, Tensor]:
    """Does one optimiser step on `batches`; returns their sums and the gradient norm.

    The loss is divided once, by the number of items of all batches and processes together. The
    gradient norm is the global L2 norm before clipping. `beta1` replaces Adam's first beta;
    `matrices` measures the step, if this one is to be.
    """
    # Processes average their gradients, and a sum is wanted.
    divisor = sum(batch.items for batch in batches) / distributed.world_size()
    totals: Sums = {}
    for number, batch in enumerate(batches, start=1):
        with distributed.synchronised(objective, number == len(batches)):
            with precision:
                sums = objective(batch)
            (sums["loss"][0] / divisor).backward()
        for name, (value, count) in sums.items():
            before, counted = totals.get(name, (0.0, 0))
            totals[name] = (before + value.detach(), counted + count)
    if matrices is not None:
        matrices.before_step()
    grad_norm = nn.utils.clip_grad_norm_(parameters, float("inf") if clip is None else clip)
    for group in optimizer.param_groups:
        group["lr"] = lr
        if beta1 is not None:
            group["betas"] = (beta1, group["betas"][1])
    optimizer.step()
    if matrices is not None:
        matrices.after_step()
    optimizer.zero_grad(set_to_none=True)
    return totals, grad_norm
