"""Every file in conf/ composes, is valid and builds what it describes."""

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from normlab.errors import UserError
from normlab.runs.assemble import check_parts
from normlab.runs.config import parse_config
from normlab.runs.sweeps import compose_job

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = [
    (path.parent.name, path.stem)
    for path in sorted(CONF.glob("*/*.yaml"))
    if path.parent.name != "hydra"
]


def task_of(group, option):
    """Returns the task that a model or data option is for, by what its target is about."""
    if group not in ("model", "data"):
        return option if group == "task" else "translation"
    content = {"defaults": [option]}
    while "_target_" not in content:  # an option that changes another one
        path = CONF / group / f"{content['defaults'][0]}.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    target = content["_target_"]
    about = {"convpool": "cifar10", "images": "cifar10", "order": "retrieval"}
    about |= {"retrieval": "retrieval", "reader": "reader", "reading": "reader"}
    return next((about[part] for part in target.split(".") if part in about), "translation")


@pytest.mark.slow
@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_builds(group, option):
    overrides = [f"task={task_of(group, option)}", f"{group}={option}"]
    composed = compose_job(CONF, overrides)
    if OmegaConf.is_missing(composed.data, "dir"):
        composed.data.dir = "x"
    config = parse_config(composed)
    try:
        check_parts(config)
    except UserError as error:  # a norm over positions, which no decoder can have by itself
        assert group == "norm" and "decoder_norm" in str(error)
        check_parts(
            parse_config(compose_job(CONF, [*overrides, "norm@model.decoder_norm=rmsnorm"]))
        )


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_is_described_in_its_first_line(group, option):
    first = (CONF / group / f"{option}.yaml").read_text(encoding="utf-8").split("\n")[0]
    assert first.startswith("# ") and len(first) > 10


def test_the_paper_sizes():
    def model(name):
        return parse_config(compose_job(CONF, [f"model={name}"])).model

    base = model("transformer_base")
    assert (base["d_model"], base["d_ff"], base["heads"]) == (512, 2048, 8)
    layers = (base["encoder_layers"], base["decoder_layers"], base["norm_placement"])
    assert layers == (6, 6, "post")
    rnn = model("rnnsearch")
    assert (rnn["d_embedding"], rnn["d_hidden"], rnn["dropout"]) == (512, 1024, 0)


def test_names_say_which_options_were_chosen():
    chosen = ["norm=rmsnorm", "init=normal", "model=rnnsearch_small", "data=multi30k", "seed=5"]
    names = parse_config(compose_job(CONF, [*chosen, "init.mean=0.2"])).names
    assert (names.task, names.norm, names.init) == ("translation", "rmsnorm", "normal")
    assert (names.model, names.data) == ("rnnsearch_small", "multi30k")
    assert names.run == "rnnsearch_small_rmsnorm-auto_mean0.2_seed5"


def test_every_missing_value_is_named_at_once():
    with pytest.raises(
        UserError, match=r"no value for data\.dir: give one, as in `data\.dir=\.\.\.`"
    ):
        parse_config(compose_job(CONF, ["data=text"]))
