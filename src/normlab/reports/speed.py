"""Verdicts of claims about time: by interleaved benchmarks, never by the seconds of training."""

from pathlib import Path

from normlab.reports.benchmarks import CONTROL, ratio, read_benchmark
from normlab.reports.experiments import SpeedClaim
from normlab.reports.verdicts import CONTRADICTED, NOT_RUN, REPRODUCED, UNDECIDED, Verdict


def judge_speed(claim: SpeedClaim, benchmarks: Path) -> Verdict:
    """Returns the verdict on "variant a takes less time than b" by the benchmark it names.

    The ratio of their times, with its bootstrap 95 % interval over blocks, has to lie below 1, and
    outside what the A/A control shows two equal variants to differ by.
    """
    path = benchmarks / f"{claim.benchmark}.json"
    if not claim.benchmark or not path.exists():
        return Verdict(claim.text, NOT_RUN)
    stored = read_benchmark(path)
    (record,) = stored["records"]
    if missing := {claim.a, claim.b} - record["times"].keys():
        return Verdict(
            claim.text, NOT_RUN, f"{path.name} has no variant {', '.join(sorted(missing))}"
        )
    found = ratio(record["times"], claim.a, claim.b)
    control = ratio(record["times"], CONTROL, record["baseline"])
    evidence = f"{claim.a} : {claim.b} {found}, A/A {control}; {stored['environment']['device']}"
    name = UNDECIDED
    if found.high < min(1, control.low):
        name = REPRODUCED
    elif found.low > max(1, control.high):
        name = CONTRADICTED
    return Verdict(claim.text, name, evidence)
