"""Every file in conf/ composes, passes the schema and builds what it describes."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from normlab.build import build_model, build_optimizer
from tiny import NAMES

from normlab import schema

CONF = Path(__file__).parents[1] / "conf"
OPTIONS = [
    (path.parent.name, path.stem)
    for path in sorted(CONF.glob("*/*.yaml"))
    if path.parent.name != "hydra"
]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_builds(group, option):
    overrides = [*NAMES, f"{group}={option}"] + ["data.dir=x"] * (option == "text")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = schema.check(compose("train", overrides))
    with torch.device("meta"):
        model = build_model(config, vocab=8)
        build_optimizer(model, config)
    assert model.roles()


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_is_described_in_its_first_line(group, option):
    first = (CONF / group / f"{option}.yaml").read_text(encoding="utf-8").split("\n")[0]
    assert first.startswith("# ") and len(first) > 10


def test_the_paper_sizes():
    def parameters(model):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = schema.check(compose("train", [*NAMES, f"model={model}"]))
        return config.model

    base = parameters("transformer_base")
    assert (base.d_model, base.d_ff, base.heads) == (512, 2048, 8)
    assert (base.encoder_layers, base.decoder_layers, base.norm_placement) == (6, 6, "post")
    rnn = parameters("rnnsearch")
    assert (rnn.d_embedding, rnn.d_hidden, rnn.dropout) == (512, 1024, 0)
