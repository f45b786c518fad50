"""The fused norms: one operator set in C++ for CPU, one in Triton (gpu.py).

Each has norm, add_norm and norm_backward, with the same arguments and results (norms.cpp). The C++
set also has plane_norm for images (planes.cpp) and gru for a step of a GRU (gru.cpp). They
differentiate themselves, the C++ norms and GRU in C++, because torch's registration of Python
gradients (gradients.py) costs more for each call than a small norm.
"""

from typing import Any

import torch

_problems: dict[tuple[str, int], str | None] = {}


def problem(device: str, dim: int = 1) -> str | None:
    """Returns why there are no kernels for rows of `dim` on a device type, None when there are."""
    key = (device, dim)  # asked in every call of a norm
    if key not in _problems:
        _problems[key] = _problem(device, dim)
    return _problems[key]


def _problem(device: str, dim: int) -> str | None:
    if device not in ("cpu", "cuda"):
        return f"there is no kernel for {device}"
    try:
        if device == "cpu":
            from normlab.norms.kernels.cpu import load

            return load()
        from normlab.norms.kernels.gpu import MAX_WIDTH, launch_problem
    except ImportError as missing:
        return str(missing)
    if dim > MAX_WIDTH:
        return f"norms over {dim} inputs are wider than {MAX_WIDTH}"
    return launch_problem()


# Asked when compiling, not in the graph. This is all that torch.compiler.assume_constant_result
# does, after an import of the whole compiler, which takes longer than that of torch.
problem._dynamo_marked_constant = True  # type: ignore[attr-defined]


def operators(device: str) -> Any:
    """Returns the operators for a device type for which `problem` found none."""
    return torch.ops.normlab if device == "cpu" else torch.ops.normlab_triton
