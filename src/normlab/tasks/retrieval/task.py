"""Retrieval as a task: what the trainer asks for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from normlab.devices import move
from normlab.files import hash_json, write_text
from normlab.models.order import OrderEmbedding, Sentences
from normlab.tasks.batching import shuffled_batches
from normlab.tasks.retrieval.ranking import contrastive_losses, mean_recall, recall, violation
from normlab.tasks.retrieval.sources import Described, Retrieval
from normlab.tasks.task import Metric, Sums, Task
from normlab.tasks.words import Vocabulary, padded, split
from normlab.types import Count, Positive


@dataclass(frozen=True)
class Batch:
    """Captions and what they describe, row by row.

    Every process has all of them, for each pair is compared with all others of its batch; its own
    part are the losses of every `world_size`-th pair.
    """

    captions: Sentences
    targets: Sentences | Tensor  # or vectors (batch, features)
    numbers: Tensor  # (batch,) of the targets: equal ones are no contrast
    own: slice  # the pairs whose losses this process has

    @property
    def items(self) -> int:
        """Returns the number of captions, of all processes' parts."""
        return len(self.numbers)

    def to(self, device: torch.device) -> "Batch":
        """Returns this batch on `device`."""
        targets = self.targets
        there = targets.to(device) if isinstance(targets, Sentences) else move(targets, device)
        return Batch(self.captions.to(device), there, move(self.numbers, device), self.own)


class OrderObjective(nn.Module):
    """The contrastive loss of a batch's order violations."""

    def __init__(self, model: OrderEmbedding, margin: float):
        super().__init__()
        self.model, self.margin = model, margin

    def forward(self, batch: Batch) -> Sums:
        """Returns two sums over own pairs: `loss`, and the `violation` of each."""
        captions = self.model.embed_captions(batch.captions)
        penalties = violation(captions, self.model.embed_targets(batch.targets))
        same = batch.numbers[:, None] == batch.numbers
        losses = contrastive_losses(penalties, same, self.margin)[batch.own]
        violations = penalties.diagonal()[batch.own]
        return {
            "loss": (losses.sum(), len(losses)),
            "violation": (violations.sum(), len(losses)),
        }

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles the time steps of the encoders."""
        self.model.compile_steps()


@dataclass(frozen=True)
class Encoded:
    """A set of captions with their targets, as numbers."""

    captions: list[np.ndarray]
    targets: list[np.ndarray] | np.ndarray  # sentences, or vectors (targets, features)
    captions_per_target: int

    def captions_at(self, rows: np.ndarray) -> Sentences:
        """Returns the captions `rows`."""
        return _sentences([self.captions[i] for i in rows])

    def targets_at(self, rows: np.ndarray) -> Sentences | Tensor:
        """Returns the targets `rows`."""
        if isinstance(self.targets, np.ndarray):
            return torch.from_numpy(self.targets[rows].astype(np.float32))
        return _sentences([self.targets[i] for i in rows])


class OrderRetrieval(Task):
    """Learns embeddings by which captions and targets find each other; chosen by mean recall.

    batch_size: captions in a batch; vocab_size: words on each side, rarer ones are one; max_length:
    words after which a sentence is cut; margin: by how much a true pair should be better than the
    others of its batch; fold: targets among which the right one is looked for.
    """

    item = "captions"
    metric = Metric("dev/recall", higher_is_better=True, worst=0.0)
    placeholders = MappingProxyType({"vocab": 8, "target_vocab": 8, "features": None})

    def __init__(
        self,
        corpus: Retrieval,
        *,
        seed: int,
        batch_size: Count,
        vocab_size: Count,
        max_length: Count,
        margin: Positive,
        fold: Count,
    ):
        self.corpus, self.seed, self.batch_size = corpus, seed, batch_size
        self.margin, self.fold, self.max_length = margin, fold, max_length
        train = corpus.train
        self.vocabulary = Vocabulary.of(map(split, train.captions), vocab_size)
        self.target_vocabulary: Vocabulary | None = None
        if not isinstance(train.targets, np.ndarray):
            self.target_vocabulary = Vocabulary.of(map(split, train.targets), vocab_size)
        self.train, self.dev = self._encode(train), self._encode(corpus.dev)
        self.tests = {name: self._encode(described) for name, described in corpus.test.items()}

    @property
    def model_arguments(self) -> dict[str, Any]:
        """Returns the sizes of the vocabularies, or of the targets' features."""
        targets, words = self.train.targets, self.target_vocabulary
        return {
            "vocab": len(self.vocabulary),
            "target_vocab": None if words is None else len(words),
            "features": targets.shape[1] if isinstance(targets, np.ndarray) else None,
        }

    def objective(self, model: OrderEmbedding) -> OrderObjective:
        """Returns the contrastive loss of `model`."""
        return OrderObjective(model, self.margin)

    def batches(
        self, epoch: int, *, rank: int = 0, world_size: int = 1
    ) -> Sequence[Callable[[], Batch]]:
        """Returns the epoch's batches of captions in a new order, each with its target."""
        captions, size = len(self.train.captions), self.batch_size
        chosen = shuffled_batches(
            captions, size, seed=self.seed, epoch=epoch, world_size=world_size
        )
        own = slice(rank, None, world_size)
        return [partial(collate, self.train, rows, own) for rows in chosen]

    def evaluate(self, objective: OrderObjective, device: torch.device) -> dict[str, float]:
        """Returns recall and ranks in both directions on the dev set."""
        metrics, _ = self._recall(objective.model, self.dev, device)
        return {f"dev/{name}": value for name, value in metrics.items()}

    @property
    def test_sets(self) -> list[str]:
        """Returns the names of the test sets."""
        return list(self.tests)

    def test(
        self, objective: OrderObjective, device: torch.device, run_dir: Path
    ) -> dict[str, dict[str, Any]]:
        """Returns recall and ranks on each test set; stores found and true targets by number."""
        results: dict[str, dict[str, Any]] = {}
        for name, data in self.tests.items():
            metrics, found = self._recall(objective.model, data, device)
            true = np.arange(len(found)) // data.captions_per_target
            for kind, numbers in (("hypotheses", found), ("references", true)):
                lines = "".join(f"{number}\n" for number in numbers)
                write_text(run_dir / kind / f"{name}.txt", lines)
            results[name] = {**metrics, "captions": len(found)}
        return results

    def contents(self) -> dict[str, Any]:
        """Returns each set's numbers and hash, and the vocabularies' hash."""
        test = {f"test/{name}": described for name, described in self.corpus.test.items()}
        sets = {"train": self.corpus.train, "dev": self.corpus.dev, **test}
        words = self.target_vocabulary
        return {
            **{
                name: {"captions": len(s.captions), "targets": len(s.targets), "sha256": s.sha256}
                for name, s in sets.items()
            },
            "words": hash_json([self.vocabulary.words, words.words if words else None]),
        }

    def _encode(self, described: Described) -> Encoded:
        def numbers(vocabulary: Vocabulary, sentences: list[str]) -> list[np.ndarray]:
            return [vocabulary.encode(split(s)[: self.max_length]) for s in sentences]

        targets: list[np.ndarray] | np.ndarray
        if isinstance(described.targets, np.ndarray):
            targets = described.targets
        else:
            assert self.target_vocabulary is not None  # the training set has sentences too
            targets = numbers(self.target_vocabulary, described.targets)
        captions = numbers(self.vocabulary, described.captions)
        return Encoded(captions, targets, described.captions_per_target)

    @torch.inference_mode()
    def _recall(
        self, model: OrderEmbedding, data: Encoded, device: torch.device
    ) -> tuple[dict[str, float], np.ndarray]:
        model.eval()

        def embedded(embed: Callable, at: Callable, count: int) -> Tensor:
            return torch.cat([embed(at(rows).to(device)) for rows in self._in_order(count)])

        captions = embedded(model.embed_captions, data.captions_at, len(data.captions))
        targets = embedded(model.embed_targets, data.targets_at, len(data.targets))
        metrics, found = recall(captions, targets, self.fold)
        return {"recall": mean_recall(metrics), **metrics}, found

    def _in_order(self, count: int) -> list[np.ndarray]:
        size = 4 * self.batch_size  # evaluation keeps nothing for a backward pass
        return np.split(np.arange(count), range(size, count, size))


def collate(data: Encoded, rows: np.ndarray, own: slice) -> Batch:
    """Returns the captions `rows` of `data` with their targets."""
    numbers = rows // data.captions_per_target
    captions, targets = data.captions_at(rows), data.targets_at(numbers)
    return Batch(captions, targets, torch.from_numpy(numbers), own)


def _sentences(sentences: list[np.ndarray]) -> Sentences:
    words, lengths = padded(sentences)
    return Sentences(torch.from_numpy(words), torch.from_numpy(lengths))
