"""Each normalisation as plain tensor ops: the formulas that everything faster is tested against.

All functions normalise the last dimension of `x` (..., n). Statistics are computed in fp32 when `x`
is bf16 or fp16 and in the dtype of `x` otherwise; the result always has the dtype of `x`.
`gain` and `bias` are (n,) or None. `eps` stands inside the root.
Source: Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", arXiv 1910.07467.
"""

import math

import torch
from torch import Tensor


def layer_norm(x: Tensor, gain: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """LayerNorm, Eq. 2-3: (a - mean) / sqrt(var + eps) * gain + bias, the variance over n."""
    a = statistics_dtype(x)
    centred = a - a.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return affine(centred * torch.rsqrt(variance + eps), gain, bias).to(x.dtype)


def rms_norm(x: Tensor, gain: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """RMSNorm, Eq. 4: a / RMS(a) * gain with RMS(a) = sqrt(mean(a^2) + eps)."""
    a = statistics_dtype(x)
    mean_square = a.square().mean(-1, keepdim=True)
    return affine(a * torch.rsqrt(mean_square + eps), gain, bias).to(x.dtype)


def prms_norm(x: Tensor, gain: Tensor | None, bias: Tensor | None, eps: float, k: int) -> Tensor:
    """pRMSNorm, section 5: RMSNorm whose RMS is estimated from the first `k` of the n inputs."""
    a = statistics_dtype(x)
    mean_square = a[..., :k].square().mean(-1, keepdim=True)
    return affine(a * torch.rsqrt(mean_square + eps), gain, bias).to(x.dtype)


def l2_norm(x: Tensor, gain: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """L2-Norm, Table 2: a / |a| * gain with |a| = sqrt(sum(a^2) + eps), RMSNorm over sqrt(n)."""
    a = statistics_dtype(x)
    square = a.square().sum(-1, keepdim=True)
    return affine(a * torch.rsqrt(square + eps), gain, bias).to(x.dtype)


def partial_size(n: int, p: float) -> int:
    """Returns k = ceil(n * p), at least 1, the number of inputs that pRMSNorm's RMS reads.

    The authors' code takes int(n * p), which is 0 for small n; the paper's formula is the ceiling.
    Rounding first keeps 100 * 0.07 (7.000000000000001 in floating point) at 7.
    """
    return max(1, math.ceil(round(n * p, 9)))


def statistics_dtype(x: Tensor) -> Tensor:
    """Returns `x` in the dtype that its statistics are computed in."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def affine(normalised: Tensor, gain: Tensor | None, bias: Tensor | None) -> Tensor:
    """Returns normalised * gain + bias, each where there is one."""
    if gain is not None:
        normalised = normalised * gain
    return normalised if bias is None else normalised + bias
