"""The fused norms: one operator set in C++ for CPU (cpu.cpp), one in Triton for GPUs (gpu.py).

Each has norm, add_norm and norm_backward, with the same arguments and results.
"""

from typing import Any

import torch


@torch.compiler.assume_constant_result  # asked when compiling, not in the graph
def problem(device: str, dim: int = 1) -> str | None:
    """Returns why there are no kernels for rows of `dim` on a device type, None when there are."""
    if device == "cpu":
        from normlab.norms.kernels.build import error

        return error()
    if device != "cuda":
        return f"there is no kernel for {device}"
    try:
        from normlab.norms.kernels.gpu import MAX_WIDTH
    except ImportError as missing:
        return str(missing)
    return f"norms over {dim} inputs are wider than {MAX_WIDTH}" if dim > MAX_WIDTH else None


def operators(device: str) -> Any:
    """Returns the operators for a device type for which `problem` found none."""
    return torch.ops.normlab if device == "cpu" else torch.ops.normlab_triton
