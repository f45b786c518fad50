"""What is committed in results/: verdicts rest on clean, registered, complete sets of runs."""

import shutil
from pathlib import Path

import pytest

from normlab.registration import MIN_SEEDS
from normlab.reports.benchmarks import write_pages
from normlab.reports.evidence import read_evidence
from normlab.reports.experiments import read_experiments
from normlab.reports.pages import write_page
from normlab.reports.verdicts import SETTLED
from normlab.reports.web import write_claims

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
EXPERIMENTS = read_experiments(ROOT / "experiments")
# Written by scripts/analyze.py and by the fault suite, from no runs.
ANALYSES = {
    "table1",
    "gradients",
    "signal",
    "numerics",
    "faults.md",
    "followups/conversion.md",
    "figure4/annotations.md",
    "benchmarks/README.md",  # by hand
}
SCALES = [(e, s) for e in EXPERIMENTS for s in e.registrations if s != "smoke"]


@pytest.mark.parametrize(
    ("experiment", "scale"), SCALES, ids=lambda each: getattr(each, "name", each)
)
def test_verdicts_rest_on_one_clean_commit_one_implementation_and_six_seeds(experiment, scale):
    found = read_evidence(experiment, scale, RESULTS)
    if not any(verdict.verdict in SETTLED for verdict in found.verdicts):
        return
    commits = {s["commit"] for run in found.selection.runs for s in run.summary["segments"]}
    assert len(commits) == 1 and "+" not in commits.pop()
    for runs in found.selection.arms.values():
        assert len({run.summary["norm_impl"] for run in runs}) == 1
        assert len({run.value("seed") for run in runs}) >= MIN_SEEDS


@pytest.mark.slow
def test_committed_pages_are_what_the_committed_records_say(tmp_path):
    """Rebuilt from a copy without run directories: every page byte for byte."""
    pytest.importorskip("matplotlib")
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results)
    written = [
        page
        for experiment in EXPERIMENTS
        for scale in experiment.registrations
        if (page := write_page(read_evidence(experiment, scale, results), results))
    ]
    written += write_pages(RESULTS / "benchmarks", results)
    table, web = write_claims(EXPERIMENTS, ROOT / "experiments", results)
    written.append(table)
    for page in [*written, web]:
        committed = RESULTS / page.relative_to(results)
        assert page.read_text() == committed.read_text(), f"{committed}: run scripts/report.py"
    kept = {page.relative_to(results) for page in written if "smoke" not in page.parts}
    there = {p.relative_to(RESULTS) for p in RESULTS.rglob("*.md") if "smoke" not in p.parts}
    there = {page for page in there if not {page.parts[0], str(page)} & ANALYSES}
    assert there == kept  # no page is left from what is no longer there


def test_a_reader_outside_the_field_finds_ten_lines_first():
    lines = (RESULTS / "README.md").read_text().split("\n")
    assert (
        lines[1] == ""
        and lines.index("", 2) == 12
        and all(len(line) <= 100 for line in lines[2:12])
    )
    for jargon in ("nats", "NLL", "BLEU", "Holm", "TOST", "p-value", "RNNSearch"):
        assert jargon not in " ".join(lines[2:12])


def test_no_two_claims_of_one_registration_compare_the_same_pair_by_the_same_metric():
    for experiment, scale in SCALES:
        pairs = [
            (
                frozenset((str(sorted(h.a.items())), str(sorted(h.b.items())))),
                h.metric,
                bool(h.minus_a),
            )
            for h in experiment.registrations[scale].hypotheses
            if not experiment.runs_of
        ]
        assert len(pairs) == len(set(pairs)), f"{experiment.name}/{scale}"
