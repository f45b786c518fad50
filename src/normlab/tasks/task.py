"""What the trainer asks of a task, and all that it knows of one."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from normlab import distributed

Sums = dict[str, tuple[Tensor, int]]  # name -> sum over a batch's items, and their number


class Batch(Protocol):
    """Some training examples as tensors."""

    @property
    def items(self) -> int:
        """What the loss is a mean over and speed counts: target tokens, images, ...

        Where several processes share a batch it counts the whole of it, in each of them.
        """

    def to(self, device: torch.device) -> Self:
        """Returns this batch on `device`."""


class Metric(NamedTuple):
    """The result by which checkpoints are chosen and runs compared."""

    key: str  # as `Task.evaluate` names it: "dev/bleu"
    higher_is_better: bool
    worst: float  # what a diverged run counts as

    def better(self, a: float, b: float) -> bool:
        """Returns whether `a` is better than `b`; any number is better than NaN."""
        if math.isnan(b):
            return not math.isnan(a)
        return a > b if self.higher_is_better else a < b


class Sample(NamedTuple):
    """One dev example as a person reads it."""

    given: str
    wanted: str
    made: str  # what the model made of it


class Task(ABC):
    """Data, objective and evaluation of what is learned.

    The constructor takes the data (`corpus`: what the `data` group's target makes), `seed`, and as
    keyword arguments the fields of the config groups `task` and `decoding` and those of `data` that
    its target does not take.
    """

    item: ClassVar[str]  # the plural that speeds name: "target tokens"
    metric: ClassVar[Metric]
    placeholders: ClassVar[Mapping[str, Any]] = {}  # model_arguments before any data is read

    @property
    def model_arguments(self) -> dict[str, Any]:
        """Returns the model's arguments that follow from the data, as the vocabulary's size."""
        return {}

    @abstractmethod
    def objective(self, model: Any) -> nn.Module:
        """Returns the module whose forward maps a batch to `Sums`, around a model of the task.

        One of them is "loss": the sum whose mean over `batch.items` is minimised. Training and
        evaluation both go through it. `objective.compile()` compiles it in place.
        """

    @abstractmethod
    def batches(
        self, epoch: int, *, rank: int = 0, world_size: int = 1
    ) -> Sequence[Callable[[], Batch]]:
        """Returns the training batches of `epoch`, as functions that make them.

        Each is the part that process `rank` has of a batch that does not depend on `world_size`;
        one that has nothing left of a batch gets one whose sums are 0. The same arguments give the
        same batches in the same order.
        """

    @abstractmethod
    def evaluate(self, objective: Any, device: torch.device) -> dict[str, float]:
        """Returns the dev metrics, `metric.key` among them; changes no weight, draws no number."""

    @property
    @abstractmethod
    def test_sets(self) -> Sequence[str]:
        """Returns the names of the test sets, the most important one first."""

    @abstractmethod
    def test(
        self, objective: Any, device: torch.device, run_dir: Path
    ) -> dict[str, dict[str, Any]]:
        """Returns the results on each of `test_sets` and stores its outputs in `run_dir`.

        A result's entry under the last part of `metric.key` ("bleu") is the primary one.
        """

    @abstractmethod
    def contents(self) -> dict[str, Any]:
        """Returns what the data hold: hashes and sizes, equal only when the data are.

        A run is resumed or loaded with these data only.
        """

    def guessing(self) -> tuple[str, float] | None:
        """Returns a dev metric (lower is better) and what guessing without a model reaches in it.

        A run that ends near it has learned little. None: the task knows of no such thing.
        """
        return None

    def samples(self, count: int) -> Sequence[Sample]:
        """Returns what the last `evaluate` made of the first `count` dev examples.

        They are to look at while a run trains; empty where a task has nothing that a line can show.
        """
        return ()

    def save(self, run_dir: Path) -> None:  # noqa: B027 - most tasks need nothing more
        """Stores in `run_dir` what later use of the model needs, as the subwords."""

    @property
    def result(self) -> str:
        """Returns the name of the primary result in a test set's entry: "bleu" for "dev/bleu"."""
        return self.metric.key.rpartition("/")[2]


@torch.inference_mode()
def mean_losses(
    objective: nn.Module, batches: Sequence[Callable[[], Batch]], device: torch.device
) -> dict[str, float]:
    """Returns each sum of the objective over `batches` by its count, without dropout.

    Several processes share the batches and have the same result.
    """
    objective.eval()
    found: dict[str, list[float]] = {}  # name -> [total, count]
    for make in distributed.share(batches):
        for name, (total, count) in objective(make().to(device)).items():
            pair = found.setdefault(name, [0.0, 0])
            pair[0] += total.item()
            pair[1] += count
    everybody = distributed.gather(found)
    names = dict.fromkeys(name for one in everybody for name in one)
    means = {}
    for name in names:
        totals, counts = zip(*(one[name] for one in everybody if name in one), strict=True)
        means[name] = sum(totals) / sum(counts)
    return means
