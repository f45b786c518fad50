"""Fixtures that many tests share."""

import os
import signal
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, settings
from omegaconf import OmegaConf
from tiny import TINY, TINY_RNN

from normlab.runs import job
from normlab.runs.sweeps import compose_job

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, which torch.compile does
if "PYTEST_XDIST_WORKER" in os.environ:  # the cores are shared out already, to children too
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"

os.environ.setdefault("WANDB_MODE", "offline")  # whoever is logged in

# The same examples each time, and none too slow: a busy machine may stop for a while.
settings.register_profile(
    "normlab",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("normlab")

CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory):
    """Returns the folder in which tiny runs share their encoded corpora."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_config(tiny_cache):
    """Returns a function: overrides -> the composed config of a run that takes half a second.

    Hydra takes a third of that to compose one: a config that differs in plain values only, as in
    `seed=2` or `norm.eps=1`, is a copy of a composed one in which they are set.
    """
    composed = {}

    def make(*overrides: str, rnn: bool = False):
        tiny = [*(TINY_RNN if rnn else TINY), f"data.cache_dir={tiny_cache}"]
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        plain = {o.key_or_group: o.value() for o in parsed if is_plain(o)}
        others = tuple(o.input_line for o in parsed if not is_plain(o))
        if (others, rnn) not in composed:
            composed[others, rnn] = compose_job(CONF, [*tiny, *others]), HydraConfig.instance().cfg
        config, hydra = composed[others, rnn]
        config = deepcopy(config)
        HydraConfig.instance().cfg = hydra  # says which options were chosen, as names.norm
        for key, value in plain.items():
            if OmegaConf.select(config, key, default=config) is config:  # no key, or one not set
                return compose_job(CONF, [*tiny, *overrides])
            OmegaConf.update(config, key, value, merge=False)
        return config

    def is_plain(override):
        """Returns whether `override` sets a value that the config has, and chooses no file."""
        key = override.key_or_group
        chooses = (CONF / key).is_dir() or "@" in key
        return not (chooses or override.is_add() or override.is_delete())

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


@pytest.fixture(autouse=True)
def _subnormals():
    """Undoes what a run in this process leaves behind: it flushes subnormal numbers to 0.

    Hypothesis cannot draw floats then, and raises FloatingPointError.
    """
    torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def _signals():
    """Undoes nohup and a shell's background, which ignore them, and so would a run here."""
    kept = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)
