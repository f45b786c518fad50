"""How fast each weight matrix learns: its length, its gradient's, and its step's share of it."""

import torch
from torch import Tensor, nn


class Matrices:
    """Measures one optimiser step for each weight matrix of a model; asks nothing of its kind.

    Three numbers a matrix, all L2 norms over its entries: `weight_norm` before the step,
    `grad_norm` before clipping, and `effective_lr`, the length of the step over that of the
    weights. Where a norm takes the scale of W away only the direction of W counts, and by how much
    a step turns it is what a learning rate means there: lr / |W|^2 for plain gradient descent
    (van Laarhoven 2017, arXiv 1706.05350), |step| / |W| whatever the optimiser (Kosson et al. 2023,
    arXiv 2305.17212).
    """

    def __init__(self, model: nn.Module):
        self.parameters = {
            name: p for name, p in model.named_parameters() if p.requires_grad and p.dim() >= 2
        }
        self._before: dict[str, Tensor] = {}
        self._measured: dict[str, Tensor] = {}

    @torch.no_grad()
    def before_step(self) -> None:
        """Notes weights and gradients; call it between backward and clipping."""
        self._before = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._measured = {}
        for name, parameter in self.parameters.items():
            self._measured[f"matrix/{name}/weight_norm"] = self._before[name].norm()
            if parameter.grad is not None:
                self._measured[f"matrix/{name}/grad_norm"] = parameter.grad.norm()

    @torch.no_grad()
    def after_step(self) -> None:
        """Notes what the optimiser has done to the weights."""
        for name, before in self._before.items():
            step = (self.parameters[name] - before).norm()
            self._measured[f"matrix/{name}/effective_lr"] = step / before.norm()
        self._before = {}

    def take(self) -> dict[str, float]:
        """Returns what was measured since the last call, and forgets it; waits for the device."""
        values = torch.stack(list(self._measured.values())).tolist() if self._measured else []
        taken = dict(zip(self._measured, values, strict=True))
        self._measured = {}
        return taken
