"""Verdicts of claims about time: by interleaved benchmarks, never by the seconds of training."""

from pathlib import Path
from typing import NamedTuple

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
    ratio: Ratio  # of a's time to b's
    control: Ratio  # of two equal variants
    alone: list[Ratio]  # the ratio in the benchmark and in its repeat
    processes: int
    device: str


def measured(claim: SpeedClaim, benchmarks: Path) -> Speed | None:
    """Returns the ratio that `claim` is about; None without a benchmark that has its variants.

    Raises UserError when a repeat is not one of the same.
    """
    path = benchmarks / f"{claim.benchmark}.json"
    if not claim.benchmark or not path.exists():
        return None
    stored = [read_benchmark(path)]
    again = path.with_stem(path.stem + REPEAT)
    if again.exists():
        stored.append(read_benchmark(again))
    try:
        whole = merge(stored)
    except UserError as error:
        raise UserError(f"{again} repeats {path}. {error}") from error
    wanted = [claim.record, *([claim.than] if claim.than else [])]
    chosen = [
        [record for title in wanted for record in each["records"] if title in ("", record["title"])]
        for each in (whole, *stored)
    ]
    names = {claim.a, claim.b, CONTROL}
    if len(chosen[0]) != len(wanted) or any(not names <= r["times"].keys() for r in chosen[0]):
        return None
    record, *than = chosen[0]
    return Speed(
        title=" : ".join(r["title"] for r in chosen[0]),
        committed="+" not in whole["commit"],
        exploded=any(exploded(r, name) for r in chosen[0] for name in (claim.a, claim.b)),
        ratio=ratio(record, claim.a, claim.b, *than),
        control=ratio(record, CONTROL, record["baseline"], *than),
        alone=[ratio(first, claim.a, claim.b, *rest) for first, *rest in chosen[1:]],
        processes=record.get("processes", 1),
        device=whole["environment"]["device"],
    )


def judge_speed(claim: SpeedClaim, benchmarks: Path) -> Verdict:
    """Returns the verdict on "a takes over 2 % less time than b" by the benchmark it names.

    2 % stands for the claim's bound. Reproduced: the interval of the ratio lies wholly below
    1 - bound, and below all that two equal variants (the A/A control) reach. Contradicted: it lies
    wholly above 1 - bound, and the control within 1 ± bound; or above all that the control reaches
    and 1 + bound. There must be MIN_PROCESSES, of committed code.

    Where the benchmark was measured once more (REPEAT), the processes of both count together, so
    that none is chosen by what it says; where their two intervals have no point in common, nothing
    is decided.
    """
    speed = measured(claim, benchmarks)
    if speed is None:
        return Verdict(claim.text, NOT_RUN)
    found, control = speed.ratio, speed.control
    low, high = 1 - claim.bound, 1 + claim.bound
    evidence = f"{speed.title}: {claim.a} : {claim.b} {found}, A/A {control}; {speed.device}"
    if len(speed.alone) > 1:
        evidence += "; in two benchmarks by themselves " + " and ".join(map(str, speed.alone))
    if speed.processes < MIN_PROCESSES:
        return Verdict(claim.text, TOO_FEW_PROCESSES, evidence)
    if not speed.committed:
        return Verdict(claim.text, UNDECIDED, evidence + "; of code that was not committed")
    if speed.exploded:
        return Verdict(claim.text, UNDECIDED, evidence + "; a network's loss has exploded")
    if max(r.low for r in speed.alone) > min(r.high for r in speed.alone):
        return Verdict(claim.text, UNDECIDED, evidence + ", which do not agree")
    sharp = low <= control.low and control.high <= high
    name = UNDECIDED
    if found.high < min(low, control.low):
        name = REPRODUCED
    elif found.low > (low if sharp else max(high, control.high)):
        name = CONTRADICTED
        evidence += f"; within {100 * claim.bound:g} %" * (found.high <= high)
    elif not sharp:
        evidence += f"; A/A reaches beyond {100 * claim.bound:g} %"
    return Verdict(claim.text, name, evidence)
