"""Verdicts of claims about time: by interleaved benchmarks, never by the seconds of training."""

from pathlib import Path
from typing import NamedTuple

from normlab.reports.benchmarks import CONTROL, Ratio, ratio, read_benchmark
from normlab.reports.experiments import SpeedClaim
from normlab.reports.verdicts import CONTRADICTED, NOT_RUN, REPRODUCED, UNDECIDED, Verdict

MIN_PROCESSES = 5  # of a verdict: one process says 0.976 [0.965, 0.986], the next 1.006
TOO_FEW_PROCESSES = "too few processes"


class Speed(NamedTuple):
    """What a benchmark says of a claim about time."""

    ratio: Ratio  # of a's time to b's
    control: Ratio  # of two equal variants
    processes: int
    device: str


def measured(claim: SpeedClaim, benchmarks: Path) -> Speed | None:
    """Returns the ratio that `claim` is about; None without a benchmark that has its variants."""
    path = benchmarks / f"{claim.benchmark}.json"
    if not claim.benchmark or not path.exists():
        return None
    stored = read_benchmark(path)
    records = [each for each in stored["records"] if claim.record in ("", each["title"])]
    if len(records) != 1 or not {claim.a, claim.b, CONTROL} <= records[0]["times"].keys():
        return None
    (record,) = records
    control = ratio(record, CONTROL, record["baseline"])
    found, processes = ratio(record, claim.a, claim.b), record.get("processes", 1)
    return Speed(found, control, processes, stored["environment"]["device"])


def judge_speed(claim: SpeedClaim, benchmarks: Path) -> Verdict:
    """Returns the verdict on "variant a takes less time than b" by the benchmark it names.

    Times within 1 ± the claim's bound count as equal, and so does all that the interval of two
    equal variants (the A/A control) reaches: a takes less time, or more, where the interval of the
    ratio lies wholly outside of both. Within the bound the two are equal, which contradicts the
    claim too, unless the interval lies below 1: less, but less than counts. Equal cannot be said
    where the control itself leaves the bound. There must be MIN_PROCESSES.
    """
    speed = measured(claim, benchmarks)
    if speed is None:
        return Verdict(claim.text, NOT_RUN)
    found, control = speed.ratio, speed.control
    low, high = 1 - claim.bound, 1 + claim.bound
    evidence = f"{claim.a} : {claim.b} {found}, A/A {control}; {speed.device}"
    if speed.processes < MIN_PROCESSES:
        return Verdict(claim.text, TOO_FEW_PROCESSES, evidence)
    name = UNDECIDED
    if found.high < min(low, control.low):
        name = REPRODUCED
    elif found.low > max(high, control.high):
        name = CONTRADICTED
    elif control.low < low or control.high > high:
        evidence += f"; A/A reaches beyond {100 * claim.bound:g} %"
    elif low <= found.low and 1 <= found.high <= high:
        name = CONTRADICTED
        evidence += f"; equal within {100 * claim.bound:g} %"
    return Verdict(claim.text, name, evidence)
