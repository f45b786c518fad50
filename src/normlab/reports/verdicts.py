"""Verdicts: what registered runs say of registered claims, with few false ones in a whole sweep.

Runs of two arms are paired by seed. Each claim has two one-sided tests, one for it and one against
it; Holm's correction runs over all of them in a sweep, so that at most 5 % of sweeps hold any
false verdict, whatever the truth is. The rules:

- `greater`: a - b exceeds the margin (t test); against: it lies below it.
- `reaches`: a is as good as b or better, or worse by less than the margin (t test); against: worse
  by more.
- `equal`: a - b lies within ± margin (two one-sided t tests); against: outside. Where neither side
  is as good as the registered floor nothing was learnt that could differ: "not comparable", and so
  with `reaches`.
- `flat`: `equal` for any two values of the key `by`.
- `fails`: a's runs diverge, or end worse than the floor, at more than half of the seeds (exact
  binomial); with several arms, where all or none of a seed's runs do.

A diverged run has no value. It counts as worse than any run that completed, so a pair with one
still says which side did better: where pairs hold diverged runs, the t test gives way to the exact
sign test (two diverged runs are a tie and leave it), no mean or interval is given, and `equal` can
only be contradicted. A mean over several arms does not exist then: "not comparable". Both exact
tests know no p below 2^-seeds: among many claims few seeds that agree decide nothing, which is
then said.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from normlab.registration import MIN_SEEDS, Hypothesis, Registration
from normlab.reports import statistics as s
from normlab.reports.samples import Pairs, Sample, Values, differences, sample
from normlab.reports.text import has_better, lower_is_better

REPRODUCED, CONTRADICTED, UNDECIDED = "reproduced", "contradicted", "undecided"
NOT_RUN, NOT_COMPARABLE, OBSERVED = "not run yet", "not comparable", "observed only"
TOO_FEW, UNFINISHED, PILOT = "too few seeds", "not finished", "pilot pending"
SETTLED = (REPRODUCED, CONTRADICTED, UNDECIDED, NOT_COMPARABLE)


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim, the numbers it rests on, and what does not agree with it."""

    claim: str
    verdict: str
    evidence: str = ""
    p: float | None = None  # Holm-adjusted, of the side that the verdict takes
    disagrees: str = ""


def judge(
    registration: Registration,
    measure: Callable[[str], Values],
    ended: int,
    other_metrics: Sequence[str] = (),
) -> list[Verdict]:
    """Returns a verdict for each hypothesis of a registration; `ended` counts the registered runs.

    `measure` gives every arm's value of a metric by seed, None for a diverged run. None of the
    verdicts is one before the pilot is done and all registered runs of at least MIN_SEEDS seeds
    have ended.
    """
    samples = [sample(registration, each, measure(each.metric)) for each in registration.hypotheses]
    stands = _not_yet(registration, ended)
    lacking = [stands or _lacking(registration, found) for found in samples]
    tests = [
        (1.0, 1.0) if lacks else test(hypothesis, found)
        for hypothesis, found, lacks in zip(registration.hypotheses, samples, lacking, strict=True)
    ]
    adjusted = s.holm([p for pair in tests for p in pair])
    verdicts = []
    for i, (hypothesis, found) in enumerate(zip(registration.hypotheses, samples, strict=True)):
        if lacking[i]:
            verdicts.append(Verdict(hypothesis.claim, lacking[i], found.numbers(intervals=False)))
            continue
        p_for, p_against = adjusted[2 * i], adjusted[2 * i + 1]
        name = decide(p_for, p_against)
        if name != CONTRADICTED and found.blocked:
            name = NOT_COMPARABLE
        p = {REPRODUCED: p_for, CONTRADICTED: p_against}.get(name, min(p_for, p_against))
        evidence = found.numbers(intervals=True)
        if not found.blocked:
            evidence += f", p={p:.2g}{_side(hypothesis, speaks_for=p == p_for)}"
            if name == UNDECIDED and (agreed := _agreed(found, min(tests[i]))):
                evidence += f"; {agreed} seeds that agree are too few among {len(tests)} claims"
        against = _disagreement(registration, hypothesis, name, found, measure, other_metrics)
        verdicts.append(Verdict(hypothesis.claim, name, evidence, p, against))
    return verdicts


def _side(hypothesis: Hypothesis, *, speaks_for: bool) -> str:
    """Returns what a p-value for or against the claim says of the difference, if not its sign."""
    margin = hypothesis.margin
    if not margin or hypothesis.rule == "fails":
        return ""
    if hypothesis.rule in ("equal", "flat"):
        return f" ({'within' if speaks_for else 'outside'} ±{margin:g})"
    low = hypothesis.rule == "reaches" and lower_is_better(hypothesis.metric)
    bound = margin if hypothesis.rule == "greater" or low else -margin
    return f" ({'above' if speaks_for != low else 'below'} {bound:g})"


def _lacking(registration: Registration, found: Sample) -> str:
    """Returns "not finished" where completed runs lack the metric, else ""."""
    return UNFINISHED if found.seeds < len(registration.seeds) else ""


def _agreed(found: Sample, p: float) -> int:
    """Returns the number of seeds of an exact test in which all agree, else 0; `p` is its own."""
    told = found.told
    if found.pairs:
        pairs, *more = found.pairs
        if more or differences(pairs) is not None:  # measured, or several differences
            return 0
        told = sum(pair != (None, None) for pair in pairs)
    return told if told and math.isclose(p, 0.5**told) else 0


def least(registration: Registration, seeds: int) -> float:
    """Returns a bound of p, after Holm's correction, of one exact test of signs in which all agree.

    When all other claims are decided, its own and every other's opposite are still to be tested.
    """
    return 0.5**seeds * (len(registration.hypotheses) + 1)


def decide(p_for: float, p_against: float) -> str:
    """Returns the verdict that two adjusted p-values give."""
    if p_for <= s.LEVEL:
        return REPRODUCED
    return CONTRADICTED if p_against <= s.LEVEL else UNDECIDED


def _not_yet(registration: Registration, ended: int) -> str:
    """Returns what stands in place of a verdict, "" when one may be given."""
    if registration.pending:
        return PILOT
    if not ended:
        return NOT_RUN
    if len(registration.seeds) < MIN_SEEDS:
        return TOO_FEW
    expected = len(registration.arms()) * len(registration.seeds)
    return UNFINISHED if ended < expected else ""


def test(hypothesis: Hypothesis, found: Sample) -> tuple[float, float]:
    """Returns two p-values: small where the runs speak for the claim, and where against it."""
    if hypothesis.rule == "fails":
        n = found.told
        return s.p_mostly(found.failed, n), s.p_mostly(n - found.failed, n)
    if found.undefined:
        return 1.0, 1.0
    worst = float("inf") if lower_is_better(hypothesis.metric) else float("-inf")
    if hypothesis.rule == "greater":
        (pairs,) = found.pairs
        return _above(pairs, hypothesis.margin, worst), _below(pairs, hypothesis.margin, worst)
    if hypothesis.rule == "reaches":
        (pairs,) = found.pairs
        if lower_is_better(hypothesis.metric):
            reached, missed = (f(pairs, hypothesis.margin, worst) for f in (_below, _above))
        else:
            reached, missed = (f(pairs, -hypothesis.margin, worst) for f in (_above, _below))
        return (1.0 if found.blocked else reached), (1.0 if found.nothing_learnt else missed)
    within = max(_equal(pairs, hypothesis.margin) for pairs in found.pairs)
    sides = [
        p
        for pairs in found.pairs
        for p in (_above(pairs, hypothesis.margin, worst), _below(pairs, -hypothesis.margin, worst))
    ]
    outside = min(
        1.0, len(sides) * min(sides)
    )  # Bonferroni: any of the differences may lie outside
    return (1.0 if found.blocked else within), (1.0 if found.nothing_learnt else outside)


def _equal(pairs: Pairs, margin: float) -> float:
    found = differences(pairs)
    return 1.0 if found is None else s.p_equal(found, margin)


def _above(pairs: Pairs, bound: float, worst: float) -> float:
    found = differences(pairs)
    if found is not None:
        return s.p_above(found, bound)
    gaps = _gaps(pairs, worst)
    return s.p_mostly(sum(gap > bound for gap in gaps), len(gaps))


def _below(pairs: Pairs, bound: float, worst: float) -> float:
    return _above([(b, a) for a, b in pairs], -bound, worst)


def _gaps(pairs: Pairs, worst: float) -> list[float]:
    """Returns a - b of each pair, a diverged run being worse than any; two of them are left out."""
    told = [pair for pair in pairs if pair != (None, None)]
    return [(worst if x is None else x) - (worst if y is None else y) for x, y in told]


def _disagreement(
    registration: Registration,
    hypothesis: Hypothesis,
    verdict: str,
    found: Sample,
    measure: Callable[[str], Values],
    other_metrics: Sequence[str],
) -> str:
    """Returns which other metrics' intervals lie where the verdict says that nothing is."""
    if verdict not in (REPRODUCED, CONTRADICTED) or hypothesis.rule in ("flat", "fails"):
        return ""
    if not has_better(hypothesis.metric):
        return ""
    primary = found.estimate()
    notes = []
    for metric in other_metrics:
        if metric == hypothesis.metric or not has_better(metric):
            continue
        other = sample(registration, hypothesis, measure(metric)).estimate()
        if other is None or primary is None:
            continue
        same = lower_is_better(metric) == lower_is_better(hypothesis.metric)
        up = primary.mean > 0
        if hypothesis.rule == "reaches":  # of another metric: whether a is worse, or better
            up = (verdict == REPRODUCED) != lower_is_better(hypothesis.metric)
        direction = (1 if up else -1) * (1 if same else -1)
        opposite = other.high < 0 if direction > 0 else other.low > 0
        apart = other.low > 0 or other.high < 0
        if (hypothesis.rule == "equal" and verdict == REPRODUCED and apart) or (
            (hypothesis.rule != "equal" or verdict == CONTRADICTED) and opposite
        ):
            notes.append(f"{metric} says {other}")
    return "; ".join(notes)
