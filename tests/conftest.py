"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from tiny import NAMES, TINY, TINY_RNN

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, which torch.compile does

CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture
def tiny_config(tmp_path):
    """Returns a function: overrides -> the composed config of a run that takes a second."""

    def make(*overrides: str, rnn: bool = False):
        tiny = [*NAMES, *(TINY_RNN if rnn else TINY), f"data.cache_dir={tmp_path}/cache"]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("train", [*tiny, *overrides])

    return make


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
