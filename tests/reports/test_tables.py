"""Tables of runs: means over seeds, and no run dropped."""

import json

import pytest

from normlab.errors import UserError
from normlab.reports.records import read_record, read_runs
from normlab.reports.tables import decoded, heading, pivot


def write_run(folder, norm, apply_to, bleu, status="completed", nll=()):
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(json.dumps({"init": {"apply_to": apply_to}}))
    (folder / "summary.json").write_text(
        json.dumps({"norm": norm, "status": status, "best_dev": {"value": bleu}})
    )
    lines = [json.dumps({"step": i, "time": 1.0, "dev/nll": value}) for i, value in enumerate(nll)]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    return read_record(folder)


@pytest.fixture
def runs(tmp_path):
    return [
        write_run(tmp_path / "1", "layernorm", ["all"], 10.0, nll=[4.0, 3.0]),
        write_run(tmp_path / "2", "layernorm", ["all"], 14.0, nll=[5.0, 4.0, None]),
        write_run(tmp_path / "3", "rmsnorm", ["all"], 0.0, status="diverged"),
        write_run(tmp_path / "4", "rmsnorm", ["all"], 8.0),
        write_run(tmp_path / "5", "layernorm", [], 20.0),
        write_run(tmp_path / "6", "none", [], None, status="failed"),
    ]


def test_seeds_share_a_cell_and_every_run_is_shown(runs):
    assert pivot(runs, "init.apply_to", "norm", "best_dev").split("\n") == [
        "| init.apply_to | layernorm | rmsnorm | none |",
        "|---|---|---|---|",
        "| all | 12.00 ± 2.83 (n=2) | 8.00 (n=1), 1 diverged | not run |",
        "| nothing | 20.00 (n=1) | not run | 1 failed |",
    ]


def test_what_is_more_than_seeds_is_no_cell(runs):
    with pytest.raises(UserError, match=r"differ in init\.apply_to: name fewer runs, or choose"):
        pivot(runs, "norm", "status", "best_dev")


def test_a_metric_means_its_last_record(runs):
    cell = "| 3.00 (n=1), 1 not finite |"  # not the finite one before it
    assert cell in pivot(runs[:2], "init.apply_to", "norm", "dev/nll")


def test_an_unknown_key_is_named(runs):
    with pytest.raises(UserError, match=r"has no init\.men"):
        pivot(runs, "init.men", "norm", "best_dev")
    with pytest.raises(UserError, match=r"no run has dev/nlll: did you mean dev/nll\?"):
        pivot(runs, "init.mean", "norm", "dev/nlll")


def test_numbers_stand_in_their_order_and_the_metric_is_named(tmp_path):
    runs = [
        write_run(tmp_path / str(width), "rmsnorm", [str(width)], 1.0) for width in (16, 128, 8)
    ]
    rows = pivot(runs, "init.apply_to", "norm", "best_dev").split("\n")[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| 8", "| 16", "| 128"]
    assert heading(runs, "dev/nll").startswith("dev NLL (nats per token): mean ± standard")
    runs[0].summary["best_dev"]["metric"] = "dev/error"
    assert heading(runs, "best_dev").startswith("best dev/error: ")


def test_a_test_bleu_says_how_it_was_decoded(runs):
    """The label once said "beam search" of greedy scores."""
    of = "mean ± standard deviation"
    for run in runs[:2]:
        run.config["decoding"] = {"beam": 1}
    assert heading(runs, "test/bleu").startswith(f"test SacreBLEU, greedy: {of}")
    runs[2].config["decoding"] = {"beam": 4}
    assert heading(runs, "test/a/bleu").startswith(f"a: test SacreBLEU, greedy, beam 4: {of}")
    assert decoded("dev/nll", runs) == "dev NLL (nats per token)"


def test_other_files_of_a_sweep_are_passed_over(runs, tmp_path, capsys):
    (tmp_path / "multirun.yaml").write_text("")
    assert len(read_runs(sorted(tmp_path.iterdir()))) == len(runs)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "summary.json").write_text('{"status": "failed", "error": "no data"}')
    (tmp_path / "8").mkdir()
    assert len(read_runs(sorted(tmp_path.iterdir()))) == len(runs)
    said = capsys.readouterr().err
    assert "7 did not begin: no data" in said and "8 has no summary.json" in said
    with pytest.raises(UserError, match="typo does not exist"):
        read_runs([tmp_path / "1", tmp_path / "typo"])
    with pytest.raises(UserError, match="multirun.yaml is no run directory"):
        read_runs([tmp_path / "multirun.yaml"])
