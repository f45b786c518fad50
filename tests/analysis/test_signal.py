"""What an untrained encoder says of its tokens: shares written out, and why the centre matters."""

import pytest
import torch
from processes import ROOT, script

from normlab.analysis import signal
from normlab.runs.untrained import fresh_model

SIZES = ["model.d_model=32", "model.d_ff=64", "model.dropout=0", "model.encoder_layers=2"]


def shares(norm, placement, mean, recentred=False):
    overrides = [f"norm={norm}", f"model.norm_placement={placement}", f"init.mean={mean}", *SIZES]
    model = fresh_model(overrides, 100)
    if recentred:
        signal.recentre_embeddings(model)
    return signal.shares(model, 100)


def test_shares_written_out():
    # two sentences, one position, width 2: what both have is (2, 0), what differs is +-(0, 1)
    found = signal.of_features(torch.tensor([[[2.0, 1.0]], [[2.0, -1.0]]]))
    assert found.token == pytest.approx((0.5 / 2.5) ** 0.5)
    assert found.apart == pytest.approx((0.25 / 2.5) ** 0.5)  # (0, 1) is half along (1, 1)
    assert found.uniform == pytest.approx(((1.5**2 + 0.5**2) / 2 / 2.5) ** 0.5)


@pytest.mark.parametrize("mean", [0.02, 0.2])
def test_pre_norm_layernorm_does_not_see_the_mean(mean):
    assert shares("layernorm", "pre", mean) == pytest.approx(
        shares("layernorm", "pre", 0.0), abs=1e-4
    )


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_rmsnorm_keeps_the_mean_and_loses_the_token(placement):
    at = {mean: shares("rmsnorm", placement, mean) for mean in (0.0, 0.2)}
    assert at[0.0].apart > 0.5 and at[0.2].apart < 0.05
    assert at[0.0].uniform < 0.5 and at[0.2].uniform > 0.95


def test_post_norm_layernorm_loses_what_enters_before_the_first_norm():
    """Its embeddings have a mean that no norm has removed; without that it is invariant too."""
    plain = [shares("layernorm", "post", mean).token for mean in (0.0, 0.2)]
    assert plain[1] < plain[0] / 2
    recentred = [shares("layernorm", "post", mean, recentred=True) for mean in (0.0, 0.2)]
    assert recentred[1] == pytest.approx(recentred[0], abs=1e-4)


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_a_shift_takes_the_tokens_from_rnnsearchs_annotations_and_more_with_rmsnorm(norm):
    sizes = ["model=rnnsearch_small", "init=nematus", "model.d_embedding=16", "model.d_hidden=24"]
    common = ["init.mean=0.2", f"norm={norm}", *sizes]

    def share(apply_to):
        model = fresh_model([*common, f"init.apply_to={apply_to}"], 100)
        return signal.annotation_shares(model, 100).token

    assert share("[]") > 0.9
    assert 0.005 < share("[all]") < 0.1 if norm == "layernorm" else share("[all]") < 0.001


def test_the_command_reads_a_record_without_checkpoints(tmp_path):
    record = next(ROOT.glob("results/figure4/unconfounded/runs/*rmsnorm*"))
    done = script("scripts/analyze.py", "--results", tmp_path, "annotations", record)
    assert done.returncode == 0, done.stderr
    (row,) = [line for line in done.stdout.split("\n") if "| rmsnorm |" in line]
    assert row.count("| - |") == 1 and "| 1 | - | - | 0 |" in row
    assert (tmp_path / "figure4/annotations.md").read_text() in done.stdout


def test_annotations_have_a_row_for_each_arm_and_medians_over_its_runs():
    half, most = signal.Shares(0.5, 0.25, 0.1), signal.Shares(0.7, 0.35, 0.1)
    runs = [
        signal.Annotated("all", "rmsnorm", half, None, 3.0),
        signal.Annotated("nothing", "rmsnorm", half, most, 2.0),
        signal.Annotated("nothing", "rmsnorm", most, None, 3.0),
    ]
    _, _, *rows = signal.annotation_table(runs).split("\n")
    assert rows[0] == "| nothing | rmsnorm | 0.6 | 0.3 | 2 | 0.7 | 0.35 | 1 | 2.50 |"
    assert rows[1] == "| all | rmsnorm | 0.5 | 0.25 | 1 | - | - | 0 | 3.00 |"


def test_the_table_has_a_row_for_each_norm_and_placement():
    names = {"norm": "a", "placement": "pre"}
    records = [
        {**names, "mean": mean, "token": mean, "apart": 0.5, "uniform": 1.0} for mean in (0.0, 0.2)
    ]
    lines = signal.table(records).split("\n")
    assert lines[0].startswith("| norm | placement | token, mean 0 | token, mean 0.2 | apart,")
    assert lines[2] == "| a | pre | 0.0000 | 0.2000 | 0.5000 | 0.5000 | 1.0000 | 1.0000 |"


def test_the_prediction_puts_starts_beside_what_became_of_them():
    records = [
        {"norm": "a", "placement": "pre", "mean": mean, "apart": apart}
        for mean, apart in ((0.0, 0.7), (0.1, 0.2), (0.2, 0.01))
    ]
    ends = [(0.0, 5.0), (0.0, 6.0), (0.1, 5.0), (0.2, float("inf"))]
    runs = [signal.Trained("a", "pre", mean, nll) for mean, nll in ends]
    lines = signal.prediction(records, runs).split("\n")
    assert lines[2] == "| 0.70000 | 5.50 | a | pre | 0 |"
    assert lines[4] == "| 0.01000 | diverged | a | pre | 0.2 |"
    assert lines[-3:] == [
        "Rank correlation of share and -NLL, all starts: 0.50, n=3.",
        "",
        "Rank correlation of share and -NLL, those whose runs ended: -1.00, n=2.",
    ]
