"""RNNSearch, the paper's main translation model: attentional GRU encoder-decoder, any norm.

Bahdanau et al. 2015 in the variant of Nematus 0.3: a bidirectional GRU encoder and a conditional
GRU decoder, GRU1 -> additive attention -> GRU2, with a deep output. The norm stands on the summed
inputs of every linear map but two, attention's score vector and the softmax; a GRU's maps have two
each, one for both gates together and one for the candidate.

One deviation: the first target embedding is that of BOS, as in our Transformer, not a zero vector.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.models.dropout import Dropout
from normlab.models.gru import GRU
from normlab.models.network import Role
from normlab.models.seq2seq import Seq2Seq, State
from normlab.norms.base import Norm, NormFactory, outside_norms, position_wise
from normlab.types import Count, Fraction

StepWeights = tuple[tuple[Tensor, Tensor | None], Tensor, Tensor, tuple[Tensor, Tensor | None]]


class Memory(NamedTuple):
    """The source as the decoder reads it. All but `s0` are functions of single annotations."""

    mask: Tensor  # (batch, src_len), True where there is a token
    annotations: Tensor  # (batch, src_len, 2 * d_hidden), states of both directions
    keys: Tensor  # (batch, src_len, 2 * d_hidden), normalised: what attention compares
    values: Tensor  # (batch, src_len, 3 * d_hidden): what GRU2's input side makes of annotations
    s0: Tensor  # (batch, d_hidden), the decoder's initial state


class RNNSearch(Seq2Seq):
    """Encoder-decoder over token ids in [0, vocab); 0 is padding.

    `norm(dim)` makes a normalisation layer. Three matrices hold the source embeddings, the target
    embeddings and the softmax (Nematus's default), or one in all with `share_embeddings`. Dropout
    acts on embeddings and on the features; the paper has none. `max_length` bounds translations.
    """

    def __init__(
        self,
        vocab: int,
        norm: NormFactory,
        d_embedding: Count,
        d_hidden: Count,
        dropout: Fraction,
        share_embeddings: bool,
        max_length: Count,
    ):
        super().__init__()
        self.max_length, self.share_embeddings = max_length, share_embeddings
        norm = position_wise(norm)  # also in the encoder, whose recurrence sees one position
        n = d_hidden
        self.tgt_embedding = nn.Embedding(vocab, d_embedding)
        self.src_embedding = (
            self.tgt_embedding if share_embeddings else nn.Embedding(vocab, d_embedding)
        )
        self.dropout = Dropout(dropout)
        self.encoder = nn.ModuleList(GRU(d_embedding, n, norm, bias="input") for _ in range(2))
        self.initial = Projection(2 * n, n, norm)
        self.gru1 = GRU(d_embedding, n, norm, bias="input")
        self.attention = Attention(n, norm)
        self.gru2 = GRU(2 * n, n, norm, bias="recurrent")
        self.from_embedding = Projection(d_embedding, d_embedding, norm)
        self.from_state = Projection(n, d_embedding, norm)
        self.from_context = Projection(2 * n, d_embedding, norm)
        if not share_embeddings:
            self.softmax_weight = nn.Parameter(0.01 * torch.randn(vocab, d_embedding))
        self.softmax_bias = nn.Parameter(torch.zeros(vocab))

    def encode(self, src: Tensor, src_lengths: Tensor) -> Memory:
        """Returns the memory of `src` (batch, src_len) int64, padded after `src_lengths`.

        The backward direction reads each sentence from its own last token, so both directions see
        padding only after their sentence and need no mask in the loop.
        """
        position = torch.arange(src.shape[1], device=src.device)
        mask = position < src_lengths[:, None]  # (batch, src_len)
        mirror = torch.where(mask, src_lengths[:, None] - 1 - position, position)  # own inverse
        inputs = []  # of the two directions: gates and candidate at each position
        weights = []
        for gru, tokens in zip(self.encoder, (src, src.gather(1, mirror)), strict=True):
            x = self.dropout(self.src_embedding(tokens.t()))  # (src_len, batch, d_embedding)
            gates, candidate = gru.read(x)
            inputs.append(zip(gates.unbind(0), candidate.unbind(0), strict=True))
            weights.append(gru.recurrent_weights())
        zero = torch.zeros(
            len(src), self.gru1.d_hidden, dtype=weights[0][0].dtype, device=src.device
        )
        states = [(zero, zero)]
        for x_forward, x_backward in zip(*inputs, strict=True):
            states.append(self._encoder_step(*states[-1], x_forward, x_backward, *weights))
        forward, backward = (torch.stack(s, dim=1) for s in zip(*states[1:], strict=True))
        backward = backward.gather(1, mirror[:, :, None].expand_as(backward))
        annotations = torch.cat((forward, backward), dim=-1)  # (batch, src_len, 2 * d_hidden)
        weight = mask[:, :, None] / src_lengths[:, None, None].to(annotations.dtype)
        mean = (annotations * weight).sum(1)  # (batch, 2 * d_hidden)
        return Memory(
            mask,
            annotations,
            keys=self.attention.read(annotations),
            # The context is an average of annotations and the map is linear: mapping each
            # annotation once replaces a matrix product at each target position.
            values=self.gru2.input(annotations),
            s0=torch.tanh(self.initial(mean)).to(annotations.dtype),
        )

    def decode(self, memory: Memory, tgt_in: Tensor) -> Tensor:
        """Returns features (batch, tgt_len, d_embedding) of `tgt_in` (batch, tgt_len) int64."""
        y = self.dropout(self.tgt_embedding(tgt_in.t()))  # (tgt_len, batch, d_embedding)
        weights = self._step_weights()
        hidden, states, alphas = memory.s0, [], []
        gates, candidate = self.gru1.read(y)
        for x in zip(gates.unbind(0), candidate.unbind(0), strict=True):
            hidden, alpha = self._decoder_step(hidden, x, memory, *weights)
            states.append(hidden)
            alphas.append(alpha)
        contexts = torch.cat(alphas, dim=1) @ memory.annotations  # (batch, tgt_len, 2 * d_hidden)
        return self._features(y.transpose(0, 1), torch.stack(states, dim=1), contexts)

    def output_layer(self) -> tuple[Tensor, Tensor]:
        """Returns weight (vocab, d_embedding) and bias (vocab,) that make logits of features."""
        tied = self.share_embeddings
        return self.tgt_embedding.weight if tied else self.softmax_weight, self.softmax_bias

    def initial_state(self, memory: Memory) -> State:
        """Returns the state before the first target token; its past is the hidden state."""
        return State(memory, memory.s0)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Returns logits (rows, vocab) after `tokens` (rows,) and the next state."""
        y = self.dropout(self.tgt_embedding(tokens))  # (rows, d_embedding)
        hidden, alpha = self._decoder_step(
            state.past, self.gru1.read(y), state.memory, *self._step_weights()
        )
        context = (alpha @ state.memory.annotations).flatten(0, 1)  # (rows, 2 * d_hidden)
        logits = F.linear(self._features(y, hidden, context), *self.output_layer())
        return logits, state._replace(past=hidden)

    def roles(self) -> dict[str, Role]:
        """Returns the role of every weight matrix, by parameter name.

        `input` is all that reads what comes from below: the GRUs' input sides, the initial state
        and the deep output; `recurrent` the GRUs' hidden-to-hidden matrices; `attention` its two
        projections; `score` the vector that scores them; `embeddings`, and with them the softmax
        when it is the same matrix; else `softmax`.
        """
        roles = {} if self.share_embeddings else {"softmax_weight": Role("softmax")}
        for name, module in outside_norms(self):
            weight = f"{name}.weight"
            if isinstance(module, nn.Embedding):
                roles[weight] = Role("embeddings")
            elif not isinstance(module, nn.Linear):
                continue
            elif name == "attention.score":
                roles[weight] = Role("score")
            elif name.startswith("attention."):
                roles[weight] = Role("attention", orthogonal=name == "attention.key")
            elif name.endswith(".recurrent"):
                roles[weight] = Role("recurrent", blocks=3, orthogonal=True)
            else:  # a GRU's input side holds the matrices of r, u and the candidate
                roles[weight] = Role("input", blocks=3 if name.endswith(".input") else 1)
        return roles

    def compile_steps(self) -> None:
        """Compiles the two time steps: whole loops would be unrolled for each pair of lengths."""
        self._encoder_step = torch.compile(self._encoder_step, dynamic=True)  # type: ignore[method-assign]
        self._decoder_step = torch.compile(self._decoder_step, dynamic=True)  # type: ignore[method-assign]

    def hidden_to_hidden(self) -> dict[str, Norm]:
        """Returns the norms on the decoder's hidden-to-hidden products, each called once in a step.

        What enters such a norm is the pre-activation before it, what leaves, the one after it.
        """
        return {
            "gru1_gates": self.gru1.recurrent_gates_norm,
            "gru1_candidate": self.gru1.recurrent_candidate_norm,
            "gru2_gates": self.gru2.recurrent_gates_norm,
            "gru2_candidate": self.gru2.recurrent_candidate_norm,
        }

    def _encoder_step(
        self,
        forward: Tensor,
        backward: Tensor,
        x_forward: tuple[Tensor, Tensor],
        x_backward: tuple[Tensor, Tensor],
        w_forward: tuple[Tensor, Tensor | None],
        w_backward: tuple[Tensor, Tensor | None],
    ) -> tuple[Tensor, Tensor]:
        """Returns the next states of both directions, (batch, d_hidden) each."""
        ahead, back = self.encoder
        return ahead(forward, x_forward, *w_forward), back(backward, x_backward, *w_backward)

    def _decoder_step(
        self,
        hidden: Tensor,
        x: tuple[Tensor, Tensor],
        memory: Memory,
        gru1: tuple[Tensor, Tensor | None],
        query: Tensor,
        score: Tensor,
        gru2: tuple[Tensor, Tensor | None],
    ) -> tuple[Tensor, Tensor]:
        """Returns the next state (rows, d_hidden) and weights (batch, rows of a source, src_len).

        `x` is GRU1's input at this position; then come the weights that `_step_weights` collects.
        """
        hidden = self.gru1(hidden, x, *gru1)
        alpha = self.attention(hidden, memory.keys, memory.mask, query, score)
        summed = (alpha @ memory.values).flatten(0, 1)  # (rows, 3 * d_hidden)
        return self.gru2(hidden, self.gru2.normalise_input(summed), *gru2), alpha

    def _step_weights(self) -> StepWeights:
        # Read once for a sequence: reading a re-parameterised weight (weightnorm) computes it.
        gru1, gru2 = self.gru1.recurrent_weights(), self.gru2.recurrent_weights()
        return gru1, self.attention.query.weight, self.attention.score.weight, gru2

    def _features(self, y: Tensor, state: Tensor, context: Tensor) -> Tensor:
        """Returns the deep output tanh(N(W y + b) + N(W s + b) + N(W c + b)), of any batch."""
        parts = self.from_embedding(y) + self.from_state(state) + self.from_context(context)
        return self.dropout(torch.tanh(parts))


class Attention(nn.Module):
    """Additive attention, v . tanh(N(W_k a + b) + N(W_q s)); no bias after v, softmax ignores it.

    Its hidden size is that of the annotations `a`, twice that of the states `s`.
    """

    def __init__(self, d_hidden: int, norm: NormFactory):
        super().__init__()
        size = 2 * d_hidden
        self.key = nn.Linear(size, size)
        self.query = nn.Linear(d_hidden, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)
        self.key_norm = norm(size)
        self.query_norm = norm(size)

    def read(self, annotations: Tensor) -> Tensor:
        """Returns the keys (batch, src_len, 2 * d_hidden) of annotations of the same shape."""
        return self.key_norm(self.key(annotations))

    def forward(
        self,
        state: Tensor,
        keys: Tensor,
        mask: Tensor,
        query_weight: Tensor,
        score_weight: Tensor,
    ) -> Tensor:
        """Returns the weights that `state` (rows, d_hidden) gives annotations.

        They are (batch, rows of a source, src_len): hypotheses of a beam share a source. `mask`
        (batch, src_len) is the source's.
        """
        query = self.query_norm(F.linear(state, query_weight))  # (rows, 2 * d_hidden)
        query = query.view(len(keys), -1, 1, query.shape[-1])
        compared = (keys[:, None] + query).tanh_()  # in place: the largest tensor of a step
        scores = F.linear(compared, score_weight)[..., 0]
        scores = scores.masked_fill(~mask[:, None], float("-inf"))
        return scores.softmax(-1, dtype=state.dtype)


class Projection(nn.Module):
    """N(W x + b)."""

    def __init__(self, d_input: int, d_output: int, norm: NormFactory):
        super().__init__()
        self.linear = nn.Linear(d_input, d_output)
        self.norm = norm(d_output)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (..., d_output)."""
        return self.norm(self.linear(x))
