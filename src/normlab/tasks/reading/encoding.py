"""Questions as numbers, with other numbers for an entity each time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from normlab.devices import move
from normlab.tasks.reading.sources import ENTITY, Question
from normlab.tasks.words import Vocabulary, padded

NOT_THERE = -100  # the label of a question whose answer is not in its document


class Encoded(NamedTuple):
    """A question as numbers: words as in a vocabulary, -1 - e for entity e of this question."""

    document: np.ndarray  # (words,) int64
    query: np.ndarray  # (words,) int64
    answer: int  # its e, or NOT_THERE
    entities: int


@dataclass(frozen=True)
class Batch:
    """Some questions as tensors, int64, padded with 0 after their lengths."""

    document: Tensor  # (batch, document length)
    document_lengths: Tensor  # (batch,)
    query: Tensor  # (batch, query length)
    query_lengths: Tensor  # (batch,)
    answers: Tensor  # (batch,) markers from 0, or NOT_THERE
    items: int  # questions of all processes' parts

    def to(self, device: torch.device) -> "Batch":
        """Returns this batch on `device`."""
        return replace(
            self,
            document=move(self.document, device),
            document_lengths=move(self.document_lengths, device),
            query=move(self.query, device),
            query_lengths=move(self.query_lengths, device),
            answers=move(self.answers, device),
        )


def vocabulary_of(questions: Iterable[Question], size: int) -> Vocabulary:
    """Returns numbers for the `size` most frequent words of `questions` but their entities."""
    texts = (part for question in questions for part in (question.document, question.query))
    return Vocabulary.of(([w for w in text if not ENTITY.fullmatch(w)] for text in texts), size)


def encode(question: Question, vocabulary: Vocabulary, max_length: int) -> Encoded:
    """Returns `question` as numbers; its document and query are cut to `max_length` words."""
    document, query = question.document[:max_length], question.query[:max_length]
    markers = [word for word in [*document, *query] if ENTITY.fullmatch(word)]
    number = {marker: e for e, marker in enumerate(dict.fromkeys(markers))}

    def numbers(words: list[str]) -> np.ndarray:
        ids = vocabulary.encode(words)
        local = [(i, number[word]) for i, word in enumerate(words) if word in number]
        for i, e in local:
            ids[i] = -1 - e
        return ids

    there = question.answer in document
    answer = number[question.answer] if there else NOT_THERE
    return Encoded(numbers(document), numbers(query), answer, len(number))


def collate(
    questions: Sequence[Encoded],
    indices: np.ndarray,
    vocab: int,
    markers: int,
    seed: list[int],
    rank: int = 0,
    world_size: int = 1,
) -> Batch:
    """Returns the questions `indices` with entities as random ones of `markers` markers.

    Markers follow the `vocab` words. Which one stands for an entity is drawn for each question, a
    function of `seed` and the question's index: what a marker meant elsewhere tells nothing. Of
    several processes each has every `world_size`-th question.
    """
    documents, queries, answers = [], [], []
    for i in indices[rank::world_size]:
        question = questions[i]
        order = np.random.default_rng([*seed, int(i)]).permutation(markers)

        def written(ids: np.ndarray, order: np.ndarray = order) -> np.ndarray:
            entity = ids < 0
            return np.where(entity, vocab + order[np.where(entity, -1 - ids, 0)], ids)

        documents.append(written(question.document))
        queries.append(written(question.query))
        there = question.answer != NOT_THERE
        answers.append(int(order[question.answer]) if there else NOT_THERE)
    words, lengths = padded(documents)
    asked, asked_lengths = padded(queries)
    as_tensor = torch.from_numpy
    return Batch(
        as_tensor(words),
        as_tensor(lengths),
        as_tensor(asked),
        as_tensor(asked_lengths),
        torch.tensor(answers),
        items=len(indices),
    )
