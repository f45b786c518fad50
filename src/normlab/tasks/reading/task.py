"""Reading as a task: what the trainer asks for."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from normlab.files import hash_json, write_text
from normlab.models.reader import AttentiveReader
from normlab.tasks.batching import shuffled_batches
from normlab.tasks.reading.encoding import NOT_THERE, Batch, Encoded, collate, encode, vocabulary_of
from normlab.tasks.reading.sources import Questions, most_frequent_error
from normlab.tasks.task import Metric, Sums, Task, mean_losses
from normlab.types import Count

EVALUATION = [2**31]  # the seed of the markers of dev and test questions


class ReaderObjective(nn.Module):
    """Cross entropy of the answers, and how many of 100 are wrong."""

    def __init__(self, model: AttentiveReader):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Sums:
        """Returns two sums over questions: `loss`, in nats, and `error`, in percent.

        A question whose answer is not in its document is wrong and has a loss of 0.
        """
        logits = self.model(
            batch.document, batch.document_lengths, batch.query, batch.query_lengths
        ).float()  # (batch, entities)
        loss = F.cross_entropy(logits, batch.answers, reduction="sum", ignore_index=NOT_THERE)
        wrong = 100.0 * (logits.argmax(1) != batch.answers).sum()
        count = len(batch.answers)
        return {"loss": (loss, count), "error": (wrong, count)}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles the time steps of the encoders."""
        self.model.compile_steps()


class Reading(Task):
    """Learns to fill a query's gap with an entity of the document; chosen by the dev error.

    batch_size: questions in a batch; vocab_size: words, rarer ones are one; max_length: words after
    which a document or a query is cut. Entities have another marker in each epoch, of as many as
    the question with most entities needs.
    """

    item = "questions"
    metric = Metric("dev/error", higher_is_better=False, worst=100.0)
    placeholders = MappingProxyType({"vocab": 8, "entities": 4})

    def __init__(
        self,
        corpus: Questions,
        *,
        seed: int,
        batch_size: Count,
        vocab_size: Count,
        max_length: Count,
    ):
        self.corpus, self.seed, self.batch_size = corpus, seed, batch_size
        self.vocabulary = vocabulary_of(corpus.train, vocab_size)
        self.sets = {
            name: [encode(question, self.vocabulary, max_length) for question in questions]
            for name, questions in self._parts().items()
        }
        self.markers = max(q.entities for part in self.sets.values() for q in part)

    @property
    def model_arguments(self) -> dict[str, Any]:
        """Returns the number of words and markers together, and of markers alone."""
        return {"vocab": len(self.vocabulary) + self.markers, "entities": self.markers}

    def objective(self, model: AttentiveReader) -> ReaderObjective:
        """Returns the cross entropy of `model`."""
        return ReaderObjective(model)

    def batches(
        self, epoch: int, *, rank: int = 0, world_size: int = 1
    ) -> Sequence[Callable[[], Batch]]:
        """Returns the epoch's batches of questions in a new order, with new markers."""
        train = self.sets["train"]
        chosen = shuffled_batches(
            len(train),
            self.batch_size,
            seed=self.seed,
            epoch=epoch,
            lengths=np.array([len(question.document) for question in train]),
            world_size=world_size,
        )
        drawn = [self.seed, epoch]  # where markers are drawn
        return [partial(self._collate(train, drawn), batch, rank, world_size) for batch in chosen]

    def evaluate(self, objective: ReaderObjective, device: torch.device) -> dict[str, float]:
        """Returns dev loss, in nats per question, and dev error, in percent."""
        losses = mean_losses(objective, self._in_order("dev"), device)
        return {f"dev/{name}": value for name, value in losses.items()}

    @property
    def test_sets(self) -> list[str]:
        """Returns the name of the one test set."""
        return ["test"]

    def test(
        self, objective: ReaderObjective, device: torch.device, run_dir: Path
    ) -> dict[str, dict[str, Any]]:
        """Returns error and loss of the test set beside the error of the most frequent entity.

        Stores found and true markers, numbers from 0; a missing answer is "-".
        """
        found, true = self._answers(objective.model, device)
        for kind, numbers in (("hypotheses", found), ("references", true)):
            lines = ["-" if number == NOT_THERE else str(number) for number in numbers]
            write_text(run_dir / kind / "test.txt", "".join(line + "\n" for line in lines))
        return {
            "test": {
                "error": 100 * float(np.mean(found != true)),
                "loss": mean_losses(objective, self._in_order("test"), device)["loss"],
                "most_frequent_error": most_frequent_error(self.corpus.test),
                "questions": len(true),
            }
        }

    def contents(self) -> dict[str, Any]:
        """Returns each set's number of questions and hash, and the vocabulary's hash."""
        return {
            **{
                name: {"questions": len(part), "sha256": hash_json(part)}
                for name, part in self._parts().items()
            },
            "words": hash_json(self.vocabulary.words),
        }

    @torch.inference_mode()
    def _answers(
        self, model: AttentiveReader, device: torch.device
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the markers that `model` names for the test set, and the true ones."""
        model.eval()
        found, true = [], []
        for make in self._in_order("test"):
            b = make().to(device)
            logits = model(b.document, b.document_lengths, b.query, b.query_lengths)
            found.append(logits.argmax(1).cpu().numpy())
            true.append(b.answers.cpu().numpy())
        return np.concatenate(found), np.concatenate(true)

    def _parts(self) -> dict[str, list]:
        return {"train": self.corpus.train, "dev": self.corpus.dev, "test": self.corpus.test}

    def _collate(self, questions: list[Encoded], seed: list[int]) -> Callable[..., Batch]:
        def make(indices: np.ndarray, rank: int = 0, world_size: int = 1) -> Batch:
            sizes = len(self.vocabulary), self.markers
            return collate(questions, indices, *sizes, seed, rank, world_size)

        return make

    def _in_order(self, name: str) -> list[Callable[[], Batch]]:
        questions = self.sets[name]
        # Neighbours are of a length, so that little is padding; metrics do not ask for an order.
        order = np.argsort([len(question.document) for question in questions], kind="stable")
        size = 4 * self.batch_size  # evaluation keeps nothing for a backward pass
        parts = np.split(order, range(size, len(order), size))
        return [partial(self._collate(questions, EVALUATION), part) for part in parts]
