"""Verdicts of claims about time: by interleaved benchmarks, never by the seconds of training."""

from pathlib import Path
from typing import NamedTuple

from normlab.reports.benchmarks import CONTROL, Ratio, ratio, read_benchmark
from normlab.reports.experiments import SpeedClaim
from normlab.reports.verdicts import CONTRADICTED, NOT_RUN, REPRODUCED, UNDECIDED, Verdict


class Speed(NamedTuple):
    """What a benchmark says of a claim about time."""

    ratio: Ratio  # of a's time to b's
    control: Ratio  # of two equal variants
    device: str


def measured(claim: SpeedClaim, benchmarks: Path) -> Speed | None:
    """Returns the ratio that `claim` is about; None without a benchmark, or without its variants.

    Its bootstrap 95 % interval is over blocks.
    """
    path = benchmarks / f"{claim.benchmark}.json"
    if not claim.benchmark or not path.exists():
        return None
    stored = read_benchmark(path)
    (record,) = stored["records"]
    times = record["times"]
    if not {claim.a, claim.b} <= times.keys():
        return None
    control = ratio(times, CONTROL, record["baseline"])
    return Speed(ratio(times, claim.a, claim.b), control, stored["environment"]["device"])


def judge_speed(claim: SpeedClaim, benchmarks: Path) -> Verdict:
    """Returns the verdict on "variant a takes less time than b" by the benchmark it names.

    The ratio of their times has to lie below 1, and outside what the A/A control shows two equal
    variants to differ by.
    """
    speed = measured(claim, benchmarks)
    if speed is None:
        return Verdict(claim.text, NOT_RUN)
    found, control = speed.ratio, speed.control
    evidence = f"{claim.a} : {claim.b} {found}, A/A {control}; {speed.device}"
    name = UNDECIDED
    if found.high < min(1, control.low):
        name = REPRODUCED
    elif found.low > max(1, control.high):
        name = CONTRADICTED
    return Verdict(claim.text, name, evidence)
