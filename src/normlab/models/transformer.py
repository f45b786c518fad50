"""The Transformer of the paper's Table 4: encoder-decoder, post-norm (or pre-norm), any norm.

Vaswani et al. 2017, in the variant of the RMSNorm authors' toolkit zero: the norm follows each
residual sum, two in an encoder layer and three in a decoder layer, none at the end; in pre-norm it
stands before each sublayer and once after each stack.

A pre-norm network reads its main branch through norms only, so the branch may be kept at mean zero,
where LayerNorm is RMSNorm (Jiang et al. 2023, arXiv 2305.14858; analysis/conversion.py).
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.errors import UserError
from normlab.models.attention import CrossAttention, KeysValues, SelfAttention
from normlab.models.dropout import Dropout
from normlab.models.network import Role
from normlab.models.residual import FeedForward, MainBranch, Residual, into_branch, without_mean
from normlab.models.seq2seq import Seq2Seq, State
from normlab.norms.base import NormFactory, outside_norms, position_wise
from normlab.types import Count, Few, Fraction


class Memory(NamedTuple):
    """What the decoder reads of the source."""

    features: Tensor  # (batch, src_len, width)
    mask: Tensor  # (batch, 1, 1, src_len), True where there is a token


class Transformer(Seq2Seq):
    """Encoder-decoder over token ids in [0, vocab); 0 is padding.

    `norm(dim)` makes a normalisation layer, `decoder_norm` those of the decoder if they differ,
    `qk_norm` those of queries and keys (Henry et al. 2020, arXiv 2010.04245), if any.
    `share_embeddings` makes source and target embeddings one matrix; `tie_softmax` makes the
    softmax matrix that of the target, as in the paper's toolkit; an untied one has a bias.

    main_branch, of a pre-norm network: `free`, as it comes; `recentred`, the mean is subtracted
    from what enters it and from what each sublayer adds; `zero_mean`, the weights see to that,
    as scripts/convert.py makes them, and the mean is subtracted in training only, since dropout
    breaks it; `compressed`, the last of d_model features is not kept: it is minus the sum of the
    others, so that the mean is 0 by definition. `width` is the number of features kept.
    Raises UserError for sizes and options that do not fit together.
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
        tie_softmax: bool = True,
        main_branch: MainBranch = "free",
        decoder_norm: NormFactory | None = None,
        qk_norm: NormFactory | None = None,
    ):
        super().__init__()
        if d_model % heads or d_model % 2:
            raise UserError(f"d_model={d_model} must be even and divisible by heads={heads}.")
        if norm_placement not in ("post", "pre"):
            raise UserError(f"norm_placement must be post or pre, got {norm_placement}.")
        pre_norm = norm_placement == "pre"
        if main_branch != "free" and not pre_norm:
            raise UserError(
                f"main_branch={main_branch} needs norm_placement=pre: in post-norm the branch is "
                "what a norm's gain and bias make of it."
            )
        self.d_model, self.max_length = d_model, max_length
        self.pre_norm, self.main_branch = pre_norm, main_branch
        self.width = width = d_model - (main_branch == "compressed")
        self.tgt_embedding = nn.Embedding(vocab, width)
        self.src_embedding = self.tgt_embedding if share_embeddings else nn.Embedding(vocab, width)
        self.softmax = None if tie_softmax else nn.Linear(width, vocab)
        self.positions: Tensor
        positions = sinusoidal_positions(max_length, d_model)
        if main_branch in ("zero_mean", "compressed"):
            positions = without_mean(positions)[:, :width]
        self.register_buffer("positions", positions, persistent=False)
        self.dropout = Dropout(dropout)
        sizes = (width, d_model, d_ff, heads, dropout, attention_dropout, pre_norm, main_branch)
        of_decoder = position_wise(decoder_norm or norm)
        self.encoder = nn.ModuleList(
            EncoderLayer(*sizes, norm, qk_norm) for _ in range(encoder_layers)
        )
        self.decoder = nn.ModuleList(
            DecoderLayer(*sizes, of_decoder, qk_norm) for _ in range(decoder_layers)
        )
        self.encoder_norm = norm(width) if pre_norm else None
        self.decoder_norm = of_decoder(width) if pre_norm else None

    def encode(self, src: Tensor, src_lengths: Tensor) -> Memory:
        """Returns the memory of `src` (batch, src_len) int64, padded after `src_lengths`."""
        x = self._embed(self.src_embedding, src, start=0)  # (batch, src_len, width)
        real = torch.arange(src.shape[1], device=src.device) < src_lengths[:, None]
        mask = real[:, None, None, :]  # (batch, 1, 1, src_len)
        for layer in self.encoder:
            x = layer(x, mask, real)
        return Memory(x if self.encoder_norm is None else self.encoder_norm(x, real), mask)

    def decode(self, memory: Memory, tgt_in: Tensor) -> Tensor:
        """Returns features (batch, tgt_len, width) of `tgt_in` (batch, tgt_len) int64.

        Attention needs no mask of target padding, which stands at the end, where no real position
        looks.
        """
        x = self._embed(self.tgt_embedding, tgt_in, start=0)
        for layer in self.decoder:
            keys_values = layer.cross_attention.keys_values(memory.features)
            x, _ = layer(x, keys_values, memory.mask, None)
        return x if self.decoder_norm is None else self.decoder_norm(x)

    def output_layer(self) -> tuple[Tensor, Tensor | None]:
        """Returns what makes logits of features: the target embedding (vocab, width) and no bias,
        or an untied softmax's weight and bias."""
        if self.softmax is None:
            return self.tgt_embedding.weight, None
        return self.softmax.weight, self.softmax.bias

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
        x = self._embed(self.tgt_embedding, tokens[:, None], start)  # (rows, 1, width)
        past = []
        for layer, source, before in zip(self.decoder, keys_values, state.past, strict=True):
            x, now = layer(x, source, mask, before, causal=False)
            past.append(now)
        if self.decoder_norm is not None:
            x = self.decoder_norm(x)
        return F.linear(x[:, 0], *self.output_layer()), state._replace(past=past)

    def roles(self) -> dict[str, Role]:
        """Returns the role of every weight matrix, by parameter name."""
        roles = {}
        for name, module in outside_norms(self):
            if isinstance(module, nn.Embedding):
                roles[f"{name}.weight"] = Role("embeddings")
            elif name == "softmax":
                roles[f"{name}.weight"] = Role("softmax")
            elif isinstance(module, nn.Linear) and "attention" in name:
                # Joined projections hold whole d_model x d_model matrices one above the other.
                blocks = max(1, module.out_features // self.d_model)
                roles[f"{name}.weight"] = Role("attention", blocks, orthogonal=True)
            elif isinstance(module, nn.Linear):
                roles[f"{name}.weight"] = Role("feed_forward")
        return roles

    def _embed(self, embedding: nn.Embedding, tokens: Tensor, start: int) -> Tensor:
        end = start + tokens.shape[1]
        if end > len(self.positions):
            raise UserError(
                f"a sentence of {end} tokens exceeds max_length={len(self.positions)}: "
                "raise model.max_length, or lower data.max_length and data.eval_max_length."
            )
        x = embedding(tokens) * math.sqrt(self.d_model) + self.positions[start:end]
        return into_branch(self.dropout(x), self.main_branch, self.training)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each in a normalised residual connection."""

    def __init__(
        self,
        width: int,
        d_model: int,
        d_ff: int,
        heads: int,
        dropout: float,
        attention_dropout: float,
        pre_norm: bool,
        main_branch: MainBranch,
        norm: NormFactory,
        qk_norm: NormFactory | None,
    ):
        super().__init__()
        attention = (width, d_model, heads, attention_dropout, qk_norm)
        residual = (width, dropout, pre_norm, main_branch, norm)
        self.self_attention = SelfAttention(*attention)
        self.self_residual = Residual(*residual)
        self.feed_forward = FeedForward(width, d_ff, dropout)
        self.feed_forward_residual = Residual(*residual)

    def forward(self, x: Tensor, mask: Tensor, real: Tensor) -> Tensor:
        """Returns (batch, src_len, width).

        `real` (batch, src_len) says to norms which positions are no padding, `mask` the same to
        attention, (batch, 1, 1, src_len).
        """
        y, _ = self.self_attention(self.self_residual.sublayer_input(x, real), mask)
        x = self.self_residual.add(x, y, real)
        y = self.feed_forward(self.feed_forward_residual.sublayer_input(x, real))
        return self.feed_forward_residual.add(x, y, real)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the source and feed-forward, in normalised residuals."""

    def __init__(
        self,
        width: int,
        d_model: int,
        d_ff: int,
        heads: int,
        dropout: float,
        attention_dropout: float,
        pre_norm: bool,
        main_branch: MainBranch,
        norm: NormFactory,
        qk_norm: NormFactory | None,
    ):
        super().__init__()
        attention = (width, d_model, heads, attention_dropout, qk_norm)
        residual = (width, dropout, pre_norm, main_branch, norm)
        self.self_attention = SelfAttention(*attention)
        self.self_residual = Residual(*residual)
        self.cross_attention = CrossAttention(*attention)
        self.cross_residual = Residual(*residual)
        self.feed_forward = FeedForward(width, d_ff, dropout)
        self.feed_forward_residual = Residual(*residual)

    def forward(
        self,
        x: Tensor,
        source: KeysValues,
        mask: Tensor,
        past: KeysValues | None,
        causal: bool = True,
    ) -> tuple[Tensor, KeysValues]:
        """Returns (batch, tgt_len, width) and the target's keys and values, `past` included.

        `source` holds the source's keys and values, `mask` says which of them are no padding.
        `causal` is for whole sentences; a single next token (incremental decoding) may look at
        everything before it. Several hypotheses of one source are further positions to the
        attention to it.
        """
        y, now = self.self_attention(self.self_residual.sublayer_input(x), None, past, causal)
        x = self.self_residual.add(x, y)
        queries = self.cross_residual.sublayer_input(x).reshape(len(mask), -1, x.shape[-1])
        y = self.cross_attention(queries, *source, mask).view_as(x)
        x = self.cross_residual.add(x, y)
        y = self.feed_forward(self.feed_forward_residual.sublayer_input(x))
        return self.feed_forward_residual.add(x, y), now


def sinusoidal_positions(length: int, d_model: int) -> Tensor:
    """Returns (length, d_model): sines in the first half of the features, cosines in the second.

    As in tensor2tensor and in the authors' toolkit zero, with frequencies from 1 to 1/10,000; those
    of Vaswani et al. are interleaved and fall by d_model / 2 steps.
    """
    half = torch.arange(d_model // 2, dtype=torch.float64)
    frequencies = torch.exp(-math.log(10_000) * half / max(d_model // 2 - 1, 1))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies  # (length, half)
    return torch.cat((angles.sin(), angles.cos()), dim=1).float()
