"""All parts of a run, put together from its config."""

import os
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normlab.errors import UserError
from normlab.files import flatten
from normlab.runs import components
from normlab.runs.arguments import keys_of
from normlab.runs.config import Config
from normlab.runs.directory import RunDirectory
from normlab.runs.environment import (
    code_version,
    device_name,
    device_of,
    memory_of,
    prepare,
    set_threads,
)
from normlab.runs.identity import identity, owner
from normlab.runs.summary import registration_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from normlab.models.network import Network
    from normlab.tasks.task import Task
    from normlab.training.checkpoint import Checkpoints
    from normlab.training.schedules import Schedule

BYTES = 16  # of memory for each parameter in training: fp32, its gradient, Adam's two moments


@dataclass
class Parts:
    """What a run trains, evaluates and tests, on its device; the model is initialised."""

    config: Config
    device: "torch.device"
    task: "Task"
    model: "Network"
    objective: "nn.Module"
    optimizer: "torch.optim.Optimizer"
    schedule: "Schedule"
    checkpoints: "Checkpoints"
    contents: dict[str, Any]

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Returns what a segment says of its process."""
        import torch

        from normlab import distributed, norms

        return {
            "commit": code_version(),
            "registration": registration_of(self.config),  # which may have changed since the last
            "torch": str(torch.__version__),  # a class of its own otherwise
            "norm_impl": norms.implementation(self.model, self.device),
            "device": device_name(self.device),
            "threads": torch.get_num_threads(),
            "world_size": distributed.world_size(),
        }

    @property
    def description(self) -> dict[str, Any]:
        """Returns what the summary says of the parts."""
        return {
            **self.environment,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "item": self.task.item,
            "contents": self.contents,
        }

    def evaluate(self) -> dict[str, float]:
        """Returns the dev metrics of the model as it is."""
        with self.evaluating():
            return self.task.evaluate(self.objective, self.device)

    def test(self, directory: RunDirectory, average: int) -> dict[str, Any]:
        """Returns the results on the test sets, of the averaged or the best weights."""
        from normlab import distributed
        from normlab.training.checkpoint import digest

        distributed.gather(None)  # until the first process has written its checkpoints
        tested: dict[str, Any] = {"weights": "best"}
        if average:
            last = self.checkpoints.read("last")
            step = last["progress"]["step"]
            weights, count = self.checkpoints.average(average, last["model"], step)
            self.checkpoints.save_weights("average", weights, count=count)
            tested = {"weights": "average", "averaged": count}
        else:
            weights = self.checkpoints.read("best")["model"]
        if distributed.world_size() > 1:  # reading them has hashed them once already
            distributed.same_everywhere("weights", {"sha256": digest(weights)})
        self.model.load_state_dict(weights)
        started = time.perf_counter()
        with self.evaluating(), tempfile.TemporaryDirectory() as nowhere:
            outputs = directory.path if distributed.rank() == 0 else Path(nowhere)
            results = self.task.test(self.objective, self.device, outputs)
        return {"test": results, "test_seconds": time.perf_counter() - started, **tested}

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Sets the objective to evaluation, at the run's precision, and back."""
        from normlab.devices import autocast

        self.objective.eval()
        try:
            with autocast(self.config.trainer.precision, self.device):
                yield
        finally:
            self.objective.train()


def assemble(
    config: Config,
    directory: RunDirectory,
    trusted: Collection[str] | None = None,
    device: str = "",
    training: bool = False,
) -> Parts:
    """Returns the parts of the run in `directory`, on `device` in place of the config's.

    `training`: they are to be trained, and not only tested.

    Raises UserError for arguments that do not fit, before any data is read, and for data that are
    not those the run began with.
    """
    import torch

    from normlab import distributed
    from normlab.training.checkpoint import Checkpoints
    from normlab.training.step import compile_step

    prepare()
    where = device_of(device or config.trainer.device)
    set_threads(config.trainer.threads)
    if config.trainer.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which cuBLAS may ask for
    torch.use_deterministic_algorithms(config.trainer.deterministic)
    check_parts(config, trusted, memory_of(where), training)

    distributed.same_everywhere("config", flatten(identity(config.plain())))
    task = components.build_task(config, trusted)
    contents = task.contents()
    distributed.same_everywhere("data", contents)
    if distributed.rank() == 0:
        directory.check_data(contents)
    torch.manual_seed(config.seed)
    model = components.build_model(config, task.model_arguments, trusted)
    components.initialize_model(model, config)
    model.to(where)
    if distributed.world_size() > 1:  # each process draws dropout masks of its own
        torch.manual_seed(hash((config.seed, distributed.rank())))
    with keys_of("task", config.task):
        objective = task.objective(model)
    if config.trainer.compile:
        compile_step(objective)
    return Parts(
        config,
        where,
        task,
        model,
        objective,
        components.build_optimizer(model, config),
        components.build_schedule(config),
        Checkpoints(directory.checkpoints, config.trainer.keep, owner(config.plain(), contents)),
        contents,
    )


def check_parts(
    config: Config,
    trusted: Collection[str] | None = None,
    memory: float = float("inf"),
    training: bool = False,
) -> None:
    """Raises UserError when something in `config` cannot be built; reads no data.

    `memory` is that of the device in bytes: a model that cannot be trained in it is refused.
    `training`: so is one of which another network would be tested than is trained.
    """
    import torch

    placeholders = components.target_of("task", config.task, trusted).placeholders
    components.build_schedule(config)
    try:
        with torch.device("meta"):
            model = components.build_model(config, placeholders, trusted)
            parameters = sum(p.numel() for p in model.parameters())
            tensors = [*model.parameters(), *model.buffers()]
            if sum(t.numel() for t in tensors) * BYTES > memory:
                raise UserError(
                    f"the model has {parameters:.1e} parameters, too many for the "
                    f"{memory / 2**30:.0f} GiB of memory here: lower the sizes in model."
                )
            components.initialize_model(model, config)
            components.build_optimizer(model, config)
        if training:
            _check_tested_as_trained(config, model)
    except (RuntimeError, TypeError) as error:
        if "overflow" not in str(error).lower():
            raise
        raise UserError("the model is too large for any memory: lower the sizes in model.") from (
            error
        )


def _check_tested_as_trained(config: Config, model: "Network") -> None:
    if config.model.get("main_branch") == "zero_mean":
        raise UserError(
            "model.main_branch=zero_mean takes the mean out in training only: it is for weights "
            "that scripts/convert.py has made. Choose recentred or compressed."
        )
    buffers = [name for name, _ in model.named_buffers() if name.endswith("running_mean")]
    if config.trainer.average and buffers:
        raise UserError(
            "trainer.average would average BatchNorm's running statistics, which are not those of "
            "the averaged weights: leave it at 0."
        )
