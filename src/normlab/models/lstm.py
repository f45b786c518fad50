"""An LSTM with three norms, where Cooijmans et al. 2016 and Ba et al. 2016 have them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.norms.base import NormFactory

State = tuple[Tensor, Tensor]  # hidden and cell, (batch, d_hidden) each


class LSTM(nn.Module):
    """(f, i, o, g) = N1(U h) + N2(W x) + b, c' = sigmoid(f) c + sigmoid(i) tanh(g), and
    h' = sigmoid(o) tanh(N3(c')).

    W and U hold the matrices of f, i, o and g one above the other. `forget` is what the biases of
    f start from; the others start from 0.
    """

    def __init__(self, d_input: int, d_hidden: int, norm: NormFactory, forget: float):
        super().__init__()
        self.d_hidden = d_hidden
        self.input = nn.Linear(d_input, 4 * d_hidden, bias=False)
        self.recurrent = nn.Linear(d_hidden, 4 * d_hidden, bias=False)
        bias = torch.zeros(4 * d_hidden)
        bias[:d_hidden] = forget
        self.bias = nn.Parameter(bias)
        self.input_norm = norm(4 * d_hidden)
        self.recurrent_norm = norm(4 * d_hidden)
        self.cell_norm = norm(d_hidden)

    def read(self, x: Tensor) -> Tensor:
        """Returns the input side (..., 4 * d_hidden) of the positions `x`, bias included."""
        return self.input_norm(self.input(x)) + self.bias

    def forward(self, state: State, x: Tensor, weight: Tensor) -> State:
        """Returns the state after `state` and the input `x`, what `read` gives for a position.

        `weight` is `recurrent.weight`, which the caller reads once for a sequence: reading a
        re-parameterised one computes it.
        """
        h, c = state
        gates = x + self.recurrent_norm(F.linear(h, weight))
        f, i, o, g = gates.chunk(4, dim=-1)
        # Gates may be bf16; the cell stays what it was, or small updates are lost.
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(self.cell_norm(c)), c
