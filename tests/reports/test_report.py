"""Reports: the grid, the paper's numbers, every run shown, the same bytes again."""

import shutil
from pathlib import Path

import pytest
from synthetic import write_run

pytest.importorskip("matplotlib")

from normlab.errors import UserError
from normlab.reports.experiments import load, load_all
from normlab.reports.report import write_index, write_report

EXPERIMENTS = Path(__file__).parents[2] / "experiments"

SPEC = """
title = "Table X: a test"
source = "nobody"
protocol = "none"
[[tables]]
[tables.metrics]
"test/bleu" = "newstest2014"
[figure]
panels = [["dev/bleu", "step"]]
[[claims]]
text = "RMSNorm is like LayerNorm"
rule = "equal"
metric = "test/bleu"
a = {norm = "rmsnorm"}
b = {norm = "layernorm"}
margin = 1.0
"""
SWEEP = """# @package _global_
hydra:
  sweep: {dir: RUNS}
  sweeper: {params: {norm: "none,layernorm,rmsnorm", init.apply_to: "[],[all]", seed: "1,2"}}
"""


@pytest.fixture
def experiment(tmp_path):
    folder = tmp_path / "experiments" / "t"
    folder.mkdir(parents=True)
    (folder / "experiment.toml").write_text(SPEC)
    (folder / "multi30k.yaml").write_text(SWEEP.replace("RUNS", str(tmp_path / "runs")))
    (folder / "paper.csv").write_text("# c\nnorm,newstest2014\nlayernorm,26.6\nrmsnorm,26.8\n")
    for seed in (1, 2):
        for norm, bleu in (("layernorm", 20.0), ("rmsnorm", 20.3)):
            for target in ([], ["all"]):
                config = {"init.apply_to": target}
                metrics = {"dev_bleu": [1.0, bleu], "test_bleu": [None, bleu + seed]}
                write_run(tmp_path / "runs", norm, seed, "completed", config, **metrics)
    config = {"init.apply_to": []}
    write_run(tmp_path / "runs", "none", 1, "diverged", config, dev_bleu=[3.0], test_bleu=[None])
    write_run(tmp_path / "runs", "none", 2, "failed", config, {"error": "E: disk"})
    return load("t", tmp_path / "experiments")


def test_the_table_has_paper_ours_differences_and_every_run(experiment, tmp_path):
    folder = write_report(experiment, "multi30k", tmp_path / "results")
    page = (folder / "table.md").read_text()
    rows = {tuple(line.split(" | ")[:2]): line for line in page.split("\n") if line[:2] == "| "}
    rmsnorm = rows["| nothing", "rmsnorm"]
    assert "| 26.8 | 21.80 ± 0.71 | +0.30 [+0.30, +0.30], p=0.50 (n=2) |" in rmsnorm
    assert "100.00 ± 0.00 (composed)" in rmsnorm and "2 completed" in rmsnorm
    assert "| - | 0.00 |" in rows["| nothing", "none"]  # diverged: BLEU 0, not its last dev BLEU
    assert "1 diverged, 1 failed" in rows["| nothing", "none"]
    assert "2 not run" in rows["| all", "none"]
    assert "**reproduced**" in page and "9 of 12 runs have ended" in page
    assert "python scripts/reproduce.py t --scale multi30k data=text" in page
    csv = (folder / "runs.csv").read_text()
    assert csv.count("\n") == 11 and "E: disk" in csv


def test_the_same_runs_give_the_same_bytes(experiment, tmp_path):
    results = tmp_path / "results"

    def build():
        write_report(experiment, "multi30k", results)
        write_index([experiment], results)
        return {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}

    first = build()
    assert {p.name for p in first} == {
        "README.md", "table.md", "verdicts.json", "runs.csv", "curves.csv",
        "figure.svg", "figure.png",
    }  # fmt: skip
    shutil.rmtree(results)
    assert build() == first


def test_the_index_has_a_row_a_claim_linked_to_its_evidence(experiment, tmp_path):
    write_report(experiment, "multi30k", tmp_path / "results")
    page = write_index([experiment], tmp_path / "results").read_text()
    assert "| Table X | RMSNorm is like LayerNorm | **reproduced** | [multi30k](t/multi30k" in page


def test_the_index_keeps_verdicts_without_their_runs_unless_the_rule_changed(experiment, tmp_path):
    results = tmp_path / "results"
    write_report(experiment, "multi30k", results)
    shutil.rmtree(tmp_path / "runs")
    assert write_report(experiment, "multi30k", results) is None
    assert "**reproduced**" in write_index([experiment], results).read_text()
    spec = experiment.folder / "experiment.toml"
    spec.write_text(SPEC.replace("margin = 1.0", "margin = 0.1"))
    page = write_index([load("t", experiment.folder.parent)], results).read_text()
    assert "**not run yet** | - |" in page


def test_smoke_runs_settle_nothing(experiment, tmp_path):
    sweep = experiment.folder / "multi30k.yaml"
    sweep.rename(sweep.with_name("smoke.yaml"))
    folder = write_report(experiment, "smoke", tmp_path / "results")
    assert "Nothing here is evidence" in (folder / "table.md").read_text()
    assert "**not run yet**" in write_index([experiment], tmp_path / "results").read_text()


def test_two_runs_at_one_point_are_an_error(experiment, tmp_path):
    run = next((tmp_path / "runs").glob("rmsnorm_1*"))
    shutil.copytree(run, run.with_name("copy"))
    with pytest.raises(UserError, match="same point"):
        write_report(experiment, "multi30k", tmp_path / "results")


def test_unknown_names_and_scales_are_errors(experiment):
    with pytest.raises(UserError, match="no experiment nothing; choose one of t"):
        load("nothing", experiment.folder.parent)
    with pytest.raises(UserError, match="no scale paper; it has multi30k"):
        experiment.sweep("paper")


def test_every_experiment_has_its_scales_and_claims():
    experiments = load_all(EXPERIMENTS)
    assert [e.name for e in experiments][:2] == ["table1", "table2"]
    for experiment in experiments:
        assert experiment.claims and experiment.protocol
        if experiment.available():
            assert {"smoke", "multi30k"} <= set(experiment.available())
            for scale in experiment.available():
                sweep = experiment.sweep(scale)
                assert sweep.folder.parts[0] == "runs" and sweep.cells() and sweep.seeds


def test_sweeps_that_build_on_another_keep_its_grid_and_change_their_part():
    sweep = load("table5", EXPERIMENTS).sweep("multi30k")
    assert sweep.folder == load("table2", EXPERIMENTS).sweep("multi30k").folder
    assert sweep.params == {"norm": ["none", "layernorm", "rmsnorm"], "seed": [1, 2]}
    lists = load("figure4", EXPERIMENTS).sweep("multi30k_lr1e-4").params["init.apply_to"]
    assert lists == [(), ("all",), ("matrices",)]
