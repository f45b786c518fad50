"""The paper's norms, each a class around its formula (functional.py), and none.

How one is computed, by tensor ops, torch's operator or our kernel, affine_norm.py says.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.errors import UserError
from normlab.norms import functional, kernels
from normlab.norms.affine_norm import AffineNorm
from normlab.norms.base import Norm, observed
from normlab.types import Epsilon


class NoNorm(Norm):
    """The identity, as the member "none" of the family; it owns no weight and no bias."""

    def implementation(self, device: torch.device) -> str:
        """Returns "none": nothing is computed."""
        return "none"

    def in_gru_kernel(self) -> bool:
        """Whether nothing but the identity is here, and there is a kernel."""
        plain = type(self).forward is NoNorm.forward and not observed(self)
        return plain and kernels.problem("cpu") is None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns `x` itself."""
        return x


class LayerNorm(AffineNorm):
    """LayerNorm (Eq. 2-3), with gain and bias."""

    implementations = ("composed", "native", "fused")
    centre = True

    def __init__(
        self,
        dim: int,
        eps: Epsilon = 1e-6,
        gain: bool = True,
        bias: bool = True,
        impl: str = "auto",
        **layout: Any,
    ):
        super().__init__(dim, eps, gain, bias, impl, **layout)

    def unfused(self, device: torch.device) -> str:
        """Returns "native": torch has the operator everywhere."""
        return "native"

    def native(self, x: Tensor) -> Tensor:
        """Returns torch's layer_norm."""
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = _in_dtype(self.weight, x), _in_dtype(self.bias, x)
            return F.layer_norm(x, (self.dim,), weight, bias, self.eps)

    def composed(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Returns the formula."""
        return functional.layer_norm(x, weight, bias, self.eps)


class RMSNorm(AffineNorm):
    """RMSNorm (Eq. 4), with gain; the paper's has no bias."""

    implementations = ("composed", "native", "fused")

    def __init__(
        self,
        dim: int,
        eps: Epsilon = 1e-6,
        gain: bool = True,
        bias: bool = False,
        impl: str = "auto",
        **layout: Any,
    ):
        super().__init__(dim, eps, gain, bias, impl, **layout)
        if impl == "native" and bias:
            raise UserError(
                "impl=native cannot be used with bias=true for RMSNorm: torch's rms_norm has no "
                "bias; choose impl=composed."
            )

    def unfused(self, device: torch.device) -> str:
        """Returns "native" on CUDA only, where it is one kernel; on a CPU torch composes it."""
        return "native" if device.type == "cuda" and self.bias is None else "composed"

    def native(self, x: Tensor) -> Tensor:
        """Returns torch's rms_norm."""
        with torch.autocast(x.device.type, enabled=False):
            return F.rms_norm(x, (self.dim,), _in_dtype(self.weight, x), self.eps)

    def composed(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Returns the formula."""
        return functional.rms_norm(x, weight, bias, self.eps)


class PRMSNorm(AffineNorm):
    """pRMSNorm (section 5): RMSNorm estimated from the first k = ceil(n * p) of the n inputs."""

    implementations = ("composed", "fused")

    def __init__(
        self,
        dim: int,
        p: float = 0.0625,
        eps: Epsilon = 1e-6,
        gain: bool = True,
        bias: bool = False,
        impl: str = "auto",
        **layout: Any,
    ):
        if not 1e-9 <= p <= 1:  # partial_size reads nine decimals
            raise UserError(f"p must be a fraction in (0, 1], got {p}; the paper uses 0.0625.")
        self.p = p  # before super(), which asks measured()
        super().__init__(dim, eps, gain, bias, impl, **layout)

    def measured(self, n: int) -> int:
        """Returns k."""
        return functional.partial_size(n, self.p)

    def composed(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Returns the formula."""
        return functional.prms_norm(x, weight, bias, self.eps, self.measured(x.shape[-1]))

    def extra_repr(self) -> str:
        """Returns the same with p and k."""
        return f"{super().extra_repr()}, p={self.p}, k={self.k}"


class L2Norm(AffineNorm):
    """L2-Norm (Table 2): RMSNorm without the factor sqrt(n), reported not to work."""

    def composed(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Returns the formula."""
        return functional.l2_norm(x, weight, bias, self.eps)


class WeightNorm(NoNorm):
    """WeightNorm (appendix): normalises weights, not activations, so as a layer it is the identity.

    Salimans & Kingma 2016 (arXiv 1602.07868): every row w of a weight matrix, the weights of one
    summed input, becomes g v / |v| with a learned length g and a learned direction v. Whoever has
    built and initialised a model with this norm calls `reparameterise(model)` once.
    """

    @staticmethod
    def reparameterise(model: nn.Module) -> None:
        """Replaces the weight of every nn.Linear and nn.Conv2d in `model` by g and v.

        Its value stays. These are all maps between layers, the attention score vector included; of
        a convolution, w is the filter of one output channel. Embeddings, translation's softmax
        matrices and biases stay as they are. In the state dict a `weight` then is
        `parametrizations.weight.original0` (g) and `original1` (v).
        """
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.utils.parametrizations.weight_norm(module)

    def implementation(self, device: torch.device) -> str:
        """Returns "native": torch's operator computes the weights."""
        return "native"


def _in_dtype(parameter: Tensor | None, x: Tensor) -> Tensor | None:
    # Outside autocast and with parameters in the input's dtype: torch then takes its fused kernel,
    # and the output keeps the input's dtype as in every other implementation.
    return None if parameter is None else parameter.to(x.dtype)
