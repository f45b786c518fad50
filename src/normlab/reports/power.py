"""Power of a registration before its runs: how often its whole table would give the right verdicts.

Differences between arms are drawn from those that were observed: two seeds of two arms give two
differences d1, d2, and ±(d1 - d2)/√2 has the spread of one difference about its mean.
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from normlab.errors import UserError
from normlab.files import flatten
from normlab.registration import Hypothesis, Registration
from normlab.reports import statistics as s
from normlab.reports.exploratory import read_earlier
from normlab.reports.records import RunRecord, read_records
from normlab.reports.samples import Pairs, Sample
from normlab.reports.selection import APART
from normlab.reports.verdicts import REPRODUCED, decide, test

REPEATS = 2000
# Sweeps whose registered runs were made after these plans had been laid on their earlier ones.
LATER = {"centre/multi30k": ("centre/multi30k", "centre/pre", "factorial/multi30k")}


def power(registration: Registration, results: Path, seeds: int | None = None) -> list[float]:
    """Returns for each hypothesis how often it is found when its expected effect is the truth.

    `seeds` replaces the registered number of seeds.
    """
    n = seeds or len(registration.seeds)
    pools = [
        observed_residuals(results, each, registration.name)
        if each.rule != "fails"
        else np.zeros(1)
        for each in registration.hypotheses
    ]
    random = np.random.default_rng(0)
    found = np.zeros(len(pools))
    for _ in range(REPEATS):
        tests = [
            test(each, _drawn(each, pool, n, registration, random))
            for each, pool in zip(registration.hypotheses, pools, strict=True)
        ]
        adjusted = s.holm([p for pair in tests for p in pair])
        found += [
            decide(*pair) == REPRODUCED for pair in zip(adjusted[::2], adjusted[1::2], strict=True)
        ]
    return [float(share) for share in found / REPEATS]


def observed_residuals(results: Path, hypothesis: Hypothesis, planned: str = "") -> np.ndarray:
    """Returns the residuals of paired differences in "EXPERIMENT/SCALE METRIC [NORM ...]", scaled.

    Norms limit it to runs with one of them. What was run after the sweep `planned`, for which all
    this is, had been registered does not count (LATER).

    Raises UserError when the spread names no results, or a norm that none of them has.
    """
    source, metric, *norms = hypothesis.spread.split() or ("", "")
    records = read_earlier(results, source)
    if planned not in LATER.get(source, ()):
        records += read_records(results, source)
    there = {run.summary["norm"] for run in records}
    if strange := [norm for norm in norms if norm not in there]:
        raise UserError(
            f"claim {hypothesis.claim}: spread={hypothesis.spread!r} names {strange[0]}, but no "
            f"run of {source} has that norm; there are {', '.join(sorted(there)) or 'none'}."
        )
    kept = [run for run in records if not norms or run.summary["norm"] in norms]
    residuals = paired_residuals(kept, metric, without="none" in norms)
    if not residuals:
        raise UserError(
            f"claim {hypothesis.claim}: no pairs of runs in spread={hypothesis.spread!r}: write "
            'the earlier sweep and a metric, as in "figure4/multi30k dev/nll".'
        )
    return hypothesis.scale * np.array(residuals)


def paired_residuals(
    records: Sequence[RunRecord], metric: str, *, without: bool = False
) -> list[float]:
    """Returns the residual of the difference between any two arms that differ in one setting.

    Arms without a norm are left out unless asked for: mostly they are the ones that do not train.
    """
    arms: dict[tuple[tuple[str, str], ...], dict[int, float]] = {}
    for run in records:
        value = run.measure(metric)
        if value is not None and (without or run.summary["norm"] != "none"):
            arms.setdefault(_arm(run), {})[run.value("seed")] = value
    found = []
    for (one, x), (other, y) in itertools.combinations(arms.items(), 2):
        if len(set(one) ^ set(other)) == 2:  # one key with two values
            gaps = [x[seed] - y[seed] for seed in sorted(x.keys() & y.keys())]
            found += [(p - q) / math.sqrt(2) for p, q in itertools.combinations(gaps, 2)]
    return found


def _arm(run: RunRecord) -> tuple[tuple[str, str], ...]:
    """Returns the settings of a run but its seed; a norm with all its options is one of them."""
    config = {k: str(v) for k, v in flatten(run.config).items() if k.partition(".")[0] not in APART}
    norm = run.summary["norm"], str(run.config.get("norm") or {})
    return tuple(sorted((config | {"norm": " ".join(norm)}).items()))


def _drawn(
    hypothesis: Hypothesis,
    pool: np.ndarray,
    n: int,
    registration: Registration,
    random: np.random.Generator,
) -> Sample:
    """Returns one imagined outcome of a hypothesis with n seeds."""
    if hypothesis.rule == "fails":
        return Sample("", [], seeds=n, told=n, failed=int(random.binomial(n, hypothesis.expected)))
    count = 1
    if hypothesis.rule == "flat":
        values = {dict(arm)[hypothesis.by] for arm in registration.select(hypothesis.a)}
        count = len(values) * (len(values) - 1) // 2
    pairs: list[Pairs] = []
    for _ in range(count):
        signs = random.choice([-1, 1], n)
        pairs.append([(hypothesis.expected + x, 0.0) for x in signs * random.choice(pool, n)])
    return Sample("", pairs, sides=2)
