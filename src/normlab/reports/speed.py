"""Verdicts of claims about time: by interleaved benchmarks, never by the seconds of training."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from normlab.reports.benchmarks import CONTROL, Ratio, ratio, read_benchmark
from normlab.reports.experiments import SpeedClaim
from normlab.reports.verdicts import CONTRADICTED, NOT_RUN, REPRODUCED, UNDECIDED, Verdict

REPEAT = "_repeat"  # at the end of a benchmark's name: the same once more, of its own processes
MIN_PROCESSES = 5  # of a verdict: one process says 0.976 [0.965, 0.986], the next 1.006
TOO_FEW_PROCESSES = "too few processes"


class Speed(NamedTuple):
    """What a benchmark says of a claim about time."""

    title: str  # of the record
    committed: bool  # the code that ran
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
    wanted = [claim.record, *([claim.than] if claim.than else [])]
    records = [r for title in wanted for r in stored["records"] if title in ("", r["title"])]
    names = {claim.a, claim.b, CONTROL}
    if len(records) != len(wanted) or any(not names <= r["times"].keys() for r in records):
        return None
    record, *than = records
    found = ratio(record, claim.a, claim.b, *than)
    control = ratio(record, CONTROL, record["baseline"], *than)
    title = " : ".join(r["title"] for r in records)
    processes, device = record.get("processes", 1), stored["environment"]["device"]
    committed = "+" not in stored["commit"]
    return Speed(title, committed, found, control, processes, device)


def judge_speed(claim: SpeedClaim, benchmarks: Path) -> Verdict:
    """Returns the verdict on "a takes over 2 % less time than b" by the benchmark it names.

    2 % stands for the claim's bound. Reproduced: the interval of the ratio lies wholly below
    1 - bound, and below all that two equal variants (the A/A control) reach. Contradicted: it lies
    wholly above 1 - bound, and the control within 1 ± bound; or above all that the control reaches
    and 1 + bound. There must be MIN_PROCESSES, of committed code. Where the same was measured once
    more (REPEAT), only what both say decides: else one could repeat until it does.
    """
    found = _judge(claim, benchmarks)
    again = _judge(replace(claim, benchmark=claim.benchmark + REPEAT), benchmarks)
    if again.verdict == NOT_RUN:
        return found
    evidence = f"{found.evidence}; repeated: {again.evidence}"
    if found.verdict == again.verdict:
        return replace(found, evidence=evidence)
    alone = f"by themselves {found.verdict} and {again.verdict}"
    return Verdict(claim.text, UNDECIDED, f"{evidence}; {alone}")


def _judge(claim: SpeedClaim, benchmarks: Path) -> Verdict:
    """Returns what the one benchmark says that `claim` names."""
    speed = measured(claim, benchmarks)
    if speed is None:
        return Verdict(claim.text, NOT_RUN)
    found, control = speed.ratio, speed.control
    low, high = 1 - claim.bound, 1 + claim.bound
    evidence = f"{speed.title}: {claim.a} : {claim.b} {found}, A/A {control}; {speed.device}"
    if speed.processes < MIN_PROCESSES:
        return Verdict(claim.text, TOO_FEW_PROCESSES, evidence)
    if not speed.committed:
        return Verdict(claim.text, UNDECIDED, evidence + "; of code that was not committed")
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
