"""From a checked config to the things it describes: task, model, optimiser, learning rate."""

import inspect
import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml

from normlab.errors import UserError
from normlab.paths import CONF
from normlab.runs.arguments import check_arguments, keys_of, target_of
from normlab.runs.config import Config

if TYPE_CHECKING:
    import torch
    from torch import nn

    from normlab.models.network import Network
    from normlab.norms import Norm, NormFactory
    from normlab.tasks.task import Task
    from normlab.training.schedules import Schedule

log = logging.getLogger(__name__)

EMPTY = inspect.Parameter.empty  # no default, or no annotation
FROM_MODEL = ("dim", "axes", "parameter_axis")  # what a model tells a norm, and no config


def build_task(config: Config, trusted: Collection[str] | None = None) -> "Task":
    """Returns the task of `config` with its data read.

    The fields of `data` go to its target as far as it takes them, the others to the task, with
    those of `task` and `decoding`. `trusted`: see `target_of`.
    """
    kind = target_of("task", config.task, trusted)
    read = target_of("data", config.data, trusted)
    _check_corpus(config, kind, read)
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
    kind = target_of("model", config.model, trusted)
    arguments = _arguments(config.model)
    nodes = {"norm": config.norm} | {
        name: arguments.pop(name) for name in norms_of(kind) if name in arguments
    }
    norms = {
        name: None if node is None else build_norm(name, node, trusted)
        for name, node in nodes.items()
    }
    _check_given(config, kind, arguments, given)
    checked = check_arguments("model", kind, arguments, given=[*norms_of(kind), "norm", *given])
    with keys_of("model", arguments | nodes):
        return kind(**norms, **given, **checked)


def _check_corpus(config: Config, task: Callable, read: Callable) -> None:
    """Raises UserError when what `read` returns is not what `task` takes, both being annotated."""
    taken = inspect.signature(task, eval_str=True).parameters
    wanted: Any = taken["corpus"].annotation if "corpus" in taken else EMPTY
    found = _corpus_of(read)
    annotated = all(isinstance(each, type) and each is not EMPTY for each in (wanted, found))
    if not annotated or issubclass(found, wanted):
        return
    nodes = {path.stem: _stored(path) for path in sorted((CONF / "data").glob("*.yaml"))}
    fitting = [
        f"data={n}" for n, at in nodes.items() if _corpus_of(target_of("data", at)) is wanted
    ]
    raise UserError(
        f"data={config.names.data} is not for task={config.names.task}: choose "
        f"{' or '.join([*fitting, 'another task'])}."
    )


def _corpus_of(read: Callable) -> Any:
    return inspect.signature(read, eval_str=True).return_annotation


def _check_given(
    config: Config, kind: Callable, arguments: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    """Raises UserError when a model does not take what the task gives, or needs another task's."""
    parameters = inspect.signature(kind).parameters
    needed = {name for name, each in parameters.items() if each.default is EMPTY}
    lacking = needed - {"norm", *norms_of(kind), *arguments, *given}
    if lacking:
        paths = (CONF / "task").glob("*.yaml")  # a global package nests its group
        tasks = [target_of("task", (node := _stored(path)).get("task", node)) for path in paths]
        lacking &= {name for task in tasks for name in task.placeholders}
    if lacking or not given.keys() <= parameters.keys():
        raise UserError(
            f"model={config.names.model} is not for task={config.names.task}: leave model= away, "
            "or see conf/README.md for the task's models."
        )


def norms_of(kind: Callable) -> list[str]:
    """Returns the names of a model's arguments that are norms besides `norm` itself."""
    from normlab.norms import NormFactory

    parameters = inspect.signature(kind, eval_str=True).parameters.items()
    return [name for name, parameter in parameters if NormFactory in get_args(parameter.annotation)]


def build_norm(name: str, node: Any, trusted: Collection[str] | None = None) -> "NormFactory":
    """Returns the norm that the config describes as `norm` or as `model.<name>`."""

    group = "norm" if name == "norm" else f"model.{name}"
    if not isinstance(node, Mapping):
        raise UserError(
            f"{group}={node} is wrong: choose an option of conf/norm, as in `norm@{group}=rmsnorm`."
        )
    kind = target_of("norm", node, trusted, key=group)
    arguments = check_arguments(group, kind, _arguments(node), given=FROM_MODEL)

    def norm(dim: int, /, **layout: Any) -> "Norm":
        with keys_of(group, arguments):
            return kind(dim, **layout, **arguments)

    return norm


def stock_norms(**changes: Any) -> dict[str, "NormFactory"]:
    """Returns every norm of conf/norm by name; `changes` (eps=0.0) go to those that know them.

    Options that only set fields of another one are left out.
    """
    nodes = {path.stem: _stored(path) for path in sorted((CONF / "norm").glob("*.yaml"))}
    return {name: stock_norm(name, **changes) for name in nodes if "_target_" in nodes[name]}


def stock_norm(name: str, **changes: Any) -> "NormFactory":
    """Returns the norm `name` of conf/norm, with `changes` to the fields that it has."""
    node = _stored(CONF / "norm" / f"{name}.yaml")
    kind = target_of("norm", node)
    arguments = check_arguments("norm", kind, _arguments(node), given=FROM_MODEL)
    # Changes are not checked like a config: an analysis may set an eps of 0.
    known = {key: value for key, value in changes.items() if key in arguments}
    return partial(kind, **(arguments | known))


def _stored(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def initialize_model(model: "Network", config: Config) -> None:
    """Initialises `model` in place as `config` says, then re-parameterises it if its norm asks."""
    from normlab import norms
    from normlab.models.initialization import initialize

    arguments = check_arguments("init", initialize, config.init, given=["model"])
    with keys_of("init", arguments):
        shifted = initialize(model, **arguments)
    if config.init_mean and not shifted:  # the unshifted arm of Figure 4
        log.warning("Initial mean %g shifts no weights: init.apply_to is empty.", config.init_mean)
    elif config.init_mean:
        log.info("Initial mean %g in %d weight matrices.", config.init_mean, len(shifted))
    norms.reparameterise(model)


def build_optimizer(model: "nn.Module", config: Config) -> "torch.optim.Optimizer":
    """Returns the optimiser of `config` over all parameters of `model`."""
    from normlab.training.optimizers import optimizer

    arguments = check_arguments("optimizer", optimizer, config.optimizer, given=["parameters"])
    return optimizer(model.parameters(), **arguments)


def build_schedule(config: Config) -> "Schedule":
    """Returns the learning rate of `config`, and what changes with it."""
    from normlab.training import schedules

    kinds: dict[str, Callable] = {
        "inverse_sqrt": schedules.inverse_sqrt,
        "constant": schedules.constant,
        "linear_decay": schedules.LinearDecay,
    }
    arguments = dict(config.schedule)
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in kinds:
        known = " or ".join([", ".join([*kinds][:-1]), [*kinds][-1]])
        raise UserError(f"schedule.name={name} is unknown: use {known}.")
    checked = check_arguments("schedule", kinds[name], arguments, given=["step"])
    if name == "linear_decay":
        with keys_of("schedule", checked):
            decay = schedules.LinearDecay(**checked)
        return schedules.Schedule(decay, decay.beta1)
    return schedules.Schedule(partial(kinds[name], **checked))


def _arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "_target_"}
