"""The Transformer's main branch: how its sublayers read it and what they add to it."""

from typing import Literal

from torch import Tensor, nn

from normlab.models.dropout import Dropout
from normlab.norms.base import NormFactory

MainBranch = Literal["free", "recentred", "zero_mean", "compressed"]


class Residual(nn.Module):
    """post: Norm(x + dropout(sublayer(x))); pre: x + dropout(sublayer(Norm(x)))."""

    def __init__(
        self,
        width: int,
        dropout: float,
        pre_norm: bool,
        main_branch: MainBranch,
        norm: NormFactory,
    ):
        super().__init__()
        self.norm = norm(width)
        self.dropout = Dropout(dropout)
        self.pre_norm, self.main_branch = pre_norm, main_branch

    def sublayer_input(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns what the sublayer reads of the branch `x`, normalised in pre-norm.

        `mask` (batch, len) says which positions are real.
        """
        return self.norm(x, mask) if self.pre_norm else x

    def add(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the branch `x` plus the sublayer's output `y`, normalised in post-norm."""
        y = into_branch(self.dropout(y), self.main_branch, self.training)
        return x + y if self.pre_norm else self.norm.of_sum(x, y, mask)


class FeedForward(nn.Sequential):
    """Two linear maps with ReLU and dropout between them."""

    def __init__(self, width: int, d_ff: int, dropout: float):
        super().__init__(
            nn.Linear(width, d_ff), nn.ReLU(), Dropout(dropout), nn.Linear(d_ff, width)
        )


def into_branch(x: Tensor, main_branch: MainBranch, training: bool) -> Tensor:
    """Returns what is added to the main branch for `x` (..., width): without its mean, if asked.

    `zero_mean` asks in training only, where dropout breaks a mean of 0.
    """
    recentred = main_branch == "recentred" or (main_branch == "zero_mean" and training)
    return without_mean(x) if recentred else x


def without_mean(x: Tensor) -> Tensor:
    """Returns x (..., n) with the mean of its last axis subtracted."""
    return x - x.mean(-1, keepdim=True)
