"""Norms of single positions beyond the paper's: halves of LayerNorm, and what came after it."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from normlab.norms import functional
from normlab.norms.affine_norm import AffineNorm
from normlab.types import Epsilon


class Affine(AffineNorm):
    """A norm's gain and bias alone: neither re-centring nor re-scaling."""

    def __init__(
        self,
        dim: int,
        gain: bool = True,
        bias: bool = True,
        impl: str = "auto",
        **layout: Any,
    ):
        super().__init__(dim, 0.0, gain, bias, impl, **layout)

    def composed(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Returns the formula."""
        return functional.affine(functional.statistics_dtype(x), weight, bias).to(x.dtype)


class Recentre(Affine):
    """LayerNorm's re-centring without its re-scaling: x - mean(x), with gain and bias."""

    def composed(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Returns the formula."""
        return functional.recentre(x, weight, bias)


class ScaleNorm(AffineNorm):
    """ScaleNorm (Nguyen & Salazar 2019): x / |x| times one learned scalar, from sqrt(dim).

    Over other axes, of n entries, times sqrt(n / dim) too: it starts as RMSNorm everywhere, up to
    eps, which is added to a sum here and so counts n times less.
    """

    def __init__(
        self,
        dim: int,
        eps: Epsilon = 1e-6,
        impl: str = "auto",
        **layout: Any,
    ):
        super().__init__(dim, eps, False, False, impl, **layout)
        self.weight = nn.Parameter(torch.full((1,), math.sqrt(dim)))

    def composed(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Returns the formula."""
        y = functional.scale_norm(x, weight, bias, self.eps)
        n = x.shape[-1]
        return y if n == self.dim else y * math.sqrt(n / self.dim)


class CRMSNorm(AffineNorm):
    """CRMSNorm (Jiang et al. 2023): RMSNorm of dim + 1 entries of mean zero, `dim` of them given.

    In a network that keeps its vectors at mean zero it is RMSNorm, and so LayerNorm, of the whole
    vector (analysis/conversion.py makes such networks). In any other it is a norm in its own right,
    which reads the sum of its inputs as one more input.
    """

    def composed(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Returns the formula."""
        return functional.crms_norm(x, weight, bias, self.eps)


class DyT(AffineNorm):
    """Dynamic Tanh (Zhu et al. 2025): tanh(alpha x), with one learned `alpha`, gain and bias.

    It has no statistics: a squashing function in the place of a norm.
    """

    def __init__(
        self,
        dim: int,
        alpha: float = 0.5,
        gain: bool = True,
        bias: bool = True,
        impl: str = "auto",
        **layout: Any,
    ):
        super().__init__(dim, 0.0, gain, bias, impl, **layout)
        self.alpha = nn.Parameter(torch.full((1,), float(alpha)))

    def composed(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Returns the formula."""
        return functional.dyt(x, self.alpha, weight, bias)
