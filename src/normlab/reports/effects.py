"""Main effects and interactions of a factorial experiment, with intervals over seeds."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from normlab import markdown
from normlab.registration import MIN_SEEDS, Arm, within
from normlab.reports import text
from normlab.reports.evidence import Evidence, values
from normlab.reports.experiments import Effects
from normlab.reports.samples import Side, Values
from normlab.reports.statistics import estimate

NONE = "-"
NOTE = (
    "An effect is the mean of the arms with a factor less the mean of those without it; below "
    "zero, the loss is lower with it. "
    "Rows with × and the last column are differences of effects: below zero, the effect of one is "
    "more negative where the other is there too, or at the second mean; that says nothing of which "
    "network is better. "
    "The intervals are for one row each, not corrected for their number; verdicts are above. "
    "A dash: a run of these arms diverged, so that there is no mean; rows of dashes are left out."
)


def is_factorial(spec: Effects, arms: Iterable[Arm]) -> bool:
    """Returns whether `arms` hold each combination of the factors once, at each `spec.within`.

    Of other arms, such as those of a control, the sums below are no effects.
    """
    combinations = list(itertools.product((True, False), repeat=len(spec.factors)))
    corners: dict[object, list[tuple[bool, ...]]] = {}
    for arm in arms:
        if spec.within not in dict(arm):
            return False
        corner = tuple(_has(spec, arm, factor) for factor in spec.factors)
        corners.setdefault(dict(arm)[spec.within], []).append(corner)
    return bool(corners) and all(
        sorted(there, reverse=True) == combinations for there in corners.values()
    )


def effect_table(found: Evidence, spec: Effects) -> list[str]:
    """Returns the Markdown lines of every effect, at each value of `spec.within` and between them.

    Differences are paired by seed; the interval is a 95 % t interval.
    """
    measured = values(found.selection, spec.metric)
    points = list(dict.fromkeys(dict(arm)[spec.within] for arm in measured))
    by_point = [
        {
            _without(arm, spec.within): s
            for arm, s in measured.items()
            if dict(arm)[spec.within] == at
        }
        for at in points
    ]
    head = [f"effect on the {text.metric(spec.metric)}"]
    head += [f"{text.metric(spec.within)}: {text.value(point)}" for point in points]
    head += [f"{text.value(b)} less {text.value(a)}" for a, b in itertools.pairwise(points)]
    return markdown.table(head, effect_rows(spec, by_point))


def effect_rows(spec: Effects, measured: Sequence[Values]) -> list[list[str]]:
    """Returns the cells of each effect: in each of `measured`, and the gaps between them."""
    rows = []
    for words, factors, arms in contrasts(spec, list(measured[0])):
        at = [contrast(spec, factors, {arm: each[arm] for arm in arms}) for each in measured]
        gaps = [{s: b[s] - a[s] for s in a.keys() & b.keys()} for a, b in itertools.pairwise(at)]
        cells = [_cell(list(by_seed.values())) for by_seed in [*at, *gaps]]
        if set(cells) != {NONE}:
            rows.append([words, *cells])
    return rows


def contrasts(
    spec: Effects, arms: Sequence[Arm]
) -> list[tuple[str, tuple[str, ...], Sequence[Arm]]]:
    """Returns the name, the factors and the arms of each effect that is shown.

    Main effects; each crossed factor with and without the other, and every other factor at each
    corner of the two, since a mean over all arms is lost with one of them; interactions.
    """
    found: list[tuple[str, tuple[str, ...], Sequence[Arm]]]
    found = [(factor, (factor,), arms) for factor in spec.factors]
    for one, other in itertools.permutations(spec.crossed):
        found += [(f"{one}, {words}", (one,), kept) for words, kept in _corners(spec, arms, other)]
    for factor in [each for each in spec.factors if each not in spec.crossed]:
        for words, kept in _corners(spec, arms, *spec.crossed):
            found.append((f"{factor}, {words}", (factor,), kept))
    for size in range(2, len(spec.factors) + 1):
        for each in itertools.combinations(spec.factors, size):
            found.append((" × ".join(each), each, arms))
    return found


def _corners(spec: Effects, arms: Sequence[Arm], *factors: str) -> list[tuple[str, list[Arm]]]:
    """Returns the arms at each combination of `factors`, and what it is called."""
    found: list[tuple[str, list[Arm]]] = [("", list(arms))]
    for factor in factors:
        found = [
            (f"{words} and {how} {factor}".removeprefix(" and "), kept)
            for words, here in found
            for how, wanted in (("with", True), ("without", False))
            for kept in [[arm for arm in here if _has(spec, arm, factor) == wanted]]
        ]
    return found


def contrast(
    spec: Effects, factors: Sequence[str], measured: Mapping[Arm, Side]
) -> dict[int, float]:
    """Returns the effect of `factors` together at each seed; {} where an arm lacks a value.

    Arms are the corners of a cube, +1 along a factor they have and -1 along one they lack. The
    effect of m factors is the m-fold difference along them, averaged over the other factors: the
    sum of the values times the product of those signs, over the number of arms / 2^m.
    """
    signs = {arm: math.prod(1 if _has(spec, arm, f) else -1 for f in factors) for arm in measured}
    seeds = set.intersection(*(set(side) for side in measured.values())) if measured else set()
    found = {}
    for seed in sorted(seeds):
        terms = [(signs[arm], side[seed]) for arm, side in measured.items()]
        kept = [sign * value for sign, value in terms if value is not None]
        if len(kept) < len(terms):
            return {}
        found[seed] = sum(kept) * 2 ** len(factors) / len(kept)
    return found


def _without(arm: Arm, key: str) -> Arm:
    return tuple(pair for pair in arm if pair[0] != key)


def _has(spec: Effects, arm: Arm, factor: str) -> bool:
    return any(within(arm, selection) for selection in spec.factors[factor])


def _cell(by_seed: Sequence[float]) -> str:
    if not by_seed:
        return NONE
    if len(by_seed) < MIN_SEEDS:
        return f"{sum(by_seed) / len(by_seed):+.3g} (n={len(by_seed)})"
    return str(estimate(by_seed))
