"""What the fused operators return, in shapes: all that torch.compile asks of a node.

And what they take: the checks of the Triton operators. The C++ ones have their own (common.h).
"""

import torch
from torch import Tensor

OptTensor = Tensor | None


def statistics(x: Tensor, centre: bool) -> Tensor:
    """Returns an empty (rows,) tensor for r, or (2, rows) for r and mean with `centre`."""
    rows = x.numel() // x.shape[-1]
    return x.new_empty((2, rows) if centre else (rows,), dtype=accumulation_dtype(x))


def accumulation_dtype(x: Tensor) -> torch.dtype:
    """Returns the dtype that sums over `x` are kept in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def check(x: Tensor, gain: OptTensor, bias: OptTensor, k: int) -> None:
    """Raises RuntimeError for arguments of a norm that do not fit together."""
    if x.dim() == 0 or x.shape[-1] == 0:
        raise RuntimeError(f"x must be (..., n) with n >= 1, got {list(x.shape)}")
    if x.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        raise RuntimeError(f"fused norms take fp32, fp64, bf16 and fp16, not {x.dtype}")
    n = x.shape[-1]
    for name, parameter in (("gain", gain), ("bias", bias)):
        if parameter is not None:
            check_tensor(name, parameter, (n,), x)
    if not 1 <= k <= n:
        raise RuntimeError(f"k must lie in 1 ... {n}, got {k}")


def check_tensor(
    name: str, t: Tensor, shape: tuple[int, ...], x: Tensor, dtype: torch.dtype | None = None
) -> None:
    """Raises RuntimeError unless `t` has a shape, x's device and a dtype (None: any float)."""
    if t.shape != shape:
        raise RuntimeError(f"{name} must be {list(shape)}, got {list(t.shape)}")
    if t.dtype != dtype if dtype else not t.is_floating_point():
        wanted = dtype or "a floating-point dtype"
        raise RuntimeError(f"{name} must have {wanted}, got {t.dtype}")
    if t.device != x.device:
        raise RuntimeError(f"{name} must be on {x.device}, got {t.device}")


def one_device(first: Tensor, *others: OptTensor | float) -> None:
    """Raises RuntimeError unless all tensors are on one device.

    One meta tensor among others brings the dispatcher here, and what is returned has no values.
    """
    for other in others:
        if isinstance(other, Tensor) and other.device != first.device:
            raise RuntimeError(f"all must be on {first.device}, got {other.device}")


def norm(
    x: Tensor, gain: OptTensor, bias: OptTensor, eps: float, k: int, centre: bool
) -> tuple[Tensor, Tensor]:
    """Returns y and statistics, empty."""
    one_device(x, gain, bias)
    return x.new_empty(x.shape), statistics(x, centre)


def add_norm(
    x: Tensor,
    residual: Tensor,
    gain: OptTensor,
    bias: OptTensor,
    eps: float,
    k: int,
    centre: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns y, the sum and statistics, empty."""
    one_device(x, residual, gain, bias)
    return x.new_empty(x.shape), x.new_empty(x.shape), statistics(x, centre)


def norm_backward(
    dy: Tensor, x: Tensor, gain: OptTensor, statistics: Tensor, k: int, centre: bool, has_bias: bool
) -> tuple[Tensor, Tensor]:
    """Returns dx and the gradients of gain, or of gain and bias, empty."""
    one_device(x, dy, gain, statistics)
    n = x.shape[-1]
    return x.new_empty(x.shape), statistics.new_empty((2, n) if has_bias else (n,))


def plane_norm(
    x: Tensor, gain: OptTensor, bias: OptTensor, eps: float, k: int, centre: bool
) -> tuple[Tensor, Tensor]:
    """Returns y and statistics (batch, channels) or (2, batch, channels), empty."""
    one_device(x, gain, bias)
    shape = (x.shape[0], x.shape[-1])
    empty = x.new_empty((2, *shape) if centre else shape, dtype=accumulation_dtype(x))
    return x.new_empty(x.shape), empty


def gru(
    s: Tensor, x_gates: Tensor, x_candidate: Tensor, h: Tensor, *rest: OptTensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the next state, the gates and candidate, and statistics, empty."""
    one_device(s, x_gates, x_candidate, h, *rest)
    acts = s.new_empty(s.shape, dtype=accumulation_dtype(s))
    rows = s.shape[0]  # len(s) would be a number: torch.compile then compiles for each
    return h.new_empty(h.shape), acts, acts.new_empty((4, rows))


def gru_backward(
    d: Tensor,
    s: Tensor,
    h: Tensor,
    acts: Tensor,
    statistics: Tensor,
    gates_gain: OptTensor,
    gates_bias: OptTensor,
    *rest: OptTensor | int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns the gradients of s, x_gates, x_candidate, h and the parameters, empty."""
    one_device(s, d, h, acts, statistics, gates_gain, gates_bias, *rest)
    rows, n = h.shape
    ds, dh = s.new_empty(s.shape), h.new_empty(h.shape)
    parameters = acts.new_empty((3 * n,) if gates_bias is None else (2, 3 * n))
    return ds, s.new_empty((rows, 2 * n)), s.new_empty((rows, n)), dh, parameters
