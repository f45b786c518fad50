"""Uncertainty over seeds: runs with the same seed form a pair, across norms."""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from normlab.reports.runs import Run

RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, its bootstrap 95 % interval over n seeds, and a p-value.

    With n = 2 the interval is the range of the two; `p` says how little two seeds can prove.
    """

    mean: float
    low: float
    high: float
    p: float  # two-sided exact sign-flip test: at least 2 / 2^n
    n: int

    def __str__(self) -> str:
        if self.n == 1:
            return f"{self.mean:+.2f} (n=1)"
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}], p={self.p:.2f} (n={self.n})"


def paired(a: Sequence[Run], b: Sequence[Run], metric: str) -> list[tuple[float, float]]:
    """Returns the values of `metric` in `a` and `b`, one pair for each seed that both have."""
    of_a = {run.value("seed"): run.measure(metric) for run in a}
    of_b = {run.value("seed"): run.measure(metric) for run in b}
    pairs = [(of_a[seed], of_b[seed]) for seed in sorted(of_a.keys() & of_b.keys())]
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def difference(pairs: Sequence[tuple[float, float]]) -> Difference | None:
    """Returns the statistics of x - y over `pairs`, None when there are none."""
    if not pairs:
        return None
    values = np.array([x - y for x, y in pairs])
    n = len(values)
    draws = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))  # a fixed seed: same report
    low, high = np.quantile(values[draws].mean(1), (0.025, 0.975))
    flips = np.array(list(itertools.product((1, -1), repeat=n)))
    extreme = np.abs((flips * values).mean(1)) >= abs(values.mean()) - 1e-12
    return Difference(float(values.mean()), float(low), float(high), float(extreme.mean()), n)


def mean_std(values: Sequence[float]) -> str:
    """Returns "mean ± std (n=...)", "-" when there are no values."""
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"
