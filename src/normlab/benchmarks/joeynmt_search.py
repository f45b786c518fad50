"""`python -m joeynmt test` with normlab's beam search in place of its own.

Run by JoeyNMT's interpreter, which needs no package of ours but this source tree:
`PYTHONPATH=src PYTHON -m normlab.benchmarks.joeynmt_search CONFIG --output-path PATH`. The model,
the data and the scores of the words stay JoeyNMT's, so that what differs is the search.
"""

import runpy
import sys
from typing import Any

import torch
from torch import Tensor

from normlab.models.seq2seq import State
from normlab.tasks.translation.search import beam


def beam_search(
    model: Any,
    beam_size: int,
    encoder_output: Tensor,
    encoder_hidden: Tensor,
    src_mask: Tensor,
    max_output_length: int,
    alpha: float,
    **kwargs: Any,
) -> tuple[Tensor, None, None]:
    """Returns the best hypotheses (batch, length), padded, as joeynmt.search.beam_search does."""

    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        words = torch.cat([state.past, tokens[:, None]], dim=1)
        size = len(words) // len(state.memory[0])
        encoded, mask = (each.repeat_interleave(size, dim=0) for each in state.memory)
        logits, *_ = model(
            return_type="decode",
            encoder_output=encoded,
            encoder_hidden=None,
            src_mask=mask,
            trg_input=words,
            decoder_hidden=None,
            att_vector=None,
            unroll_steps=1,
            trg_mask=mask.new_ones([1, 1, 1]),
        )
        return logits[:, -1], state._replace(past=words)

    n = len(src_mask)
    limits = torch.full((n,), max_output_length, device=encoder_output.device)
    no_words = limits.new_empty((n, 0))
    state = State(memory=(encoder_output, src_mask), past=no_words)
    with torch.no_grad():
        found = beam(step, state, limits, model.bos_index, model.eos_index, beam_size, alpha)
    rows = [torch.tensor([*words, model.eos_index]) for words in found]
    pad = model.pad_index
    return torch.nn.utils.rnn.pad_sequence(rows, True, padding_value=pad), None, None


if __name__ == "__main__":
    import joeynmt.search

    joeynmt.search.beam_search = beam_search
    sys.argv.insert(1, "test")
    runpy.run_module("joeynmt", run_name="__main__")
