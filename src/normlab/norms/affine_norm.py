"""Norms with a gain and a bias, and how one is computed: the class around any formula.

A layer is built as `Norm(dim, ...)`, with `eps` where a root is taken; `**layout` is where it
stands, `axes` and `parameter_axis` (base.py). It maps (..., dim) to the same shape and the same
dtype. `impl` chooses how it is computed:

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
from torch import Tensor, nn

from normlab.errors import UserError
from normlab.norms import functional, kernels
from normlab.norms.base import Norm, observed
from normlab.types import Epsilon


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
        """Returns `x` normalised over its last axis, times `weight`, plus `bias`, in tensor ops.

        These are the layer's own, or None where `_over_axes` applies them along another axis.
        """
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

    def unfused(self, device: torch.device) -> str:
        """Returns what computes the layer best without our kernels: native or composed."""
        return "composed"

    def implementation(self, device: torch.device) -> str:
        """Returns the implementation used for inputs on `device`.

        Raises UserError when that is `fused` by name and its kernels cannot be built here.
        """
        if self.impl == "fused" and (why := self.no_kernel(device)):
            raise UserError(f"impl=fused is not available: {why}; use impl=auto.")
        if self.impl != "auto":
            return self.impl
        native = self.over_last_axis and "native" in self.implementations
        unfused = self.unfused(device) if native else "composed"
        # On a GPU torch's own operators are single kernels too, and cost less to call.
        if (device.type, unfused) == ("cuda", "native"):
            return unfused
        fused = "fused" in self.implementations and self.no_kernel(device) is None
        return "fused" if fused else unfused

    def no_kernel(self, device: torch.device) -> str | None:
        """Returns why no fused kernel computes this norm on `device`, None when one does."""
        if self.centre and self.k < self.dim:  # whose gradient no kernel has
            return "there is no kernel that subtracts a mean and measures only some inputs"
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
