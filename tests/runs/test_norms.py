"""Every norm of conf/ in every model: it trains, or is refused in one sentence."""

from pathlib import Path

import pytest
import torch

from normlab.errors import UserError
from normlab.runs import job
from normlab.runs.loaded import load_run

NORMS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf/norm").glob("*.yaml"))
LONG = pytest.mark.long
ENCODER_ONLY = {"batchnorm", "groupnorm", "instancenorm"}
ANOTHER = "norm@model.decoder_norm=layernorm"
SHORT = ("trainer.max_steps=4", "trainer.eval_every=4", "norm.p=0.5")


def short(name):
    return SHORT if name == "prmsnorm" else SHORT[:2]


@pytest.mark.slow
@pytest.mark.parametrize("name", NORMS)
def test_every_norm_trains_the_transformer(tiny_config, tmp_path, name):
    extra = [ANOTHER] if name in ENCODER_ONLY else []
    config = tiny_config(f"norm={name}", *extra, *short(name))
    assert job.run(config, tmp_path, [])["status"] == "completed"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("none", "prmsnorm", "weightnorm") else LONG)
        for name in NORMS
        if name not in ENCODER_ONLY
    ],
)
def test_every_norm_of_single_positions_trains_rnnsearch(tiny_config, tmp_path, name):
    config = tiny_config(f"norm={name}", *short(name), rnn=True)
    assert job.run(config, tmp_path, [])["status"] == "completed"


@pytest.mark.parametrize("name", sorted(ENCODER_ONLY))
@pytest.mark.parametrize("rnn", [False, True])
def test_norms_over_positions_are_refused_where_they_would_see_the_future(
    tiny_config, tmp_path, name, rnn
):
    with pytest.raises(UserError, match="takes statistics over positions"):
        job.run(tiny_config(f"norm={name}", rnn=rnn), tmp_path, [])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["norm@model.qk_norm=groupnorm"], "model.qk_norm=GroupNorm takes statistics over"),
        (["model.qk_norm=rmsnorm"], "as in `norm@model.qk_norm=rmsnorm`"),
        (
            ["norm@model.qk_norm=rmsnorm", "model.qk_norm.eps=-1"],
            "model.qk_norm.eps must be >= 1e-38",
        ),
        (["norm=groupnorm", "norm.groups=3", ANOTHER], "norm.groups=3 does not divide"),
        (["model.main_branch=zero_mean", "model.norm_placement=post"], "model.norm_placement=pre"),
        (["model.main_branch=zero_mean"], "zero_mean takes the mean out in training only"),
        (
            ["norm=batchnorm", ANOTHER, "trainer.average=2"],
            "average BatchNorm's running statistics",
        ),
    ],
)
def test_mistakes_with_norms_name_their_keys(tiny_config, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        job.run(tiny_config(*overrides), tmp_path, [])


@pytest.mark.slow
def test_running_statistics_are_resumed_and_loaded(tiny_config, tmp_path):
    overrides = ["norm=batchnorm", ANOTHER, "trainer.eval_every=4", "trainer.checkpoint_every=4"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    job.run(tiny_config(*overrides, "trainer.max_steps=8"), whole, [])
    for steps in (4, 8):
        job.run(tiny_config(*overrides, f"trainer.max_steps={steps}"), parts, [])
    a, b = (load_run(path, "last", "cpu").model.state_dict() for path in (whole, parts))
    moved = [name for name in a if name.endswith(("running_mean", "running_var"))]
    assert len(moved) == 2 * 3  # two norms of the encoder layer and the one after it
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not any(torch.equal(a[name], torch.zeros_like(a[name])) for name in moved)


def test_norms_of_queries_and_keys_are_loaded_back(tiny_config, tmp_path):
    overrides = ["norm@model.qk_norm=layernorm", "model.tie_softmax=false", *SHORT[:2]]
    job.run(tiny_config(*overrides), tmp_path, [])
    state = load_run(tmp_path, device="cpu").model.state_dict()
    assert {"softmax.bias", "encoder.0.self_attention.query_norm.weight"} <= state.keys()
