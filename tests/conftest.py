"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest
import torch
from tiny import TINY, TINY_RNN

from normlab.runs import job
from normlab.runs.sweeps import compose_job

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, which torch.compile does
if "PYTEST_XDIST_WORKER" in os.environ:  # the cores are shared out already, to children too
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"

CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory):
    """Returns the folder in which tiny runs share their encoded corpora."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_config(tiny_cache):
    """Returns a function: overrides -> the composed config of a run that takes a second."""

    def make(*overrides: str, rnn: bool = False):
        tiny = [*(TINY_RNN if rnn else TINY), f"data.cache_dir={tiny_cache}"]
        return compose_job(CONF, [*tiny, *overrides])

    return make


@pytest.fixture(scope="session")
def trained(tiny_config, tmp_path_factory):
    """Returns the directory of a completed tiny run: to be read, or copied and then changed."""
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    summary = job.run(tiny_config(), run_dir, [])
    assert summary["status"] == "completed"
    return run_dir


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
