"""Verdicts of claims about time: by interleaved benchmarks, never by the seconds of training."""

from pathlib import Path
from typing import Any, NamedTuple

from normlab.errors import UserError
from normlab.reports.benchmarks import CONTROL, Ratio, exploded, merge, ratio, read_benchmark
from normlab.reports.experiments import SpeedClaim
from normlab.reports.verdicts import CONTRADICTED, NOT_RUN, REPRODUCED, UNDECIDED, Verdict

REPEAT = "_repeat"  # at the end of a benchmark's name: the same once more, of its own processes
MIN_PROCESSES = 5  # of a verdict: one process says 0.976 [0.965, 0.986], the next 1.006
TOO_FEW_PROCESSES = "too few processes"


class Speed(NamedTuple):
    """What a benchmark, with its repeat if there is one, says of a claim about time."""

    title: str  # of the record
    committed: bool  # the code that ran
    exploded: bool  # whether one of the networks has
    losses: tuple[float, float] | None  # of a's and b's network at the end, if stored
    ratio: Ratio  # of a's time to b's
    control: Ratio  # of two equal variants
    alone: list[tuple[Ratio, Ratio]]  # both, in the benchmark and in its repeat
    processes: int
    device: str


def measured(claim: SpeedClaim, benchmarks: Path) -> Speed | None:
    """Returns the ratio that `claim` is about; None without a benchmark that has its variants.

    Raises UserError when a repeat is not one of the same.
    """
    path = benchmarks / f"{claim.benchmark}.json"
    if not claim.benchmark or not path.exists():
        return None
    whole, *stored = pooled(path)
    wanted = [claim.record, *([claim.than] if claim.than else [])]
    chosen = [
        [record for title in wanted for record in each["records"] if title in ("", record["title"])]
        for each in (whole, *stored)
    ]
    names = {claim.a, claim.b, CONTROL}
    if len(chosen[0]) != len(wanted) or any(not names <= r["times"].keys() for r in chosen[0]):
        return None
    ratios = [
        (ratio(first, claim.a, claim.b, *rest), ratio(first, CONTROL, first["baseline"], *rest))
        for first, *rest in chosen
    ]
    return Speed(
        title=" : ".join(r["title"] for r in chosen[0]),
        committed="+" not in whole["commit"] and whole["commit"] != "unknown",
        exploded=any(exploded(r, name) for r in chosen[0] for name in (claim.a, claim.b)),
        losses=(found[claim.a], found[claim.b]) if (found := chosen[0][0].get("loss")) else None,
        ratio=ratios[0][0],
        control=ratios[0][1],
        alone=ratios[1:],
        processes=chosen[0][0].get("processes", 1),
        device=whole["environment"]["device"],
    )


def pooled(path: Path) -> list[dict[str, Any]]:
    """Returns a benchmark and its repeat as one, then each by itself.

    Raises UserError when the repeat is not one of the same.
    """
    stored = [read_benchmark(path)]
    again = path.with_stem(path.stem + REPEAT)
    if again.exists():
        stored.append(read_benchmark(again))
    try:
        return [merge(stored), *stored]
    except UserError as error:
        raise UserError(f"{again} repeats {path}. {error}") from error


def judge_speed(claim: SpeedClaim, speed: Speed | None) -> Verdict:
    """Returns the verdict on "a takes over 2 % less time than b" by what was `measured`.

    2 % stands for the claim's bound. Reproduced: the interval of the ratio lies wholly below
    1 - bound, and below all that two equal variants (the A/A control) reach. Contradicted: it lies
    wholly above 1 - bound, and the control within 1 ± bound; or above all that the control reaches
    and 1 + bound. There must be MIN_PROCESSES, of committed code.

    Where the benchmark was measured once more (REPEAT), the processes of both count together, so
    that none is chosen by what it says; where their two intervals have no point in common, nothing
    is decided.
    """
    if speed is None:
        return Verdict(claim.text, NOT_RUN)
    found = speed.ratio
    evidence = f"{speed.title}: {claim.a} : {claim.b} {found}, A/A {speed.control}; {speed.device}"
    if len(speed.alone) > 1:
        each = (f"{r} ({_said(r, control, claim.bound)})" for r, control in speed.alone)
        evidence += "; in two benchmarks by themselves " + " and ".join(each)
    if speed.losses and max(speed.losses) > 1.5 * min(speed.losses):
        evidence += "; losses at the end {:.3g} and {:.3g}".format(*speed.losses)
    if speed.processes < MIN_PROCESSES:
        return Verdict(claim.text, TOO_FEW_PROCESSES, evidence)
    if not speed.committed:
        return Verdict(claim.text, UNDECIDED, evidence + "; of code that was not committed")
    if speed.exploded:
        return Verdict(claim.text, UNDECIDED, evidence + "; a network's loss has exploded")
    if max(r.low for r, _ in speed.alone) > min(r.high for r, _ in speed.alone):
        return Verdict(claim.text, UNDECIDED, evidence + ", which do not agree")
    name = _said(found, speed.control, claim.bound)
    if name == CONTRADICTED:
        evidence += f"; within {100 * claim.bound:g} %" * (found.high <= 1 + claim.bound)
    elif name == UNDECIDED and not _sharp(speed.control, claim.bound):
        evidence += f"; A/A reaches beyond {100 * claim.bound:g} %"
    return Verdict(claim.text, name, evidence)


def _said(found: Ratio, control: Ratio, bound: float) -> str:
    """Returns the verdict that these intervals give on "a takes over `bound` less time"."""
    low, high = 1 - bound, 1 + bound
    if found.high < min(low, control.low):
        return REPRODUCED
    if found.low > (low if _sharp(control, bound) else max(high, control.high)):
        return CONTRADICTED
    return UNDECIDED


def _sharp(control: Ratio, bound: float) -> bool:
    return 1 - bound <= control.low and control.high <= 1 + bound
