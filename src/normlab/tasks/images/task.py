"""Classification of images as a task: what the trainer asks for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.devices import move
from normlab.files import write_text
from normlab.models.network import Network
from normlab.tasks.batching import shuffled_batches
from normlab.tasks.images.sources import Pictures
from normlab.tasks.images.whitening import whitened
from normlab.tasks.task import Metric, Sums, Task, mean_losses
from normlab.types import Count, Epsilon


@dataclass(frozen=True)
class Batch:
    """Some images with their classes."""

    images: Tensor  # (batch, channels, height, width), whitened, fp32
    labels: Tensor  # (batch,) int64
    items: int  # images of all processes' parts

    def to(self, device: torch.device) -> "Batch":
        """Returns this batch on `device`."""
        return Batch(move(self.images, device), move(self.labels, device), self.items)


class ImageObjective(nn.Module):
    """Cross entropy of the classes, and how many of 100 images are put in a wrong one."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Sums:
        """Returns two sums over the batch's images: `loss`, in nats, and `error`, in percent."""
        logits = self.model(batch.images).float()  # (batch, classes)
        loss = F.cross_entropy(logits, batch.labels, reduction="sum")
        wrong = 100.0 * (logits.argmax(1) != batch.labels).sum()
        count = len(batch.labels)
        return {"loss": (loss, count), "error": (wrong, count)}


class Classification(Task):
    """Learns the classes of ZCA-whitened images; chosen by the dev error, in percent.

    batch_size: images in a batch; zca_eps, cache_dir: see whitening.py.
    """

    item = "images"
    metric = Metric("dev/error", higher_is_better=False, worst=100.0)
    placeholders = MappingProxyType({"channels": 3, "classes": 10})

    def __init__(
        self,
        corpus: Pictures,
        *,
        seed: int,
        batch_size: Count,
        cache_dir: str,
        zca_eps: Epsilon,
    ):
        self.pictures, self.seed, self.batch_size = corpus, seed, batch_size
        self.images = whitened(corpus, zca_eps, cache_dir)

    @property
    def model_arguments(self) -> dict[str, Any]:
        """Returns the numbers of channels and classes."""
        channels = self.images["train"].shape[1]
        return {"channels": channels, "classes": len(self.pictures.classes)}

    def objective(self, model: Network) -> ImageObjective:
        """Returns the cross entropy of `model`, which maps images to logits."""
        return ImageObjective(model)

    def batches(
        self, epoch: int, *, rank: int = 0, world_size: int = 1
    ) -> Sequence[Callable[[], Batch]]:
        """Returns the epoch's batches of images in a new order."""
        labels = self.pictures.train.labels
        chosen = shuffled_batches(
            len(labels), self.batch_size, seed=self.seed, epoch=epoch, world_size=world_size
        )
        images = self.images["train"]
        return [partial(collate, images, labels, batch, rank, world_size) for batch in chosen]

    def evaluate(self, objective: ImageObjective, device: torch.device) -> dict[str, float]:
        """Returns dev loss, in nats per image, and dev error, in percent."""
        batches = self._in_order("dev", self.pictures.dev.labels)
        losses = mean_losses(objective, batches, device)
        return {f"dev/{name}": value for name, value in losses.items()}

    @property
    def test_sets(self) -> list[str]:
        """Returns the name of the one test set."""
        return ["test"]

    def test(
        self, objective: ImageObjective, device: torch.device, run_dir: Path
    ) -> dict[str, dict[str, Any]]:
        """Returns error and loss of the test set; stores found and true classes by name."""
        labels = self.pictures.test.labels
        batches = self._in_order("test", labels)
        found = predict(objective.model, batches, device)
        for kind, numbers in (("hypotheses", found), ("references", labels)):
            names = [self.pictures.classes[number] for number in numbers]
            write_text(run_dir / kind / "test.txt", "".join(name + "\n" for name in names))
        error = 100 * float(np.mean(found != labels))
        loss = mean_losses(objective, batches, device)["loss"]
        return {"test": {"error": error, "loss": loss, "images": len(labels)}}

    def contents(self) -> dict[str, Any]:
        """Returns the classes, and each set's number of images and hash."""
        sets = {name: getattr(self.pictures, name) for name in ("train", "dev", "test")}
        return {
            "classes": list(self.pictures.classes),
            **{name: {"images": len(s.labels), "sha256": s.sha256} for name, s in sets.items()},
        }

    def _in_order(self, name: str, labels: np.ndarray) -> list[Callable[[], Batch]]:
        size = 5 * self.batch_size  # evaluation keeps nothing for a backward pass
        parts = np.split(np.arange(len(labels)), range(size, len(labels), size))
        return [partial(collate, self.images[name], labels, part) for part in parts]


@torch.inference_mode()
def predict(
    model: nn.Module, batches: Sequence[Callable[[], Batch]], device: torch.device
) -> np.ndarray:
    """Returns the most probable class (images,) of every image of `batches`."""
    model.eval()
    found = [model(make().to(device).images).argmax(1).cpu().numpy() for make in batches]
    return np.concatenate(found)


def collate(
    images: np.ndarray, labels: np.ndarray, indices: np.ndarray, rank: int = 0, world_size: int = 1
) -> Batch:
    """Returns the images `indices`, of which each process has every `world_size`-th."""
    own = indices[rank::world_size]
    chosen = torch.from_numpy(images[own].astype(np.float32))
    return Batch(chosen, torch.from_numpy(labels[own]), items=len(indices))
