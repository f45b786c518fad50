"""Records: what is kept of a run, read back, and put in place on another machine."""

import json

import pytest
import yaml
from synthetic import write_run

from normlab.errors import UserError
from normlab.files import read_sealed, write_sealed
from normlab.reports.records import alike, collect, read_record, read_records, restore, varying


def test_a_record_is_read_back_as_the_run_it_was(tmp_path):
    run = write_run(tmp_path / "runs", "rmsnorm", 1, dev_nll=[3.0, 2.0], test_bleu=[None, 20.0])
    folder = collect(run, tmp_path / "results")
    assert folder == tmp_path / "results" / "t" / "multi30k" / "runs" / run.name
    (record,) = read_records(tmp_path / "results", "t/multi30k")
    assert record.summary == read_record(run).summary and record.value("seed") == 1
    assert record.measure("dev/nll@10") == 3.0 and record.measure("dev/nll@15") is None
    assert record.measure("dev/nll") == 2.0 and record.curve("dev/nll") == ([10, 20], [3.0, 2.0])


def test_a_record_does_not_say_where_files_lay(tmp_path):
    run = write_run(tmp_path / "runs", "rmsnorm", 1)
    folder = collect(run, tmp_path / "results")
    kept = [path for path in folder.rglob("*") if path.is_file()]
    assert len(kept) == 4 and not any("/somewhere" in path.read_text() for path in kept)
    assert yaml.safe_load((folder / ".hydra/overrides.yaml").read_text()) == [
        "+t=multi30k",
        "data=text",
    ]


def test_collecting_twice_changes_nothing_and_another_result_is_refused(tmp_path):
    run = write_run(tmp_path / "runs", "rmsnorm", 1)
    folder = collect(run, tmp_path / "results")
    assert collect(run, tmp_path / "results") == folder
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"steps": 90}))
    with pytest.raises(UserError, match="holds another result"):
        collect(run, tmp_path / "results")
    (run / "summary.json").write_text(json.dumps(summary | {"steps": 200}))  # it went on
    assert read_record(collect(run, tmp_path / "results")).summary["steps"] == 200
    (folder / "summary.json").write_text(json.dumps(summary | {"status": "diverged"}))
    with pytest.raises(UserError, match="holds another result"):  # which cannot have gone on
        collect(run, tmp_path / "results")


def test_only_finished_runs_of_an_experiment_are_recorded(tmp_path):
    failed = write_run(tmp_path / "runs", "rmsnorm", 1, status="failed")
    with pytest.raises(UserError, match="is failed: only a finished run"):
        collect(failed, tmp_path / "results")
    alone = write_run(tmp_path / "runs", "rmsnorm", 2, config={"names.experiment": None})
    with pytest.raises(UserError, match="belongs to no experiment"):
        collect(alone, tmp_path / "results")


def test_a_restored_record_stands_as_the_finished_run_and_replaces_none_that_ended(tmp_path):
    run = write_run(tmp_path / "runs", "rmsnorm", 1)
    record = collect(run, tmp_path / "results")
    elsewhere = tmp_path / "elsewhere" / run.name
    restore(record, elsewhere)
    assert read_record(elsewhere).summary == read_record(run).summary
    limits = {"limits": {"max_steps": 100}}
    write_sealed(record / "summary.json", read_sealed(record / "summary.json") | limits)
    for found, stays in (
        ({"status": "diverged", **limits}, True),
        ({"status": "interrupted", **limits}, False),
        ({"status": "interrupted", "limits": {"max_steps": 900}}, True),  # it was to go on
        ({}, False),
    ):
        (elsewhere / "summary.json").write_text(json.dumps(found))
        (elsewhere / "checkpoints").mkdir(exist_ok=True)
        restore(record, elsewhere)
        assert (read_sealed(elsewhere / "summary.json") == found) == stays
        assert (elsewhere / "checkpoints").exists() == stays  # those are half trained
    restore(tmp_path / "nothing", tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_results_are_found_by_metric_and_a_diverged_run_has_none(tmp_path):
    summary = {"test": {"test": {"bleu": 30.5}}, "best_dev": {"value": 31.0, "metric": "bleu"}}
    done = read_record(write_run(tmp_path, "rmsnorm", 1, summary=summary, dev_nll=[2.0, None]))
    assert done.measure("test/test/bleu") == 30.5 and done.measure("best_dev") == 31.0
    assert done.measure("dev/nll") is None and done.overflowed("dev/nll")  # not the one before it
    assert done.measure("dev/nll@10") == 2.0 and not done.overflowed("dev/nll@10")
    assert done.measure("dev/chrf") is None and not done.overflowed("dev/chrf")
    lost = read_record(write_run(tmp_path, "none", 1, "diverged", summary=summary, dev_nll=[9.0]))
    assert lost.measure("dev/nll") is lost.measure("best_dev") is None


def test_a_directory_without_a_summary_and_an_unknown_key_are_named(tmp_path):
    with pytest.raises(UserError, match="holds no finished run"):
        read_record(tmp_path)
    with pytest.raises(UserError, match=r"has no init\.men"):
        read_record(write_run(tmp_path, "rmsnorm", 1)).value("init.men")


def test_runs_vary_in_what_was_trained_and_not_in_seed_or_place(tmp_path):
    def of(name, seed=1, config=None, **summary):
        return read_record(write_run(tmp_path / name, "none", seed, config=config, summary=summary))

    alike = [of("a", config={"init.mean": 0}), of("b", 2, {"init.mean": 0.0, "data.dir": "/x"})]
    assert varying([alike]) == []  # nor is a whole number another
    older = of("older")  # of a time without init.mean
    assert varying([[*alike, older]]) == []
    shifted, other = of("c", config={"init.mean": 0.2}), of("d", contents={"train": 1})
    assert varying([[*alike, shifted, other]]) == ["data", "init.mean"]
    assert varying([alike, [shifted], [other]]) == []
    without, given = (of(f"q{i}", config=each) for i, each in enumerate(
        ({"model.qk_norm": None}, {"model.qk_norm": {"eps": 1e-6}, "model.sizes": [[1], [2]]})
    ))  # fmt: skip
    assert varying([[without, given]]) == ["model.qk_norm"]


def test_a_run_without_a_setting_stands_beside_each_value_of_it(tmp_path):
    def of(norm, p=None):
        config = {} if p is None else {"norm.p": p}
        return read_record(write_run(tmp_path, norm, 1, config=config))

    base, runs = of("none"), [of("prmsnorm", 0.1), of("prmsnorm", 0.5)]
    assert alike([base, *runs]) == {"norm.p=0.1": [base, runs[0]], "norm.p=0.5": [base, runs[1]]}
    assert alike([base]) == {"": [base]}
    with pytest.raises(UserError, match=r"of a norm differ in norm\.p: name fewer"):
        alike(runs, most=1)
