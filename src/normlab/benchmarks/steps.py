"""How long training steps take, every norm and implementation side by side: the wall-clock table.

Every variant trains its own model, from the same initialisation, on the same batches, with the
trainer's own step (training.step.update).
"""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from normlab import norms
from normlab.benchmarks.norms import KINDS
from normlab.benchmarks.timing import interleave
from normlab.devices import autocast
from normlab.errors import UserError
from normlab.models.gru import GRU
from normlab.paths import experiments
from normlab.reports.benchmarks import CONTROL
from normlab.reports.experiments import read_experiment
from normlab.runs import components
from normlab.runs.assemble import check_parts
from normlab.runs.config import Config, parse_config
from normlab.runs.sweeps import compose_job
from normlab.tasks.task import Batch, Sums, Task
from normlab.training.step import compile_step, update

# What ratios are to: torch's LayerNorm, or the formula where torch's does not fit the axes.
BASELINES = ("layernorm native", "layernorm composed")
PAPER = {  # model -> where the paper's seconds are: its table, ours, the column
    "RNNSearch": ("Table 3", "table3", "seconds_per_1k_steps"),
    "Transformer": ("Table 4", "table4", "seconds_per_1k_steps"),
    "AttentiveReader": ("Table 6", "table6", "seconds_per_100_steps"),
    "OrderEmbedding": ("Table 8", "table7", "seconds_per_100_steps"),
    "ConvPool": ("Table 10", "table10", "seconds_per_epoch"),
}


class Variant(NamedTuple):
    """A model to time; `one_kernel`: a GRU takes its step as one kernel."""

    overrides: list[str]
    one_kernel: bool = False


def variants(compiled: bool, recurrent: bool) -> dict[str, Variant]:
    """Returns the variants: none, then each norm with each implementation."""
    found = {"none": Variant(["norm=none"])}
    if recurrent:
        found["none fused step"] = Variant(["norm=none"], one_kernel=True)
    for name, kind in KINDS.items():
        for impl in kind.implementations:
            found[f"{name} {impl}"] = Variant([f"norm={name}", f"norm.impl={impl}"])
        if recurrent:
            fused = found[f"{name} fused"].overrides
            found[f"{name} fused step"] = Variant(fused, one_kernel=True)
    if compiled:
        for name in ("none", *KINDS):
            how = ["norm.impl=composed"] * (name != "none")
            overrides = [f"norm={name}", *how, "trainer.compile=true"]
            found[f"{name} compiled"] = Variant(overrides)
    return found


def every_norm() -> dict[str, Variant]:
    """Returns every norm of conf/norm as norm.impl=auto computes it, and torch's LayerNorm."""
    found = {BASELINES[0]: Variant(["norm=layernorm", "norm.impl=native"])}
    for name, norm in components.stock_norms().items():
        decoder = ["norm@model.decoder_norm=layernorm"] * norm(8).over_positions
        found[name] = Variant([f"norm={name}", *decoder])
    return found


class Steps:
    """A model and its optimiser; each call trains one step on the next of `batches`."""

    def __init__(
        self, model: nn.Module, task: Task, config: Config, batches: Sequence[Batch], device: Any
    ):
        self.objective = task.objective(model.train())
        if config.trainer.compile:
            compile_step(self.objective)
        self.optimizer = components.build_optimizer(model, config)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.batches = itertools.cycle(batches)
        self.clip = config.trainer.clip
        self.precision = autocast(config.trainer.precision, device)
        self.sums: Sums = {}  # of the last step

    def loss(self) -> float:
        """Returns the loss of the last step, per item: it shows whether a network has exploded."""
        value, count = self.sums["loss"]
        return float(value) / float(count)

    def __call__(self) -> None:
        self.sums, _ = update(
            self.objective,
            [next(self.batches)],
            self.parameters,
            self.optimizer,
            1e-4,
            clip=self.clip,
            precision=self.precision,
        )


@dataclass
class Workload:
    """Training steps to time, by variant, and what they work on."""

    steps: dict[str, Steps]
    batches: Sequence[Batch]
    baseline: str | None  # the variant that ratios are to, None where none of them is
    item: str
    model: str  # its class
    precision: str


def workload(
    conf: Path,
    overrides: Sequence[str],
    chosen: Mapping[str, Variant] | bool,
    count: int,
    device: torch.device,
) -> Workload:
    """Returns a training step for each variant that is valid here, on `count` batches.

    `conf` and `overrides` are the config's; `chosen` are the variants, or whether compiled ones are
    among all there are.
    """
    config = parse_config(compose_job(conf, [*overrides, "logger=none"]))
    check_parts(config)
    task = components.build_task(config)
    batches = [make().to(device) for make in task.batches(epoch=0)[:count]]
    model = components.build_model(config, task.model_arguments)
    if isinstance(chosen, bool):
        one_kernel = device.type == "cpu" and any(isinstance(m, GRU) for m in model.modules())
        chosen = variants(chosen, recurrent=one_kernel)

    def build(variant: Variant) -> Steps | None:
        changed = [*overrides, "logger=none", *variant.overrides]
        try:
            return build_steps(conf, changed, variant, task, batches, device)
        except UserError:  # no fused kernels here, or none for the axes of this model's norms
            return None

    baseline = next((name for name in BASELINES if name in chosen and build(chosen[name])), None)
    wanted = {**chosen, **({CONTROL: chosen[baseline]} if baseline else {})}
    # Where a model lies in memory depends on those built before it: another order in each process.
    order = random.sample(list(wanted), len(wanted))
    built = {name: build(wanted[name]) for name in order}
    steps = {name: made for name in wanted if (made := built[name]) is not None}
    return Workload(
        steps, batches, baseline, task.item, type(model).__name__, config.trainer.precision
    )


def build_steps(
    conf: Path,
    overrides: Sequence[str],
    variant: Variant,
    task: Task,
    batches: Sequence[Batch],
    device: torch.device,
) -> Steps:
    """Returns the steps of a freshly initialised model on `batches`.

    Raises UserError when the variant's norms cannot run on `device`.
    """
    config = parse_config(compose_job(conf, [*overrides]))
    torch.manual_seed(config.seed)
    model = components.build_model(config, task.model_arguments)
    components.initialize_model(model, config)
    for module in model.modules():
        if isinstance(module, GRU):
            module.one_kernel = variant.one_kernel
    norms.implementation(model.to(device), device)  # raises for what cannot run here
    return Steps(model, task, config, batches, device)


def described(work: Workload, overrides: Sequence[str]) -> tuple[str, str]:
    """Returns the model of `overrides`, and a title of all that they say but paths and task."""
    given = {key: value for key, _, value in (each.partition("=") for each in overrides)}
    model = given.pop("model")
    for untold in ("trainer.precision", "task", "logger", "data.dir", "data.cache_dir"):
        given.pop(untold, None)
    return model, ", ".join([model, work.precision, *(f"{k}={v}" for k, v in given.items())])


def benchmark(
    work: Workload, overrides: Sequence[str], blocks: int, device: torch.device
) -> dict[str, Any]:
    """Returns the record of the steps of `work`, built with `overrides`, beside the paper's."""
    model, title = described(work, overrides)
    record = step_times(work, title, blocks, device)
    table, experiment, column = PAPER.get(work.model, ("", "", ""))
    if table:
        rows = read_experiment(experiment, experiments()).paper
        record["paper"] = {row["norm"]: float(row[column]) for row in rows}
        record["paper_unit"] = column.replace("seconds_per", "s per").replace("_", " ")
    compiled = any(name.endswith("compiled") for name in work.steps)
    notes = [
        f"{len(work.batches)} batches, the first of an epoch; seconds are the mean over them of",
        "medians over blocks. LayerNorm has gain and bias, RMSNorm a gain. Nearly each",
        "step follows one of another model, so that little of it is in the caches.",
        "A step is the trainer's: forward, backward, clipping, optimiser; the share in norms is",
        "1 - none : variant, of one kind, where the network without a norm has not exploded.",
        "`fused` is our kernel for the norm, `fused step` also holds the rest of a GRU step.",
    ]
    if table:
        notes[-1] += f" The paper's seconds are those of its {table}."
    return {
        "name": f"steps_{model}_{work.precision}" + "_compiled" * compiled,
        "title": f"Training steps of {model}",
        "records": [record],
        "notes": notes,
    }


def step_times(work: Workload, title: str, blocks: int, device: torch.device) -> dict[str, Any]:
    """Returns the record of the seconds per step of every variant, and its items."""
    batches = len(work.batches)
    items = sum(batch.items for batch in work.batches) / batches
    times = interleave(dict(work.steps), blocks, device, warmup=batches)
    return {
        "title": title,
        "baseline": work.baseline,
        "items": items,
        "item": work.item,
        "batches": batches,  # block number i is a step on batch number i modulo this
        "times": times,
        # All have trained equally many steps: those of one norm should agree but for dropout.
        "loss": {name: each.loss() for name, each in work.steps.items()},
    }
