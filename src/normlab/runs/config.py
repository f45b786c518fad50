"""The types of the config: what a value may be. The values themselves are in conf/.

What a constructor takes is checked against its signature when it is built (arguments.py); here
stand the groups that no constructor takes as they are. Imports nothing heavy, so that a mistake is
answered at once.
"""

from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError

from normlab.errors import UserError
from normlab.runs.arguments import sentence
from normlab.training.settings import TrainerSettings
from normlab.types import NameList, Seed

Node = dict[str, Any]  # the fields of a group whose target's signature says what they may be


class Names(BaseModel):
    """Which option of each group was chosen, and what the run is called."""

    model_config = ConfigDict(extra="forbid")

    task: str
    norm: str
    init: str
    model: str
    data: str
    run: str
    experiment: str | None  # "table4/multi30k" in a sweep of experiments/


class Logger(BaseModel):
    """Where metrics go besides metrics.jsonl."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["wandb", "none"]
    project: str
    group: str
    tags: NameList


class Config(BaseModel):
    """A whole config, checked as far as that goes without importing what it builds."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    names: Names
    seed: Seed
    task: Node
    norm: Node
    init: Node
    model: Node
    data: Node
    decoding: Node = {}
    optimizer: Node
    schedule: Node
    trainer: TrainerSettings
    logger: Logger

    @property
    def init_mean(self) -> float:
        """Returns the shift of the initial weights."""
        return self.init["mean"]

    def plain(self) -> dict[str, Any]:
        """Returns the config as dicts, lists and numbers."""
        return self.model_dump(mode="json")


def parse_config(cfg: DictConfig) -> Config:
    """Returns the composed config as typed objects.

    Raises UserError naming the first key that is unknown, missing, of a wrong type or out of range.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(cfg))
        if missing:
            keys = ", ".join(missing)
            raise UserError(f"no value for {keys}: give one, as in `{missing[0]}=...`.")
        plain = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(_one_sentence(error)) from error
    names = plain.get("names") if isinstance(plain, dict) else None
    for group in ("norm", "init", "model", "data", "task"):
        if isinstance(names, dict) and names.get(group, "") is None:
            raise UserError(
                f"no {group} is chosen, names.{group} is empty: give one, as `--help` lists them."
            )
    try:
        return Config.model_validate(plain)
    except ValidationError as error:
        raise UserError(sentence(error)) from None


def _one_sentence(error: OmegaConfBaseException) -> str:
    key = getattr(error, "full_key", None)
    text = str(error).split("\n")[0]
    return f"config key {key}: {text}" if key else text
