"""How long training steps take, every norm and implementation side by side: the wall-clock table.

Every variant trains its own model, from the same initialisation, on the same batches, with the
trainer's own step (training.loop.update).
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from normlab.benchmarks.norms import KINDS
from normlab.benchmarks.timing import CONTROL, interleave
from normlab.data.batching import Batch
from normlab.training.loop import Objective, update

BASELINE = "layernorm native"


class Variant(NamedTuple):
    """A model to time; `one_kernel`: RNNSearch takes its GRU step as one kernel."""

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
    found[CONTROL] = found[BASELINE]
    if compiled:
        for name in ("none", *KINDS):
            how = ["norm.impl=composed"] * (name != "none")
            overrides = [f"norm={name}", *how, "trainer.compile=true"]
            found[f"{name} compiled"] = Variant(overrides)
    return found


def choose_step(model: nn.Module, one_kernel: bool) -> None:
    """Makes every GRU of `model` take its fused step, or the composed one."""
    for module in model.modules():
        if hasattr(module, "one_kernel"):
            module.one_kernel = one_kernel  # type: ignore[assignment]


class Steps:
    """A model and its optimiser; each call trains one step on the next of `batches`."""

    def __init__(self, model, optimizer, settings, batches: Sequence[Batch], device: torch.device):
        self.objective = Objective(model.train(), settings, device)
        self.optimizer, self.settings = optimizer, settings
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.batches = itertools.cycle(batches)

    def __call__(self) -> None:
        update(
            self.objective, [next(self.batches)], self.parameters, self.optimizer, 1e-4,
            self.settings,
        )  # fmt: skip


def step_times(
    title: str, steps: dict[str, Steps], batches: Sequence[Batch], blocks: int, device: torch.device
) -> dict[str, Any]:
    """Returns the record of the seconds a step of every variant, and its target tokens."""
    tokens = sum(batch.n_tokens for batch in batches) / len(batches)
    times = interleave(dict(steps), blocks, device, warmup=len(batches))
    return {"title": title, "baseline": BASELINE, "tokens": tokens, "times": times}
