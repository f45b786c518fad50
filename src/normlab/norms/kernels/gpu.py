"""LayerNorm, RMSNorm and pRMSNorm on a GPU in Triton: the operators of norms.cpp, its formulas.

Forward reads x once and saves the reciprocal root (LayerNorm: and the mean) of each row. Backward
reads x and dy once; every program sums the gain gradients of its own rows, and the programs' sums
are added afterwards, in one order, so results repeat bit by bit. A program holds whole rows, and
several of them when they are short. With TRITON_INTERPRET=1 all of it runs on a CPU, for tests.
"""

import logging
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from normlab.norms.kernels import gradients, shapes

log = logging.getLogger(__name__)

MAX_WIDTH = 16384  # a row lies in the registers of one program
TILE = 4096  # inputs a program works on at a time, when rows are shorter than that
PROGRAMS_PER_PROCESSOR = 4  # of the backward pass: each has its own sums of gain gradients


@triton.jit
def _forward_kernel(  # type: ignore[no-untyped-def]
    x_ptr,
    residual_ptr,
    sum_ptr,
    y_ptr,
    gain_ptr,
    bias_ptr,
    r_ptr,
    mean_ptr,
    rows,
    n,
    k,
    eps,
    ADD: tl.constexpr,
    GAIN: tl.constexpr,
    BIAS: tl.constexpr,
    CENTRE: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    inside = (row < rows)[:, None] & (column < n)[None, :]
    at = row[:, None] * n + column[None, :]
    x = tl.load(x_ptr + at, mask=inside, other=0.0)
    if ADD:
        residual = tl.load(residual_ptr + at, mask=inside, other=0.0)
        x = (x.to(ACC) + residual.to(ACC)).to(x.dtype)
        tl.store(sum_ptr + at, x, mask=inside)
    v = x.to(ACC)
    if CENTRE:
        mean = tl.sum(v, axis=1) / n
        tl.store(mean_ptr + row, mean, mask=row < rows)
        v = tl.where(inside, v - mean[:, None], 0.0)
    square = tl.sum(tl.where((column < k)[None, :], v * v, 0.0), axis=1)
    r = 1 / tl.sqrt(square / k + eps)
    tl.store(r_ptr + row, r, mask=row < rows)
    y = v * r[:, None]
    if GAIN:
        y *= tl.load(gain_ptr + column, mask=column < n, other=0.0).to(ACC)[None, :]
    if BIAS:
        y += tl.load(bias_ptr + column, mask=column < n, other=0.0).to(ACC)[None, :]
    tl.store(y_ptr + at, y.to(x.dtype), mask=inside)


@triton.jit
def _backward_kernel(  # type: ignore[no-untyped-def]
    dy_ptr,
    x_ptr,
    gain_ptr,
    r_ptr,
    mean_ptr,
    dx_ptr,
    dgain_ptr,
    dbias_ptr,
    rows,
    n,
    k,
    tiles,
    GAIN: tl.constexpr,
    BIAS: tl.constexpr,
    CENTRE: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    gain = tl.full((WIDTH,), 1.0, ACC)
    if GAIN:
        gain = tl.load(gain_ptr + column, mask=column < n, other=0.0).to(ACC)
    dgain = tl.zeros((WIDTH,), ACC)
    dbias = tl.zeros((WIDTH,), ACC)
    for tile in range(tiles):  # of consecutive rows
        row = (program * tiles + tile) * ROWS + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & (column < n)[None, :]
        at = row[:, None] * n + column[None, :]
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(ACC)
        v = tl.load(x_ptr + at, mask=inside, other=0.0).to(ACC)
        r = tl.load(r_ptr + row, mask=row < rows, other=0.0)[:, None]
        if CENTRE:
            mean = tl.load(mean_ptr + row, mask=row < rows, other=0.0)
            v = tl.where(inside, v - mean[:, None], 0.0)
        w = dy * gain[None, :]
        slope = (tl.sum(w * v, axis=1) / k)[:, None] * r * r * r  # in this order: r^3 may underflow
        dx = r * w - tl.where((column < k)[None, :], v * slope, 0.0)
        if CENTRE:
            dx -= r * (tl.sum(w, axis=1) / n)[:, None]
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
        dgain += tl.sum(dy * v * r, axis=0)
        if BIAS:
            dbias += tl.sum(dy, axis=0)
    tl.store(dgain_ptr + program * n + column, dgain, mask=column < n)
    if BIAS:
        tl.store(dbias_ptr + program * n + column, dbias, mask=column < n)


def _tile(n: int, backward: bool) -> dict[str, Any]:
    """Returns the rows and the padded width a program works on, and its warps."""
    if n > MAX_WIDTH:
        raise RuntimeError(f"the fused GPU norms take rows of at most {MAX_WIDTH} inputs, not {n}")
    width = triton.next_power_of_2(n)
    tile = TILE // 2 if backward else TILE  # backward holds two of them, x and dy
    warps = 4 if width <= 2048 else 8 if width <= 8192 else 16
    return {"ROWS": max(1, tile // width), "WIDTH": width, "num_warps": warps}


def _acc(x: Tensor) -> Any:
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def _run_forward(
    x: Tensor,
    residual: Tensor | None,
    gain: Tensor | None,
    bias: Tensor | None,
    eps: float,
    k: int,
    centre: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    shapes.check(x, gain, bias, k)
    if residual is not None:
        shapes.check_tensor("residual", residual, x.shape, x, x.dtype)
    x = x.contiguous()
    y, statistics = torch.empty_like(x), shapes.statistics(x, centre)
    total = x if residual is None else torch.empty_like(x)
    n = x.shape[-1]
    rows, tile = x.numel() // n, _tile(n, backward=False)
    r, mean = statistics if centre else (statistics, statistics)
    if rows:
        with torch.cuda.device_of(x):  # which Triton does not ask
            _forward_kernel[(triton.cdiv(rows, tile["ROWS"]),)](
                x,
                x if residual is None else residual.contiguous(),
                total,
                y,
                x if gain is None else gain.contiguous(),
                x if bias is None else bias.contiguous(),
                r,
                mean,
                rows,
                n,
                k,
                eps,
                ADD=residual is not None,
                GAIN=gain is not None,
                BIAS=bias is not None,
                CENTRE=centre,
                ACC=_acc(x),
                **tile,
            )
    return y, total, statistics


@torch.library.custom_op("normlab_triton::norm", mutates_args=())
def norm(
    x: Tensor, gain: Tensor | None, bias: Tensor | None, eps: float, k: int, centre: bool
) -> tuple[Tensor, Tensor]:
    """x (..., n) -> y like x, statistics (rows,) or with `centre` (2, rows)."""
    y, _, statistics = _run_forward(x, None, gain, bias, eps, k, centre)
    return y, statistics


@torch.library.custom_op("normlab_triton::add_norm", mutates_args=())
def add_norm(
    x: Tensor,
    residual: Tensor,
    gain: Tensor | None,
    bias: Tensor | None,
    eps: float,
    k: int,
    centre: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """x, residual (..., n) -> y = norm(x + residual), the sum, statistics."""
    return _run_forward(x, residual, gain, bias, eps, k, centre)


@torch.library.custom_op("normlab_triton::norm_backward", mutates_args=())
def norm_backward(
    dy: Tensor,
    x: Tensor,
    gain: Tensor | None,
    statistics: Tensor,
    k: int,
    centre: bool,
    has_bias: bool,
) -> tuple[Tensor, Tensor]:
    """-> dx like x; the gradients of gain (n,), or of gain and bias (2, n)."""
    shapes.check(x, gain, None, k)
    shapes.check_tensor("dy", dy, x.shape, x, x.dtype)
    n = x.shape[-1]
    rows, tile = x.numel() // n, _tile(n, backward=True)
    shape = (2, rows) if centre else (rows,)
    shapes.check_tensor("statistics", statistics, shape, x, shapes.accumulation_dtype(x))
    dy, x, statistics = dy.contiguous(), x.contiguous(), statistics.contiguous()
    count = triton.cdiv(rows, tile["ROWS"])
    tiles = max(1, triton.cdiv(count, _programs(x.device)))
    programs = triton.cdiv(count, tiles)
    dx = torch.empty_like(x)
    partial = statistics.new_zeros((2 if has_bias else 1, programs, n))
    r, mean = statistics if centre else (statistics, statistics)
    if rows:
        with torch.cuda.device_of(x):
            _backward_kernel[(programs,)](
                dy,
                x,
                x if gain is None else gain.contiguous(),
                r,
                mean,
                dx,
                partial[0],
                partial[-1],
                rows,
                n,
                k,
                tiles,
                GAIN=gain is not None,
                BIAS=has_bias,
                CENTRE=centre,
                ACC=_acc(x),
                **tile,
            )
    sums = partial.sum(1)
    return dx, sums if has_bias else sums[0]


def _programs(device: torch.device) -> int:
    if device.type != "cuda":
        return 8  # the interpreter's
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return PROGRAMS_PER_PROCESSOR * processors


norm.register_fake(shapes.norm)
add_norm.register_fake(shapes.add_norm)
norm_backward.register_fake(shapes.norm_backward)


def _setup_add_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, _, gain, bias, _, k, centre = inputs
    gradients.save(ctx, output[1], gain, bias, output[2], k, centre)


def _add_norm_gradients(
    ctx: Any, dy: Tensor | None, dsum: Tensor | None, _: None
) -> tuple[Tensor | None, ...]:
    # The sum feeds the norm, and whatever else reads it.
    dx, dgain, dbias = gradients.of_norm(ctx, dy, norm_backward)
    if dx is None:
        dx = dsum
    elif dsum is not None:
        dx = dx + dsum
    return dx, dx, dgain, dbias, None, None, None


gradients.register("normlab_triton", "norm")
add_norm.register_autograd(_add_norm_gradients, setup_context=_setup_add_norm)


@cache
def launch_problem() -> str | None:
    """Returns why this GPU's kernels cannot be launched, None when they can or there is no GPU.

    Triton builds what launches a kernel when the first is launched, with a C compiler.
    """
    if not torch.cuda.is_available():
        return None
    try:
        norm(torch.ones(1, 1, device="cuda"), None, None, 0.0, 1, False)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of whatever kind Triton raises
        problem = f"Triton cannot launch kernels here ({error})"
        log.warning("No fused norms on the GPU (%s): norms take another implementation.", problem)
        return problem
    return None
