"""Verdicts: what the runs say of a claim, by the rule that its experiment states.

Every rule gives `reproduced`, `contradicted` or, when the data decide neither, `not reproduced`.
`not run yet` stands until every group of runs that the rule reads has MIN_SEEDS ended runs.
Claims about speed are judged by interleaved benchmarks, never by the seconds of training runs.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normlab.errors import UserError
from normlab.reports.benchmarks import CONTROL, load, ratio
from normlab.reports.experiments import Cell, Claim
from normlab.reports.runs import Run
from normlab.reports.statistics import Difference, difference, paired

REPRODUCED, CONTRADICTED = "reproduced", "contradicted"
UNDECIDED, NOT_RUN = "not reproduced", "not run yet"
MIN_SEEDS = 2


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim, and the numbers it rests on in words."""

    verdict: str
    evidence: str = ""


def judge_speed(claim: Claim, benchmarks: Path) -> Verdict:
    """Returns the verdict of a claim with the rule `faster` on the stored benchmark it names.

    The time of variant a over that of b, with its bootstrap 95 % interval over blocks, has to lie
    below 1, and outside what the A/A control shows two equal variants to differ by.
    """
    path = benchmarks / f"{claim.benchmark}.json"
    if not path.exists():
        return Verdict(NOT_RUN)
    stored = load(path)
    (record,) = stored["records"]
    a, b = claim.a["variant"], claim.b["variant"]
    if missing := {a, b} - record["times"].keys():
        return Verdict(NOT_RUN, f"{path.name} has no variant {', '.join(sorted(missing))}")
    found = ratio(record["times"], a, b)
    control = ratio(record["times"], CONTROL, record["baseline"])
    evidence = f"{a} : {b} {found}, A/A {control}; {stored['environment']['device']}"
    if found.high < min(1, control.low):
        return Verdict(REPRODUCED, evidence)
    return Verdict(CONTRADICTED if found.low > max(1, control.high) else UNDECIDED, evidence)


def judge(claim: Claim, runs: dict[Cell, list[Run]]) -> Verdict:
    """Returns the verdict of `claim` on the runs of a sweep.

    Rules: `greater` (a - b is above the margin), `equal` (a - b lies within ± margin), `flat`
    (`equal` for any two values of `by`), `below` (every run of a is at or below the limit),
    `diverges` (every run of a has a non-finite loss). Differences are paired by seed; their
    bootstrap 95 % interval over seeds has to clear the margin. An unknown rule is a UserError.
    """
    rules = {"greater": _greater, "equal": _equal, "below": _below, "diverges": _diverges,
             "flat": _flat, "faster": _untestable, "": _untestable}  # fmt: skip
    if claim.rule not in rules:
        known = ", ".join(filter(None, rules))
        raise UserError(f"claim {claim.text!r} has no rule {claim.rule}: choose one of {known}.")
    return rules[claim.rule](claim, runs)


def _untestable(claim: Claim, runs: dict[Cell, list[Run]]) -> Verdict:
    return Verdict(NOT_RUN)


def _greater(claim: Claim, runs: dict[Cell, list[Run]]) -> Verdict:
    result = _difference(claim, runs)
    if isinstance(result, Verdict):
        return result
    evidence = f"{_name(claim.a)} - {_name(claim.b)}: {claim.metric} {result}"
    if result.low > claim.margin:
        return Verdict(REPRODUCED, evidence)
    return Verdict(CONTRADICTED if result.high < -claim.margin else UNDECIDED, evidence)


def _equal(claim: Claim, runs: dict[Cell, list[Run]]) -> Verdict:
    result = _difference(claim, runs)
    if isinstance(result, Verdict):
        return result
    evidence = f"{_name(claim.a)} - {_name(claim.b)}: {claim.metric} {result}"
    return _all_within([result], claim.margin, evidence)


def _below(claim: Claim, runs: dict[Cell, list[Run]]) -> Verdict:
    values = [v for run in _select(runs, claim.a) if (v := run.measure(claim.metric)) is not None]
    evidence = f"{_name(claim.a)}: {claim.metric} {', '.join(f'{v:.2f}' for v in values)}"
    return _all_or_none([value <= claim.limit for value in values], evidence)


def _diverges(claim: Claim, runs: dict[Cell, list[Run]]) -> Verdict:
    ended = [run.summary["status"] for run in _select(runs, claim.a)]
    diverged = [status == "diverged" for status in ended if status in ("completed", "diverged")]
    evidence = f"{_name(claim.a)}: {sum(diverged)} of {len(diverged)} runs diverged"
    return _all_or_none(diverged, evidence)


def _flat(claim: Claim, runs: dict[Cell, list[Run]]) -> Verdict:
    groups: dict[Any, list[Run]] = {}
    for cell, at_cell in runs.items():  # points that have not been run are among them
        point = dict(cell)
        if all(point.get(key, value) == value for key, value in claim.a.items()):
            groups.setdefault(point[claim.by], []).extend(at_cell)
    pairs = [paired(a, b, claim.metric) for a, b in itertools.combinations(groups.values(), 2)]
    if (least := min(map(len, pairs), default=0)) < MIN_SEEDS:
        return Verdict(NOT_RUN, f"{least} of at least {MIN_SEEDS} seeds at every {claim.by}")
    gaps = [gap for each in pairs if (gap := difference(each))]
    widest = max(gaps, key=lambda gap: abs(gap.mean))
    evidence = f"{claim.metric}, largest difference between two {claim.by}: {widest}"
    return _all_within(gaps, claim.margin, evidence)


def _all_within(gaps: Sequence[Difference], margin: float, evidence: str) -> Verdict:
    if all(-margin <= gap.low and gap.high <= margin for gap in gaps):
        return Verdict(REPRODUCED, evidence)
    outside = any(gap.low > margin or gap.high < -margin for gap in gaps)
    return Verdict(CONTRADICTED if outside else UNDECIDED, evidence)


def _difference(claim: Claim, runs: dict[Cell, list[Run]]) -> Any:
    pairs = paired(_select(runs, claim.a), _select(runs, claim.b), claim.metric)
    if len(pairs) < MIN_SEEDS:
        return Verdict(NOT_RUN, f"{len(pairs)} of at least {MIN_SEEDS} pairs of seeds")
    return difference(pairs)


def _all_or_none(holds: Sequence[bool], evidence: str) -> Verdict:
    if len(holds) < MIN_SEEDS:
        return Verdict(NOT_RUN, f"{len(holds)} of at least {MIN_SEEDS} runs")
    if all(holds):
        return Verdict(REPRODUCED, evidence)
    return Verdict(UNDECIDED if any(holds) else CONTRADICTED, evidence)


def _select(runs: dict[Cell, list[Run]], selection: dict[str, Any]) -> list[Run]:
    return [run for cell in runs.values() for run in cell if run.matches(selection)]


def _name(selection: dict[str, Any]) -> str:
    return " ".join(str(value) if key == "norm" else f"{key}={_short(value)}"
                    for key, value in selection.items()) or "all runs"  # fmt: skip


def _short(value: Any) -> str:
    return "+".join(value) or "nothing" if isinstance(value, list | tuple) else str(value)
