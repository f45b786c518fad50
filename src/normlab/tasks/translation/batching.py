"""Batches by token count: which sentences go together, and the tensors made of them.

An epoch's batches are a pure function of (lengths, batch_tokens, pool, seed, epoch), so a place in
the data is two integers, the epoch and the number of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from normlab.devices import move
from normlab.errors import UserError
from normlab.tasks.translation.tokenizer import BOS, PAD


@dataclass(frozen=True)
class EncodedBitext:
    """Sentence pairs as flat id arrays: sentence i of a side is `ids[offsets[i]:offsets[i+1]]`.

    Each sentence ends in EOS, on both sides, and lengths count it. Ids are int32, offsets int64.
    """

    src_ids: np.ndarray
    src_offsets: np.ndarray  # (sentences + 1,)
    tgt_ids: np.ndarray
    tgt_offsets: np.ndarray  # (sentences + 1,)

    def __len__(self) -> int:
        return len(self.src_offsets) - 1

    @property
    def src_lengths(self) -> np.ndarray:
        return np.diff(self.src_offsets)

    @property
    def tgt_lengths(self) -> np.ndarray:
        return np.diff(self.tgt_offsets)


@dataclass(frozen=True)
class Batch:
    """Tensors of one batch, int64 and padded with PAD.

    `positions` indexes the real target tokens in a flattened (batch * tgt_len). It is made here,
    on the CPU, so that the loss picks real tokens without asking the device how many there are.
    """

    src: Tensor  # (batch, src_len), sentence + EOS
    src_lengths: Tensor  # (batch,)
    tgt_in: Tensor  # (batch, tgt_len), BOS + sentence
    tgt_out: Tensor  # (batch, tgt_len), sentence + EOS
    positions: Tensor  # (items,)
    labels: Tensor  # (items,), tgt_out at `positions`
    items: int  # real target tokens of all processes' parts, EOS included
    indices: np.ndarray  # (batch,), the sentences' numbers in the corpus

    def to(self, device: torch.device | str) -> "Batch":
        """Returns this batch on `device`."""
        return replace(
            self,
            src=move(self.src, device),
            src_lengths=move(self.src_lengths, device),
            tgt_in=move(self.tgt_in, device),
            tgt_out=move(self.tgt_out, device),
            positions=move(self.positions, device),
            labels=move(self.labels, device),
        )


def epoch_batches(
    src_lengths: np.ndarray,
    tgt_lengths: np.ndarray,
    *,
    batch_tokens: int,
    pool: int,
    seed: int,
    epoch: int,
) -> list[np.ndarray]:
    """Return the sentence numbers of each training batch of one epoch, in order.

    A batch takes sentences while sentences * longest side <= batch_tokens, and one at least.
    Sentences are shuffled, cut into pools of `pool`, sorted by length inside each pool and cut
    into batches, and the batches are shuffled: larger pools pad less and mix less.
    """
    _check_batch_tokens(batch_tokens)
    if pool < 1:
        raise UserError(f"the batching pool is {pool} sentences: set it to 1 or more.")
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(src_lengths))
    batches = []
    for start in range(0, len(order), pool):
        members = order[start : start + pool]
        members = members[_length_order(src_lengths[members], tgt_lengths[members])]
        batches += _cut(members, src_lengths, tgt_lengths, batch_tokens)
    return [batches[i] for i in rng.permutation(len(batches))]


def eval_batches(
    src_lengths: np.ndarray, tgt_lengths: np.ndarray, *, batch_tokens: int
) -> list[np.ndarray]:
    """Return batches that hold every sentence once, sorted by length, the longest first.

    Their arrays are the sentences' numbers, to put outputs back in order; ranks can take
    `[rank::world_size]`. The longest come first so that memory runs out at once or never.
    """
    _check_batch_tokens(batch_tokens)
    return _cut(_length_order(src_lengths, tgt_lengths), src_lengths, tgt_lengths, batch_tokens)[
        ::-1
    ]


def collate(data: EncodedBitext, indices: np.ndarray, rank: int = 0, world_size: int = 1) -> Batch:
    """Return the `Batch` of sentences `indices` (batch,) of `data`, on the CPU.

    Of several processes each has every `world_size`-th sentence, and `items` of all of them; when
    there are too few, a sentence without a single label.
    """
    items = int(data.tgt_lengths[indices].sum())
    own = indices[rank::world_size]
    if nothing := len(own) == 0:
        own = indices[:1]
    indices = own
    src, src_real = _pad(data.src_ids, data.src_offsets, indices)
    tgt_out, tgt_real = _pad(data.tgt_ids, data.tgt_offsets, indices)
    tgt_in = np.full_like(tgt_out, PAD)
    tgt_in[:, 1:][tgt_real[:, 1:]] = tgt_out[:, :-1][tgt_real[:, 1:]]
    tgt_in[:, 0] = BOS
    positions = np.flatnonzero(tgt_real)
    if nothing:
        positions = positions[:0]
    return Batch(
        src=torch.from_numpy(src),
        src_lengths=torch.from_numpy(src_real.sum(axis=1)),
        tgt_in=torch.from_numpy(tgt_in),
        tgt_out=torch.from_numpy(tgt_out),
        positions=torch.from_numpy(positions),
        labels=torch.from_numpy(tgt_out.ravel()[positions]),
        items=items,
        indices=indices,
    )


def padding_fraction(batches: Sequence[np.ndarray], data: EncodedBitext) -> float:
    """Return the share of padding among all source and target positions of `batches`."""
    real = padded = 0
    for side in (data.src_lengths, data.tgt_lengths):
        real += sum(int(side[batch].sum()) for batch in batches)
        padded += sum(len(batch) * int(side[batch].max()) for batch in batches)
    return 1 - real / padded


def _check_batch_tokens(batch_tokens: int) -> None:
    if batch_tokens < 1:
        raise UserError(f"batch_tokens must be >= 1, got {batch_tokens}.")


def _length_order(src_lengths: np.ndarray, tgt_lengths: np.ndarray) -> np.ndarray:
    """Return the order, shortest first, in which neighbours are alike on both sides.

    Sorted by the longer side, which the budget counts; then by which side is the longer one and
    by how much, up and down in turn, so that the difference does not jump where the width grows.
    On Multi30k with 2048 tokens: 3 % padding, against 6.5 % when sorted by (target, source).
    """
    width = np.maximum(src_lengths, tgt_lengths)
    difference = src_lengths - tgt_lengths
    return np.lexsort((np.where(width % 2, difference, -difference), width))


def _cut(
    order: np.ndarray, src_lengths: np.ndarray, tgt_lengths: np.ndarray, batch_tokens: int
) -> list[np.ndarray]:
    """Return `order` cut into consecutive batches, each as long as the budget allows."""
    widths = np.maximum(src_lengths, tgt_lengths)[order]
    batches = []
    start = 0
    while start < len(order):
        # No batch has more sentences than the budget has room for at its first one's width.
        window = widths[start : start + max(1, batch_tokens // widths[start])]
        costs = np.maximum.accumulate(window) * np.arange(1, len(window) + 1)  # non-decreasing
        size = max(1, int(np.searchsorted(costs, batch_tokens, side="right")))
        batches.append(order[start : start + size])
        start += size
    return batches


def _pad(
    ids: np.ndarray, offsets: np.ndarray, indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sentences as int64 (batch, longest), and where they are real, bool, as large."""
    starts = offsets[indices]
    lengths = offsets[indices + 1] - starts
    columns = np.arange(lengths.max())
    real = columns < lengths[:, None]
    padded = np.full(real.shape, PAD, dtype=np.int64)
    padded[real] = ids[(starts[:, None] + columns)[real]]
    return padded, real
