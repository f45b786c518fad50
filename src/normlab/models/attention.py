"""Multi-head attention of the Transformer; queries and keys may be normalised."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.errors import UserError
from normlab.norms.base import Norm, NormFactory

KeysValues = tuple[Tensor, Tensor]  # (batch, heads, len, d_head) each


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself; q, k and v come from one matrix product.

    It reads and gives vectors of size `width`; the heads together have `d_model`.
    """

    def __init__(
        self,
        width: int,
        d_model: int,
        heads: int,
        dropout: float,
        qk_norm: NormFactory | None = None,
    ):
        super().__init__()
        self.heads, self.p = heads, dropout
        self.qkv = nn.Linear(width, 3 * d_model)
        self.out = nn.Linear(d_model, width)
        self.query_norm = head_norm(qk_norm, d_model // heads)
        self.key_norm = head_norm(qk_norm, d_model // heads)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        past: KeysValues | None = None,
        causal: bool = False,
    ) -> tuple[Tensor, KeysValues]:
        """Returns (batch, len, width) and the keys and values, those of `past` included."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        q = q if self.query_norm is None else self.query_norm(q)
        k = k if self.key_norm is None else self.key_norm(k)
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        p = self.p if self.training else 0.0
        return self.out(join_heads(attend(q, k, v, mask, p, causal))), (k, v)


class CrossAttention(nn.Module):
    """Multi-head attention of the target to the source's keys and values."""

    def __init__(
        self,
        width: int,
        d_model: int,
        heads: int,
        dropout: float,
        qk_norm: NormFactory | None = None,
    ):
        super().__init__()
        self.heads, self.p = heads, dropout
        self.query = nn.Linear(width, d_model)
        self.key_value = nn.Linear(width, 2 * d_model)
        self.out = nn.Linear(d_model, width)
        self.query_norm = head_norm(qk_norm, d_model // heads)
        self.key_norm = head_norm(qk_norm, d_model // heads)

    def keys_values(self, memory: Tensor) -> KeysValues:
        """Returns keys and values (batch, heads, src_len, d_head) of (batch, src_len, width)."""
        k, v = (split_heads(part, self.heads) for part in self.key_value(memory).chunk(2, dim=-1))
        return (k if self.key_norm is None else self.key_norm(k)), v

    def forward(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Returns (batch, tgt_len, width)."""
        q = split_heads(self.query(x), self.heads)
        q = q if self.query_norm is None else self.query_norm(q)
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


def head_norm(norm: NormFactory | None, d_head: int) -> Norm | None:
    """Returns the norm of a head's queries or keys, shared by all heads, None without one.

    Raises UserError for a norm over positions.
    """
    made = None if norm is None else norm(d_head)
    if made is not None and made.over_positions:
        raise UserError(
            f"qk_norm={type(made).__name__} takes statistics over positions, and attention "
            "normalises each query and key by itself: choose a norm of single positions."
        )
    return made
