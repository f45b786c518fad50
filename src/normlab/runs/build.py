"""From a checked config to the things it describes: task, model, optimiser, learning rate."""

import inspect
import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from normlab.errors import UserError
from normlab.runs.arguments import check_arguments, keys_of, kind_of
from normlab.runs.config import Config, Node

if TYPE_CHECKING:
    import torch
    from torch import nn

    from normlab.models.network import Network
    from normlab.tasks.task import Task

log = logging.getLogger(__name__)

FROM_MODEL = ("dim", "axes", "parameter_axis")  # what a model tells a norm, and no config


def build_task(config: Config, trusted: Collection[str] | None = None) -> "Task":
    """Returns the task of `config` with its data read.

    The fields of `data` go to its target as far as it takes them, the others to the task, with
    those of `task` and `decoding`. `trusted`: see `kind_of`.
    """
    kind = kind_of("task", config.task, trusted)
    read = kind_of("data", config.data, trusted)
    data, task = _arguments(config.data), _arguments(config.task)
    of_task = inspect.signature(kind).parameters
    of_corpus = inspect.signature(read).parameters
    settings = {key: value for key, value in data.items() if key in of_task.keys() - of_corpus}
    source = {key: value for key, value in data.items() if key not in settings}

    source = check_arguments("data", read, source, also=settings)
    groups = {"task": task, "decoding": config.decoding, "data": settings}
    arguments: dict[str, Any] = {}
    for group, node in groups.items():
        others = ["corpus", "seed", *(k for g in groups if g != group for k in groups[g])]
        arguments |= check_arguments(group, kind, node, given=others)
    with keys_of("data", data), keys_of("task", task), keys_of("decoding", config.decoding):
        return kind(read(**source), seed=config.seed, **arguments)


def build_model(
    config: Config, given: Mapping[str, Any], trusted: Collection[str] | None = None
) -> "Network":
    """Returns the model of `config` with its norm, not yet initialised; `given` is the task's."""
    norm_kind = kind_of("norm", config.norm, trusted)
    norm = check_arguments("norm", norm_kind, _arguments(config.norm), given=FROM_MODEL)
    kind = kind_of("model", config.model, trusted)
    model = check_arguments("model", kind, _arguments(config.model), given=["norm", *given])
    with keys_of("norm", norm), keys_of("model", model):
        return kind(norm=partial(norm_kind, **norm), **given, **model)


def initialize_model(model: "Network", config: Config) -> None:
    """Initialises `model` in place as `config` says, then re-parameterises it if its norm asks."""
    from normlab import norms
    from normlab.models.initialization import initialize

    arguments = check_arguments("init", initialize, config.init, given=["model"])
    with keys_of("init", arguments):
        shifted = initialize(model, **arguments)
    if config.init_mean and not shifted:
        raise UserError(
            f"init.mean={config.init_mean} shifts no weights: init.apply_to="
            f"{list(config.init['apply_to'])} selects none of this model's."
        )
    if config.init_mean:
        log.info("Initial mean %g in %d weight matrices.", config.init_mean, len(shifted))
    norms.reparameterise(model)


def build_optimizer(model: "nn.Module", config: Config) -> "torch.optim.Optimizer":
    """Returns the optimiser of `config` over all parameters of `model`."""
    from normlab.training.optimizers import optimizer

    arguments = check_arguments("optimizer", optimizer, config.optimizer, given=["parameters"])
    return optimizer(model.parameters(), **arguments)


def learning_rate(config: Config) -> Callable[[int], float]:
    """Returns the learning rate of `config` as a function of the step, counted from 1."""
    from normlab.training import schedules

    kinds = {kind.__name__: kind for kind in (schedules.inverse_sqrt, schedules.constant)}
    arguments = dict(config.schedule)
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in kinds:
        raise UserError(f"schedule.name={name} is unknown: use {' or '.join(kinds)}.")
    checked = check_arguments("schedule", kinds[name], arguments, given=["step"])
    return partial(kinds[name], **checked)


def _arguments(node: Node) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "_target_"}
