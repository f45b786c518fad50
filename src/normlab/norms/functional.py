"""Each normalisation as plain tensor ops: the formulas that everything faster is tested against.

All functions normalise `x` (..., n), over its last dimension and, where they say so, positions.
Statistics are computed in fp32 when `x` is bf16 or fp16 and in the dtype of `x` otherwise; the
result always has the dtype of `x`. `gain` and `bias` are (n,) or None. `eps` is inside the root.
Where no other source is named: Zhang & Sennrich 2019, "Root Mean Square Layer Normalization",
arXiv 1910.07467.
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
    """L2-Norm, Table 2: a / |a| * gain with |a| = sqrt(sum(a^2) + eps).

    But for eps it is RMSNorm's output divided by sqrt(n).
    """
    a = statistics_dtype(x)
    square = a.square().sum(-1, keepdim=True)
    return affine(a * torch.rsqrt(square + eps), gain, bias).to(x.dtype)


def scale_norm(x: Tensor, gain: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """ScaleNorm (Nguyen & Salazar 2019, arXiv 1910.05895): a / |a| * g, `gain` one scalar (1,)."""
    return l2_norm(x, gain, bias, eps)


def crms_norm(x: Tensor, gain: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """CRMSNorm (Jiang et al. 2023, arXiv 2305.14858): RMSNorm of d entries of which d - 1 are kept.

    `x` (..., d - 1) stands for a vector of mean zero, so the missing entry is -sum(x).
    """
    a = statistics_dtype(x)
    square = a.square().sum(-1, keepdim=True) + a.sum(-1, keepdim=True).square()
    return affine(a * torch.rsqrt(square / (a.shape[-1] + 1) + eps), gain, bias).to(x.dtype)


def recentre(x: Tensor, gain: Tensor | None, bias: Tensor | None) -> Tensor:
    """Re-centring without re-scaling, the other half of LayerNorm: (a - mean) * gain + bias."""
    a = statistics_dtype(x)
    return affine(a - a.mean(-1, keepdim=True), gain, bias).to(x.dtype)


def dyt(x: Tensor, alpha: Tensor, gain: Tensor | None, bias: Tensor | None) -> Tensor:
    """Dynamic Tanh (Zhu et al. 2025, arXiv 2503.10622): tanh(alpha * a) * gain + bias."""
    return affine(torch.tanh(alpha * statistics_dtype(x)), gain, bias).to(x.dtype)


def batch_moments(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Returns mean (n,) and variance (n,) of each feature of `x` (..., n), and over how many rows.

    Only rows where `mask` (...) is True count. The variance divides by their number.
    """
    a = statistics_dtype(x).flatten(0, -2)  # (rows, n)
    real = torch.ones_like(a[:, :1]) if mask is None else mask.reshape(-1, 1).to(a.dtype)
    count = real.sum().clamp(min=1)
    mean = (a * real).sum(0) / count
    return mean, ((a - mean).square() * real).sum(0) / count, count


def batch_norm(
    x: Tensor, gain: Tensor | None, bias: Tensor | None, eps: float, mean: Tensor, variance: Tensor
) -> Tensor:
    """BatchNorm (Ioffe & Szegedy 2015, arXiv 1502.03167): (a - mean) / sqrt(variance + eps) * gain.

    `mean` and `variance` (n,) are those of a batch (`batch_moments`) or running ones.
    """
    normalised = (statistics_dtype(x) - mean) * torch.rsqrt(variance + eps)
    return affine(normalised, gain, bias).to(x.dtype)


def group_norm(
    x: Tensor,
    gain: Tensor | None,
    bias: Tensor | None,
    eps: float,
    groups: int,
    mask: Tensor | None,
) -> Tensor:
    """GroupNorm (Wu & He 2018, arXiv 1803.08494): LayerNorm of each group, over all its positions.

    `x` (batch, positions, n): the statistics of a sample's n / groups neighbouring features over
    those positions that `mask` (batch, positions) says are real. With n groups it is InstanceNorm
    (Ulyanov et al. 2016, arXiv 1607.08022).
    """
    a = statistics_dtype(x).unflatten(-1, (groups, -1))  # (batch, positions, groups, n / groups)
    real = torch.ones_like(a[..., :1, :1]) if mask is None else mask[..., None, None].to(a.dtype)
    count = real.sum(1, keepdim=True).clamp(min=1) * a.shape[-1]
    centred = a - (a * real).sum((1, 3), keepdim=True) / count
    variance = (centred.square() * real).sum((1, 3), keepdim=True) / count
    return affine((centred * torch.rsqrt(variance + eps)).flatten(2), gain, bias).to(x.dtype)


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
