"""Paired differences, equality, counts and multiplicity: each a few lines over scipy.

A p-value here belongs to a one-sided null hypothesis, the complement of what it is evidence for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

LEVEL = 0.05  # of false verdicts in one table, and 1 - LEVEL of every interval


@dataclass(frozen=True)
class Estimate:
    """Mean of n differences paired by seed, with its two-sided 95 % t interval."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:+.3g} [{self.low:+.3g}, {self.high:+.3g}] (n={self.n})"


def estimate(differences: Sequence[float]) -> Estimate:
    """Returns mean and t interval of at least two differences."""
    values = np.asarray(differences)
    half = special.stdtrit(len(values) - 1, 1 - LEVEL / 2) * _error(values)
    mean = float(values.mean())
    return Estimate(mean, mean - float(half), mean + float(half), len(values))


def p_above(differences: Sequence[float], bound: float) -> float:
    """Returns the p-value of "the mean is at most `bound`": small when it is above (t test)."""
    values = np.asarray(differences)
    distance, error = float(values.mean()) - bound, _error(values)
    if error == 0:  # all equal: the t statistic is infinite, or 0 / 0 at the bound itself
        return 0.0 if distance > 0 else 1.0
    return float(special.stdtr(len(values) - 1, -distance / error))


def p_below(differences: Sequence[float], bound: float) -> float:
    """Returns the p-value of "the mean is at least `bound`": small when it is below."""
    return p_above([-x for x in differences], -bound)


def p_equal(differences: Sequence[float], margin: float) -> float:
    """Returns the p-value of "the mean lies outside ± margin" (two one-sided tests)."""
    return max(p_above(differences, -margin), p_below(differences, margin))


def p_mostly(successes: int, n: int) -> float:
    """Returns the exact binomial p-value of "the share is at most a half"."""
    return float(special.bdtrc(successes - 1, n, 0.5)) if successes > 0 else 1.0


def share_interval(successes: int, n: int) -> tuple[float, float]:
    """Returns the exact (Clopper-Pearson) 95 % interval of a share."""
    found = stats.binomtest(successes, n).proportion_ci(1 - LEVEL, method="exact")
    return float(found.low), float(found.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns Holm's adjusted p-values, in the order given."""
    order = np.argsort(p_values, kind="stable")
    m, adjusted, running = len(p_values), [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (m - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def _error(values: np.ndarray) -> float:
    """Returns the standard error of the mean."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))
