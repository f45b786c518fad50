"""The Transformer of the paper's Table 4: encoder-decoder, post-norm (or pre-norm), any norm.

Vaswani et al. 2017, in the variant of the RMSNorm authors' toolkit (see the paper notes): the norm
follows each residual sum, two per encoder layer and three per decoder layer, none at the end; in
pre-norm it stands before each sublayer and once after each stack.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.errors import UserError
from normlab.models.dropout import Dropout
from normlab.models.seq2seq import Role, Seq2Seq, State

Norm = Callable[[int], nn.Module]  # norm(dim) -> module


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
        norm: Norm,
        d_model: int,
        d_ff: int,
        heads: int,
        encoder_layers: int,
        decoder_layers: int,
        dropout: float,
        attention_dropout: float,
        norm_placement: str,
        share_embeddings: bool,
        max_positions: int,
    ):
        super().__init__()
        if d_model % heads or d_model % 2:
            raise UserError(
                f"model.d_model={d_model} must be even and divisible by model.heads={heads}."
            )
        if norm_placement not in ("post", "pre"):
            raise UserError(f"model.norm_placement must be post or pre, got {norm_placement}.")
        self.d_model, self.max_length = d_model, max_positions
        self.tgt_embedding = nn.Embedding(vocab, d_model)
        self.src_embedding = (
            self.tgt_embedding if share_embeddings else nn.Embedding(vocab, d_model)
        )
        self.positions: Tensor
        positions = sinusoidal_positions(max_positions, d_model)
        self.register_buffer("positions", positions, persistent=False)
        self.dropout = Dropout(dropout)
        sizes = (d_model, d_ff, heads, dropout, attention_dropout, norm_placement == "pre", norm)
        self.encoder = nn.ModuleList(EncoderLayer(*sizes) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*sizes) for _ in range(decoder_layers))
        final = norm if norm_placement == "pre" else lambda dim: nn.Identity()
        self.encoder_norm = final(d_model)
        self.decoder_norm = final(d_model)

    def encode(self, src: Tensor, src_lengths: Tensor) -> Memory:
        """Returns the memory of `src` (batch, src_len) int64, padded after `src_lengths`."""
        x = self._embed(self.src_embedding, src, start=0)  # (batch, src_len, d_model)
        tokens = torch.arange(src.shape[1], device=src.device) < src_lengths[:, None]
        mask = tokens[:, None, None, :]  # (batch, 1, 1, src_len)
        for layer in self.encoder:
            x = layer(x, mask)
        return Memory(self.encoder_norm(x), mask)

    def decode(self, memory: Memory, tgt_in: Tensor) -> Tensor:
        """Returns features (batch, tgt_len, d_model) of `tgt_in` (batch, tgt_len) int64.

        Needs no target padding mask: padding stands at the end, where no real position looks.
        """
        x = self._embed(self.tgt_embedding, tgt_in, start=0)
        for layer in self.decoder:
            x, _ = layer(x, layer.cross_attention.keys_values(memory.features), memory.mask, None)
        return self.decoder_norm(x)

    def output(self) -> tuple[Tensor, None]:
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
        past = []
        for layer, memory, before in zip(self.decoder, keys_values, state.past, strict=True):
            x, now = layer(x, memory, mask, before, causal=False)
            past.append(now)
        logits = F.linear(self.decoder_norm(x)[:, 0], *self.output())
        return logits, state._replace(past=past)

    def roles(self) -> dict[str, Role]:
        """Returns the role of every weight matrix, by parameter name."""
        roles = {}
        for name, parameter in self.named_parameters():
            if "embedding" in name:
                roles[name] = Role("embeddings")
            elif parameter.dim() == 2 and "attention" in name:
                # Joined projections hold whole d_model x d_model matrices one above the other.
                roles[name] = Role("attention", blocks=parameter.shape[0] // self.d_model)
            elif parameter.dim() == 2:
                roles[name] = Role("feed_forward")
        return roles

    def _embed(self, embedding: nn.Embedding, tokens: Tensor, start: int) -> Tensor:
        end = start + tokens.shape[1]
        if end > len(self.positions):
            raise UserError(
                f"a sentence of {end} tokens exceeds model.max_positions={len(self.positions)}: "
                "raise it, or lower data.max_len."
            )
        x = embedding(tokens) * math.sqrt(self.d_model) + self.positions[start:end]
        return self.dropout(x)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each in a normalised residual connection."""

    def __init__(self, d_model, d_ff, heads, dropout, attention_dropout, pre_norm, norm):
        super().__init__()
        self.self_attention = SelfAttention(d_model, heads, attention_dropout)
        self.self_residual = Residual(d_model, dropout, pre_norm, norm)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.feed_forward_residual = Residual(d_model, dropout, pre_norm, norm)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Returns (batch, src_len, d_model); `mask` is (batch, 1, 1, src_len)."""
        y, _ = self.self_attention(self.self_residual.enter(x), mask)
        x = self.self_residual.leave(x, y)
        y = self.feed_forward(self.feed_forward_residual.enter(x))
        return self.feed_forward_residual.leave(x, y)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the source and feed-forward, in normalised residuals."""

    def __init__(self, d_model, d_ff, heads, dropout, attention_dropout, pre_norm, norm):
        super().__init__()
        self.self_attention = SelfAttention(d_model, heads, attention_dropout)
        self.self_residual = Residual(d_model, dropout, pre_norm, norm)
        self.cross_attention = CrossAttention(d_model, heads, attention_dropout)
        self.cross_residual = Residual(d_model, dropout, pre_norm, norm)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.feed_forward_residual = Residual(d_model, dropout, pre_norm, norm)

    def forward(self, x, memory, mask, past, causal=True):
        """Returns (batch, tgt_len, d_model) and the target's keys and values, `past` included.

        `memory` holds the source's keys and values, `mask` its tokens. `causal` is for whole
        sentences; a single next token (incremental decoding) may look at everything before it.
        Several hypotheses of one source are further positions to the attention to it.
        """
        y, past = self.self_attention(self.self_residual.enter(x), None, past, causal)
        x = self.self_residual.leave(x, y)
        queries = self.cross_residual.enter(x).reshape(len(mask), -1, x.shape[-1])
        y = self.cross_attention(queries, *memory, mask).view_as(x)
        x = self.cross_residual.leave(x, y)
        y = self.feed_forward(self.feed_forward_residual.enter(x))
        return self.feed_forward_residual.leave(x, y), past


class Residual(nn.Module):
    """post: Norm(x + dropout(sublayer(x))); pre: x + dropout(sublayer(Norm(x)))."""

    def __init__(self, d_model: int, dropout: float, pre_norm: bool, norm: Norm):
        super().__init__()
        self.norm = norm(d_model)
        self.dropout = Dropout(dropout)
        self.pre_norm = pre_norm

    def enter(self, x: Tensor) -> Tensor:
        """Returns what the sublayer reads."""
        return self.norm(x) if self.pre_norm else x

    def leave(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the sum of the branch `x` and the sublayer's output `y`, normalised in post."""
        y = self.dropout(y)
        if self.pre_norm:
            return x + y
        # Any module may be a norm; those with a kernel take the sum in it.
        of_sum = getattr(self.norm, "of_sum", None)
        return of_sum(x, y) if of_sum else self.norm(x + y)


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

    def forward(self, x, mask, past=None, causal=False):
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

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
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
