"""One step of a GRU in one kernel (kernels/gru.cpp), for norms that the kernel computes."""

import torch
from torch import Tensor

from normlab.norms import kernels
from normlab.norms.base import Norm


def fits(gates: Norm, candidate: Norm, d_hidden: int, device: torch.device) -> bool:
    """Whether the kernel computes a GRU with these norms on its recurrent side.

    It has one eps and one centring for both, and a bias for both or none.
    """
    return (
        device.type == "cpu"
        and gates.in_gru_kernel()
        and candidate.in_gru_kernel()
        and (gates.dim, candidate.dim) == (2 * d_hidden, d_hidden)
        and gates.eps == candidate.eps
        and gates.centre == candidate.centre
        and (gates.bias is None) == (candidate.bias is None)
    )


def step(
    gates: Norm, candidate: Norm, summed: Tensor, x_gates: Tensor, x_candidate: Tensor, h: Tensor
) -> Tensor:
    """Returns the next state (rows, n) of a GRU whose norms `fits` accepts.

    `summed` is U h + b (rows, 3n), `h` (rows, n); gates (rows, 2n) and candidate (rows, n) of the
    input side come normalised.
    """
    parameters = (gates.weight, gates.bias, candidate.weight, candidate.bias)
    sizes = (gates.eps, gates.k, candidate.k, gates.centre)
    return kernels.operators("cpu").gru(summed, x_gates, x_candidate, h, *parameters, *sizes)[0]
