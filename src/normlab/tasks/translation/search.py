"""Greedy and beam search over `step(tokens, state) -> (logits, state)`; knows torch, no model.

What a state is says models.protocol.State: a memory with a row a sentence, a past with a row a
hypothesis.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


def reorder(nested: Any, index: Tensor) -> Any:
    """Returns `nested` with every tensor's rows taken by `index` (rows may repeat or go)."""
    return tree_map(lambda x: x.index_select(0, index) if isinstance(x, Tensor) else x, nested)


def greedy(step: Step, state: Any, max_lengths: Tensor, bos: int, eos: int) -> list[list[int]]:
    """Returns for each sentence the most probable next tokens until `eos` (not included).

    `max_lengths` (batch,) int64 bounds the number of tokens. Finished sentences leave the batch.
    """
    device = max_lengths.device
    results: list[list[int]] = [[] for _ in range(len(max_lengths))]
    alive = torch.arange(len(max_lengths), device=device)
    tokens = torch.full_like(alive, bos)
    for length in range(1, int(max_lengths.max()) + 1):
        logits, state = step(tokens, state)
        tokens = logits.argmax(-1)
        ended = tokens == eos
        for sentence, token, end in zip(
            alive.tolist(), tokens.tolist(), ended.tolist(), strict=True
        ):
            if not end:
                results[sentence].append(token)
        keep = (~ended & (max_lengths[alive] > length)).nonzero()[:, 0]
        if len(keep) < len(alive):
            alive, tokens = alive[keep], tokens[keep]
            if len(alive) == 0:
                break
            state = reorder(state, keep)
    return results


def length_penalty(length: int, alpha: float) -> float:
    """Returns ((5 + length) / 6)^alpha, by which a hypothesis's log-probability is divided.

    Wu et al. 2016 (arXiv 1609.08144), Eq. 14; `length` counts the end-of-sentence token.
    """
    return ((5 + length) / 6) ** alpha


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
    device, n = max_lengths.device, len(max_lengths)
    limits = max_lengths.tolist()
    ended: list[list[tuple[float, list[int]]]] = [[] for _ in range(n)]
    results: list[list[int]] = [[] for _ in range(n)]
    alive = list(range(n))
    copies = torch.arange(n, device=device).repeat_interleave(size)
    state = state._replace(past=reorder(state.past, copies))
    tokens = torch.full((n * size,), bos, dtype=torch.int64, device=device)
    # All beams start equal: only the first may be extended, or they would stay copies.
    scores = torch.full((n, size), float("-inf"), device=device)
    scores[:, 0] = 0.0
    prefixes: list[list[list[int]]] = [[[] for _ in range(size)] for _ in range(n)]
    length = 0
    while alive:
        length += 1
        logits, state = step(tokens, state)
        log_probs = torch.log_softmax(logits.float(), dim=-1).view(len(alive), size, -1)
        # 2 * size candidates hold at least `size` that do not end here. Those of each hypothesis
        # first: few remain to be added to and sorted.
        most = min(2 * size, log_probs.shape[-1])
        values, words = log_probs.topk(most, dim=-1)  # (sentences, size, most)
        best, places = (scores[:, :, None] + values).flatten(1).topk(2 * size, dim=1)
        chosen = words.flatten(1).gather(1, places)
        candidates = zip(best.tolist(), (places // most).tolist(), chosen.tolist(), strict=True)
        rows: list[int] = []  # rows of the current state that the next step continues
        next_tokens: list[int] = []
        next_scores: list[list[float]] = []
        kept: list[int] = []  # places in `alive` of the sentences that go on
        for i, of_sentence in enumerate(candidates):
            sentence = alive[i]
            penalty = length_penalty(length, alpha)
            open_beams: list[tuple[float, int, int]] = []
            for rank, (value, source, token) in enumerate(zip(*of_sentence, strict=True)):
                if token != eos:
                    open_beams.append((value, source, token))
                elif rank < size:
                    ended[sentence].append((value / penalty, prefixes[sentence][source]))
                if len(open_beams) == size:
                    break
            done = ended[sentence]
            if length >= limits[sentence]:
                finished = True
            elif len(done) >= size:
                # Log-probabilities only fall: no open hypothesis can score above this bound.
                bound = open_beams[0][0] / length_penalty(limits[sentence], alpha)
                finished = max(done)[0] >= bound
            else:
                finished = False
            if finished:
                value, source, token = open_beams[0]
                unfinished = (value / penalty, [*prefixes[sentence][source], token])
                results[sentence] = max(done or [unfinished])[1]
                continue
            prefixes[sentence] = [
                [*prefixes[sentence][source], token] for _, source, token in open_beams
            ]
            rows += [i * size + source for _, source, _ in open_beams]
            next_tokens += [token for _, _, token in open_beams]
            next_scores.append([value for value, _, _ in open_beams])
            kept.append(i)
        if kept and len(kept) < len(alive):
            state = state._replace(memory=reorder(state.memory, torch.tensor(kept, device=device)))
        alive = [alive[i] for i in kept]
        if alive:
            state = state._replace(past=reorder(state.past, torch.tensor(rows, device=device)))
            tokens = torch.tensor(next_tokens, device=device)
            scores = torch.tensor(next_scores, device=device)
    return results
