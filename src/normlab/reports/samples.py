"""What a hypothesis compares: the values of its two sides, paired by seed."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from normlab.registration import FLOORED, Arm, Hypothesis, Registration
from normlab.reports import text
from normlab.reports.statistics import Estimate, estimate, share_interval

Pairs = list[tuple[float | None, float | None]]  # a and b by seed; None: diverged
Side = Mapping[int, float | None]  # seed -> value, None if the run diverged
Values = Mapping[Arm, Side]  # of one metric


@dataclass(frozen=True)
class Sample:
    """The numbers of one hypothesis: pairs by seed (of `flat`: for any two values), or counts."""

    label: str  # "rmsnorm − layernorm: dev NLL"
    pairs: list[Pairs]
    seeds: int = 0  # fewest that the compared sides have
    told: int = 0  # of `fails`: seeds whose runs all failed or all trained
    failed: int = 0
    undefined: bool = False  # a mean over several arms of which one run diverged
    below_floor: tuple[str, ...] = ()
    sides: int = 0

    @property
    def nothing_learnt(self) -> bool:
        """Returns whether every side is worse than the floor."""
        return self.sides > 0 and len(self.below_floor) == self.sides

    @property
    def blocked(self) -> bool:
        """Returns whether equality cannot be said: a side below the floor, or no mean."""
        return bool(self.below_floor) or self.undefined

    def estimate(self) -> Estimate | None:
        """Returns mean and interval of a single difference; None with fewer than two seeds."""
        if len(self.pairs) != 1 or self.undefined:
            return None
        found = differences(self.pairs[0])
        return estimate(found) if found is not None and len(found) > 1 else None

    def numbers(self, intervals: bool) -> str:
        """Returns the numbers in words, "" without any; intervals only where seeds suffice."""
        if not self.seeds and not any(self.pairs):
            return ""
        if not self.pairs:
            share = f"{self.failed} of {self.told} seeds"
            if intervals and self.told:
                low, high = share_interval(self.failed, self.told)
                share += f" (95 % interval of the share {100 * low:.0f} to {100 * high:.0f} %)"
            if split := self.seeds - self.told:
                share += f", {split} with runs of both kinds"
            return f"{self.label} with {share}"
        notes = [f"worse than the floor: {', '.join(self.below_floor)}"] if self.below_floor else []
        notes += ["no mean: a run of these arms diverged"] if self.undefined else []
        return "; ".join([f"{self.label} {self._gap(intervals)}".strip(), *notes])

    def _gap(self, intervals: bool) -> str:
        gaps = [(pairs, differences(pairs)) for pairs in self.pairs if pairs]
        if not gaps or self.undefined:
            return ""
        lost = next((pairs for pairs, found in gaps if found is None), None)
        if lost is not None:
            a, b = (sum(pair[side] is None for pair in lost) for side in (0, 1))
            return f"{a} and {b} of {len(lost)} runs diverged"
        widest = max((found for _, found in gaps if found), key=lambda d: abs(statistics.mean(d)))
        if intervals and len(widest) > 1:
            return f"{estimate(widest)}{self._apart()}"
        return f"{statistics.mean(widest):+.3g} (n={len(widest)})"

    def _apart(self) -> str:
        """Returns how many of several differences have an interval without 0, "" for one."""
        if len(self.pairs) < 2:
            return ""
        found = [estimate(d) for pairs in self.pairs if (d := differences(pairs))]
        apart = sum(each.low > 0 or each.high < 0 for each in found)
        return f"; {apart} of {len(found)} differences have a 95 % interval without 0"


def sample(registration: Registration, hypothesis: Hypothesis, values: Values) -> Sample:
    """Returns the numbers of `hypothesis` among the values of its metric."""
    words = text.metric(hypothesis.metric)
    arms = registration.select(hypothesis.a)
    if hypothesis.rule == "fails":
        # A seed counts once, however many arms: runs of one seed begin alike and are no repeats.
        at = [values.get(arm, {}) for arm in arms]
        seeds = set.intersection(*map(set, at))
        lost = [
            [value is None or _worse(hypothesis, value) for value in (side[seed] for side in at)]
            for seed in seeds
        ]
        told = [each[0] for each in lost if len(set(each)) == 1]
        what = "failed to train" if hypothesis.metric else "diverged"
        label = f"{_words(hypothesis.a)}: {what}"
        return Sample(label, [], seeds=len(seeds), told=len(told), failed=sum(told))
    if hypothesis.rule == "flat":
        by = {
            point: [a for a in arms if dict(a)[hypothesis.by] == point]
            for point in dict.fromkeys(dict(arm)[hypothesis.by] for arm in arms)
        }
        sides = {f"{hypothesis.by}={text.value(k)}": _mean(v, values) for k, v in by.items()}
        label = f"{words}, widest difference between two {hypothesis.by}"
        pairs = list(itertools.combinations(sides.values(), 2))
        return _compared(hypothesis, label, sides, pairs, any(len(v) > 1 for v in by.values()))
    a, b = (_mean(registration.select(each), values) for each in (hypothesis.a, hypothesis.b))
    label = f"{_words(hypothesis.a)} − {_words(hypothesis.b)}: {words}"
    minus = []
    if hypothesis.minus_a:
        minus = [registration.select(each) for each in (hypothesis.minus_a, hypothesis.minus_b)]
        a = _sum(a, _mean(minus[1], values))
        b = _sum(b, _mean(minus[0], values))
        label += f", less the same of {_words(hypothesis.minus_a)}"
    sides = {_words(hypothesis.a): a, _words(hypothesis.b): b}
    several = len(arms) > 1 or len(registration.select(hypothesis.b)) > 1 or bool(minus)
    return _compared(hypothesis, label, sides, [(a, b)], several)


def _compared(
    hypothesis: Hypothesis,
    label: str,
    sides: Mapping[str, Side],
    compared: Sequence[tuple[Side, Side]],
    several: bool,
) -> Sample:
    pairs = [[(a[seed], b[seed]) for seed in sorted(a.keys() & b.keys())] for a, b in compared]
    below = tuple(name for name, side in sides.items() if _below_floor(hypothesis, side))
    lost = any(value is None for each in pairs for pair in each for value in pair)
    undefined = several and lost
    return Sample(
        label,
        pairs,
        seeds=min(map(len, pairs)),
        undefined=undefined,
        below_floor=below,
        sides=len(sides),
    )


def differences(pairs: Pairs) -> list[float] | None:
    """Returns a - b of every pair, None when a run among them diverged."""
    found = [x - y for x, y in pairs if x is not None and y is not None]
    return found if len(found) == len(pairs) and found else None


def _below_floor(hypothesis: Hypothesis, side: Side) -> bool:
    """Returns whether a side is worse than the floor on average, a diverged run being worse."""
    if hypothesis.rule not in FLOORED or not side:
        return False
    kept = [value for value in side.values() if value is not None]
    return len(kept) <= len(side) / 2 or _worse(hypothesis, statistics.mean(kept))


def _worse(hypothesis: Hypothesis, value: float) -> bool:
    if hypothesis.floor is None:
        return False
    lower = text.lower_is_better(hypothesis.metric)
    return value > hypothesis.floor if lower else value < hypothesis.floor


def _mean(arms: Sequence[Arm], values: Values) -> Side:
    """Returns the mean over arms at each seed that all of them have, None where one diverged."""
    at = [values.get(arm, {}) for arm in arms]
    seeds = set.intersection(*(set(each) for each in at)) if at else set()
    found: dict[int, float | None] = {}
    for seed in seeds:
        here = [each[seed] for each in at]
        kept = [value for value in here if value is not None]
        found[seed] = statistics.mean(kept) if len(kept) == len(here) else None
    return found


def _sum(x: Side, y: Side) -> Side:
    """Returns x + y at each seed of both."""
    found: dict[int, float | None] = {}
    for seed in x.keys() & y.keys():
        a, b = x[seed], y[seed]
        found[seed] = None if a is None or b is None else a + b
    return found


def _words(selection: dict[str, object]) -> str:
    return text.arm([(key, value) for key, value in selection.items()])
