"""From a trained model to sentences and scores."""

from collections.abc import Callable

import numpy as np
import torch
from tokenizers import Tokenizer

from normlab import search
from normlab.data.batching import EncodedBitext, collate, eval_batches
from normlab.data.tokenizer import BOS, EOS, decode
from normlab.models.protocol import Seq2Seq
from normlab.training.loss import token_loss


@torch.inference_mode()
def translate(
    model: Seq2Seq,
    tokenizer: Tokenizer,
    data: EncodedBitext,
    *,
    beam: int,
    length_penalty: float,
    batch_tokens: int,
    device: torch.device,
    on_batch: Callable[[int], None] = lambda sentences: None,
) -> list[str]:
    """Returns the detokenised translation of every source sentence of `data`, in its order.

    A translation has at most twice the source's tokens plus ten. Sentences of similar length share
    a batch of at most `batch_tokens` padded tokens, all beams included; `on_batch` hears of each.
    """
    model.eval()
    translations = [""] * len(data)
    for indices in _batches(data, max(1, batch_tokens // beam)):
        batch = collate(data, indices).to(device)
        state = model.initial_state(model.encode(batch.src, batch.src_lengths))
        limits = (2 * batch.src_lengths + 10).clamp(max=model.max_length)
        outputs = search.beam(model.step, state, limits, BOS, EOS, beam, length_penalty)
        for index, text in zip(indices, decode(tokenizer, outputs), strict=True):
            translations[index] = text
        on_batch(len(indices))
    return translations


@torch.inference_mode()
def mean_loss(
    model: Seq2Seq,
    data: EncodedBitext,
    *,
    smoothing: float,
    batch_tokens: int,
    device: torch.device,
) -> tuple[float, float]:
    """Returns loss (label smoothing in) and NLL of `data`, without dropout, in nats per token."""
    model.eval()
    sums, n_tokens = torch.zeros(2, dtype=torch.float64), 0
    for indices in _batches(data, batch_tokens):
        batch = collate(data, indices).to(device)
        features = model.decode(model.encode(batch.src, batch.src_lengths), batch.tgt_in)
        features = features.flatten(0, 1).index_select(0, batch.positions)
        weight, bias = model.output()
        sums += torch.stack(token_loss(features, weight, bias, batch.labels, smoothing)).cpu()
        n_tokens += batch.n_tokens
    loss, nll = (sums / n_tokens).tolist()
    return loss, nll


def _batches(data: EncodedBitext, batch_tokens: int) -> list[np.ndarray]:
    return eval_batches(data.src_lengths, data.tgt_lengths, batch_tokens=batch_tokens)
