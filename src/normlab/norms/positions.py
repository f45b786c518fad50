"""Norms whose statistics go over positions: of real ones only, in encoders only.

None of them fits a decoder, which must not see later positions. For GroupNorm and InstanceNorm that
is plain; BatchNorm's batch holds the later tokens of the same sentence, so in training every target
position would see the answer, blurred, and in decoding it would not. In a recurrent network the
norm stands inside the recurrence and would have one position at a time: GroupNorm over one position
is another norm, InstanceNorm is zero, and BatchNorm would need running statistics for each time
step (Cooijmans et al. 2016, arXiv 1603.09025), of which the last steps of a batch see one sentence.
So RNNSearch refuses them, and a Transformer takes them with another norm in its decoder.
"""

from typing import Any

import torch
from torch import Tensor

from normlab.errors import UserError
from normlab.norms import functional
from normlab.norms.affine_norm import AffineNorm
from normlab.types import Epsilon


class OverPositions(AffineNorm):
    """A norm that `dim` features, along `parameter_axis`, share their positions' statistics for."""

    over_positions = True

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns `x` (batch, ..., dim, ...) normalised over its real positions."""
        self._check(x, self.parameter_axis)
        features_last = x.movedim(self.parameter_axis, -1)  # (batch, ..., dim)
        rows = features_last.reshape(len(x), -1, self.dim)  # (batch, positions, dim)
        y = self.of_positions(rows, None if mask is None else mask.reshape(len(x), -1))
        return y.view(features_last.shape).movedim(-1, self.parameter_axis)

    def of_positions(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Returns `x` (batch, positions, dim) normalised; `mask` (batch, positions) or None."""
        raise NotImplementedError


class BatchNorm(OverPositions):
    """BatchNorm (Ioffe & Szegedy 2015) over all real positions of a batch, with gain and bias.

    In training it uses the batch's statistics and moves the running ones, two buffers, towards them
    by `momentum`; in evaluation it uses the running ones, so a sentence's translation does not
    depend on its batch. As in torch, the running variance is the unbiased one.
    """

    def __init__(
        self,
        dim: int,
        eps: Epsilon = 1e-6,
        momentum: float = 0.1,
        gain: bool = True,
        bias: bool = True,
        impl: str = "auto",
        **layout: Any,
    ):
        super().__init__(dim, eps, gain, bias, impl, **layout)
        if not 0 < momentum <= 1:
            raise UserError(f"momentum={momentum} is out of range: it must lie in (0, 1].")
        self.momentum = momentum
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def of_positions(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the formula."""
        mean, variance = self.running_mean, self.running_var
        if self.training:
            mean, variance, count = functional.batch_moments(x, mask)
            with torch.no_grad():
                unbiased = variance * count / (count - 1).clamp(min=1)
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        return functional.batch_norm(x, self.weight, self.bias, self.eps, mean, variance)


class GroupNorm(OverPositions):
    """GroupNorm (Wu & He 2018): a sample's statistics in `groups` groups of neighbouring features.

    Raises UserError when `groups` does not divide `dim`.
    """

    def __init__(
        self,
        dim: int,
        groups: int = 8,
        eps: Epsilon = 1e-6,
        gain: bool = True,
        bias: bool = True,
        impl: str = "auto",
        **layout: Any,
    ):
        super().__init__(dim, eps, gain, bias, impl, **layout)
        if groups < 1 or dim % groups:
            raise UserError(f"groups={groups} does not divide the {dim} features of a layer.")
        self.groups = groups

    def of_positions(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the formula."""
        return functional.group_norm(x, self.weight, self.bias, self.eps, self.groups, mask)


class InstanceNorm(GroupNorm):
    """InstanceNorm (Ulyanov et al. 2016): each feature of a sample over its positions.

    Of a single position nothing is left but the bias: a one-token sentence says nothing.
    """

    def __init__(
        self,
        dim: int,
        eps: Epsilon = 1e-6,
        gain: bool = True,
        bias: bool = True,
        impl: str = "auto",
        **layout: Any,
    ):
        super().__init__(dim, dim, eps, gain, bias, impl, **layout)
