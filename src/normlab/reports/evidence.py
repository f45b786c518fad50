"""What the records in results/ say of one registration: the runs of its table and its verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from normlab.registration import Arm, Registration
from normlab.reports.experiments import Experiment
from normlab.reports.exploratory import arms_of, read_earlier
from normlab.reports.records import RunRecord, read_records
from normlab.reports.samples import Values
from normlab.reports.selection import Selection, select
from normlab.reports.verdicts import Verdict, judge

Arms = Mapping[Arm, Sequence[RunRecord]]


@dataclass(frozen=True)
class Evidence:
    """Everything that one page is written from."""

    experiment: Experiment
    registration: Registration
    selection: Selection
    verdicts: list[Verdict]
    earlier: list[RunRecord]
    results: Path

    @property
    def link(self) -> str:
        """Returns where the page lies, seen from results/."""
        return f"{self.experiment.name}/{self.registration.scale}/table.md"

    @property
    def empty(self) -> bool:
        """Returns whether there is no run of any kind."""
        return not (self.selection.runs or self.selection.apart or self.earlier)

    def arms(self) -> Arms:
        """Returns the runs to show: registered ones, or the earlier ones while there are none."""
        return self.selection.arms if self.selection.runs else arms_of(self.earlier)


def read_evidence(experiment: Experiment, scale: str, results: Path) -> Evidence:
    """Returns what the records of one sweep say of its registration."""
    registration = experiment.registrations[scale]
    selection = select(registration, read_records(results, f"{experiment.evidence}/{scale}"))
    metrics = [key for table in experiment.tables for key in table.metrics]
    verdicts = judge(registration, lambda key: values(selection, key), len(selection.runs), metrics)
    own = read_earlier(results, f"{experiment.name}/{scale}")
    earlier = own or read_earlier(results, f"{experiment.evidence}/{scale}")
    return Evidence(experiment, registration, selection, verdicts, earlier, results)


def values(selection: Selection, metric: str) -> Values:
    """Returns every arm's value of a metric by seed, None for a diverged or overflowed run.

    Without a metric, for a rule that asks of divergence only, the others' value is 0.
    """
    found = {}
    for arm in selection.arms:
        runs = selection.by_seed(arm).items()
        measured = {seed: run.measure(metric) if metric else 0.0 for seed, run in runs}
        lost = {seed: None for seed, run in runs if run.lost(metric)}
        found[arm] = {s: v for s, v in measured.items() if v is not None} | lost
    return found
