"""Every claim with its verdict and what it rests on, for results/README.md and index.html."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normlab.reports import text
from normlab.reports.evidence import Evidence, read_evidence, values
from normlab.reports.experiments import SMOKE, Experiment, SpeedClaim
from normlab.reports.samples import sample
from normlab.reports.speed import REPEAT, judge_speed, measured
from normlab.reports.verdicts import CONTRADICTED, NOT_RUN, OBSERVED, REPRODUCED, SETTLED, Verdict

REGISTERED, ANALYSIS, BENCHMARK = "registered", "analysis", "benchmark"


@dataclass(frozen=True)
class Effect:
    """An estimate with its 95 % interval, and a band of values, the grey one of its plot."""

    words: str  # of what, and the unit
    mean: float
    low: float
    high: float
    none: float  # the value of no effect: a difference of 0, a ratio of 1
    band: tuple[float, float]
    grey: str  # what the band means

    def place(self, value: float) -> float:
        """Returns where `value` stands between the ends of the plot, from 0 to 100."""
        ends = (self.low, self.high, *self.band, self.none)
        low, high = min(ends), max(ends)
        edge = 0.05 * (high - low) or 1.0
        return 100 * (value - low + edge) / (high - low + 2 * edge)


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper or ours, and what was found; links are seen from results/."""

    item: str  # "Table 4"
    words: str
    verdict: str
    basis: str = ""  # REGISTERED, ANALYSIS, BENCHMARK, "" while there is nothing to judge by
    evidence: str = ""
    links: Sequence[tuple[str, str]] = ()  # names and pages; the first has the numbers
    note: str = ""  # on the links
    registration: str = ""  # the file that was written before the runs
    sha256: str = ""  # of that registration
    power: str = "-"
    commit: str = "-"  # of the runs
    disagrees: str = ""  # a metric that did not decide and says otherwise
    effect: Effect | None = None


def read_claims(experiments: Sequence[Experiment], results: Path) -> list[Claim]:
    """Returns the claims of all experiments, in their order."""
    claims = []
    for experiment in experiments:
        reports = _settling(experiment, results)
        for key in experiment.claims:
            claims.append(_of_runs(key, experiment, reports, results))
        claims += [_of_time(claim, experiment, results) for claim in experiment.speed]
    return claims


def _settling(experiment: Experiment, results: Path) -> list[Evidence]:
    """Returns what the records say at each scale with a rule for one of its claims."""
    if experiment.runs_of:
        return []  # no pair of runs counts twice
    return [
        read_evidence(experiment, scale, results)
        for scale, registration in experiment.registrations.items()
        if registration.hypotheses and scale != SMOKE
    ]


def _of_runs(key: str, experiment: Experiment, reports: Sequence[Evidence], results: Path) -> Claim:
    item, words = experiment.item, experiment.claims[key]
    if found := _analysed(key, experiment, results):
        verdict = REPRODUCED if found["holds"] else CONTRADICTED
        page = f"{experiment.name}/{found['page']}"
        return Claim(item, words, verdict, ANALYSIS, found["evidence"], [("analysis", page)])
    chosen = _furthest(key, reports)
    if chosen is None:
        if seen := experiment.observed.get(key):
            return Claim(item, words, OBSERVED, "", seen.evidence, [("page", seen.page)])
        return Claim(item, words, NOT_RUN)
    report, judged = chosen
    registration, runs = report.registration, report.selection.runs
    links, note = [(registration.scale, report.link)], ""
    if not runs:
        others = [scale for scale in experiment.earlier if scale != registration.scale]
        links += [(scale, f"{experiment.name}/{scale}/table.md") for scale in others]
        note = " (earlier, exploratory)" * bool(report.earlier or others)
    return Claim(
        item,
        words,
        judged.verdict,
        REGISTERED,
        judged.evidence if runs else "",
        links,
        note,
        f"../experiments/{registration.experiment}/experiment.toml",
        registration.sha256,
        next(text.power(each) for each in registration.hypotheses if each.claim == key),
        text.commit(runs[0].summary["commit"]) if runs else "-",
        judged.disagrees,
        _effect(report, judged),
    )


def _analysed(key: str, experiment: Experiment, results: Path) -> dict[str, Any] | None:
    """Returns what scripts/analyze.py says of a claim that arithmetic decides, not many runs."""
    path = results / experiment.name / "analysis.json"
    claims = json.loads(path.read_text(encoding="utf-8"))["claims"] if path.exists() else {}
    return claims.get(key)


def _furthest(key: str, reports: Sequence[Evidence]) -> tuple[Evidence, Verdict] | None:
    """Returns the first scale that settles a claim, else the furthest one; None: unregistered."""
    found = [(r, verdict) for r in reports for verdict in r.verdicts if verdict.claim == key]

    def rank(each: tuple[Evidence, Verdict]) -> tuple[bool, bool]:
        return each[1].verdict not in SETTLED, each[1].verdict == NOT_RUN

    return min(found, key=rank, default=None)


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
    margin = hypothesis.margin
    if hypothesis.rule == "reaches":
        worse = margin if text.lower_is_better(hypothesis.metric) else -margin
        band, grey = (min(0.0, worse), max(0.0, worse)), f"grey: worse, by less than {margin:g}"
    elif hypothesis.rule == "greater":
        band = (min(0.0, margin), max(0.0, margin))
        grey = "grey: counts as no difference" if margin else "any difference counts"
    else:
        band, grey = (-margin, margin), f"grey: equal to {margin:g}"
    return Effect(found.label, estimate.mean, estimate.low, estimate.high, 0.0, band, grey)


def _of_time(claim: SpeedClaim, experiment: Experiment, results: Path) -> Claim:
    folder = results / "benchmarks"
    speed = measured(claim, folder)
    judged = judge_speed(claim, speed)
    names = {claim.benchmark: "benchmark", f"{claim.benchmark}{REPEAT}": "repeat"}
    links = [
        (shown, f"benchmarks/{name}.md")
        for name, shown in names.items()
        if speed and (folder / f"{name}.json").exists()
    ]
    effect = None
    if speed and judged.verdict in (REPRODUCED, CONTRADICTED):  # else words say what stood against
        band = (1 - claim.bound, 1 + claim.bound)
        found = speed.ratio
        what = f"time of {claim.a} : {claim.b}"
        grey = f"grey: within {100 * claim.bound:g} %"
        effect = Effect(what, found.median, found.low, found.high, 1.0, band, grey)
    item, words = experiment.item, claim.text
    return Claim(item, words, judged.verdict, BENCHMARK, judged.evidence, links, effect=effect)


def items(claims: Sequence[Claim]) -> list[str]:
    """Returns the tables and figures that claims come from, in their order."""
    return list(dict.fromkeys(claim.item for claim in claims))


def paragraph(markdown: str) -> list[tuple[bool, str]]:
    """Returns the pieces of a Markdown paragraph, each with whether it is emphasised."""
    pieces = text.one_line(markdown).split("*")
    return [(number % 2 == 1, piece) for number, piece in enumerate(pieces) if piece]
