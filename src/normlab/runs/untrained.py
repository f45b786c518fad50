"""Models as runs begin with them: composed, built and initialised, without data or directory."""

from pathlib import Path
from typing import TYPE_CHECKING

from normlab.paths import CONF
from normlab.runs import components
from normlab.runs.config import check
from normlab.runs.sweeps import compose_job

if TYPE_CHECKING:
    from normlab.models.network import Network


def fresh_model(overrides: list[str], vocab: int, conf: Path = CONF) -> "Network":
    """Returns the initialised model of `python train.py OVERRIDES` for a vocabulary of `vocab`."""
    import torch

    config = check(compose_job(conf, overrides))
    torch.manual_seed(config.seed)
    model = components.build_model(config, {"vocab": vocab})
    components.initialize_model(model, config)
    return model
