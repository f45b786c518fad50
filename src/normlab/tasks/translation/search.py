"""Greedy and beam search over `step(tokens, state) -> (logits, state)`; knows torch, no model.

What a state is says models.seq2seq.State: a memory with a row a sentence, a past with a row a
hypothesis. Everything is an array over the sentences of the batch, so that a device is not waited
for at each token; how often finished sentences are looked for and leave it `_drops_finished` says.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**28}  # log-probabilities alive at a time, as in loss.py
Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
Length = TypeVar("Length", float, Tensor)


def reorder(nested: Any, index: Tensor) -> Any:
    """Returns `nested` with every tensor's rows taken by `index` (rows may repeat or go)."""
    return tree_map(lambda x: x.index_select(0, index) if isinstance(x, Tensor) else x, nested)


class Greedy(NamedTuple):
    """The sentences that are still in the batch."""

    sentence: Tensor  # (alive,) its place in the batch
    limit: Tensor  # (alive,) most tokens
    written: Tensor  # (alive, longest) tokens so far, then end-of-sentence
    done: Tensor  # (alive,) bool


def greedy(step: Step, state: Any, max_lengths: Tensor, bos: int, eos: int) -> list[list[int]]:
    """Returns for each sentence the most probable next tokens until `eos` (not included).

    `max_lengths` (batch,) int64 bounds the number of tokens. Finished sentences leave the batch.
    """
    longest = int(max_lengths.max())
    results = max_lengths.new_full((len(max_lengths), longest), eos)
    alive = Greedy(
        torch.arange(len(results), device=results.device),
        max_lengths,
        results.clone(),
        torch.zeros_like(max_lengths, dtype=torch.bool),
    )
    tokens = torch.full_like(max_lengths, bos)
    for length in range(1, longest + 1):
        logits, state = step(tokens, state)
        tokens = logits.argmax(-1)
        alive.written[:, length - 1] = torch.where(alive.done, eos, tokens)
        alive.done.logical_or_((tokens == eos) | (length >= alive.limit))
        if _drops_finished(length, longest, results.device):
            keep = (~alive.done).nonzero()[:, 0]
            if len(keep) < len(alive.done):
                results[alive.sentence] = alive.written
                alive, tokens, state = reorder((alive, tokens, state), keep)
            if len(keep) == 0:
                break
    return _until_eos(results, eos)


def length_penalty(length: Length, alpha: float) -> Length:
    """Returns ((5 + length) / 6)^alpha, by which a hypothesis's log-probability is divided.

    Wu et al. 2016 (arXiv 1609.08144), Eq. 14; `length` counts the end-of-sentence token.
    """
    return ((5 + length) / 6) ** alpha


class Beams(NamedTuple):
    """The sentences that are still in the batch, with their hypotheses, the most probable first."""

    sentence: Tensor  # (alive,) its place in the batch
    limit: Tensor  # (alive,) most tokens
    written: Tensor  # (alive, size, longest) tokens of the open hypotheses, then end-of-sentence
    scores: Tensor  # (alive, size) their log-probabilities
    ended: Tensor  # (alive,) how many hypotheses have ended
    best: Tensor  # (alive, longest) the best of them, or what a sentence without one returns
    best_score: Tensor  # (alive,) its log-probability over the length penalty
    done: Tensor  # (alive,) bool


def beam(
    step: Step, state: Any, max_lengths: Tensor, bos: int, eos: int, size: int, alpha: float
) -> list[list[int]]:
    """Returns for each sentence the best hypothesis (without `eos`) of a beam of `size`.

    Score: log-probability / length_penalty(length, alpha). A sentence is done when `size`
    hypotheses have ended and no open one can still win, or at its `max_lengths`; an open hypothesis
    is returned only if none has ended. Finished sentences leave the batch. size=1 is greedy search.
    """
    if size == 1:
        return greedy(step, state, max_lengths, bos, eos)
    n, longest, device = len(max_lengths), int(max_lengths.max()), max_lengths.device
    results = max_lengths.new_full((n, longest), eos)
    scores = torch.full((n, size), float("-inf"), device=device)
    scores[:, 0] = 0.0  # all start equal: only the first may be extended, or they would stay copies
    beams = Beams(
        sentence=torch.arange(n, device=device),
        limit=max_lengths,
        written=results[:, None].repeat(1, size, 1),
        scores=scores,
        ended=torch.zeros_like(max_lengths),
        best=results,
        best_score=torch.full((n,), float("-inf"), device=device),
        done=torch.zeros_like(max_lengths, dtype=torch.bool),
    )
    tokens = max_lengths.new_full((n * size,), bos)
    copies = beams.sentence.repeat_interleave(size)
    state = state._replace(past=reorder(state.past, copies))
    for length in range(1, longest + 1):
        logits, state = step(tokens, state)
        beams, sources = _extend(beams, logits, length, eos, alpha)
        first_row = torch.arange(0, len(logits), size, device=device)[:, None]
        rows = first_row + sources  # (alive, size) of the current state that go on
        if _drops_finished(length, longest, device):
            keep = (~beams.done).nonzero()[:, 0]
            if len(keep) < len(rows):
                results[beams.sentence] = beams.best
                if len(keep) == 0:
                    break
                beams, rows = reorder((beams, rows), keep)
                state = state._replace(memory=reorder(state.memory, keep))
        state = state._replace(past=reorder(state.past, rows.flatten()))
        tokens = beams.written[:, :, length - 1].flatten()
    return _until_eos(results, eos)


def _extend(
    beams: Beams, logits: Tensor, length: int, eos: int, alpha: float
) -> tuple[Beams, Tensor]:
    """Returns `beams` with a token more, and which hypotheses (alive, size) were continued.

    `logits` (alive * size, vocab) are of token number `length`.
    """
    alive, size, _ = beams.written.shape
    # 2 * size candidates hold at least `size` that do not end here. Those of each hypothesis
    # first: few remain to be added to and sorted.
    most = min(2 * size, logits.shape[-1])
    values, words = _most_probable(logits, most)
    extended = beams.scores[:, :, None] + values.view(alive, size, most)
    candidates, places = extended.flatten(1).topk(2 * size, dim=1)
    sources = places // most
    words = words.view(alive, -1).gather(1, places)
    ends = words == eos

    # An end counts where it is among the first `size` candidates.
    ending = ends[:, :size] & ~beams.done[:, None]
    scores = candidates[:, :size].masked_fill(~ending, float("-inf"))
    score, rank = (scores / length_penalty(length, alpha)).max(1)
    source = sources.gather(1, rank[:, None])
    better = score > beams.best_score
    best = torch.where(better[:, None], _rows(beams.written, source)[:, 0], beams.best)
    best_score = torch.where(better, score, beams.best_score)
    ended = beams.ended + ending.sum(1)

    first = ends.byte().sort(dim=1, stable=True).indices[:, :size]  # those that stay open
    scores, sources, words = (x.gather(1, first) for x in (candidates, sources, words))
    written = _rows(beams.written, sources)
    written[:, :, length - 1] = words
    # Log-probabilities only fall: no open hypothesis can score above this bound.
    bound = scores[:, 0] / length_penalty(beams.limit, alpha)
    at_limit = length >= beams.limit
    unfinished = at_limit & (ended == 0) & ~beams.done
    best = torch.where(unfinished[:, None], written[:, 0], best)
    done = beams.done | at_limit | ((ended >= size) & (best_score >= bound))
    same = (beams.sentence, beams.limit)
    return Beams(*same, written, scores, ended, best, best_score, done), sources


def _most_probable(logits: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Returns the log-probabilities and the tokens (rows, most), the most probable first.

    Some rows at a time, so that their log-probabilities stay in a CPU's cache.
    """
    rows = max(1, CHUNK_ELEMENTS.get(logits.device.type, 2**20) // logits.shape[-1])
    found = [part.float().log_softmax(-1).topk(most, dim=-1) for part in logits.split(rows)]
    values, words = zip(*found, strict=True)
    return torch.cat(values), torch.cat(words)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """Returns the rows `index` (a, c) of each of x's (a, b, width), as (a, c, width)."""
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))


def _drops_finished(length: int, longest: int, device: torch.device) -> bool:
    """Returns whether finished sentences leave the batch now: on a device, that means waiting."""
    return device.type == "cpu" or length % 8 == 0 or length == longest


def _until_eos(written: Tensor, eos: int) -> list[list[int]]:
    """Returns the tokens of each row before its first `eos`."""
    rows = written.tolist()
    return [row[: row.index(eos)] if eos in row else row for row in rows]
