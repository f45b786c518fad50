"""Pages: registered runs with verdicts, earlier ones without, the same bytes from records alone."""

import shutil
import sys

import pytest
from synthetic import write_run

pytest.importorskip("matplotlib")

from normlab.errors import UserError
from normlab.reports.claims import read_claims
from normlab.reports.evidence import read_evidence, values
from normlab.reports.experiments import read_experiment
from normlab.reports.index import write_index
from normlab.reports.pages import pipeline, write_page
from normlab.reports.records import collect
from normlab.reports.web import write_web_page

SPEC = """
title = "Table X: a test"
source = "nobody"
protocol = "as it\\nhappens"
[claims]
same = "RMSNorm is like LayerNorm"
later = "something that nobody has run"
[[tables]]
[tables.metrics]
"test/bleu" = "newstest2014"
[figures.any]
kind = "curves"
y = ["dev/bleu"]
[registrations.multi30k]
seeds = [1, 2, 3, 4, 5, 6]
data = "toy"
steps = 100
grid = {norm = ["none", "layernorm", "rmsnorm"]}
[[registrations.multi30k.hypotheses]]
claim = "same"
rule = "equal"
metric = "test/bleu"
margin = 1.0
floor = 10.0
a = {norm = "rmsnorm"}
b = {norm = "layernorm"}
power = 0.9
"""
EARLIER = """run,norm,seed,status,steps,commit,test/bleu
a_1,layernorm,1,completed,100,dirty+changes,20
a_2,layernorm,2,completed,100,dirty+changes,22
b_1,none,1,diverged,100,dirty+changes,
"""


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "experiments" / "t"
    folder.mkdir(parents=True)
    (folder / "experiment.toml").write_text(SPEC)
    (folder / "paper.csv").write_text("# c\nnorm,newstest2014\nlayernorm,26.6\nrmsnorm,26.8\n")
    (tmp_path / "experiments" / "summary.md").write_text("In short.\n")
    return tmp_path


@pytest.fixture
def record(root):
    """Returns a function that trains and records nothing but writes what a run would leave."""

    def one(norm, seed, bleu, **options):
        sha = read_experiment("t", root / "experiments").registrations["multi30k"].sha256
        summary = {"registration": {"experiment": "t/multi30k", "sha256": sha}}
        status = "diverged" if bleu is None else "completed"
        curve = [1.0 * i for i in range(1, 4 if bleu is None else 13)]
        tests = [None] * (len(curve) - 1) + [bleu]
        run = write_run(
            root / "runs",
            norm,
            seed,
            status,
            options.pop("config", None),
            summary | options,
            dev_bleu=curve,
            test_bleu=tests,
        )
        return collect(run, root / "results")

    return one


@pytest.fixture
def complete(record):
    for seed in range(1, 7):
        record("layernorm", seed, 20 + seed / 10)
        record("rmsnorm", seed, 20.3 + seed / 10 + (seed % 2) / 10)
        record("none", seed, None)


def evidence(root):
    return read_evidence(read_experiment("t", root / "experiments"), "multi30k", root / "results")


def page(root):
    return write_page(evidence(root), root / "results").read_text()


def test_a_page_has_the_registration_the_verdict_and_every_run(root, complete):
    text = page(root)
    sha = evidence(root).registration.sha256
    assert f"SHA-256 `{sha}`" in text and "18 of 18 registered runs have ended" in text
    assert (
        "| RMSNorm is like LayerNorm | equal, margin 1, floor 10; test/bleu | 0.90 at 0 "
        "| **reproduced**" in text
    )
    rows = [line for line in text.split("\n") if line.startswith("| rmsnorm")]
    assert rows == [
        "| rmsnorm | 26.8 | 20.70 ± 0.18 | +0.35 [+0.293, +0.407] (n=6) | 6 completed | composed |"
    ]
    assert "| none | - | - | - | 6 diverged | composed |" in text
    assert "Commit cccccccccc; torch 2" in text and "as it happens" in text
    assert (root / "results/t/multi30k/figure.png").exists()


def test_who_asks_for_divergence_only_is_told_of_the_runs_that_completed_too(root, complete):
    found = {dict(arm)["norm"]: by for arm, by in values(evidence(root).selection, "").items()}
    assert found["layernorm"] == dict.fromkeys(range(1, 7), 0.0)
    assert found["none"] == dict.fromkeys(range(1, 7))


def test_a_page_begins_with_what_was_found_and_its_figure(root, complete):
    toml = root / "experiments/t/experiment.toml"
    finding = "- RMSNorm is\n  `alike` ([see](b.md)).\n- None diverges.\n"
    said = f"[findings]\nmulti30k = '''{finding}'''\n[notes]\nmulti30k = 'One more.'\n"
    toml.write_text(SPEC.replace("[[tables]]", said + "[[tables]]"))
    heads = [line for line in page(root).split("\n") if line.startswith("## ")]
    assert heads == ["## What was found", "## Claims", "## Runs", "## Protocol", "## Registration"]
    text = page(root)
    assert text.index("- None diverges.") < text.index("figure.png") < text.index("## Claims")
    assert text.index("## Runs") < text.index("One more.") < text.index("## Protocol")
    experiments = [read_experiment("t", root / "experiments")]
    claims = read_claims(experiments, root / "results")
    html = write_web_page(claims, experiments, root / "experiments", root / "results").read_text()
    assert "<li>RMSNorm is alike (see).</li>" in html and "<li>None diverges.</li>" in html


def test_without_matplotlib_one_sentence_says_so_and_the_old_figure_stays(
    root, complete, monkeypatch
):
    page(root)
    figure = root / "results/t/multi30k/figure.png"
    there = figure.read_bytes()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="pip install matplotlib"):
        page(root)
    assert figure.read_bytes() == there


def test_a_page_without_a_claim_still_says_what_was_planned(root, complete):
    settings = 'settings = {"schedule.lr" = 3e-4}\ngrid'
    spec = SPEC[: SPEC.index("[[registrations.multi30k.hyp")].replace("grid", settings)
    (root / "experiments/t/experiment.toml").write_text(spec)
    text = page(root)
    assert "No claim is registered" in text and "Every run has `schedule.lr=0.0003`." in text
    assert "3 arms" in text and "6 seeds (1, 2, 3, 4, 5, 6), 100 steps" in text


def test_while_a_registered_run_is_missing_there_is_no_verdict_and_no_interval(root, complete):
    shutil.rmtree(root / "results/t/multi30k/runs/rmsnorm_6_")
    text = page(root)
    assert "**not finished**" in text and "5 completed, 1 not run" in text
    assert "[+" not in text and "p=" not in text


def test_a_rule_that_was_changed_after_the_runs_costs_the_verdict(root, complete):
    toml = root / "experiments/t/experiment.toml"
    toml.write_text(SPEC.replace("margin = 1.0", "margin = 0.5"))
    text = page(root)
    assert "**not run yet**" in text and "0 of 18 registered runs" in text
    assert "`rmsnorm_1_`: not started under this registration" in text


def test_earlier_runs_are_shown_without_a_verdict_until_registered_ones_exist(root, record):
    folder = root / "results/t/multi30k/earlier"
    folder.mkdir(parents=True)
    (folder / "runs.csv").write_text(EARLIER)
    text = page(root)
    assert "## Earlier, exploratory runs: no verdict" in text and "**not run yet**" in text
    assert "| layernorm | 26.6 | 21.00 ± 1.41 | 2 completed |" in text
    assert "| none | - | - | 1 diverged |" in text
    record("layernorm", 1, 20.0)
    assert "Earlier" not in page(root)


def test_results_are_rebuilt_from_records_alone_with_the_same_bytes(root, complete):
    def build():
        page(root)
        experiments = [read_experiment("t", root / "experiments")]
        claims = read_claims(experiments, root / "results")
        write_index(claims, experiments, root / "experiments", root / "results")
        return {p: p.read_bytes() for p in (root / "results").rglob("*") if p.is_file()}

    first = build()
    shutil.rmtree(root / "runs")  # what another machine does not have
    for path in first:
        if "runs" not in path.parts:
            path.unlink()
    assert build() == first


def test_the_index_links_each_verdict_to_evidence_registration_and_protocol(root, complete):
    page(root)
    experiments = [read_experiment("t", root / "experiments")]
    claims = read_claims(experiments, root / "results")
    text = write_index(claims, experiments, root / "experiments", root / "results").read_text()
    sha = evidence(root).registration.sha256[:10]
    (row,) = [line for line in text.split("\n") if "RMSNorm is like" in line]
    assert "**reproduced**" in row and "[multi30k](t/multi30k/table.md)" in row and "0.90" in row
    assert f"[`{sha}`](../experiments/t/experiment.toml)" in row and "cccccccccc" in row
    assert "[protocol](t/multi30k/table.md#protocol)" in row
    assert "| something that nobody has run | **not run yet** |" in text
    assert (
        text.split("\n")[2] == "In short."
        and "tables and figures, quality and theory, 2 claims: 1 reproduced, 1 not run yet" in text
    )


def test_a_smoke_sweep_says_pipeline_ok_or_how_far_it_is(root, record):
    toml = root / "experiments/t/experiment.toml"
    toml.write_text(SPEC.replace("seeds = [1, 2, 3, 4, 5, 6]", "seeds = [1]"))
    record("none", 1, 20.0)
    assert pipeline(evidence(root)) == "1 of 3 runs have ended."
    record("layernorm", 1, 20.0)
    record("rmsnorm", 1, 20.0)
    assert pipeline(evidence(root)) == "pipeline ok."


def test_the_web_page_draws_the_effect_against_its_margin(root, complete):
    experiments = [read_experiment("t", root / "experiments")]
    claims = same, later = read_claims(experiments, root / "results")
    assert (same.verdict, later.verdict) == ("reproduced", "not run yet")
    effect = same.effect
    assert f"{effect.mean:.2f} [{effect.low:.3f}, {effect.high:.3f}]" == "0.35 [0.293, 0.407]"
    assert effect.band == (-1.0, 1.0) and later.effect is None
    page(root)
    html = write_web_page(claims, experiments, root / "experiments", root / "results").read_text()
    assert f"{same.evidence}; grey: equal to 1" in html and "+0.35 [+0.293, +0.407]" in html
    assert html.count("data:image/png;base64,") == 1 and "../experiments/t/experiment.toml" in html
