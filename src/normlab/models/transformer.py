"""The Transformer of the paper's Table 4: encoder-decoder, post-norm (or pre-norm), any norm.

Vaswani et al. 2017, in the variant of the RMSNorm authors' toolkit zero: the norm follows each
residual sum, two per encoder layer and three per decoder layer, none at the end; in pre-norm it
stands before each sublayer and once after each stack.
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.errors import UserError
from normlab.models.dropout import Dropout
from normlab.models.network import Role
from normlab.models.seq2seq import Seq2Seq, State
from normlab.norms.base import NormFactory, needs_mask, outside_norms, position_wise
from normlab.types import Count, Few, Fraction

KeysValues = tuple[Tensor, Tensor]  # (batch, heads, len, d_head) each


class Memory(NamedTuple):
    """What the decoder reads of the source."""

    features: Tensor  # (batch, src_len, d_model)
    mask: Tensor  # (batch, 1, 1, src_len), True where there is a token


class Transformer(Seq2Seq):
    """Encoder-decoder over token ids in [0, vocab); 0 is padding.

    `norm(dim)` makes a normalisation layer. `share_embeddings` ties source, target and softmax
    matrices; otherwise target and softmax stay tied, as in the paper's toolkit.
    Raises UserError for sizes that do not fit together.
    """

    def __init__(
        self,
        vocab: int,
        norm: NormFactory,
        d_model: Count,
        d_ff: Count,
        heads: Count,
        encoder_layers: Few,
        decoder_layers: Few,
        dropout: Fraction,
        attention_dropout: Fraction,
        norm_placement: Literal["post", "pre"],
        share_embeddings: bool,
        max_length: Count,
    ):
        super().__init__()
        if d_model % heads or d_model % 2:
            raise UserError(f"d_model={d_model} must be even and divisible by heads={heads}.")
        if norm_placement not in ("post", "pre"):
            raise UserError(f"norm_placement must be post or pre, got {norm_placement}.")
        self.d_model, self.max_length = d_model, max_length
        self.tgt_embedding = nn.Embedding(vocab, d_model)
        self.src_embedding = (
            self.tgt_embedding if share_embeddings else nn.Embedding(vocab, d_model)
        )
        self.positions: Tensor
        positions = sinusoidal_positions(max_length, d_model)
        self.register_buffer("positions", positions, persistent=False)
        self.dropout = Dropout(dropout)
        pre_norm, decoder_norm = norm_placement == "pre", position_wise(norm)
        sizes = (d_model, d_ff, heads, dropout, attention_dropout, pre_norm)
        self.encoder = nn.ModuleList(EncoderLayer(*sizes, norm) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(
            DecoderLayer(*sizes, decoder_norm) for _ in range(decoder_layers)
        )
        self.encoder_norm = norm(d_model) if pre_norm else None
        self.decoder_norm = decoder_norm(d_model) if pre_norm else None
        self.needs_mask = needs_mask(self)

    def encode(self, src: Tensor, src_lengths: Tensor) -> Memory:
        """Returns the memory of `src` (batch, src_len) int64, padded after `src_lengths`."""
        x = self._embed(self.src_embedding, src, start=0)  # (batch, src_len, d_model)
        tokens = torch.arange(src.shape[1], device=src.device) < src_lengths[:, None]
        mask = tokens[:, None, None, :]  # (batch, 1, 1, src_len)
        for layer in self.encoder:
            x = layer(x, mask, tokens)
        return Memory(x if self.encoder_norm is None else self.encoder_norm(x, tokens), mask)

    def decode(self, memory: Memory, tgt_in: Tensor) -> Tensor:
        """Returns features (batch, tgt_len, d_model) of `tgt_in` (batch, tgt_len) int64.

        Attention needs no mask of target padding, which stands at the end, where no real position
        looks.
        """
        x = self._embed(self.tgt_embedding, tgt_in, start=0)
        tokens = tgt_in != 0 if self.needs_mask else None  # (batch, tgt_len)
        for layer in self.decoder:
            keys_values = layer.cross_attention.keys_values(memory.features)
            x, _ = layer(x, keys_values, memory.mask, None, tokens)
        return x if self.decoder_norm is None else self.decoder_norm(x, tokens)

    def output_layer(self) -> tuple[Tensor, None]:
        """Returns what makes logits of features: the target embedding (vocab, d_model), no bias."""
        return self.tgt_embedding.weight, None

    def initial_state(self, memory: Memory) -> State:
        """Returns the state before the first target token.

        Its memory is the mask and each layer's keys and values of the source, computed once; its
        past is each layer's keys and values of the target, (rows, heads, tgt_len, d_head) each.
        """
        keys_values = [layer.cross_attention.keys_values(memory.features) for layer in self.decoder]
        return State((memory.mask, keys_values), [None] * len(self.decoder))

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Returns logits (rows, vocab) after `tokens` (rows,) and the next state."""
        mask, keys_values = state.memory
        start = 0 if state.past[0] is None else state.past[0][0].shape[2]
        x = self._embed(self.tgt_embedding, tokens[:, None], start)  # (rows, 1, d_model)
        real = tokens[:, None] != 0 if self.needs_mask else None  # (rows, 1)
        past = []
        for layer, memory, before in zip(self.decoder, keys_values, state.past, strict=True):
            x, now = layer(x, memory, mask, before, real, causal=False)
            past.append(now)
        if self.decoder_norm is not None:
            x = self.decoder_norm(x, real)
        return F.linear(x[:, 0], *self.output_layer()), state._replace(past=past)

    def roles(self) -> dict[str, Role]:
        """Returns the role of every weight matrix, by parameter name."""
        roles = {}
        for name, module in outside_norms(self):
            if isinstance(module, nn.Embedding):
                roles[f"{name}.weight"] = Role("embeddings")
            elif isinstance(module, nn.Linear) and "attention" in name:
                # Joined projections hold whole d_model x d_model matrices one above the other.
                blocks = module.out_features // self.d_model
                roles[f"{name}.weight"] = Role("attention", blocks, orthogonal=True)
            elif isinstance(module, nn.Linear):
                roles[f"{name}.weight"] = Role("feed_forward")
        return roles

    def _embed(self, embedding: nn.Embedding, tokens: Tensor, start: int) -> Tensor:
        end = start + tokens.shape[1]
        if end > len(self.positions):
            raise UserError(
                f"a sentence of {end} tokens exceeds max_length={len(self.positions)}: "
                "raise model.max_length, or lower data.max_length."
            )
        x = embedding(tokens) * math.sqrt(self.d_model) + self.positions[start:end]
        return self.dropout(x)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each in a normalised residual connection."""

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        heads: int,
        dropout: float,
        attention_dropout: float,
        pre_norm: bool,
        norm: NormFactory,
    ):
        super().__init__()
        self.self_attention = SelfAttention(d_model, heads, attention_dropout)
        self.self_residual = Residual(d_model, dropout, pre_norm, norm)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.feed_forward_residual = Residual(d_model, dropout, pre_norm, norm)

    def forward(self, x: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
        """Returns (batch, src_len, d_model).

        `tokens` (batch, src_len) says to norms which positions are real, `mask` the same to
        attention, (batch, 1, 1, src_len).
        """
        y, _ = self.self_attention(self.self_residual.enter(x, tokens), mask)
        x = self.self_residual.leave(x, y, tokens)
        y = self.feed_forward(self.feed_forward_residual.enter(x, tokens))
        return self.feed_forward_residual.leave(x, y, tokens)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the source and feed-forward, in normalised residuals."""

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        heads: int,
        dropout: float,
        attention_dropout: float,
        pre_norm: bool,
        norm: NormFactory,
    ):
        super().__init__()
        self.self_attention = SelfAttention(d_model, heads, attention_dropout)
        self.self_residual = Residual(d_model, dropout, pre_norm, norm)
        self.cross_attention = CrossAttention(d_model, heads, attention_dropout)
        self.cross_residual = Residual(d_model, dropout, pre_norm, norm)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.feed_forward_residual = Residual(d_model, dropout, pre_norm, norm)

    def forward(
        self,
        x: Tensor,
        memory: KeysValues,
        mask: Tensor,
        past: KeysValues | None,
        tokens: Tensor | None,
        causal: bool = True,
    ) -> tuple[Tensor, KeysValues]:
        """Returns (batch, tgt_len, d_model) and the target's keys and values, `past` included.

        `memory` holds the source's keys and values, `mask` its tokens. `tokens` (batch, tgt_len)
        are the target's, for norms that ask. `causal` is for whole sentences; a single next token
        (incremental decoding) may look at everything before it. Several hypotheses of one source
        are further positions to the attention to it.
        """
        y, now = self.self_attention(self.self_residual.enter(x, tokens), None, past, causal)
        x = self.self_residual.leave(x, y, tokens)
        queries = self.cross_residual.enter(x, tokens).reshape(len(mask), -1, x.shape[-1])
        y = self.cross_attention(queries, *memory, mask).view_as(x)
        x = self.cross_residual.leave(x, y, tokens)
        y = self.feed_forward(self.feed_forward_residual.enter(x, tokens))
        return self.feed_forward_residual.leave(x, y, tokens), now


class Residual(nn.Module):
    """post: Norm(x + dropout(sublayer(x))); pre: x + dropout(sublayer(Norm(x)))."""

    def __init__(self, d_model: int, dropout: float, pre_norm: bool, norm: NormFactory):
        super().__init__()
        self.norm = norm(d_model)
        self.dropout = Dropout(dropout)
        self.pre_norm = pre_norm

    def enter(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Returns what the sublayer reads; `mask` (batch, len) says which positions are real."""
        return self.norm(x, mask) if self.pre_norm else x

    def leave(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the sum of the branch `x` and the sublayer's output `y`, normalised in post."""
        y = self.dropout(y)
        return x + y if self.pre_norm else self.norm.of_sum(x, y, mask)


class FeedForward(nn.Sequential):
    """Two linear maps with ReLU and dropout between them."""

    def __init__(self, d_model: int, d_ff: int, dropout: float):
        super().__init__(
            nn.Linear(d_model, d_ff), nn.ReLU(), Dropout(dropout), nn.Linear(d_ff, d_model)
        )


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself; q, k and v come from one matrix product."""

    def __init__(self, d_model: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.p = heads, dropout
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        past: KeysValues | None = None,
        causal: bool = False,
    ) -> tuple[Tensor, KeysValues]:
        """Returns (batch, len, d_model) and the keys and values, those of `past` included."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        p = self.p if self.training else 0.0
        return self.out(join_heads(attend(q, k, v, mask, p, causal))), (k, v)


class CrossAttention(nn.Module):
    """Multi-head attention of the target to the source's keys and values."""

    def __init__(self, d_model: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.p = heads, dropout
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def keys_values(self, memory: Tensor) -> KeysValues:
        """Returns keys and values (batch, heads, src_len, d_head) of (batch, src_len, d_model)."""
        k, v = self.key_value(memory).chunk(2, dim=-1)
        return split_heads(k, self.heads), split_heads(v, self.heads)

    def forward(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        q = split_heads(self.query(x), self.heads)
        p = self.p if self.training else 0.0
        return self.out(join_heads(attend(q, k, v, mask, p, causal=False)))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float, causal: bool) -> Tensor:
    """Returns softmax(q k^T / sqrt(d_head)) v, (batch, heads, tgt_len, d_head)."""
    if q.device.type == "cpu":  # torch's bf16 attention is ten times slower there than its fp32 one
        q, k, v = (x.float() if x.dtype == torch.bfloat16 else x for x in (q, k, v))
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=p, is_causal=causal)
    return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=p, is_causal=causal)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Returns (batch, heads, len, d_head) of (batch, len, d_model)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """Returns (batch, len, d_model) of (batch, heads, len, d_head)."""
    return x.transpose(1, 2).flatten(2)


def sinusoidal_positions(length: int, d_model: int) -> Tensor:
    """Returns (length, d_model): sines in the first half of the features, cosines in the second."""
    half = torch.arange(d_model // 2, dtype=torch.float64)
    frequencies = torch.exp(-math.log(10_000) * half / max(d_model // 2 - 1, 1))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies  # (length, half)
    return torch.cat((angles.sin(), angles.cos()), dim=1).float()
