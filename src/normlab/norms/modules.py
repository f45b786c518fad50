"""The normalisation layers, all built as `Norm(dim, ...)`, with `eps` where a root is taken.

`**layout` is where a layer stands, `axes` and `parameter_axis`: see `Norm` in base.py.

A layer maps (..., dim) to the same shape and the same dtype. `impl` chooses how it is computed:

- `composed`: the tensor ops of functional.py, what a framework user writes by hand (the paper's
  situation);
- `native`: torch's own operator, where there is one;
- `fused`: our own kernel: C++ on CPU (built on first use), Triton on a GPU;
- `auto`: on a CPU our kernel; on a GPU torch's operator, or our kernel where torch has none;
  without these torch's LayerNorm, else tensor ops.

The formulas are the same; only speed and the last bits differ (in bf16 `native` rounds gain and
bias to bf16 too, as autocast does with weights). A wall-clock number without its implementation
means nothing, so runs record what was used (`implementation`).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.errors import UserError
from normlab.norms import functional, kernels
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


class AffineNorm(Norm):
    """A norm by a formula over the last axis, `composed`, with a learned gain and bias.

    The gain is the parameter `weight`, from 1, the bias `bias`, from 0, as torch names them. Over
    other axes the formula sees them flattened, and gain and bias follow along `parameter_axis`.
    Raises UserError for arguments out of range.
    """

    def __init__(
        self,
        dim: int,
        eps: Epsilon = 1e-6,
        gain: bool = True,
        bias: bool = False,
        impl: str = "auto",
        *,
        axes: tuple[int, ...] = (-1,),
        parameter_axis: int = -1,
    ):
        super().__init__(dim, axes=axes, parameter_axis=parameter_axis)
        if eps < 0:
            raise UserError(f"eps must be >= 0, got {eps}.")
        if impl not in ("auto", *self.implementations):
            known = ", ".join(("auto", *self.implementations))
            raise UserError(
                f"impl={impl} does not exist for {type(self).__name__}: choose one of {known}."
            )
        self.over_last_axis = (self.axes, parameter_axis) == ((-1,), -1)
        self.of_planes = (self.axes, parameter_axis) == ((-2, -1), -3)  # as in images
        fits = self.over_last_axis or (impl == "fused" and self.of_planes)
        if impl not in ("auto", "composed") and not fits:
            raise UserError(f"impl={impl} is not for norms over {self._layout()}: use impl=auto.")
        self.eps, self.impl = eps, impl
        self.k = self.measured(dim)
        self.weight = nn.Parameter(torch.ones(dim)) if gain else None
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def __init_subclass__(cls, **arguments: Any) -> None:
        # A class with a formula of its own has the kernels that it names, not those it inherits.
        super().__init_subclass__(**arguments)
        written = vars(cls).keys()
        if written & {"forward", "composed"} and "implementations" not in written:
            cls.implementations = ("composed",)

    def composed(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Returns `x` normalised over its last axis, times `weight`, plus `bias`, in tensor ops."""
        raise NotImplementedError

    def native(self, x: Tensor) -> Tensor:
        """Returns the same by torch's operator."""
        raise NotImplementedError

    def measured(self, n: int) -> int:
        """Returns how many of n inputs the statistics are taken from."""
        return n

    def fused(self, x: Tensor) -> Tensor:
        """Returns the same by our kernel."""
        operators = kernels.operators(x.device.type)
        if self.over_last_axis:
            norm = operators.norm
            return norm(x, self.weight, self.bias, self.eps, self.k, self.centre)[0]
        last = x.movedim(-3, -1)  # (..., height, width, dim): no copy of a channels_last image
        n = last.shape[-3] * last.shape[-2]
        planes, k = last.reshape(x.shape[:-3].numel(), n, self.dim), self.measured(n)
        y = operators.plane_norm(planes, self.weight, self.bias, self.eps, k, self.centre)[0]
        y = y.view(last.shape).movedim(-1, -3)
        return y.contiguous() if x.is_contiguous() else y

    def fallback(self, device: torch.device) -> str:
        """Returns what `auto` takes where there are no fused kernels."""
        return "composed"

    def implementation(self, device: torch.device) -> str:
        """Returns the implementation used for inputs on `device`.

        Raises UserError when that is `fused` by name and its kernels cannot be built here.
        """
        if self.impl != "auto":
            if self.impl == "fused" and (why := self.no_kernel(device)):
                raise UserError(f"impl=fused is not available: {why}; use impl=auto.")
            return self.impl
        if not self.over_last_axis:
            fused = "fused" in self.implementations and self.no_kernel(device) is None
            return "fused" if fused else "composed"
        fallback = self.fallback(device) if "native" in self.implementations else "composed"
        # On a GPU torch's own operators are single kernels too, and cost less to call.
        if "fused" not in self.implementations or (device.type, fallback) == ("cuda", "native"):
            return fallback
        return fallback if self.no_kernel(device) else "fused"

    def no_kernel(self, device: torch.device) -> str | None:
        """Returns why no fused kernel computes this norm on `device`, None when one does."""
        if self.over_last_axis:
            return kernels.problem(device.type, self.dim)
        if not self.of_planes:
            return f"there is no kernel over {self._layout()}"
        if device.type != "cpu":
            return f"over height and width there is no kernel for {device.type}"
        return kernels.problem("cpu")

    def in_gru_kernel(self) -> bool:
        """Whether the CPU kernel computes this norm, and nobody watches its calls."""
        return self.implementation(torch.device("cpu")) == "fused" and not observed(self)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns `x` normalised; raises RuntimeError, as torch does, if it has not size `dim`."""
        self._check(x, self.parameter_axis)
        implementation = self.implementation(x.device)
        if implementation == "fused":
            return self.fused(x)
        if implementation == "native":
            return self.native(x)
        if self.over_last_axis:
            return self.composed(x, self.weight, self.bias)
        return self._over_axes(x)

    def of_sum(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the norm of x + y, a residual sum; the fused kernel takes the sum too."""
        alike = x.dtype == y.dtype and x.shape == y.shape
        fused = self.over_last_axis and self.implementation(x.device) == "fused"
        if observed(self) or not alike or not fused:
            return self(x + y, mask)
        self._check(x, -1)
        add_norm = kernels.operators(x.device.type).add_norm
        return add_norm(x, y, self.weight, self.bias, self.eps, self.k, self.centre)[0]

    def extra_repr(self) -> str:
        """Returns what the layer's repr says in its brackets."""
        has = f"gain={self.weight is not None}, bias={self.bias is not None}"
        return f"{self.dim}, eps={self.eps}, {has}, impl={self.impl}"

    def _layout(self) -> str:
        return f"axes {self.axes} with parameters along axis {self.parameter_axis}"

    def _check(self, x: Tensor, axis: int) -> None:
        if x.dim() < -axis or x.shape[axis] != self.dim:
            raise RuntimeError(
                f"{type(self).__name__}: x must have size {self.dim} in axis {axis}, "
                f"got x of shape {tuple(x.shape)}."
            )

    def _over_axes(self, x: Tensor) -> Tensor:
        axes = [range(x.dim())[axis] for axis in self.axes]
        order = [axis for axis in range(x.dim()) if axis not in axes] + axes
        moved = functional.statistics_dtype(x).permute(order)  # (..., normalised axes)
        flat = moved.flatten(x.dim() - len(axes))  # (..., n)
        y = self.composed(flat, None, None).view(moved.shape)
        y = y.permute([order.index(axis) for axis in range(x.dim())])
        along = [1] * x.dim()
        along[self.parameter_axis] = self.dim
        weight, bias = (
            None if p is None else p.expand(self.dim).view(along) for p in (self.weight, self.bias)
        )
        return functional.affine(y, weight, bias).to(x.dtype)


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

    def fallback(self, device: torch.device) -> str:
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

    def fallback(self, device: torch.device) -> str:
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
        self.p = p
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
