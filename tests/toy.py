"""A task as one would write it: it fits noisy points of a sine, and normlab knows none of it."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from normlab.models.network import Network, Role
from normlab.tasks.task import Metric, Task, mean_losses


class Points(NamedTuple):
    x: Tensor  # (points, 1)
    y: Tensor  # (points, 1)
    items: int  # of all processes together

    def to(self, device):
        return self._replace(x=self.x.to(device), y=self.y.to(device))


def sine(*, count: int, noise: float) -> Points:
    x = torch.linspace(0, 4, count)[:, None]
    return Points(x, x.sin() + noise * x.mul(1000).cos(), count)


class Net(nn.Sequential, Network):
    def __init__(self, norm, width: int, dropout: float):
        layers = nn.Linear(1, width), norm(width), nn.Tanh(), nn.Dropout(dropout)
        super().__init__(*layers, nn.Linear(width, 1))

    def roles(self):
        return {name: Role("layers") for name, p in self.named_parameters() if p.dim() == 2}


class Objective(nn.Sequential):  # of the model alone
    def forward(self, batch):
        off = self[0](batch.x) - batch.y
        return {"loss": (off.square().sum(), len(off)), "off": (off.abs().sum(), len(off))}


class Regression(Task):
    item, test_sets = "points", ("line",)
    metric = Metric("dev/error", higher_is_better=False, worst=1.0)

    def __init__(self, corpus: Points, *, seed: int, batch_size: int):
        self.points, self.seed, self.batch_size = corpus, seed, batch_size

    def objective(self, model):
        return Objective(model)

    def batches(self, epoch, *, rank=0, world_size=1):
        random = torch.Generator().manual_seed(1000 * self.seed + epoch)
        order = torch.randperm(self.points.items, generator=random).split(self.batch_size)
        return [partial(self.pick, part, rank, world_size) for part in order]

    def pick(self, part, rank=0, world_size=1):
        own = part[rank::world_size]
        return Points(self.points.x[own], self.points.y[own], len(part))

    def evaluate(self, objective, device):
        return {"dev/error": mean_losses(objective, [lambda: self.points], device)["loss"]}

    def test(self, objective, device, run_dir):
        return {"line": {"error": self.evaluate(objective, device)["dev/error"]}}

    def contents(self):
        return {"points": self.points.y.sum().item()}
