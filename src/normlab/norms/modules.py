"""The normalisation layers, all built as `Norm(dim, eps=...)`.

A layer maps (..., dim) to the same shape and the same dtype. `impl` chooses how it is computed:

- `composed`: the tensor ops of functional.py, what a framework user writes by hand (the paper's
  situation);
- `native`: torch's own operator, where there is one;
- `fused`: our own kernel: C++ on CPU (built on first use), Triton on a GPU;
- `auto`: the fastest that is valid on the input's device.

The formulas are the same; only speed and the last bits differ. A wall-clock number without its
implementation means nothing, so runs record what was used (`implementation`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.errors import UserError
from normlab.norms import functional, kernels


class _Norm(nn.Module):
    """What a kernel asks of a norm: parameters, eps, k (the inputs measured, 0: none), `centre`."""

    gain: Tensor | None
    bias: Tensor | None
    eps, k, centre = 0.0, 0, False

    def implementation(self, device: torch.device) -> str:
        """Returns how the norm is computed for inputs on `device`."""
        raise NotImplementedError

    def in_gru_kernel(self, device: torch.device) -> bool:
        """Whether `gru_step` may stand for a call of this norm: not while it has hooks."""
        fits = self.k == 0 or self.implementation(device) == "fused"
        return fits and device.type == "cpu" and not (self._forward_hooks or kernels.problem("cpu"))

    def gru_step(
        self,
        candidate_norm: "_Norm",
        summed: Tensor,
        x_gates: Tensor,
        x_candidate: Tensor,
        h: Tensor,
    ) -> Tensor:
        """Returns the next state of a GRU (kernels/gru.cpp) that has this norm on its gates.

        `summed` is U h + b (rows, 3n), `h` (rows, n); gates (rows, 2n) and candidate (rows, n) of
        the input side come normalised.
        """
        return kernels.operators("cpu").gru(
            summed, x_gates, x_candidate, h, self.gain, self.bias,
            candidate_norm.gain, candidate_norm.bias, self.eps, self.k, candidate_norm.k,
            self.centre,
        )[0]  # fmt: skip


class NoNorm(_Norm):
    """The identity, as the member "none" of the family; it owns no gain and no bias."""

    def __init__(self, dim: int):
        super().__init__()
        self.gain, self.bias = None, None

    def implementation(self, device: torch.device) -> str:
        """Returns "none": nothing is computed."""
        return "none"

    def forward(self, x: Tensor) -> Tensor:
        """Returns `x` itself."""
        return x


class _AffineNorm(_Norm):
    """What the real norms share: checked arguments, gain from 1, bias from 0, choice of `impl`."""

    def __init__(self, dim: int, eps: float, gain: bool, bias: bool, impl: str):
        super().__init__()
        if dim < 1:
            raise UserError(f"a norm needs dim >= 1, got {dim}.")
        if eps < 0:
            raise UserError(f"norm.eps must be >= 0, got {eps}.")
        if impl not in ("auto", *self.implementations):
            known = ", ".join(("auto", *self.implementations))
            raise UserError(
                f"norm.impl={impl} does not exist for {type(self).__name__}: choose one of {known}."
            )
        self.dim, self.eps, self.impl = dim, eps, impl
        self.k = dim
        self.gain = nn.Parameter(torch.ones(dim)) if gain else None
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    implementations: tuple[str, ...] = ("composed",)

    def implementation(self, device: torch.device) -> str:
        """Returns the implementation used for inputs on `device`.

        Raises UserError when that is `fused` by name and its kernels cannot be built here.
        """
        if self.impl != "auto":
            if self.impl == "fused" and (why := kernels.problem(device.type, self.dim)):
                raise UserError(f"norm.impl=fused is not available: {why}; use norm.impl=auto.")
            return self.impl
        fallback = self.fallback(device)
        # On a GPU torch's own operators are single kernels too, and cost less to call.
        if "fused" not in self.implementations or (device.type, fallback) == ("cuda", "native"):
            return fallback
        return fallback if kernels.problem(device.type, self.dim) else "fused"

    def fallback(self, device: torch.device) -> str:
        """Returns what `auto` takes where there are no fused kernels."""
        return "composed"

    def fused(self, x: Tensor) -> Tensor:
        norm = kernels.operators(x.device.type).norm
        return norm(x, self.gain, self.bias, self.eps, self.k, self.centre)[0]

    def of_sum(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the norm of x + y, a residual sum; the fused kernel takes the sum too."""
        fused = x.dtype == y.dtype and self.implementation(x.device) == "fused"
        if self._forward_hooks or not fused:
            return self(x + y)
        add_norm = kernels.operators(x.device.type).add_norm
        return add_norm(x, y, self.gain, self.bias, self.eps, self.k, self.centre)[0]

    def extra_repr(self) -> str:
        has = f"gain={self.gain is not None}, bias={self.bias is not None}"
        return f"{self.dim}, eps={self.eps}, {has}, impl={self.impl}"


class LayerNorm(_AffineNorm):
    """LayerNorm (Eq. 2-3), with gain and bias."""

    implementations = ("composed", "native", "fused")
    centre = True

    def __init__(self, dim, eps=1e-6, gain=True, bias=True, impl="auto"):
        super().__init__(dim, eps, gain, bias, impl)

    def fallback(self, device: torch.device) -> str:
        return "native"

    def forward(self, x: Tensor) -> Tensor:
        implementation = self.implementation(x.device)
        if implementation == "fused":
            return self.fused(x)
        if implementation == "native":
            return _native(F.layer_norm, x, self.gain, self.bias, self.eps)
        return functional.layer_norm(x, self.gain, self.bias, self.eps)


class RMSNorm(_AffineNorm):
    """RMSNorm (Eq. 4), with gain; the paper's has no bias."""

    implementations = ("composed", "native", "fused")

    def __init__(self, dim, eps=1e-6, gain=True, bias=False, impl="auto"):
        super().__init__(dim, eps, gain, bias, impl)
        if impl == "native" and bias:
            raise UserError(
                "norm.impl=native cannot be used with norm.bias=true for rmsnorm: "
                "torch's rms_norm has no bias; choose norm.impl=composed."
            )

    def fallback(self, device: torch.device) -> str:
        # F.rms_norm is one kernel on CUDA only; on CPU torch composes it, slower than we do.
        return "native" if device.type == "cuda" and self.bias is None else "composed"

    def forward(self, x: Tensor) -> Tensor:
        implementation = self.implementation(x.device)
        if implementation == "fused":
            return self.fused(x)
        if implementation == "native":
            return _native(F.rms_norm, x, self.gain, None, self.eps)
        return functional.rms_norm(x, self.gain, self.bias, self.eps)


class PRMSNorm(_AffineNorm):
    """pRMSNorm (section 5): RMSNorm estimated from the first k = ceil(dim * p) inputs."""

    implementations = ("composed", "fused")

    def __init__(self, dim, p=0.0625, eps=1e-6, gain=True, bias=False, impl="auto"):
        if not 0 < p <= 1:
            raise UserError(f"norm.p must be a fraction in (0, 1], got {p}; the paper uses 0.0625.")
        super().__init__(dim, eps, gain, bias, impl)
        self.p, self.k = p, functional.partial_size(dim, p)

    def forward(self, x: Tensor) -> Tensor:
        if self.implementation(x.device) == "fused":
            return self.fused(x)
        return functional.prms_norm(x, self.gain, self.bias, self.eps, self.k)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, p={self.p}, k={self.k}"


class L2Norm(_AffineNorm):
    """L2-Norm (Table 2): RMSNorm without the factor sqrt(dim), reported not to work."""

    def __init__(self, dim, eps=1e-6, gain=True, bias=False, impl="auto"):
        super().__init__(dim, eps, gain, bias, impl)

    def forward(self, x: Tensor) -> Tensor:
        return functional.l2_norm(x, self.gain, self.bias, self.eps)


class WeightNorm(NoNorm):
    """WeightNorm (appendix): normalises weights, not activations, so as a layer it is the identity.

    Salimans & Kingma 2016 (arXiv 1602.07868): every row w of a weight matrix, the weights of one
    summed input, becomes g v / |v| with a learned length g and a learned direction v. Whoever has
    built and initialised a model with this norm calls `reparameterise(model)` once.
    """

    @staticmethod
    def reparameterise(model: nn.Module) -> None:
        """Replaces the weight of every nn.Linear in `model` by g and v; its value stays.

        These are all maps between layers, the attention score vector included. Embeddings, softmax
        matrices and biases stay as they are. In the state dict a `weight` then is
        `parametrizations.weight.original0` (g) and `original1` (v).
        """
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.utils.parametrizations.weight_norm(module)

    def implementation(self, device: torch.device) -> str:
        """Returns "native": torch's operator computes the weights."""
        return "native"


def _native(op, x: Tensor, gain: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    # Outside autocast and with parameters in the input's dtype: torch then takes its fused kernel,
    # and the output keeps the input's dtype as in every other implementation.
    with torch.autocast(x.device.type, enabled=False):
        gain = None if gain is None else gain.to(x.dtype)
        if op is F.rms_norm:
            return op(x, x.shape[-1:], gain, eps)
        return op(x, x.shape[-1:], gain, None if bias is None else bias.to(x.dtype), eps)
