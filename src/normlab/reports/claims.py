"""Every claim as a card of the results page shows it: verdict, effect against margin, links."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from normlab.registration import FLOORED
from normlab.reports import text
from normlab.reports.evidence import Evidence, values
from normlab.reports.experiments import Experiment, SpeedClaim
from normlab.reports.index import analysed, furthest, settling
from normlab.reports.samples import sample
from normlab.reports.speed import judge_speed, measured
from normlab.reports.verdicts import CONTRADICTED, NOT_RUN, OBSERVED, REPRODUCED, SETTLED, Verdict


@dataclass(frozen=True)
class Effect:
    """An estimate with its 95 % interval, and the band within which it counts as nothing."""

    words: str  # of what, and the unit
    mean: float
    low: float
    high: float
    none: float  # the value of no effect: a difference of 0, a ratio of 1
    band: tuple[float, float]

    def place(self, value: float) -> float:
        """Returns where `value` stands between the ends of the plot, from 0 to 100."""
        ends = (self.low, self.high, *self.band, self.none)
        low, high = min(ends), max(ends)
        edge = 0.05 * (high - low) or 1.0
        return 100 * (value - low + edge) / (high - low + 2 * edge)


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper or ours, and what was found."""

    item: str  # "Table 4"
    words: str
    verdict: str
    evidence: str = ""
    page: str = ""  # where the numbers are, seen from results/
    registration: str = ""  # the file that was written before the runs, seen from results/
    effect: Effect | None = None


def read_claims(experiments: Sequence[Experiment], results: Path) -> list[Claim]:
    """Returns the claims of all experiments, in their order."""
    claims = []
    for experiment in experiments:
        reports = settling(experiment, results)
        for key in experiment.claims:
            claims.append(_of_runs(key, experiment, reports, results))
        claims += [_of_time(claim, experiment, results) for claim in experiment.speed]
    return claims


def _of_runs(key: str, experiment: Experiment, reports: Sequence[Evidence], results: Path) -> Claim:
    item, words = experiment.item, experiment.claims[key]
    if found := analysed(key, experiment, results):
        verdict = REPRODUCED if found["holds"] else CONTRADICTED
        page = f"{experiment.name}/{found['page']}"
        return Claim(item, words, verdict, found["evidence"], page)
    chosen = furthest(key, reports)
    if chosen is None:
        if seen := experiment.observed.get(key):
            return Claim(item, words, OBSERVED, seen.evidence, seen.page)
        return Claim(item, words, NOT_RUN)
    report, judged = chosen
    return Claim(
        item,
        words,
        judged.verdict,
        judged.evidence if report.selection.runs else "",
        report.link,
        f"../experiments/{report.registration.experiment}/experiment.toml",
        _effect(report, judged),
    )


def _effect(report: Evidence, judged: Verdict) -> Effect | None:
    """Returns the estimate behind a verdict; None before there is one, and for counts of runs."""
    if judged.verdict not in SETTLED:
        return None
    hypotheses = report.registration.hypotheses
    hypothesis = next(each for each in hypotheses if each.claim == judged.claim)
    measure = values(report.selection, hypothesis.metric)
    found = sample(report.registration, hypothesis, measure)
    estimate = found.estimate()
    if estimate is None:
        return None
    both = hypothesis.rule in FLOORED
    low = -hypothesis.margin if both else min(0, hypothesis.margin)
    band = (low, max(0.0, hypothesis.margin))
    return Effect(found.label, estimate.mean, estimate.low, estimate.high, 0.0, band)


def _of_time(claim: SpeedClaim, experiment: Experiment, results: Path) -> Claim:
    verdict = judge_speed(claim, results / "benchmarks")
    speed = measured(claim, results / "benchmarks")
    if speed is None:
        return Claim(experiment.item, claim.text, verdict.verdict)
    page = f"benchmarks/{claim.benchmark}.md"
    if verdict.verdict not in (REPRODUCED, CONTRADICTED):  # in words, which say what stood against
        return Claim(experiment.item, claim.text, verdict.verdict, verdict.evidence, page)
    band = (1 - claim.bound, 1 + claim.bound)
    words = f"time of {claim.a} : {claim.b}"
    median, low, high = speed.ratio.median, speed.ratio.low, speed.ratio.high
    return Claim(
        experiment.item,
        claim.text,
        verdict.verdict,
        verdict.evidence,
        page,
        effect=Effect(words, median, low, high, 1.0, band),
    )


def items(claims: Sequence[Claim]) -> list[str]:
    """Returns the tables and figures that claims come from, in their order."""
    return list(dict.fromkeys(claim.item for claim in claims))


def paragraph(markdown: str) -> list[tuple[bool, str]]:
    """Returns the pieces of a Markdown paragraph, each with whether it is emphasised."""
    pieces = text.one_line(markdown).split("*")
    return [(number % 2 == 1, piece) for number, piece in enumerate(pieces) if piece]
