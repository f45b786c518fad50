"""A gated recurrent unit with a norm on each of its four summed inputs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.norms import fused_gru
from normlab.norms.base import Implemented, NormFactory


class GRU(Implemented):
    """A gated recurrent unit with four norms; `bias` says which side has it: input or recurrent.

    (r, u) = sigmoid(N1(W_g x) + N2(U_g h)), c = tanh(N3(W_c x) + r * N4(U_c h)),
    h' = u * h + (1 - u) * c. W and U hold the matrices of r, u and c one above the other.
    """

    one_kernel = True  # all after U h in one kernel where there is one; false: as written below

    def __init__(self, d_input: int, d_hidden: int, norm: NormFactory, bias: str):
        super().__init__()
        self.d_hidden = d_hidden
        self.input = nn.Linear(d_input, 3 * d_hidden, bias=bias == "input")
        self.recurrent = nn.Linear(d_hidden, 3 * d_hidden, bias=bias == "recurrent")
        self.input_gates_norm = norm(2 * d_hidden)
        self.input_candidate_norm = norm(d_hidden)
        self.recurrent_gates_norm = norm(2 * d_hidden)
        self.recurrent_candidate_norm = norm(d_hidden)

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the input side of gates (..., 2 * d_hidden) and candidate (..., d_hidden)."""
        return self.normalise_input(self.input(x))

    def normalise_input(self, summed: Tensor) -> tuple[Tensor, Tensor]:
        """Returns gates and candidate of the summed inputs W x (..., 3 * d_hidden)."""
        gates, candidate = self._split(summed)
        return self.input_gates_norm(gates), self.input_candidate_norm(candidate)

    def recurrent_weights(self) -> tuple[Tensor, Tensor | None]:
        """Returns weight and bias of the recurrent side."""
        return self.recurrent.weight, self.recurrent.bias

    def forward(
        self,
        h: Tensor,
        x: tuple[Tensor, Tensor],
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        """Returns the state after `h` (batch, d_hidden) and the input `x` (what `read` gives).

        `weight` and `bias` are `recurrent_weights()`, which the caller reads once for a sequence:
        to read a re-parameterised weight (WeightNorm) is to compute it.
        """
        summed = F.linear(h, weight, bias)
        x_gates, x_candidate = x
        gates_norm, candidate_norm = self.recurrent_gates_norm, self.recurrent_candidate_norm
        if self.fused(h.device):
            return fused_gru.step(gates_norm, candidate_norm, summed, x_gates, x_candidate, h)
        gates, candidate = self._split(summed)
        # Gates and candidate may be bf16; the state stays what it was, or small updates are lost.
        r, u = torch.sigmoid(x_gates + gates_norm(gates)).chunk(2, dim=-1)
        candidate = torch.tanh(x_candidate + r * candidate_norm(candidate))
        return torch.lerp(candidate.to(h.dtype), h, u.to(h.dtype))

    def fused(self, device: torch.device) -> bool:
        """Whether all that follows U h is one kernel: where there is one that holds the norms."""
        norms = (self.recurrent_gates_norm, self.recurrent_candidate_norm)
        return self.one_kernel and fused_gru.fits(*norms, self.d_hidden, device)

    def implementation(self, device: torch.device) -> str | None:
        """Returns "fused-gru" where the step is one kernel."""
        return "fused-gru" if self.fused(device) else None

    def _split(self, summed: Tensor) -> tuple[Tensor, Tensor]:
        gates, candidate = summed.split((2 * self.d_hidden, self.d_hidden), dim=-1)
        return gates, candidate
