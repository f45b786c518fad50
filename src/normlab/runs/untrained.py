"""Models as runs begin with them: composed, built and initialised, without data or directory."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from normlab.paths import CONF
from normlab.runs import components
from normlab.runs.config import parse_config
from normlab.runs.sweeps import compose_job

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from normlab.models.network import Network


def fresh_model(overrides: list[str], vocab: int) -> "Network":
    """Returns the initialised model of `python train.py OVERRIDES` for a vocabulary of `vocab`."""
    return _fresh(compose_job(CONF, overrides), vocab)


def model_of_record(config: Mapping[str, Any], vocab: int) -> "Network":
    """Returns the model with which the run of `config` began; of normlab's own kinds only."""
    from omegaconf import OmegaConf

    return _fresh(OmegaConf.create(dict(config)), vocab, trusted=())


def _fresh(composed: "DictConfig", vocab: int, trusted: Collection[str] | None = None) -> "Network":
    import torch

    config = parse_config(composed)
    torch.manual_seed(config.seed)
    model = components.build_model(config, {"vocab": vocab}, trusted)
    components.initialize_model(model, config)
    return model
