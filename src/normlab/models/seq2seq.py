"""What training, search and scoring ask of a model."""

from abc import abstractmethod
from typing import Any, NamedTuple

from torch import Tensor

from normlab.models.network import Network


class State(NamedTuple):
    """A decoder half-way through its sentences; search repeats, reorders and drops its rows.

    Both are a model's own nesting of tuples, lists, dicts and tensors. The first dimension of a
    tensor is the sentence in `memory` and the hypothesis in `past`: a sentence has one row there,
    or in beam search several consecutive ones, which share its memory.
    """

    memory: Any
    past: Any


class Seq2Seq(Network):
    """An encoder-decoder; `max_length` bounds a sentence, in tokens."""

    max_length: int

    @abstractmethod
    def encode(self, src: Tensor, src_lengths: Tensor) -> Any:
        """Returns the memory of `src` (batch, src_len), padded after `src_lengths` (batch,)."""

    @abstractmethod
    def decode(self, memory: Any, tgt_in: Tensor) -> Tensor:
        """Returns features (batch, tgt_len, width) of `tgt_in` (batch, tgt_len), all at once."""

    @abstractmethod
    def output_layer(self) -> tuple[Tensor, Tensor | None]:
        """Returns weight (vocab, width) and bias (vocab,) or None that make logits of features."""

    @abstractmethod
    def initial_state(self, memory: Any) -> State:
        """Returns the decoding state before the first target token."""

    @abstractmethod
    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Returns logits (rows, vocab) after `tokens` (rows,) and the next state.

        The rows are those of `state.past`, a whole number of them for each sentence.
        """
