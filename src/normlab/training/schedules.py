"""Learning rates as pure functions of the step, so that a checkpoint needs to hold none of it."""

import math

from normlab.types import Count, Natural, Positive


def inverse_sqrt(step: int, *, lr: Positive, warmup: Count) -> float:
    """Returns the rate of `step` (from 1): linear up to `lr` at `warmup`, then ~ step^-1/2.

    Vaswani et al. 2017, Eq. 3, with the peak as the parameter: their d_model^-1/2 * warmup^-1/2.
    """
    return lr * min(step / warmup, math.sqrt(warmup / step))


def constant(step: int, *, lr: Positive, warmup: Natural) -> float:
    """Returns `lr`, reached linearly over the first `warmup` steps (0: at once)."""
    return lr * min(1.0, step / warmup) if warmup else lr
