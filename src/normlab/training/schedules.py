"""Learning rates as pure functions of the step, so that a checkpoint needs to hold none of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from normlab.errors import UserError
from normlab.types import Count, Fraction, Natural, Positive


def unchanged(step: int) -> None:
    """Returns None: the optimiser's own beta1 at every step."""


class Schedule(NamedTuple):
    """What changes from step to step, counted from 1."""

    learning_rate: Callable[[int], float]
    beta1: Callable[[int], float | None] = unchanged  # Adam's; None: the optimiser's own


def inverse_sqrt(step: int, *, lr: Positive, warmup: Count) -> float:
    """Returns the rate of `step` (from 1): linear up to `lr` at `warmup`, then ~ step^-1/2.

    Vaswani et al. 2017, Eq. 3, with the peak as the parameter: their d_model^-1/2 * warmup^-1/2.
    """
    return lr * min(step / warmup, math.sqrt(warmup / step))


def constant(step: int, *, lr: Positive, warmup: Natural) -> float:
    """Returns `lr`, reached linearly over the first `warmup` steps (0: at once)."""
    return lr * min(1.0, step / warmup) if warmup else lr


@dataclass(frozen=True)
class LinearDecay:
    """`lr` up to step `start`, then a line down to 0 at step `end`; `late_beta1` after `start`.

    Salimans & Kingma 2016 on CIFAR-10: both halves of 200 epochs, and 0.5 for Adam's beta1 in the
    second one. None leaves it as it is. Raises UserError when `start` is not before `end`.
    """

    lr: Positive
    start: Natural
    end: Count
    late_beta1: Fraction | None

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise UserError(f"start={self.start} must be below end={self.end}.")

    def __call__(self, step: int) -> float:
        """Returns the rate of `step` (from 1)."""
        return self.lr * min(1.0, max(0.0, (self.end - step) / (self.end - self.start)))

    def beta1(self, step: int) -> float | None:
        """Returns Adam's beta1 at `step`, or None for the optimiser's own."""
        return self.late_beta1 if step > self.start else None
